"""Questions to the ledger for statistics: what ended jobs took, and how many have not ended. They take the driver's connection
and only read.

Ended jobs are read from the index of ends, the newest first, as far as somebody wants: no index has percentiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobjar.ledger.ask_selected import Filters, decided_query, open_queries
from jobjar.ledger.driver import Connection

_COLUMNS = (
    "job.uid, job.name, job.category, job.batch, job.submitter, final.outcome, final.exit_status, final.signal, "
    # Only of a job that was tried again another attempt began first.
    "CASE WHEN final.number > 1 THEN (SELECT min(first.started_at) FROM attempt AS first WHERE first.job_uid = job.uid) "
    "ELSE final.started_at END - job.submitted_at, "
    "final.wall_time_s, final.user_cpu_s + final.system_cpu_s, final.max_rss_kib, final.ended_at, final.worker, "
    "final.worker_uid, final.number, final.output_file, final.message"
)
# What people group by, and the part of a job that has it where SQL can tell.
_OPEN_GROUPS = {"category": "job.category", "batch": "job.batch", "submitter": "job.submitter"}


class EndedJob(NamedTuple):
    """What an ended job took. `waited_s` is from its submission to its first start; the times after it, and the memory, are of
    the attempt that decided it. Any may be None: nothing tells. The last five find its output."""

    uid: str
    name: str
    category: str
    batch: str | None
    submitter: str | None
    outcome: str
    exit_status: int | None
    signal: int | None
    waited_s: float | None
    run_time_s: float | None
    cpu_time_s: float | None
    max_rss_kib: int | None
    ended_at: float
    worker: str
    worker_uid: str
    attempt: int
    output_file: str | None
    message: str | None


class OpenCount(NamedTuple):
    """How many jobs that have not ended are alike. `state` is the ledger's, or `held`. `name` and `place` are of one of them, if
    that tells its group."""

    state: str
    group: str | None
    name: str | None
    submitter: str | None
    place: str | None
    jobs: int


def ended_jobs(
    connection: Connection, filters: Filters, rows: Sequence[int] | None = None, limit: int | None = None
) -> Iterator[EndedJob]:
    """The ended jobs that fit, the newest end first, at most `limit`; with `rows`, only those of these rows. Jobs whose end
    nobody recorded are not among them."""
    query, values = decided_query(connection, filters, _COLUMNS, rows)
    for row in connection.execute(f"{query} LIMIT ?", (*values, -1 if limit is None else limit)):
        yield EndedJob(*row)


def open_counts(
    connection: Connection, filters: Filters, by: str, rows: Sequence[int] | None = None
) -> Iterator[OpenCount]:
    """How many of the jobs that fit have not ended, by state and by what groups them (`by`)."""
    if by == "category" and rows is None and filters._replace(categories=()) == Filters():
        yield from _counted(connection, filters.categories)
        return
    state = "CASE WHEN job.state = 'limbo' AND job.held_reason IS NOT NULL THEN 'held' ELSE job.state END"
    if by in _OPEN_GROUPS:
        columns = f"{state} AS shown, {_OPEN_GROUPS[by]} AS grouped, NULL, NULL, NULL, count(*)"
        rest = " GROUP BY shown, grouped"
    else:
        columns, rest = f"{state}, NULL, job.name, job.submitter, job.place, 1", ""
    for query, values in open_queries(connection, filters, columns, rows):
        for row in connection.execute(query + rest, values):
            yield OpenCount(*row)


def _counted(connection: Connection, categories: Sequence[str]) -> Iterator[OpenCount]:
    """The same by category, from the counts that the ledger keeps."""
    query = (
        "SELECT state, category, NULL, NULL, NULL, sum(jobs) FROM job_count_report "
        "WHERE state IN ('claimed', 'unclaimed') GROUP BY state, category"
    )
    held = (
        "SELECT CASE WHEN held_reason IS NULL THEN 'limbo' ELSE 'held' END AS shown, category, NULL, NULL, NULL, count(*) "
        "FROM job WHERE state = 'limbo' GROUP BY shown, category"
    )
    for row in (*connection.execute(query), *connection.execute(held)):
        if not categories or row[1] in categories:
            yield OpenCount(*row)
