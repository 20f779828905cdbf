"""Questions of the nightly job to the ledger: which completed jobs are old. They only read; `checkpoint` writes the WAL back."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from jobjar.ledger.ask_claiming import IS_OPEN
from jobjar.ledger.driver import Connection

# A job's end is its last move to completed/, or, if that was not journaled, its last known move.
_ENDED_AT = """coalesce((SELECT max(move.moved_at) FROM move
                  WHERE move.job_uid = job.uid AND move.destination LIKE 'completed/%'), job.moved_at)"""
_COMPLETED_BEFORE = f"""
SELECT id, uid, name, place, category, move_number, kind, batch FROM job
WHERE id > ? AND state = 'completed' AND uid IS NOT NULL AND place LIKE ? AND moved_at < ?
    AND {_ENDED_AT} < ?
ORDER BY id LIMIT ?"""
_ARCHIVED_BEFORE = _COMPLETED_BEFORE.replace("AND moved_at < ?", "")


class OldJob(NamedTuple):
    """A completed job, with what a move of its file needs to know."""

    row: int
    uid: str
    name: str
    place: str
    category: str
    move_number: int
    kind: str
    batch: str | None


def completed_before(connection: Connection, after_row: int, ended_before: float, limit: int) -> list[OldJob]:
    """The next `limit` jobs in completed/ that ended before this time of the disk's clock."""
    rows = connection.execute(_COMPLETED_BEFORE, (after_row, "completed/%", ended_before, ended_before, limit))
    return [OldJob(*row) for row in rows]


def archived_before(connection: Connection, after_row: int, ended_before: float, limit: int) -> list[OldJob]:
    """The next `limit` archived jobs that ended before this time of the disk's clock."""
    return [OldJob(*row) for row in connection.execute(_ARCHIVED_BEFORE, (after_row, "archive/%", ended_before, limit))]


def arrays_to_keep(connection: Connection, ended_before: float, only_archived: bool = False) -> set[str]:
    """The arrays with a chunk that has not ended, or not before this time of the disk's clock, or (`only_archived`) is not in the
    archive yet."""
    elsewhere = " OR job.place LIKE 'completed/%'" if only_archived else ""
    rows = connection.execute(
        "SELECT DISTINCT array.uid FROM array CROSS JOIN job ON job.batch = array.uid WHERE job.state <> 'removed' AND "
        f"(job.state <> 'completed'{elsewhere} OR {_ENDED_AT} >= ?)",
        (ended_before,),
    )
    return {uid for (uid,) in rows}


def arrays_without_files(connection: Connection, ended_before: float) -> list[str]:
    """The arrays that had chunks of which no file is in the jar any more, and no task of which ended since this time."""
    rows = connection.execute(
        "SELECT uid FROM array WHERE coalesce(last_ended_ms, 0) < ? AND EXISTS (SELECT 1 FROM job WHERE batch = array.uid) "
        "AND NOT EXISTS (SELECT 1 FROM job WHERE batch = array.uid AND state <> 'removed')",
        (ended_before * 1000,),
    )
    return [uid for (uid,) in rows]


class OutputOfArray(NamedTuple):
    """An output file of an array's tasks in the directory of a worker; whether the array has chunks that have not ended."""

    array: str
    is_open: bool
    worker_id: str
    output_file: str


def outputs_of_arrays(connection: Connection, workers: Collection[str]) -> Iterator[OutputOfArray]:
    """All output files of each array of which one of these workers, given by their ids, holds output."""
    query = f"SELECT DISTINCT batch FROM job INDEXED BY job_chunk WHERE kind = 'chunk' AND {IS_OPEN}"
    open_ones = {array for (array,) in connection.execute(query)}
    rows = connection.execute(
        "SELECT batch, worker_uid, output_file FROM chunk_run CROSS JOIN job ON job.uid = job_uid "
        "WHERE output_file IS NOT NULL AND batch IS NOT NULL"
    )
    found: dict[str, list[OutputOfArray]] = {}
    for array, worker, file in rows:
        found.setdefault(array, []).append(OutputOfArray(array, array in open_ones, worker, file))
    return (one for some in found.values() if any(one.worker_id in workers for one in some) for one in some)


def checkpoint(connection: Connection) -> bool:
    """Write the WAL back into the database and truncate it; returns whether all of it could be. The caller holds the
    home's lock."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy
