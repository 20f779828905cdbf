"""Questions to the ledger about stored files."""

from __future__ import annotations

from typing import NamedTuple

import peewee

from jobjar.ledger.models import Job, StoredFile
from jobjar.ledger.store import Ledger


class StoredOutput(NamedTuple):
    """A stored file: the id, name and batch of its job, the attempt that stored it, and what was recorded of it.
    `storage_hfn` is host:/path; the size is in bytes."""

    job: str
    job_name: str | None
    batch: str | None
    attempt: int
    source_name: str
    storage_name: str | None
    storage_hfn: str | None
    storage_url: str | None
    storage_size: int | None
    storage_md5: str | None

    @property
    def name(self) -> str:
        """Its logical name: the one that it was stored under, if that is another."""
        return self.storage_name or self.source_name


def batch_has_jobs(ledger: Ledger, batch: str) -> bool:
    """Whether any job is of this batch."""
    with ledger.database.bind_ctx((Job,)):
        return bool(Job.select().where(Job.batch == batch).exists())


def list_stored(
    ledger: Ledger, batch: str | None = None, job: str | None = None, name: str | None = None
) -> list[StoredOutput]:
    """The stored files of all jobs, or of a batch, a job (its id), or a logical name. Each is as its job's latest
    attempt recorded it. They are in the order of jobs and names."""
    with ledger.database.bind_ctx((Job, StoredFile)):
        later = StoredFile.alias()
        is_latest = ~peewee.fn.EXISTS(
            later.select(peewee.SQL("1")).where(
                (later.job_uid == StoredFile.job_uid)
                & (later.source_name == StoredFile.source_name)
                & (
                    (later.attempt > StoredFile.attempt)
                    | ((later.attempt == StoredFile.attempt) & (later.worker_uid > StoredFile.worker_uid))
                )
            )
        )
        columns = (
            StoredFile.job_uid,
            Job.name,
            Job.batch,
            StoredFile.attempt,
            StoredFile.source_name,
            StoredFile.storage_name,
            StoredFile.storage_hfn,
            StoredFile.storage_url,
            StoredFile.storage_size,
            StoredFile.storage_md5,
        )
        query = (
            StoredFile.select(*columns)
            .join(Job, peewee.JOIN.LEFT_OUTER, on=(Job.uid == StoredFile.job_uid))
            .where(is_latest)
            .order_by(Job.submitted_at, Job.id, StoredFile.job_uid, StoredFile.source_name)
        )
        if batch is not None:
            query = query.where(Job.batch == batch)
        if job is not None:
            query = query.where(StoredFile.job_uid == job)
        if name is not None:
            query = query.where((StoredFile.source_name == name) | (StoredFile.storage_name == name))
        return [StoredOutput(*row) for row in query.tuples().iterator()]
