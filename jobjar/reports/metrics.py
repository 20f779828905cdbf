"""What a jar is doing as numbers for Prometheus, in its text format. Brings the ledger up to date and reads it; moves nothing.

Names and units follow Prometheus's conventions: base units, a unit as the last word of a name. All are gauges: a ledger that is
made anew, an archive, and a job that is run again may let any of them fall.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jobjar.jar import Jar
from jobjar.reports.status import Status, gather_status
from jobjar.reports.workers import KINDS
from jobjar.shared_disk.files import free_bytes
from jobjar.text import printable_name
from jobjar.version import VERSION

# What a scraper is told of the answer's format.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = {"limbo": "limbo", "unclaimed": "waiting", "claimed": "running", "completed": "ended"}
_WINDOWS = {"last_hour": "1h", "last_day": "1d"}
Labels = Mapping[str, object]


class Metric(NamedTuple):
    """A gauge: its name, what it is, and its values by their labels."""

    name: str
    about: str
    samples: list[tuple[Labels, float]]


def format_metrics(jar: Jar) -> str:
    """All metrics of a jar as text. Raises OSError."""
    began = time.monotonic()
    return format_status(jar, gather_status(jar), began)


def format_status(jar: Jar, status: Status, began: float | None = None) -> str:
    """The metrics of a status. `began` (monotonic clock): when its gathering began."""
    began = time.monotonic() if began is None else began
    metrics = list(_make_metrics(jar, status))
    took = Metric(
        "jobjar_collect_duration_seconds", "How long it took to gather these.", [({}, time.monotonic() - began)]
    )
    return "".join(_format_metric(metric) for metric in (*metrics, took) if metric.samples)


def _make_metrics(jar: Jar, status: Status) -> Iterator[Metric]:
    yield Metric("jobjar_info", "The version of Job Jar that tells.", [({"version": VERSION}, 1)])
    yield Metric(
        "jobjar_ledger_used",
        "Where the answers come from: ledger, snapshot, journals or directories.",
        [({"source": status["source"]}, 1)],
    )
    jobs = status["jobs"]
    yield Metric("jobjar_jobs", "Jobs by state.", [({"state": word}, jobs[state]) for state, word in _STATES.items()])
    yield Metric("jobjar_held_jobs", "Jobs in limbo with a reason, but for dependents.", [({}, len(jobs["held"]))])
    yield Metric("jobjar_dependent_jobs", "Jobs that wait for others to end.", [({}, jobs["dependent"])])
    yield Metric(
        "jobjar_waiting_jobs",
        "Jobs that wait for a worker, by category and priority.",
        [({"category": row["category"], "priority": row["priority"]}, row["waiting"]) for row in status["categories"]],
    )
    oldest = jobs["oldest_waiting"]
    yield Metric(
        "jobjar_oldest_waiting_job_age_seconds",
        "How long the job waits that waits longest; 0 if none waits.",
        [({}, oldest["age_s"] if oldest else 0)],
    )
    yield Metric("jobjar_ended_jobs", "Jobs that ended lately, by outcome.", list(_recent(status["outcomes"])))
    yield Metric(
        "jobjar_undecided_attempts",
        "Attempts that ended lately and completed no job, by outcome.",
        list(_recent(status["undecided_attempts"])),
    )
    yield from _metrics_of_tasks(status)
    yield from _metrics_of_workers(status)
    limits = [({"kind": row["kind"], "name": row["name"]}, row) for row in status["limits"]]
    yield Metric("jobjar_limit_tokens", "Tokens of limits.", [(labels, row["limit"]) for labels, row in limits])
    yield Metric(
        "jobjar_limit_tokens_free", "Tokens of limits that are free.", [(labels, row["free"]) for labels, row in limits]
    )
    yield Metric("jobjar_throttled_batches", "Batches that are throttled.", [({}, len(status["throttled"]))])
    causes: Counter[str] = Counter()
    for row in status["standing"]:
        causes[row["cause"]] += row["jobs"]
    yield Metric(
        "jobjar_standing_jobs",
        "Jobs that stand still, by cause; 0 for a cause that is of the jar or of a worker.",
        [({"cause": cause}, count) for cause, count in sorted(causes.items())],
    )
    yield Metric("jobjar_warnings", "Warnings of system_status.", [({}, len(status["warnings"]))])
    with contextlib.suppress(OSError):
        yield Metric("jobjar_disk_free_bytes", "What is free on the jar's disk.", [({}, free_bytes(jar.layout.home))])


def _metrics_of_tasks(status: Status) -> Iterator[Metric]:
    tasks = status["tasks"]
    if tasks is None:
        return
    yield Metric(
        "jobjar_tasks",
        "Tasks of arrays that have not ended, by state.",
        [({"state": state}, tasks[state]) for state in ("waiting", "running")],
    )
    yield Metric(
        "jobjar_ended_tasks", "Tasks of arrays that ended lately, by outcome.", list(_recent(tasks["outcomes"]))
    )


def _metrics_of_workers(status: Status) -> Iterator[Metric]:
    """Busy and paused workers are running too, so a sum over all states counts them twice."""
    nodes = status["workers"]["nodes"]
    yield Metric(
        "jobjar_workers",
        "Workers by node and kind. Those that are busy or paused are running too.",
        [({"node": node["node"], "kind": kind}, node[kind]) for node in nodes for kind in KINDS],
    )


def _recent(rows: Iterable[Mapping[str, object]]) -> Iterator[tuple[Labels, float]]:
    for row in rows:
        for column, window in _WINDOWS.items():
            yield {"outcome": row["outcome"], "window": window}, float(str(row[column] or 0))


def _format_metric(metric: Metric) -> str:
    lines = [f"# HELP {metric.name} {metric.about}", f"# TYPE {metric.name} gauge"]
    for labels, value in metric.samples:
        named = ",".join(f'{name}="{_escape(label)}"' for name, label in labels.items())
        lines.append(f"{metric.name}{f'{{{named}}}' if named else ''} {value:.17g}")
    return "\n".join(lines) + "\n"


def _escape(value: object) -> str:
    """A label's value as the format wants it."""
    return printable_name(str(value)).replace("\\", "\\\\").replace('"', '\\"')
