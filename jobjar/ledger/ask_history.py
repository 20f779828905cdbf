"""Questions about times gone by: what ended when, how long it had waited, what ran where, what failed. They take the driver's
connection and only read.

All are read in the order of the index of ends, and each call reads at most so many rows: a jar of millions is asked in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jobjar.ledger.ask_stats import _COLUMNS, EndedJob
from jobjar.ledger.driver import Connection

# After every end that there is.
LAST_KEY = (9e99, "", "")
EndKey = tuple[float, str, str]


class Ended(NamedTuple):
    """A job's end: when, how, when it was submitted, and when its last attempt began. Times are UTC epoch seconds."""

    ended_at: float
    outcome: str
    uid: str
    submitted_at: float | None
    started_at: float | None


def ends_before(connection: Connection, before: EndKey, since: float, limit: int) -> list[Ended]:
    """The newest `limit` ends that come before the key (time, outcome, id) and are not earlier than `since`."""
    rows = connection.execute(
        "SELECT final.ended_at, final.outcome, final.job_uid, job.submitted_at, final.started_at "
        "FROM attempt AS final INDEXED BY attempt_ended CROSS JOIN job ON job.uid = final.job_uid "
        "WHERE final.is_final = 1 AND (final.ended_at, final.outcome, final.job_uid) < (?, ?, ?) AND final.ended_at >= ? "
        "ORDER BY final.ended_at DESC, final.outcome DESC, final.job_uid DESC LIMIT ?",
        (*before, since, limit),
    )
    return [Ended(*row) for row in rows]


def submissions_of_open(connection: Connection, since: float) -> tuple[dict[int, int], dict[int, int]]:
    """Of the jobs that wait or run: how many were submitted, and how many claimed, in each minute of the epoch after `since`."""
    submitted: dict[int, int] = {}
    claimed: dict[int, int] = {}

    def add(counts: dict[int, int], moment: float | None, jobs: int = 1) -> None:
        if moment is not None and moment >= since:
            counts[int(moment // 60)] = counts.get(int(moment // 60), 0) + jobs

    queues = connection.execute("SELECT DISTINCT category, priority FROM job_count_report WHERE state = 'unclaimed'")
    for category, priority in queues.fetchall():
        rows = connection.execute(
            "SELECT CAST(submitted_at / 60 AS INTEGER) AS minute, count(*) FROM job INDEXED BY job_open "
            "WHERE state = 'unclaimed' AND category = ? AND priority = ? AND submitted_at >= ? GROUP BY minute",
            (category, priority, since),
        )
        for minute, jobs in rows:
            add(submitted, minute * 60.0, jobs)
    for submitted_at, moved_at in connection.execute("SELECT submitted_at, moved_at FROM job WHERE state = 'claimed'"):
        add(submitted, submitted_at)
        add(claimed, moved_at)
    return submitted, claimed


def tasks_by_minute(connection: Connection, since: float) -> list[tuple[int, int, int]]:
    """How many tasks of arrays ended in each minute of the epoch since then: minute, outcome (its number), tasks."""
    query = "SELECT minute, outcome, tasks FROM task_minute WHERE minute >= ? AND tasks > 0 ORDER BY minute"
    return list(connection.execute(query, (int(since // 60),)))


def recent_failures(connection: Connection, since: float, limit: int) -> Iterator[EndedJob]:
    """The jobs that failed, timed out, were killed or crashed since then, the newest first."""
    index = "attempt_failed" if are_failures_few(connection) else "attempt_ended"
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM (SELECT job_uid, number, worker_uid FROM attempt INDEXED BY {index} WHERE is_final = 1 "
        f"AND ended_at >= ? AND {FAILED} ORDER BY ended_at DESC LIMIT ?) AS found "
        "CROSS JOIN attempt AS final USING (job_uid, number, worker_uid) CROSS JOIN job ON job.uid = final.job_uid "
        "ORDER BY final.ended_at DESC",
        (since, limit),
    )
    for row in rows:
        yield EndedJob(*row)


# The words of the index attempt_failed.
FAILED = "outcome IN ('failed', 'timed_out', 'killed', 'crashed')"
_FEW_FAILURES = 5_000


def are_failures_few(connection: Connection) -> bool:
    """Whether all attempts that failed can be looked at. If not, they are dense enough among the newest ends."""
    query = f"SELECT count(*) FROM (SELECT 1 FROM attempt INDEXED BY attempt_failed WHERE {FAILED} LIMIT ?)"
    return int(connection.execute(query, (_FEW_FAILURES + 1,)).fetchone()[0]) <= _FEW_FAILURES


class Ran(NamedTuple):
    """An attempt, as a time line shows it. `ended_at` is None while it runs."""

    uid: str
    worker: str
    started_at: float | None
    ended_at: float | None
    outcome: str | None


def attempts_since(connection: Connection, since: float, limit: int) -> list[Ran]:
    """The attempts of the workers of all nodes that ended since then (the newest `limit`), and those that run."""
    ended = connection.execute(
        "SELECT job_uid, worker, started_at, ended_at, outcome FROM attempt INDEXED BY attempt_ended "
        "WHERE is_final = 1 AND ended_at >= ? ORDER BY ended_at DESC LIMIT ?",
        (since, limit),
    ).fetchall()
    running = connection.execute(
        "SELECT attempt.job_uid, attempt.worker, attempt.started_at, NULL, NULL FROM job CROSS JOIN attempt "
        "ON attempt.job_uid = job.uid WHERE job.state = 'claimed' AND attempt.ended_at IS NULL"
    ).fetchall()
    return [Ran(*row) for row in (*ended, *running)]


def dependents_of(connection: Connection, uid: str, limit: int) -> list[tuple[str, str, str, str]]:
    """The jobs that wait, or have waited, for a job: id, name, state, and how this one has to end."""
    rows = connection.execute(
        "SELECT job.uid, job.name, job.state, prerequisite.kind FROM prerequisite JOIN job ON job.uid = prerequisite.job_uid "
        "WHERE target = ? AND what = 'job' ORDER BY job.uid LIMIT ?",
        (uid, limit),
    )
    return list(rows)


class Told(NamedTuple):
    """A value of a monitored variable: whose, when it was told (UTC epoch seconds), and the number."""

    uid: str
    told_at: float
    number: float


def variables_of_batch(connection: Connection, batch: str, limit: int) -> list[tuple[str, int]]:
    """The monitored variables of a batch's jobs that are numbers, with how many jobs tell them; of `limit` jobs."""
    rows = connection.execute(
        "SELECT name, count(DISTINCT job_uid) FROM (SELECT uid FROM job INDEXED BY job_of_batch WHERE batch = ? "
        "ORDER BY uid DESC LIMIT ?) CROSS JOIN monitored_variable ON job_uid = uid WHERE number IS NOT NULL "
        "GROUP BY name ORDER BY name",
        (batch, limit),
    )
    return [(name, jobs) for name, jobs in rows]


def values_of_batch(connection: Connection, batch: str, name: str, limit: int) -> list[Told]:
    """The latest value that each job of a batch told of a variable, in the order of the times; of the newest `limit` jobs."""
    rows = connection.execute(
        "SELECT uid, max(told_at), number FROM (SELECT uid FROM job INDEXED BY job_of_batch WHERE batch = ? "
        "ORDER BY uid DESC LIMIT ?) CROSS JOIN monitored_variable ON job_uid = uid "
        "WHERE monitored_variable.name = ? AND abs(number) < 9e99 GROUP BY uid ORDER BY 2",
        (batch, limit, name),
    )
    return [Told(*row) for row in rows]


def history_of_batch(connection: Connection, batch: str, name: str, jobs: int, limit: int) -> list[Told]:
    """The values of a variable over time of the newest `jobs` jobs of a batch, by job and time; at most `limit`."""
    rows = connection.execute(
        "SELECT uid, told_at, number FROM (SELECT uid FROM job INDEXED BY job_of_batch WHERE batch = ? "
        "ORDER BY uid DESC LIMIT ?) CROSS JOIN variable_history ON job_uid = uid "
        "WHERE variable_history.name = ? AND abs(number) < 9e99 ORDER BY uid, attempt, told_at LIMIT ?",
        (batch, jobs, name, limit),
    )
    return [Told(*row) for row in rows]


def tiles_of_array(
    connection: Connection, array: int, first: int, per_tile: int, tiles: int
) -> dict[int, dict[int, int]]:
    """How many tasks of each outcome (its number) are in each tile of `per_tile` indexes that follow each other, from `first` on.
    Reads the rows of all that ended; a large array is better asked by `failures_by_tile`."""
    return _tiles(connection, "", array, first, per_tile, tiles)


def failures_by_tile(
    connection: Connection, array: int, first: int, per_tile: int, tiles: int
) -> dict[int, dict[int, int]]:
    """`tiles_of_array` of the tasks that did not succeed, from an index of them."""
    return _tiles(connection, "INDEXED BY task_failed", array, first, per_tile, tiles)


def _tiles(
    connection: Connection, index: str, array: int, first: int, per_tile: int, tiles: int
) -> dict[int, dict[int, int]]:
    failed = "AND outcome <> 0" if index else ""
    rows = connection.execute(
        f"SELECT (number - ?1) / ?2 AS tile, outcome, count(*) FROM task {index} WHERE array = ?3 {failed} "
        "AND number BETWEEN ?1 AND ?4 GROUP BY tile, outcome",
        (first, per_tile, array, first + per_tile * tiles - 1),
    )
    found: dict[int, dict[int, int]] = {}
    for tile, outcome, tasks in rows:
        found.setdefault(tile, {})[outcome] = tasks
    return found


def count_ended_of_array(connection: Connection, array: int, first: int, per_tile: int, tiles: int) -> dict[int, int]:
    """How many tasks have ended in each tile, by counting a range of the key for each: no row is read."""
    query = "SELECT count(*) FROM task WHERE array = ? AND number BETWEEN ? AND ?"
    found = {}
    for tile in range(tiles):
        begin = first + tile * per_tile
        found[tile] = connection.execute(query, (array, begin, begin + per_tile - 1)).fetchone()[0]
    return found
