"""The Python library, looking: at the jobs that words and filters select, why they wait, at what happened to one, at the workers.

`import jobjar` gives all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypedDict, Unpack

from jobjar.errors import NothingSelected, UsageError
from jobjar.library import Job, current_jar, job_of_row, refreshed_jar
from jobjar.reports.grouping import NEWEST
from jobjar.selecting.selection import make_selection

if TYPE_CHECKING:
    from jobjar.reports.explain import Explanation
    from jobjar.reports.history import Event
    from jobjar.reports.stats import Stats
    from jobjar.reports.working import Worker

Words = str | Iterable[str] | None
Moment = float | str | None


class JobFilters(TypedDict, total=False):
    """Filters of jobs, as those of `jobjar.list_jobs`."""

    state: Words
    outcome: Words
    category: Words
    batch: Words
    array: Words
    submitter: Words
    name: Words
    since: Moment
    until: Moment
    exit_status: int | Iterable[int] | None
    worker: Words
    node: Words


def list_jobs(
    jobs: str | Iterable[str] = (),
    *,
    state: Words = None,
    outcome: Words = None,
    category: Words = None,
    batch: Words = None,
    array: Words = None,
    submitter: Words = None,
    name: Words = None,
    since: Moment = None,
    until: Moment = None,
    exit_status: int | Iterable[int] | None = None,
    worker: Words = None,
    node: Words = None,
    sort: str | None = None,
    reverse: bool = False,
    limit: int | None = None,
) -> list[Job]:
    """The jobs that words name (as `jobjar list` takes them), or all that fit the filters; [] if none does.

    Several values of a filter are alternatives. Times are UTC epoch seconds, or text such as '2h' or '2026-11-30T14:00'. The
    order is that of `jobjar list`, or by a column of it (`sort`); at most `limit` jobs.
    Raises UnknownJob, AmbiguousJob, UnknownBatch, UsageError.
    """
    from jobjar.reports.listing import list_selected

    selection = make_selection(
        jobs,
        state=state,
        outcome=outcome,
        category=category,
        batch=batch,
        array=array,
        submitter=submitter,
        name=name,
        since=since,
        until=until,
        exit_status=exit_status,
        worker=worker,
        node=node,
    )
    try:
        listed = list_selected(refreshed_jar(), selection, time.time(), limit, sort, reverse)
    except NothingSelected:
        return []
    return [
        job_of_row(
            one.job,
            place=one.job.place,
            batch=one.job.batch,
            held_reason=one.job.held_reason,
            worker=one.worker,
            started_at=one.started_at,
            ended_at=one.ended_at,
        )
        for one in listed
    ]


def explain(
    jobs: str | Iterable[str] = (), *, limit: int | None = None, **filters: Unpack[JobFilters]
) -> list[Explanation]:
    """Why jobs wait, where they run or how they ended, and what to do: the jobs that words name, or all that fit the filters (as
    for `list_jobs`), at most `limit`; [] if none does. Raises UnknownJob, AmbiguousJob, UnknownBatch, UsageError."""
    from jobjar.reports.explain_selected import explain_selected
    from jobjar.reports.refresh import refresh_ledger

    selection = make_selection(jobs, **filters)
    jar = current_jar()
    try:
        explained = explain_selected(jar, selection, refresh_ledger(jar), limit)
    except NothingSelected:
        return []
    if explained.errors:
        raise explained.errors[0]
    return explained.jobs


def history(job: str) -> list[Event]:
    """What happened to a job, the earliest first: its moves, its attempts, their phases. `job` is as for `jobjar.job`.

    Raises UnknownJob, AmbiguousJob.
    """
    from jobjar.reports.history import gather_history
    from jobjar.reports.history_array import gather_array_history
    from jobjar.selecting.arrays import find_tasks
    from jobjar.selecting.named import find_job

    jar = refreshed_jar()
    tasks = find_tasks(jar, job)
    return gather_history(jar, find_job(jar, job)) if tasks is None else gather_array_history(jar, tasks)


def list_workers() -> list[Worker]:
    """The workers that have not ended, by node and name: what each runs, since when, and when it was heard of last."""
    from jobjar.reports.working import list_working

    return list_working(refreshed_jar(), time.time())


def output(job: str, attempt: int | None = None, worker: str | None = None, tail: int | None = None) -> bytes:
    """What a job wrote to its standard output and error: of the attempt that completed it, or of its newest one, unless `attempt`
    or `worker` name another. b'' if it wrote nothing; with `tail`, its last so many lines. `job` may be an array, or tasks
    (`ARRAY[1-10,17]`): what those that have ended wrote, in the order of their indexes, without `attempt`, `worker` and `tail`.

    Raises UnknownJob, AmbiguousJob, UsageError, and NoOutput if there is no such attempt yet.
    """
    from jobjar.reports.arrays import read_output_of_tasks
    from jobjar.reports.jobs import find_output
    from jobjar.reports.output import check_tail, read_output
    from jobjar.selecting.arrays import find_tasks
    from jobjar.selecting.named import find_job

    check_tail(tail)
    jar = refreshed_jar()
    tasks = find_tasks(jar, job)
    if tasks is not None:
        if (attempt, worker, tail) != (None, None, None):
            raise UsageError(reason="attempt, worker and tail are for jobs, and not for tasks of arrays")
        return b"".join(piece for _, piece in read_output_of_tasks(jar, tasks))
    path = find_output(jar, find_job(jar, job), attempt, worker)
    return b"" if path is None else b"".join(read_output(jar, path, tail))


def follow_output(job: str, tail: int | None = None, log: Callable[[str], None] | None = None) -> Iterator[bytes]:
    """What a job writes, in pieces as they come, through all of its attempts, until it has ended; with `tail`, of what there is
    already the last so many lines alone. `log` gets lines for people: why it has not begun, how its attempts and it ended.

    Raises UnknownJob, AmbiguousJob, UsageError.
    """
    from jobjar.reports.following import Followed, follow
    from jobjar.selecting.named import find_job

    jar = refreshed_jar()
    followed = Followed(jar, find_job(jar, job), log or (lambda line: None), tail=tail)
    return (piece for _, piece in follow(jar, [followed]))


def stats(
    by: str = "category",
    jobs: str | Iterable[str] = (),
    limit: int | None = NEWEST,
    **filters: Unpack[JobFilters],
) -> Stats:
    """What jobs take: of each group (`by`: category, batch, name, submitter or node) how many wait, run and ended, how these
    ended, and the median, the 95th percentile and the maximum of how long they waited and ran (seconds), of their processor time
    (seconds) and of their memory (KiB); and what those said that failed.

    `jobs` and `filters` are those of `list_jobs`, without `state`. The `limit` newest ended jobs count (None: all).
    Raises UnknownJob, AmbiguousJob, UsageError.
    """
    from jobjar.reports.stats_tasks import gather_selected

    return gather_selected(refreshed_jar(), make_selection(jobs, **filters), by, limit)
