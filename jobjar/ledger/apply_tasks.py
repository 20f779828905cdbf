"""Apply the ends of an array's tasks to a ledger: hundreds in an entry, with the same result in any order.

Of the final ends of a task the first stands, in `task`; all other ends are in `task_attempt`. How many tasks have ended is kept
in `array`, and how in `task_outcome` and `task_minute`. Most entries tell of tasks that no other entry tells of, and their rows
are written at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, repeat
from operator import floordiv, itemgetter
from typing import Any, NamedTuple

from jobjar.journal.read import Entry
from jobjar.ledger.driver import Connection
from jobjar.ledger.entries import are_names
from jobjar.ledger.fail_fast import ADD_DUE
from jobjar.shared_disk.contents import MOST, is_count, is_name, is_text

# The outcomes of tasks by their number in ledgers and journals.
OUTCOMES = ("succeeded", "failed", "timed_out", "killed", "cancelled")
SUCCEEDED = 0
# What `task_outcome` has for the status of a task that was not started.
NO_STATUS = -1000
_MINUTE_MS = 60_000
# The columns of a row in an entry. The last three are left out where they have no value.
_INDEX, _STATUS, _ENDED_MS, _WALL, _USER, _SYSTEM, _RSS, _LENGTH, _OUTCOME, _IS_RETRIED, _MESSAGE = range(11)
_NEEDED = 8
# The same of an end, which is a row of the table task.
_number, _outcome, _time, _how = itemgetter(1), itemgetter(3), itemgetter(5), itemgetter(3, 4)
_message, _all_but_message = itemgetter(13), itemgetter(slice(13))

_ADD_TASK = "INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# To hand a None to the driver takes longer than to write the rest of a row, and few tasks have a message.
_ADD_TASK_WITHOUT_MESSAGE = "INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
_ADD_ATTEMPT = "INSERT OR IGNORE INTO task_attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_OUTCOME = "INSERT INTO task_outcome VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET tasks = tasks + excluded.tasks"
_ADD_MINUTE = "INSERT INTO task_minute VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tasks = tasks + excluded.tasks"
_KNOW_ARRAY = """
INSERT INTO array (uid, first, last, step, tasks) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (uid) DO UPDATE SET first = excluded.first, last = excluded.last, step = excluded.step, tasks = excluded.tasks
WHERE (excluded.first, excluded.last, excluded.step) > (coalesce(first, -1), coalesce(last, -1), coalesce(step, -1))"""


class TaskRow(NamedTuple):
    """A row of the table task."""

    array: int
    number: int
    life: int
    outcome: int
    status: int | None
    ended_ms: int
    wall_us: int
    user_us: int
    system_us: int
    max_rss_kib: int
    run: int
    offset: int
    length: int
    message: str | None


def apply_of_arrays(connection: Connection, entries: Iterable[Entry]) -> None:
    """Apply entries that tell of arrays: of their tasks, or of their batches. Raises ValueError, TypeError or KeyError if one is
    invalid."""
    for entry in entries:
        if entry["entry"] == "tasks":
            apply_tasks(connection, entry)
        elif entry["entry"] == "batch":
            know_array(connection, entry)


def know_array(connection: Connection, entry: Entry) -> None:
    """Note what an array is, and which of its tasks were opened again, from the entry of its batch. Raises ValueError, TypeError
    or KeyError if that is invalid."""
    said = entry["array"]
    first, last, step, lives = said["first"], said["last"], said["step"], said.get("lives", [])
    if not all(map(is_count, (first, last, step))) or last < first or not step or not is_name(entry["batch"]):
        raise ValueError("an array cannot be that")
    if not are_lives(lives):
        raise ValueError("lives cannot be that")
    connection.execute(_KNOW_ARRAY, (entry["batch"], first, last, step, (last - first) // step + 1))
    array = _row_id(connection, "array", ("uid",), (entry["batch"],))
    for life, begin, end in lives:
        added = connection.execute("INSERT OR IGNORE INTO array_life VALUES (?, ?, ?, ?)", (array, life, begin, end))
        if added.rowcount > 0:
            _open_again(connection, array, life, begin, end)


def are_lives(value: Any) -> bool:
    """Whether these are ranges of tasks that were opened again: a list of [life, first, last]."""
    return type(value) is list and all(
        type(one) is list and len(one) == 3 and all(map(is_count, one)) and one[1] <= one[2] for one in value
    )


def _open_again(connection: Connection, array: int, life: int, first: int, last: int) -> None:
    where = "array = ? AND number BETWEEN ? AND ? AND life < ?"
    rows = [
        TaskRow._make(row)
        for row in connection.execute(f"SELECT * FROM task WHERE {where}", (array, first, last, life)).fetchall()
    ]
    connection.executemany(_ADD_ATTEMPT, [_as_attempt(row, 1) for row in rows])
    connection.execute(f"DELETE FROM task WHERE {where}", (array, first, last, life))
    _count(connection, array, [], rows)


def apply_tasks(connection: Connection, entry: Entry) -> None:
    """Apply an entry `tasks`. Raises ValueError, TypeError, KeyError if it is invalid; then nothing of it is applied."""
    rows = entry["ended"]
    _check(entry, rows)
    flat = _usual_values(rows)
    if flat is None:
        _check_rows(rows)
    array = _row_id(connection, "array", ("uid",), (entry["array"],))
    run = _know_run(connection, entry)
    # Plain tuples of TaskRow's fields: most are only handed to the driver.
    final: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    if flat is not None:
        final = _usual_ends(flat, array, run, entry)
    else:
        _sort_ends(rows, array, run, entry, final, others)
    if others:
        connection.executemany(_ADD_ATTEMPT, others)
    if final:
        _write_final(connection, array, final)
        if any(map(_outcome, final)):
            connection.execute(ADD_DUE, {"name": entry["array"]})


def _usual_values(rows: list[Any]) -> list[int] | None:
    """All values of an entry's rows, one after the other, if the rows have numbers alone, as most have; else None. Each step is
    one call for all rows: thousands of ends come in a second."""
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {_NEEDED}:
        return None
    flat = list(chain.from_iterable(rows))
    if set(map(type, flat)) != {int} or max(flat) > MOST or min(flat) < -MOST:
        return None
    return flat if min(flat[_INDEX::_NEEDED]) >= 0 and min(flat[_LENGTH::_NEEDED]) >= 0 else None


def _usual_ends(flat: list[int], array: int, run: int, entry: Entry) -> list[tuple[Any, ...]]:
    """The ends that `_sort_ends` would find in these values."""
    numbers, statuses, times, *usage, lengths = (flat[column::_NEEDED] for column in range(_NEEDED))
    outcomes = [int(status != 0) for status in statuses] if any(statuses) else repeat(SUCCEEDED)
    base_ms = entry["at_ms"]
    ended_ms = [base_ms + time for time in times]
    offsets = accumulate(lengths, initial=entry["offset"])
    same = repeat(array), numbers, repeat(entry.get("life", 0)), outcomes, statuses, ended_ms
    # One more offset than lengths: the other columns end first.
    return list(zip(*same, *usage, repeat(run), offsets, lengths, repeat(None), strict=False))


def _sort_ends(
    rows: list[Any],
    array: int,
    run: int,
    entry: Entry,
    final: list[tuple[Any, ...]],
    others: list[tuple[Any, ...]],
) -> None:
    """Add the final ends among an entry's rows to `final`, and those of tasks that are tried again to `others`."""
    base_ms, life = entry["at_ms"], entry.get("life", 0)
    offsets = accumulate((row[_LENGTH] for row in rows), initial=entry["offset"])
    for row, offset in zip(rows, offsets, strict=False):
        status = row[_STATUS]
        outcome, is_retried, message = (*row[_NEEDED:], None, None, None)[:3]
        if len(row) == _NEEDED:
            outcome = int(status != 0)
        end = (array, row[0], life, outcome, status, base_ms + row[2], *row[3:7], run, offset, row[7], message)
        if is_retried:
            others.append(_as_attempt(TaskRow._make(end), 0))
        else:
            final.append(end)


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
    if not is_count(entry.get("life", 0)):
        raise ValueError("life cannot be that")
    output = entry.get("output")
    if output is not None and not is_name(output):
        raise ValueError("output cannot be that")


def _check_rows(rows: list[Any]) -> None:
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


def _as_attempt(end: TaskRow, is_final: int) -> tuple[Any, ...]:
    return (*end[:3], end.run, end.ended_ms, is_final, *end[3:5], *end[6:10], *end[11:])


def _write_final(connection: Connection, array: int, final: list[tuple[Any, ...]]) -> None:
    numbers = list(map(_number, final))
    low, high, life = min(numbers), max(numbers), final[0][2]
    here = (array, low, high)
    added: list[tuple[Any, ...]] = []
    gone: list[tuple[Any, ...]] = []
    is_new = (
        len(set(numbers)) == len(numbers)
        and not connection.execute(
            "SELECT 1 FROM task WHERE array = ? AND number BETWEEN ? AND ? LIMIT 1", here
        ).fetchone()
        and not connection.execute(
            "SELECT 1 FROM array_life WHERE array = ? AND first <= ? AND last >= ? AND life > ? LIMIT 1",
            (array, high, low, life),
        ).fetchone()
    )
    if is_new:
        if set(map(_message, final)) == {None}:
            connection.executemany(_ADD_TASK_WITHOUT_MESSAGE, map(_all_but_message, final))
        else:
            connection.executemany(_ADD_TASK, final)
        added = final
    else:
        for end in final:
            _write_one(connection, TaskRow._make(end), added, gone)
    _count(connection, array, added, gone)
    times = list(map(_time, final))
    connection.execute(
        "UPDATE array SET first_ended_ms = min(coalesce(first_ended_ms, ?1), ?1), "
        "last_ended_ms = max(coalesce(last_ended_ms, 0), ?2) WHERE id = ?3",
        (min(times), max(times), array),
    )


def _count(
    connection: Connection, array: int, added: Sequence[tuple[Any, ...]], gone: Sequence[tuple[Any, ...]]
) -> None:
    """Count ends that stand from now on, and no longer those that do not (both are rows of task)."""
    hows, minutes = _count_hows(added), _count_minutes(added)
    if gone:
        hows.subtract(_count_hows(gone))
        minutes.subtract(_count_minutes(gone))
    succeeded = sum(count for (outcome, _), count in hows.items() if outcome == SUCCEEDED)
    connection.execute(
        "UPDATE array SET succeeded = succeeded + ?, failed = failed + ? WHERE id = ?",
        (succeeded, hows.total() - succeeded, array),
    )
    connection.executemany(_ADD_OUTCOME, [(array, *how, count) for how, count in hows.items() if count])
    connection.executemany(_ADD_MINUTE, [(*minute, count) for minute, count in minutes.items() if count])


def _count_hows(ends: Sequence[tuple[Any, ...]]) -> Counter[tuple[int, int]]:
    counted = Counter(map(_how, ends))
    return Counter(
        {(outcome, NO_STATUS if status is None else status): count for (outcome, status), count in counted.items()}
    )


def _count_minutes(ends: Sequence[tuple[Any, ...]]) -> Counter[tuple[int, int]]:
    return Counter(zip(map(floordiv, map(_time, ends), repeat(_MINUTE_MS)), map(_outcome, ends), strict=True))


def _write_one(connection: Connection, end: TaskRow, added: list[tuple[Any, ...]], gone: list[tuple[Any, ...]]) -> None:
    """Write a final end of a task that may have ended before, or was opened again since. The ends that count from now on go to
    `added`, those that count no longer to `gone`."""
    later = connection.execute(
        "SELECT 1 FROM array_life WHERE array = ? AND first <= ? AND last >= ? AND life > ? LIMIT 1",
        (end.array, end.number, end.number, end.life),
    ).fetchone()
    found = connection.execute("SELECT * FROM task WHERE array = ? AND number = ?", end[:2]).fetchone()
    there = None if found is None else TaskRow._make(found)
    if later is not None or (there is not None and _order(connection, there) <= _order(connection, end)):
        if there is None or (there.run, there.ended_ms) != (end.run, end.ended_ms):
            connection.execute(_ADD_ATTEMPT, _as_attempt(end, 1))
        return
    if there is not None:
        connection.execute(_ADD_ATTEMPT, _as_attempt(there, 1))
        connection.execute("DELETE FROM task WHERE array = ? AND number = ?", end[:2])
        gone.append(there)
    connection.execute(_ADD_TASK, end)
    added.append(end)


def _order(connection: Connection, end: TaskRow) -> tuple[Any, ...]:
    run = connection.execute("SELECT job_uid, attempt, worker_uid FROM chunk_run WHERE id = ?", (end.run,)).fetchone()
    return (-end.life, end.ended_ms, *run, end.outcome, -1 if end.status is None else end.status)
