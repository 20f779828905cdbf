"""Questions to the ledger about arrays and their tasks. They take the driver's connection and only read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobjar.layout import jobs_place
from jobjar.ledger.apply_tasks import OUTCOMES
from jobjar.ledger.ask_claiming import IS_OPEN
from jobjar.ledger.driver import Connection

_MOST_FOUND = 20
_MOST_LISTED = 50


class TasksBefore(NamedTuple):
    """What earlier attempts did in a range of tasks: the indexes that have ended for good, and how often others failed."""

    ended: frozenset[int]
    failures: dict[int, int]


def tasks_before(connection: Connection, array: str, first: int, last: int, life: int) -> TasksBefore:
    """What was done in a range of tasks; failures of this life."""
    found = connection.execute("SELECT id FROM array WHERE uid = ?", (array,)).fetchone()
    if found is None:
        return TasksBefore(frozenset(), {})
    wanted = (found[0], first, last)
    ended = connection.execute("SELECT number FROM task WHERE array = ? AND number BETWEEN ? AND ?", wanted)
    failed = connection.execute(
        "SELECT number, count(*) FROM task_attempt WHERE array = ? AND number BETWEEN ? AND ? AND is_final = 0 AND life = ? "
        "GROUP BY number",
        (*wanted, life),
    )
    return TasksBefore(frozenset(number for (number,) in ended), dict(failed.fetchall()))


class ArrayRow(NamedTuple):
    """An array, and how many of its tasks have ended so. Times of its first and last end, in ms of the epoch. None: the entry of
    its batch is not read yet, or no task has ended."""

    id: int
    uid: str
    first: int | None
    last: int | None
    step: int | None
    tasks: int | None
    succeeded: int
    failed: int
    first_ended_ms: int | None
    last_ended_ms: int | None


def array_of(connection: Connection, uid: str) -> ArrayRow | None:
    row = connection.execute("SELECT * FROM array WHERE uid = ?", (uid,)).fetchone()
    return None if row is None else ArrayRow(*row)


def list_arrays(connection: Connection, since_ms: int) -> list[ArrayRow]:
    """The arrays that have chunks which have not ended, or of which a task ended since `since_ms`; the newest first."""
    rows = connection.execute(
        "SELECT * FROM array WHERE last_ended_ms >= ? OR uid IN (SELECT DISTINCT batch FROM job INDEXED BY job_chunk "
        f"WHERE kind = 'chunk' AND {IS_OPEN}) ORDER BY id DESC LIMIT ?",
        (since_ms, _MOST_LISTED),
    )
    return [ArrayRow(*row) for row in rows]


def arrays_like(connection: Connection, beginning: str) -> list[str]:
    """The ids of arrays that begin so; at most some."""
    end = f"{beginning}\uffff"
    rows = connection.execute("SELECT uid FROM array WHERE uid >= ? AND uid < ? LIMIT ?", (beginning, end, _MOST_FOUND))
    return [uid for (uid,) in rows]


class Submitted(NamedTuple):
    """What the batch of an array says of its submission; None: its entry is not read yet."""

    submitter: str | None
    submitted_at: float | None
    command: str | None


def submission_of(connection: Connection, uid: str) -> Submitted:
    row = connection.execute("SELECT submitter, submitted_at, notes FROM batch WHERE name = ?", (uid,)).fetchone()
    return Submitted(None, None, None) if row is None else Submitted(*row)


def chunks_by_state(connection: Connection, uid: str) -> dict[str, int]:
    """How many chunks of an array are in each state."""
    rows = connection.execute("SELECT state, count(*) FROM job WHERE batch = ? GROUP BY state", (uid,))
    return dict(rows.fetchall())


def chunk_ids(connection: Connection, uid: str) -> set[str]:
    """The ids of the chunks of an array."""
    return {chunk for (chunk,) in connection.execute("SELECT uid FROM job WHERE batch = ?", (uid,))}


class TaskEnd(NamedTuple):
    """An end of a task: how, when, and where its output is. Times in ms of the epoch, and in µs."""

    number: int
    outcome: str
    status: int | None
    ended_ms: int
    wall_us: int
    user_us: int
    system_us: int
    max_rss_kib: int
    offset: int
    length: int
    message: str | None
    is_final: bool
    chunk: str
    attempt: int
    worker_uid: str
    worker: str
    output_file: str | None


_COLUMNS = (
    "number, outcome, status, ended_ms, wall_us, user_us, system_us, max_rss_kib, offset, length, message, {final}, "
    "chunk_run.job_uid, chunk_run.attempt, chunk_run.worker_uid, chunk_run.worker, chunk_run.output_file"
)
_ENDS = f"SELECT {_COLUMNS.format(final=1)} FROM task JOIN chunk_run ON chunk_run.id = run WHERE array = ? AND "
_OTHER_ENDS = (
    f"SELECT {_COLUMNS.format(final=0)} FROM task_attempt JOIN chunk_run ON chunk_run.id = run WHERE array = ? AND "
)


def _task_ends(rows: Iterator[Sequence[object]]) -> Iterator[TaskEnd]:
    for row in rows:
        end = TaskEnd(*row)  # type: ignore[arg-type]
        yield end._replace(outcome=OUTCOMES[int(end.outcome)], is_final=bool(end.is_final))


def ends_of_tasks(
    connection: Connection, array: int, first: int, last: int, only_failed: bool = False
) -> Iterator[TaskEnd]:
    """The ends that stand of the tasks in a range, by index."""
    failed = "outcome <> 0 AND " if only_failed else ""
    query = f"{_ENDS}{failed}number BETWEEN ? AND ? ORDER BY number"
    return _task_ends(iter(connection.execute(query, (array, first, last))))


def other_ends_of_task(connection: Connection, array: int, number: int) -> list[TaskEnd]:
    """The ends of a task that do not stand, the earliest first."""
    return list(_task_ends(iter(connection.execute(f"{_OTHER_ENDS}number = ? ORDER BY ended_ms", (array, number)))))


def failures_by_status(connection: Connection, array: int) -> list[tuple[str, int | None, int, int]]:
    """How the tasks ended that did not succeed: outcome, status, how many, an index; the most frequent first."""
    rows = connection.execute(
        "SELECT outcome, status, count(*), min(number) FROM task INDEXED BY task_failed WHERE array = ? AND outcome <> 0 "
        "GROUP BY outcome, status ORDER BY count(*) DESC, outcome, status LIMIT ?",
        (array, _MOST_FOUND),
    )
    return [(OUTCOMES[outcome], status, count, number) for outcome, status, count, number in rows]


def ended_numbers(connection: Connection, array: int, first: int, last: int) -> set[int]:
    rows = connection.execute(
        "SELECT number FROM task WHERE array = ? AND number BETWEEN ? AND ?", (array, first, last)
    )
    return {number for (number,) in rows}


def unsuccessful_numbers(connection: Connection, array: int) -> list[int]:
    """The indexes of the tasks that ended without success."""
    query = "SELECT number FROM task INDEXED BY task_failed WHERE array = ? AND outcome <> 0"
    return [number for (number,) in connection.execute(query, (array,))]


def chunks_cut_short(connection: Connection, uid: str) -> list[str]:
    """The names of the chunks of an array that ended before all of their tasks had: cancelled, killed, crashed ones."""
    query = "SELECT name FROM job_report WHERE batch = ? AND state = 'completed' AND outcome <> 'succeeded'"
    return [name for (name,) in connection.execute(query, (uid,))]


def has_open_chunks(connection: Connection, uid: str) -> bool:
    """Whether an array has chunks that have not ended."""
    query = f"SELECT 1 FROM job INDEXED BY job_chunk WHERE batch = ? AND kind = 'chunk' AND {IS_OPEN} LIMIT 1"
    return connection.execute(query, (uid,)).fetchone() is not None


def has_ended_tasks(connection: Connection, uid: str, attempt: int) -> bool:
    """Whether tasks ended in an attempt of a chunk."""
    query = "SELECT 1 FROM chunk_run WHERE job_uid = ? AND attempt = ? LIMIT 1"
    return connection.execute(query, (uid, attempt)).fetchone() is not None


def rows_of_chunks(connection: Connection, uid: str) -> list[int]:
    """The ledger's rows of an array's chunks that have not ended; if all have, of all of them."""
    rows = connection.execute(
        "SELECT id, state IN ('limbo', 'unclaimed', 'claimed') FROM job WHERE batch = ?", (uid,)
    ).fetchall()
    return [row for row, is_open in rows if is_open] or [row for row, _ in rows]


def places_with_worker(connection: Connection, uid: str, worker: str) -> list[str]:
    """The places that a job had with a worker, and those to which it came from there, by its moves."""
    beginning = f"{jobs_place(worker)}/"
    moves = connection.execute("SELECT origin, destination FROM move WHERE job_uid = ?", (uid,)).fetchall()
    return [
        *(place for move in moves for place in move if place.startswith(beginning)),
        *(destination for origin, destination in moves if origin.startswith(beginning)),
    ]
