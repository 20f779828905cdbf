"""Which batches are closed to claims: throttled ones and aborted ones. The functions take the driver's connection."""

from __future__ import annotations

from typing import NamedTuple

from jobjar.ledger.driver import Connection


def throttled_batches(connection: Connection) -> dict[str, float]:
    """The batches that fail fast, and until when (the disk's time) none of their jobs is claimed. That may be over."""
    return dict(connection.execute("SELECT batch, until FROM throttle WHERE until > 0"))


def aborted_batches(connection: Connection) -> frozenset[str]:
    """The batches that are aborted and were not restarted since. None of their jobs is claimed."""
    return frozenset(name for (name,) in connection.execute("SELECT name FROM batch WHERE is_aborted = 1"))


class ThrottleRow(NamedTuple):
    """A batch that fails fast: when that was noted, until when its jobs wait, how many failed in a row. Disk's
    times."""

    batch: str
    told_at: float
    until: float
    failures: int


def throttle_of(connection: Connection, batch: str) -> ThrottleRow | None:
    """The latest throttle of a batch, or None."""
    query = "SELECT batch, told_at, until, failures FROM throttle WHERE batch = ?"
    row = connection.execute(query, (batch,)).fetchone()
    return ThrottleRow(*row) if row else None


# Both indexes of ended attempts are read from their newest entries: a batch's older attempts do not matter.
_NEWEST_ENDS = """
SELECT job_uid, started_at, ended_at, outcome FROM attempt WHERE {} ORDER BY ended_at DESC LIMIT ?2"""
_BATCH_ENDS = f"""
SELECT job.uid, ends.ended_at - ends.started_at, ends.outcome FROM (
    SELECT * FROM ({_NEWEST_ENDS.format("is_final = 1")})
    UNION ALL SELECT * FROM ({_NEWEST_ENDS.format("is_final = 0 AND ended_at IS NOT NULL")})) AS ends
JOIN job ON job.uid = ends.job_uid WHERE +job.batch = ?1 ORDER BY ends.ended_at DESC"""


def newest_ends(connection: Connection, batch: str, newest: int) -> list[tuple[str, float | None, str | None]]:
    """(job, seconds from its claim, outcome) of a batch's attempts among the jar's `newest` ended ones that
    completed their jobs, and among the `newest` that did not; the latest first."""
    return list(connection.execute(_BATCH_ENDS, (batch, newest)))
