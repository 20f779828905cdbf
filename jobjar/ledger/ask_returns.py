"""Questions to the ledger about jobs that went back: jobs that wait and were tried before.

They only read. The answers come from journals, so every node gives the same.
"""

from __future__ import annotations

from typing import NamedTuple

from jobjar.ledger.driver import Connection

# How many of the jar's newest attempts that completed no job are searched for jobs that wait.
NEWEST = 100_000

_COLUMNS = (
    "job.name, job.uid, job.batch, ended.number, ended.outcome, ended.exit_status, ended.signal, coalesce(ended.message, ("
    "SELECT phase.message FROM phase WHERE phase.job_uid = ended.job_uid AND phase.attempt = ended.number "
    "AND phase.worker_uid = ended.worker_uid AND phase.message IS NOT NULL ORDER BY phase.ended_at DESC, phase.name LIMIT 1)), "
    "ended.ended_at, job.not_before"
)
# A published job goes on with being stored. Its category shows that its files wait for a storage worker.
_IS_NEWEST = (
    "ended.outcome <> 'published' AND NOT EXISTS (SELECT 1 FROM attempt AS later WHERE later.job_uid = ended.job_uid "
    "AND (later.number, later.worker_uid) > (ended.number, ended.worker_uid))"
)
_RETURNS = f"""
SELECT {_COLUMNS} FROM (
    SELECT * FROM attempt INDEXED BY attempt_undecided WHERE is_final = 0 AND ended_at IS NOT NULL
    ORDER BY ended_at DESC LIMIT ?1) AS ended
CROSS JOIN job ON job.uid = ended.job_uid
WHERE job.state = 'unclaimed' AND (?2 IS NULL OR job.batch = ?2) AND {_IS_NEWEST}
ORDER BY ended.ended_at DESC, job.uid"""
_RETURN_OF = f"""
SELECT {_COLUMNS} FROM attempt AS ended CROSS JOIN job ON job.uid = ended.job_uid
WHERE ended.job_uid = ? AND ended.ended_at IS NOT NULL AND ended.is_final = 0 AND {_IS_NEWEST}"""
_HELD = """
SELECT name, uid, batch, 0, 'held', NULL, NULL, held_reason, moved_at, 0 FROM job
WHERE state <> 'completed' AND state = 'limbo' AND held_reason IS NOT NULL AND batch IS NOT NULL AND (?1 IS NULL OR batch = ?1)
ORDER BY moved_at DESC, uid"""


class Return(NamedTuple):
    """A job that went back, and how its newest attempt ended; for a job that is `held`, its reason. Times are the
    disk's."""

    job: str
    uid: str
    batch: str | None
    attempt: int
    outcome: str
    exit_status: int | None
    signal: int | None
    message: str | None
    ended_at: float
    not_before: float


def list_returns(connection: Connection) -> list[Return]:
    """The jobs that wait and were tried before, newest attempts first."""
    return [Return(*row) for row in connection.execute(_RETURNS, (NEWEST, None))]


def returns_of_batches(connection: Connection, name: str | None) -> dict[str, list[Return]]:
    """The returns of batches, by batch, and their held jobs; with `name`, of that batch alone."""
    rows = [*connection.execute(_RETURNS, (NEWEST, name)), *connection.execute(_HELD, (name,))]
    found: dict[str, list[Return]] = {}
    for row in map(Return._make, rows):
        if row.batch is not None:
            found.setdefault(row.batch, []).append(row)
    return found


def find_return(connection: Connection, uid: str) -> Return | None:
    """How a job's newest attempt ended, if that did not complete the job; None before the first."""
    row = connection.execute(_RETURN_OF, (uid,)).fetchone()
    return Return(*row) if row else None
