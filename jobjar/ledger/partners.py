"""Tasks that run after the tasks of another array with the same index, their partners: `after_each`. Reads the ledger.

A chunk of such tasks waits for a range of the other array. It goes on once that has ended; those of its tasks whose partners did
not succeed are cancelled then (steering/dependents.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobjar.job_file.prerequisites import TASKS, parse_range
from jobjar.journal.read import Entry
from jobjar.ledger.apply_tasks import OUTCOMES
from jobjar.ledger.ask_arrays import array_of, ended_numbers
from jobjar.ledger.ask_claiming import IS_DEPENDENT
from jobjar.ledger.driver import Connection

# How the message of an end begins that cancelled a job or a task for the end of a prerequisite.
BECAUSE = "its prerequisite "
_NOT_RUN = "did not run"
_WORDS = {"timed_out": "timed out", "killed": "was killed", "cancelled": "was cancelled"}
_CANCELLED = OUTCOMES.index("cancelled")
# The names of ranges of an array's tasks, of which it is ?1.
OF_ARRAY = f"what = '{TASKS}' AND target >= ?1 || '[' AND target < ?1 || '\\'"
_ADD_DUE = f"INSERT OR IGNORE INTO dependents_due SELECT '{TASKS}', ?1 WHERE EXISTS (SELECT 1 FROM prerequisite WHERE {OF_ARRAY})"
_ADD_DUE_CHUNKS = (
    "INSERT OR IGNORE INTO dependents_due SELECT 'dependent', uid FROM job "
    f"WHERE batch = ?1 AND {IS_DEPENDENT} AND uid NOT NULL"
)


def note_arrays(connection: Connection, entries: Sequence[Entry]) -> None:
    """Note what has to be looked at after entries of tasks and of arrays' batches. A jar without dependents pays one look at an
    empty table."""
    if connection.execute("SELECT 1 FROM prerequisite LIMIT 1").fetchone() is None:
        return
    batches = {entry["batch"] for entry in entries if entry["entry"] == "batch"}
    note_ended_tasks(connection, {entry["array"] for entry in entries if entry["entry"] == "tasks"} | batches)
    connection.executemany(_ADD_DUE_CHUNKS, [(array,) for array in batches])  # nobody could judge them before


def note_ended_tasks(connection: Connection, arrays: Iterable[str]) -> None:
    """Note that the dependents of tasks of these arrays have to be looked at."""
    connection.executemany(_ADD_DUE, [(array,) for array in arrays])


def due_of_tasks(connection: Connection, array: str, is_over: bool) -> list[str]:
    """The dependents (by id) of tasks of an array whose ranges have ended; all, if it `is_over`."""
    query = (
        "SELECT job_uid, target FROM prerequisite INDEXED BY prerequisite_target CROSS JOIN job ON job.uid = job_uid "
        f"WHERE {OF_ARRAY} AND {IS_DEPENDENT}"
    )
    return [
        uid
        for uid, target in connection.execute(query, (array,)).fetchall()
        if is_over or have_ended(connection, target)
    ]


def have_ended(connection: Connection, target: str) -> bool | None:
    """Whether all tasks of a range have ended; None if nothing is known of it."""
    found = parse_range(target)
    array = None if found is None else array_of(connection, found[0])
    if found is None or array is None or array.first is None or array.step is None:
        return None
    _, first, last = found
    # Most ranges have not begun, or have ended: one look tells the former.
    query = "SELECT 1 FROM task WHERE array = ? AND number = ?"
    if any(connection.execute(query, (array.id, number)).fetchone() is None for number in (first, last)):
        return False
    query = "SELECT count(*) FROM task WHERE array = ? AND number BETWEEN ? AND ?"
    count = connection.execute(query, (array.id, first, last)).fetchone()[0]
    return bool(count == (last - first) // array.step + 1)


class Without(NamedTuple):
    """The tasks of a chunk whose partners did not succeed, each with the message of its end; whether it has others."""

    tasks: dict[int, str]
    have_rest: bool


def tasks_without(connection: Connection, uid: str) -> Without | None:
    """Which tasks of a chunk are to be cancelled because of their partners, all of which have ended, or will not run. None: the
    entry of its own array is not read yet."""
    query = f"SELECT target FROM prerequisite WHERE job_uid = ? AND what = '{TASKS}' ORDER BY target"
    own = array_of(connection, connection.execute("SELECT batch FROM job WHERE uid = ?", (uid,)).fetchone()[0])
    if own is None or own.step is None:
        return None
    tasks: dict[int, str] = {}
    part = range(0)
    for (target,) in connection.execute(query, (uid,)).fetchall():
        found = parse_range(target)
        array = None if found is None else array_of(connection, found[0])
        if found is None or array is None:
            return None
        _, first, last = found
        part = range(first, last + 1, own.step)
        ends = "SELECT number, outcome FROM task WHERE array = ? AND number BETWEEN ? AND ?"
        outcomes = dict(connection.execute(ends, (array.id, first, last)).fetchall())
        for number in part:
            how = outcomes.get(number)
            if how != 0:
                word = _NOT_RUN if how is None else _WORDS.get(OUTCOMES[how], OUTCOMES[how])
                tasks.setdefault(number, f"{BECAUSE}{found[0]}[{number}] {word}")
    return Without(tasks, any(number not in tasks for number in part))


def open_partners(connection: Connection, array: str, numbers: Iterable[int]) -> set[int]:
    """Those of these indexes whose tasks of an array have not ended."""
    wanted = set(numbers)
    found = array_of(connection, array)
    if found is None or not wanted:
        return set()
    return wanted - ended_numbers(connection, found.id, min(wanted), max(wanted))


def arrays_after(connection: Connection, array: str) -> list[str]:
    """The arrays whose tasks run after those of an array, one by one."""
    query = (
        f"SELECT DISTINCT batch FROM prerequisite CROSS JOIN job ON job.uid = job_uid WHERE {OF_ARRAY} ORDER BY batch"
    )
    return [batch for (batch,) in connection.execute(query, (array,)).fetchall()]


def cancelled_after(connection: Connection, array: str, partners_of: str) -> set[int]:
    """The tasks of an array that were cancelled because of their partners in another one."""
    found = array_of(connection, array)
    query = (
        "SELECT number FROM task INDEXED BY task_failed WHERE array = ? AND outcome <> 0 AND outcome = ? "
        "AND substr(message, 1, length(?3)) = ?3"
    )
    values = (None if found is None else found.id, _CANCELLED, f"{BECAUSE}{partners_of}[")
    return {number for (number,) in connection.execute(query, values)}
