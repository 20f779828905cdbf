"""Questions to the ledger about arrays and their tasks. They take the driver's connection and only read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobjar.job_file.prerequisites import is_dependent
from jobjar.layout import jobs_place
from jobjar.ledger.apply_tasks import NO_STATUS, OUTCOMES
from jobjar.ledger.ask_claiming import IS_DEPENDENT, IS_OPEN
from jobjar.ledger.driver import Connection

_MOST_FOUND = 20
_CANCELLED = OUTCOMES.index("cancelled")
_MOST_LISTED = 50


class TasksBefore(NamedTuple):
    """What earlier attempts did in a range of tasks: the indexes that have ended for good, and how often others failed."""

    ended: set[int]
    failures: dict[int, int]


def tasks_before(connection: Connection, array: str, first: int, last: int, life: int) -> TasksBefore:
    """What was done in a range of tasks; failures of this life."""
    found = connection.execute("SELECT id FROM array WHERE uid = ?", (array,)).fetchone()
    if found is None:
        return TasksBefore(set(), {})
    wanted = (found[0], first, last)
    ended = connection.execute("SELECT number FROM task WHERE array = ? AND number BETWEEN ? AND ?", wanted)
    failed = connection.execute(
        "SELECT number, count(*) FROM task_attempt WHERE array = ? AND number BETWEEN ? AND ? AND is_final = 0 AND life = ? "
        "GROUP BY number",
        (*wanted, life),
    )
    return TasksBefore({number for (number,) in ended}, dict(failed.fetchall()))


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
    """How many chunks of an array are in each state; those of limbo that wait for prerequisites as `dependent`."""
    rows = connection.execute(
        f"SELECT CASE WHEN {IS_DEPENDENT} THEN 'dependent' ELSE state END AS shown, count(*) FROM job WHERE batch = ? "
        "GROUP BY shown",
        (uid,),
    )
    return dict(rows.fetchall())


def chunk_ids(connection: Connection, uid: str) -> set[str]:
    """The ids of the chunks of an array."""
    return {chunk for (chunk,) in connection.execute("SELECT uid FROM job WHERE batch = ?", (uid,))}


class Chunk(NamedTuple):
    """A chunk of an array that has not ended. `seed`: the life of its tasks (None: the first)."""

    row: int
    uid: str | None
    name: str
    state: str
    place: str
    category: str
    seed: int | None
    held_reason: str | None
    attempts: int

    @property
    def is_dependent(self) -> bool:
        return self.state == "limbo" and is_dependent(self.held_reason)


def open_chunks(connection: Connection, uid: str, only_claimed: bool = False) -> list[Chunk]:
    """The chunks of an array that have not ended; or only those that workers hold."""
    which = "state = 'claimed'" if only_claimed else IS_OPEN
    rows = connection.execute(
        "SELECT id, uid, name, state, place, category, seed, held_reason, "
        "(SELECT coalesce(max(number), 0) FROM attempt WHERE job_uid = job.uid) "
        f"FROM job INDEXED BY job_chunk WHERE kind = 'chunk' AND {which} AND batch = ?",
        (uid,),
    )
    return [Chunk(*row) for row in rows]


def task_at_work(connection: Connection, array: ArrayRow, chunk: Chunk, first: int, last: int) -> int | None:
    """The task of a claimed chunk that runs, as far as ends tell: the one after the last that ended in this attempt. They are
    journaled before the worker waits for a task. None: none has to run any more, but for those that are tried again."""
    step = array.step or 1
    # Those without a status were cancelled, and did not run.
    here = (
        "array = ?1 AND number BETWEEN ?2 AND ?3 AND status IS NOT NULL "
        "AND run IN (SELECT id FROM chunk_run WHERE job_uid = ?4 AND attempt = ?5)"
    )
    found = connection.execute(
        f"SELECT max(number) FROM (SELECT number FROM task WHERE {here} UNION ALL SELECT number FROM task_attempt WHERE {here})",
        (array.id, first, last, chunk.uid, chunk.attempts),
    ).fetchone()[0]
    number = first if found is None else found + step
    is_ended = "SELECT 1 FROM task WHERE array = ? AND number = ?"
    while number <= last and connection.execute(is_ended, (array.id, number)).fetchone():
        number += step
    return number if number <= last else None


def task_outcomes(connection: Connection, array: int) -> dict[str, int]:
    """How many of an array's tasks have ended with each outcome."""
    query = "SELECT outcome, sum(tasks) FROM task_outcome WHERE array = ? GROUP BY outcome HAVING sum(tasks) > 0"
    return {OUTCOMES[outcome]: count for outcome, count in connection.execute(query, (array,))}


def count_open_tasks(connection: Connection) -> tuple[int, int]:
    """How many tasks of all arrays that have open chunks have not ended, and how many chunks are claimed: each runs a task."""
    left = connection.execute(
        "SELECT coalesce(sum(coalesce(tasks, 0) - succeeded - failed), 0) FROM array WHERE uid IN "
        f"(SELECT DISTINCT batch FROM job INDEXED BY job_chunk WHERE kind = 'chunk' AND {IS_OPEN})"
    ).fetchone()[0]
    query = "SELECT coalesce(sum(jobs), 0) FROM job_count_report WHERE state = 'claimed' AND kind = 'chunk'"
    return int(left), int(connection.execute(query).fetchone()[0])


class RecentTasks(NamedTuple):
    """How many tasks ended with an outcome in the last hour and the last day, to the minute."""

    outcome: str
    last_hour: int
    last_day: int


def recent_tasks(connection: Connection, now: float) -> list[RecentTasks]:
    minute = int(now // 60)
    rows = connection.execute(
        "SELECT outcome, sum(CASE WHEN minute > ? THEN tasks ELSE 0 END), sum(tasks) AS last_day FROM task_minute "
        "WHERE minute > ? GROUP BY outcome HAVING last_day > 0 ORDER BY outcome",
        (minute - 60, minute - 1440),
    )
    return [RecentTasks(OUTCOMES[outcome], hour, day) for outcome, hour, day in rows]


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


def lengths_of_outputs(connection: Connection, array: int, first: int) -> Iterator[tuple[int, int]]:
    """How much each task wrote that has ended, in bytes, from the index `first` on, by index."""
    yield from connection.execute(
        "SELECT number, length FROM task WHERE array = ? AND number >= ? ORDER BY number", (array, first)
    )


def other_ends_of_task(connection: Connection, array: int, number: int) -> list[TaskEnd]:
    """The ends of a task that do not stand, the earliest first."""
    return list(_task_ends(iter(connection.execute(f"{_OTHER_ENDS}number = ? ORDER BY ended_ms", (array, number)))))


def failures_by_status(connection: Connection, array: int) -> list[tuple[str, int | None, int, int]]:
    """How the tasks ended that did not succeed: outcome, status, how many, the first such index; the most frequent first."""
    rows = connection.execute(
        "SELECT outcome, status, tasks, (SELECT number FROM task INDEXED BY task_failed WHERE task.array = counted.array "
        "AND outcome <> 0 AND outcome = counted.outcome AND coalesce(status, ?1) = counted.status ORDER BY number LIMIT 1) "
        "FROM task_outcome AS counted WHERE array = ?2 AND outcome <> 0 AND tasks > 0 "
        "ORDER BY tasks DESC, outcome, status LIMIT ?3",
        (NO_STATUS, array, _MOST_FOUND),
    )
    return [
        (OUTCOMES[outcome], None if status == NO_STATUS else status, count, number)
        for outcome, status, count, number in rows
    ]


class ChunkMoves(NamedTuple):
    """What was done to chunks of an array for one reason by one worker or user: how many, and when first and last."""

    reason: str
    by: str | None
    chunks: int
    first_at: float
    last_at: float


def moves_of_chunks(connection: Connection, uid: str) -> list[ChunkMoves]:
    rows = connection.execute(
        "SELECT reason, actor, count(*), min(move.moved_at), max(move.moved_at) FROM job CROSS JOIN move ON job_uid = job.uid "
        "WHERE batch = ? GROUP BY reason, actor ORDER BY min(move.moved_at)",
        (uid,),
    )
    return [ChunkMoves(*row) for row in rows]


def measures_of(
    connection: Connection, array: ArrayRow, ranges: Sequence[Sequence[int]], limit: int | None
) -> Iterator[tuple[int, int, int]]:
    """The run time and processor time in µs, and the memory in KiB, of tasks in these ranges that ran and ended; of at most about
    `limit` of them, which are evenly spread."""
    step = array.step or 1
    every = step
    if limit is not None:
        every *= max(1, sum(last - first for first, last in ranges) // step // limit)
    columns = "SELECT wall_us, user_us + system_us, max_rss_kib FROM task WHERE array = ? AND status IS NOT NULL AND "
    for first, last in ranges:
        if every == step:
            yield from connection.execute(f"{columns} number BETWEEN ? AND ?", (array.id, first, last))
            continue
        for number in range(first, last + 1, every):
            yield from connection.execute(f"{columns} number = ?", (array.id, number))


def status_counts(
    connection: Connection, array: int, ranges: Sequence[Sequence[int]]
) -> list[tuple[str, int | None, int, int, str | None]]:
    """How the tasks in these ranges ended that failed: outcome, status, how many, the index and the message of one; the most
    frequent first. Reads the rows of all that did not succeed."""
    found: dict[tuple[int, int | None], tuple[int, int, str | None]] = {}
    query = (
        "SELECT outcome, status, count(*), max(number), message FROM task INDEXED BY task_failed WHERE array = ? "
        "AND outcome <> 0 AND outcome <> ? AND number BETWEEN ? AND ? GROUP BY outcome, status"
    )
    for first, last in ranges:
        for outcome, status, count, number, message in connection.execute(query, (array, _CANCELLED, first, last)):
            before = found.get((outcome, status), (0, 0, None))[0]
            found[outcome, status] = before + count, number, message
    rows = [(OUTCOMES[outcome], status, *rest) for (outcome, status), rest in found.items()]
    return sorted(rows, key=lambda row: -row[2])[:_MOST_FOUND]


def outcomes_in(connection: Connection, array: int, ranges: Sequence[Sequence[int]]) -> dict[int, str]:
    """The outcomes of the tasks in these ranges that have ended."""
    query = "SELECT number, outcome FROM task WHERE array = ? AND number BETWEEN ? AND ?"
    rows = (row for first, last in ranges for row in connection.execute(query, (array, first, last)))
    return {number: OUTCOMES[outcome] for number, outcome in rows}


def latest_life(connection: Connection, array: int) -> int:
    """How often tasks of an array were opened again."""
    query = "SELECT coalesce(max(life), 0) FROM array_life WHERE array = ?"
    return int(connection.execute(query, (array,)).fetchone()[0])


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
