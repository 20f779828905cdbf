"""Apply the ends of an array's tasks to a ledger: hundreds in an entry, with the same result in any order.

Of the final ends of a task the first stands, in `task`; all other ends are in `task_attempt`. How many tasks have ended is kept
in `array`. Most entries tell of tasks that no other entry tells of, and their rows are written at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from jobjar.journal.read import Entry
from jobjar.ledger.driver import Connection
from jobjar.ledger.entries import are_names
from jobjar.shared_disk.contents import MOST, is_count, is_name, is_text

# The outcomes of tasks by their number in ledgers and journals.
OUTCOMES = ("succeeded", "failed", "timed_out", "killed", "cancelled")
SUCCEEDED = 0
# The columns of a row in an entry. The last three are left out where they have no value.
_INDEX, _STATUS, _ENDED_MS, _WALL, _USER, _SYSTEM, _RSS, _LENGTH, _OUTCOME, _IS_RETRIED, _MESSAGE = range(11)
_NEEDED = 8

_ADD_TASK = "INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_ATTEMPT = "INSERT OR IGNORE INTO task_attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
KNOW_ARRAY = """
INSERT INTO array (uid, first, last, step, tasks) VALUES (:uid, :first, :last, :step, :tasks)
ON CONFLICT (uid) DO UPDATE SET first = excluded.first, last = excluded.last, step = excluded.step, tasks = excluded.tasks
WHERE (excluded.first, excluded.last, excluded.step) > (coalesce(first, -1), coalesce(last, -1), coalesce(step, -1))"""

TaskRow = tuple[Any, ...]


def row_of_array(uid: str, said: Any) -> dict[str, Any]:
    """The values of KNOW_ARRAY, from the entry of an array's batch. Raises ValueError, TypeError or KeyError if that is
    invalid."""
    first, last, step = said["first"], said["last"], said["step"]
    if not all(map(is_count, (first, last, step))) or last < first or not step:
        raise ValueError("an array cannot be that")
    return {"uid": uid, "first": first, "last": last, "step": step, "tasks": (last - first) // step + 1}


def apply_tasks(connection: Connection, entry: Entry) -> None:
    """Apply an entry `tasks`. Raises ValueError, TypeError, KeyError if it is invalid; then nothing of it is applied."""
    rows = entry["ended"]
    _check(entry, rows)
    array = _row_id(connection, "array", ("uid",), (entry["array"],))
    run = _know_run(connection, entry)
    base_ms = entry["at_ms"]
    ends = [row[_LENGTH] for row in rows]
    offsets = list(accumulate(ends, initial=entry["offset"]))
    final: list[TaskRow] = []
    others: list[TaskRow] = []
    for row, offset in zip(rows, offsets, strict=False):
        status = row[_STATUS]
        if len(row) == _NEEDED:
            final.append(
                (array, row[0], int(status != 0), status, base_ms + row[2], *row[3:7], run, offset, row[7], None)
            )
            continue
        outcome, is_retried, message = (*row[_NEEDED:], None, None)[:3]
        end = (array, row[0], outcome, status, base_ms + row[2], *row[3:7], run, offset, row[7], message)
        if is_retried:
            others.append(_as_attempt(end, 0))
        else:
            final.append(end)
    if others:
        connection.executemany(_ADD_ATTEMPT, others)
    if final:
        _write_final(connection, array, final)


def _check(entry: Entry, rows: Any) -> None:
    if not is_name(entry["array"]) or not is_name(entry["job"]) or not is_count(entry["attempt"]):
        raise ValueError("tasks of nothing")
    if (
        not are_names((entry["worker"], entry["worker_uid"]))
        or not is_count(entry["at_ms"])
        or not is_count(entry["offset"])
    ):
        raise ValueError("tasks of nobody")
    if type(rows) is not list or not rows:
        raise ValueError("no tasks")
    output = entry.get("output")
    if output is not None and not is_name(output):
        raise ValueError("output cannot be that")
    for row in rows:
        if type(row) is not list or not _NEEDED <= len(row) <= _MESSAGE + 1:
            raise ValueError("a task's end cannot be that")
        for value in row[:_NEEDED]:
            if type(value) is not int and (value is not None or row[_STATUS] is not None):
                raise ValueError("a task's end has numbers")
    flat = [value for row in rows for value in row[:_NEEDED] if value is not None]
    if max(flat) > MOST or min(row[_INDEX] for row in rows) < 0 or min(row[_LENGTH] for row in rows) < 0:
        raise ValueError("a task's end has numbers of a size")
    if min(flat) < -MOST:
        raise ValueError("a task's end has numbers of a size")
    for row in rows:
        if len(row) > _NEEDED:
            outcome, is_retried, message = (*row[_NEEDED:], None, None)[:3]
            if type(outcome) is not int or not 0 <= outcome < len(OUTCOMES):
                raise ValueError("there is no such outcome")
            if is_retried not in (None, 0, 1) or not (message is None or is_text(message)):
                raise ValueError("a task's end cannot be that")


def _row_id(connection: Connection, table: str, columns: Sequence[str], values: Sequence[Any]) -> int:
    where = " AND ".join(f"{column} = ?" for column in columns)
    found = connection.execute(f"SELECT id FROM {table} WHERE {where}", tuple(values)).fetchone()
    if found is None:
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", tuple(values))
        found = connection.execute(f"SELECT id FROM {table} WHERE {where}", tuple(values)).fetchone()
    return int(found[0])


def _know_run(connection: Connection, entry: Entry) -> int:
    key = (entry["job"], entry["attempt"], entry["worker_uid"])
    found = connection.execute(
        "SELECT id FROM chunk_run WHERE job_uid = ? AND attempt = ? AND worker_uid = ?", key
    ).fetchone()
    output = entry.get("output")
    if found is None:
        connection.execute(
            "INSERT INTO chunk_run (job_uid, attempt, worker_uid, worker, output_file) VALUES (?, ?, ?, ?, ?)",
            (*key, entry["worker"], output),
        )
        return _row_id(connection, "chunk_run", ("job_uid", "attempt", "worker_uid"), key)
    if output is not None:
        connection.execute(
            "UPDATE chunk_run SET output_file = max(coalesce(output_file, ''), ?) WHERE id = ?", (output, found[0])
        )
    return int(found[0])


def _as_attempt(end: TaskRow, is_final: int) -> TaskRow:
    array, number, outcome, status, ended_ms, wall, user, system, rss, run, offset, length, message = end
    return (array, number, run, ended_ms, is_final, outcome, status, wall, user, system, rss, offset, length, message)


def _write_final(connection: Connection, array: int, final: list[TaskRow]) -> None:
    numbers = [end[1] for end in final]
    low, high = min(numbers), max(numbers)
    is_new = (
        len(set(numbers)) == len(numbers)
        and not connection.execute(
            "SELECT 1 FROM task WHERE array = ? AND number BETWEEN ? AND ? LIMIT 1", (array, low, high)
        ).fetchone()
    )
    if is_new:
        connection.executemany(_ADD_TASK, final)
        added = [end[2] for end in final]
    else:
        added = []
        for end in final:
            added += _write_one(connection, end)
    succeeded = added.count(SUCCEEDED)
    connection.execute(
        "UPDATE array SET succeeded = succeeded + ?, failed = failed + ? WHERE id = ?",
        (succeeded, len(added) - succeeded, array),
    )


def _write_one(connection: Connection, end: TaskRow) -> list[int]:
    """Write a final end of a task that may have ended before. Returns the outcomes that tasks have now and had not before."""
    there = connection.execute("SELECT * FROM task WHERE array = ? AND number = ?", end[:2]).fetchone()
    if there is None:
        connection.execute(_ADD_TASK, end)
        return [end[2]]
    if _order(connection, there) <= _order(connection, end):
        if there[9] != end[9] or there[4] != end[4]:
            connection.execute(_ADD_ATTEMPT, _as_attempt(end, 1))
        return []
    connection.execute(_ADD_ATTEMPT, _as_attempt(tuple(there), 1))
    connection.execute("DELETE FROM task WHERE array = ? AND number = ?", end[:2])
    connection.execute(_ADD_TASK, end)
    lost = int(there[2] == SUCCEEDED)
    connection.execute(
        "UPDATE array SET succeeded = succeeded - ?, failed = failed - ? WHERE id = ?", (lost, 1 - lost, end[0])
    )
    return [end[2]]


def _order(connection: Connection, end: TaskRow) -> tuple[Any, ...]:
    run = connection.execute("SELECT job_uid, attempt, worker_uid FROM chunk_run WHERE id = ?", (end[9],)).fetchone()
    return (end[4], *run, *(-1 if value is None else value for value in end[2:4]))
