"""Questions to the ledger about the jobs of a batch. They take the driver's connection and only read."""

from __future__ import annotations

from typing import NamedTuple

from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.layout import name_in_place
from jobjar.ledger.driver import Connection

_NO_STORAGE = f"substr(category, 1, {len(STORAGE_CATEGORY)}) <> '{STORAGE_CATEGORY}'"
# When a job completed. Archiving is a later move, so the last move to completed/ counts.
COMPLETED_AT = (
    "CASE WHEN {job}.place GLOB 'completed/*' THEN {job}.moved_at ELSE coalesce((SELECT max(moved_at) FROM move "
    "WHERE job_uid = {job}.uid AND destination GLOB 'completed/*'), {job}.moved_at) END"
)
_COLUMNS = (
    "uid, name, place, category, priority, move_number, moved_at, "
    "coalesce((SELECT max(number) FROM attempt WHERE job_uid = job.uid), 0)"
)


class WaitingJob(NamedTuple):
    """A job of a batch, with what is needed to complete it."""

    uid: str
    name: str
    place: str
    category: str
    priority: int
    move_number: int
    moved_at: float
    attempts: int


def waiting_jobs(connection: Connection, batch: str, limit: int, after: str = "") -> list[WaitingJob]:
    """Jobs of a batch that wait to be run, by id, after the id `after`; without those that have run and wait to be
    stored."""
    query = (
        f"SELECT {_COLUMNS} FROM job WHERE batch = ? AND state = 'unclaimed' AND {_NO_STORAGE} "
        "AND uid > ? ORDER BY uid LIMIT ?"
    )
    return [WaitingJob(*row) for row in connection.execute(query, (batch, after, limit))]


def running_jobs(connection: Connection, batch: str) -> list[tuple[str, str, str]]:
    """(id, name, place) of the jobs of a batch that workers hold, without those that are being stored."""
    query = f"SELECT uid, name, place FROM job WHERE batch = ? AND state = 'claimed' AND {_NO_STORAGE} ORDER BY place"
    return list(connection.execute(query, (batch,)))


def job_that_was_at(connection: Connection, place: str) -> WaitingJob | None:
    """The job that the ledger has at a place, or had there last; None if there is none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM job WHERE name = ? AND place = ? AND uid IS NOT NULL ORDER BY moved_at DESC LIMIT 1",
        (name_in_place(place), place),
    ).fetchone()
    return WaitingJob(*row) if row else None


def unsuccessful_jobs(
    connection: Connection, batch: str, since: float, until: float, limit: int, after: str
) -> list[WaitingJob]:
    """Jobs of a batch that completed without success after `since` and up to `until` (the disk's time), by id, after
    the id `after`."""
    completed_at = COMPLETED_AT.format(job="job_report")
    query = (
        f"SELECT {_COLUMNS.replace('job.uid', 'job_report.uid')} FROM job_report WHERE batch = ? AND state = 'completed' "
        f"AND outcome IS NOT 'succeeded' AND {completed_at} > ? AND {completed_at} <= ? AND uid > ? ORDER BY uid LIMIT ?"
    )
    return [WaitingJob(*row) for row in connection.execute(query, (batch, since, until, after, limit))]


def count_open_jobs(connection: Connection, batch: str) -> int:
    """How many jobs of a batch wait, run, or are to be stored."""
    query = "SELECT count(*) FROM job WHERE batch = ? AND state IN ('unclaimed', 'claimed')"
    return int(connection.execute(query, (batch,)).fetchone()[0])


def has_jobs_without_end(connection: Connection, batch: str, since: float, until: float) -> bool:
    """Whether a job of a batch completed after `since` and up to `until` (the disk's time) and no entry says how."""
    query = (
        "SELECT 1 FROM job WHERE batch = ? AND state = 'completed' AND moved_at > ? AND moved_at <= ? "
        "AND NOT EXISTS (SELECT 1 FROM attempt WHERE job_uid = job.uid AND is_final = 1)"
    )
    return connection.execute(query, (batch, since, until)).fetchone() is not None


def aborted_batches_with_waiting_jobs(connection: Connection) -> list[str]:
    """The aborted batches that have waiting jobs. A recovery returned these, or a worker that was about to end."""
    query = (
        "SELECT name FROM batch WHERE is_aborted AND EXISTS "
        f"(SELECT 1 FROM job WHERE batch = batch.name AND state = 'unclaimed' AND uid IS NOT NULL AND {_NO_STORAGE})"
    )
    return [name for (name,) in connection.execute(query)]
