"""Questions to the ledger for the worker that tells of ends (JJ_ON_END): is a batch, or all of a jar, over, and whose attempt was
the last? They take the driver's connection and only read.

Ends by programs (a job that was cancelled while it waited) are passed over: no worker would tell of them.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from jobjar.ledger.ask_awaited import count_missing
from jobjar.ledger.driver import Connection
from jobjar.ledger.precedence import IS_LATEST
from jobjar.ledger.removed import MISSED


class LastEnd(NamedTuple):
    """The worker, by its id, whose attempt ended a job."""

    worker_uid: str
    job_uid: str


class EndedJob(NamedTuple):
    """A job and the attempt that ended it. Times are in seconds; `ended_at` is UTC epoch seconds, by the disk's clock."""

    uid: str
    name: str
    category: str
    batch: str | None
    submitter: str | None
    attempt: int
    outcome: str
    exit_status: int | None
    signal: int | None
    run_time_s: float | None
    ended_at: float
    message: str | None


# Jobs that a claimer missed where the ledger had them: another worker runs them, most likely.
_MISSED = (
    f"SELECT 1 FROM file_mark CROSS JOIN job ON job.uid = job_uid WHERE mark = '{MISSED}' AND job.state = 'removed'"
)
# So much later than a job's file the entry of its end may come; longer than OUTCOME_COMES_WITHIN_S, since clocks differ.
_COMES_WITHIN_S = 60.0
_IS_WORKERS = "EXISTS (SELECT 1 FROM worker WHERE worker.uid = final.worker_uid)"
_LAST = "ORDER BY final.ended_at DESC, final.job_uid DESC LIMIT 1"


def is_batch_over(connection: Connection, batch: str) -> bool:
    """Whether no job of a batch waits, runs, is in limbo, or is still to come, and it is known how all have ended."""
    for query in (
        "SELECT 1 FROM job WHERE batch = ? AND state IN ('unclaimed', 'claimed', 'limbo') LIMIT 1",
        f"{_MISSED} AND job.batch = ? LIMIT 1",
    ):
        if connection.execute(query, (batch,)).fetchone() is not None:
            return False
    # Another node's entry may come some seconds after the file that it is about.
    query = (
        "SELECT 1 FROM job INDEXED BY job_of_batch WHERE batch = ? AND state = 'completed' AND moved_at > ? AND NOT EXISTS "
        "(SELECT 1 FROM attempt WHERE attempt.job_uid = job.uid AND is_final = 1) LIMIT 1"
    )
    is_unknown = connection.execute(query, (batch, time.time() - _COMES_WITHIN_S)).fetchone() is not None
    return not is_unknown and not count_missing(connection, batch)


def is_all_over(connection: Connection) -> bool:
    """Whether no job of the jar waits or runs."""
    query = "SELECT coalesce(sum(jobs), 0) FROM job_count_report WHERE state IN ('unclaimed', 'claimed')"
    return not int(connection.execute(query).fetchone()[0]) and connection.execute(_MISSED).fetchone() is None


def last_end_of_batch(connection: Connection, batch: str) -> LastEnd | None:
    """The last end of a job of a batch; None if no worker's attempt ended one."""
    query = (
        "SELECT final.worker_uid, final.job_uid FROM job INDEXED BY job_of_batch "
        "CROSS JOIN attempt AS final ON final.job_uid = job.uid "
        f"WHERE job.batch = ? AND job.state = 'completed' AND final.is_final = 1 AND {IS_LATEST.format(end='final')} "
        f"AND {_IS_WORKERS} {_LAST}"
    )
    row = connection.execute(query, (batch,)).fetchone()
    return None if row is None else LastEnd(*row)


def last_end(connection: Connection) -> LastEnd | None:
    """The last end of a job of the jar; None if no worker's attempt ended one."""
    query = (
        "SELECT final.worker_uid, final.job_uid FROM attempt AS final INDEXED BY attempt_ended "
        f"WHERE final.is_final = 1 AND {_IS_WORKERS} {_LAST}"
    )
    row = connection.execute(query).fetchone()
    return None if row is None else LastEnd(*row)


def ended_job(connection: Connection, uid: str) -> EndedJob | None:
    """A job that has ended, by its id; None if it has not."""
    query = (
        "SELECT job.uid, job.name, job.category, job.batch, job.submitter, final.number, final.outcome, final.exit_status, "
        "final.signal, final.wall_time_s, final.ended_at, final.message FROM job CROSS JOIN attempt AS final "
        f"ON final.job_uid = job.uid WHERE job.uid = ? AND final.is_final = 1 AND {IS_LATEST.format(end='final')}"
    )
    row = connection.execute(query, (uid,)).fetchone()
    return None if row is None else EndedJob(*row)
