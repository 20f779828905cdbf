"""The workers that have not ended, one line each.

Reads their directories and the ledger; writes nothing but this node's clock file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jobjar.arrays.open_tasks import name_tasks_at_work
from jobjar.attempts.attempt import CHUNK
from jobjar.hearing import Hearing
from jobjar.jar import Jar
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_selected import Filters, jobs_of_filters
from jobjar.reports.listing import ListedJob, describe_listed, iso_time
from jobjar.reports.tables import Paint, format_table
from jobjar.reports.workers import describe_workers
from jobjar.roster import list_workers
from jobjar.units import format_seconds


class Worker(NamedTuple):
    """A worker as it was when it was looked at. `state`: idle, busy, paused, dead, silent, or unknown (nothing was ever heard of
    it). `job` is the id of the job that it runs, or its place; `task` which task of an array that is (`ARRAY[7]`), as far as ends
    tell; `holds` how many jobs it has. Times are UTC epoch seconds."""

    name: str
    node: str
    state: str
    slots: int
    holds: int
    job: str | None
    task: str | None
    job_name: str | None
    job_since: float | None
    heartbeat_age_s: float | None
    user: str
    categories: list[str]
    started_at: float
    pauses_until: float | None


def list_working(jar: Jar, now: float) -> list[Worker]:
    """The workers that have not ended, by node and name. `now` is UTC epoch seconds. The caller brings the ledger up to date."""
    held: dict[str, list[ListedJob]] = {}
    for job in jobs_of_filters(jar.ledger.connection, Filters(states=("running",))):
        held.setdefault(worker_of_place(job.place) or "", []).append(describe_listed(jar, job, now))
    hearing = Hearing(jar.layout)
    workers = [worker for worker in list_workers(jar.layout) if not worker.ended]
    # A directory that was set aside has another name than its worker.
    described = describe_workers(
        workers,
        hearing,
        [
            {"place": listed.job.place, "name": listed.job.name, "task": None}
            for jobs in held.values()
            for listed in jobs
        ],
    )["workers"]
    arrays = {str(listed.job.batch) for jobs in held.values() for listed in jobs if listed.job.kind == CHUNK}
    at_work = name_tasks_at_work(jar.ledger.connection, arrays)
    found = []
    for worker, about in zip(workers, described, strict=True):
        jobs = sorted(held.get(worker.paths.name, []), key=lambda listed: listed.started_at or 0.0)
        age_s = hearing.age_s(worker)
        first = jobs[0] if jobs else None
        found.append(
            Worker(
                name=about["worker"],
                node=about["node"],
                state=about["state"],
                slots=worker.slots,
                holds=len(jobs),
                job=None if first is None else first.job.uid or first.job.place,
                task=None if first is None else at_work.get(str(first.job.uid)),
                job_name=None if first is None else first.name_or_command,
                job_since=None if first is None else first.started_at,
                heartbeat_age_s=None if age_s is None else round(max(0.0, age_s), 3),
                user=about["user"],
                categories=about["categories"],
                started_at=about["started_at"],
                pauses_until=about["pauses_until"],
            )
        )
    return sorted(found, key=lambda worker: (worker.node, worker.name))


def describe_for_programs(worker: Worker) -> dict[str, Any]:
    """A worker as `jobjar workers --format json` has it: times are ISO 8601 in UTC."""
    times = {name: iso_time(getattr(worker, name)) for name in ("job_since", "started_at", "pauses_until")}
    return {**worker._asdict(), **times}


def format_workers(workers: list[Worker], now: float, table_format: str, paint: Paint | None = None) -> str:
    """Workers as a table for people, with times as how long ago."""

    def ago(moment: float | None) -> str:
        return "" if moment is None else "".join(format_seconds(now - moment).split())

    rows = [
        (
            worker.name,
            worker.state,
            f"{min(worker.holds, worker.slots)}/{worker.slots}",
            "" if worker.heartbeat_age_s is None else ago(now - worker.heartbeat_age_s),
            ago(worker.started_at),
            worker.task or worker.job or "",
            ago(worker.job_since),
            (worker.job_name or "") + (f" (and {worker.holds - 1} more)" if worker.holds > 1 else ""),
        )
        for worker in workers
    ]
    return format_table(rows, ("worker", "state", "slots", "heard", "age", "job", "since", ""), table_format, paint)
