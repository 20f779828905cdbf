"""Questions of people about names like one that no job has. They use the models, and only read."""

from __future__ import annotations

from typing import Any, NamedTuple

import peewee

from jobjar.ledger.models import Job, JobCountReport
from jobjar.ledger.store import Ledger

# How many of the newest jobs are searched by name.
_NEWEST = 20_000


class Named(NamedTuple):
    """A job as it is listed."""

    name: str
    state: str


def count_ids(ledger: Ledger, beginning: str) -> int:
    """How many jobs have an id that begins so."""
    with ledger.database.bind_ctx((Job,)):
        # A range, which the index of ids can answer.
        return int(Job.select().where((Job.uid >= beginning) & (Job.uid < beginning + "\x7f")).count())


def jobs_named_with(ledger: Ledger, part: str, limit: int) -> list[Named]:
    """The newest jobs that have `part` in their names, among those that came last into the ledger."""
    return _newest(ledger, limit, lambda came_last: peewee.fn.instr(came_last.c.name, part))


def count_named_with(ledger: Ledger, part: str) -> int:
    """How many jobs have `part` in their names."""
    with ledger.database.bind_ctx((Job,)):
        return int(Job.select().where(peewee.fn.instr(Job.name, part)).count())


def newest_jobs(ledger: Ledger, limit: int) -> list[Named]:
    """The jobs that were moved last."""
    return _newest(ledger, limit, lambda came_last: None)


def _newest(ledger: Ledger, limit: int, condition: Any) -> list[Named]:
    with ledger.database.bind_ctx((Job,)):
        columns = Job.id, Job.name, Job.state, Job.moved_at
        came_last: Any = Job.select(*columns).order_by(Job.id.desc()).limit(_NEWEST).alias("came_last")
        query = peewee.Select((came_last,), (came_last.c.name, came_last.c.state)).bind(ledger.database)
        fits = condition(came_last)
        if fits is not None:
            query = query.where(fits)
        query = query.order_by(came_last.c.moved_at.desc(), came_last.c.id.desc()).limit(limit)
        return [Named(*row) for row in query.tuples()]


def newest_names(ledger: Ledger) -> list[tuple[str | None, str, str | None]]:
    """Id, name and submitter of the jobs that came last into the ledger, the newest first: for what was spelled wrongly."""
    with ledger.database.bind_ctx((Job,)):
        query: Any = Job.select(Job.uid, Job.name, Job.submitter).order_by(Job.id.desc()).limit(_NEWEST // 10)
        return list(query.tuples())


def submitters_of_jobs(ledger: Ledger) -> set[str]:
    """The submitters of the jobs that came last into the ledger."""
    with ledger.database.bind_ctx((Job,)):
        query: Any = Job.select(Job.submitter).order_by(Job.id.desc()).limit(_NEWEST)
        return {submitter for (submitter,) in query.tuples() if submitter is not None}


def categories_of_jobs(ledger: Ledger) -> set[str]:
    """The categories that any job has or had."""
    with ledger.database.bind_ctx((JobCountReport,)):
        query: Any = JobCountReport.select(JobCountReport.category).distinct()
        return {category for (category,) in query.tuples()}
