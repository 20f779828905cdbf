"""What jobs take: how long they wait and run, their processor time and memory, how they end, and what those say that fail.

Reads the ledger, and the ends of the outputs of some jobs that failed; writes nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jobjar.attempts.attempt import CANCELLED, OUTCOMES, SUCCEEDED
from jobjar.errors import UsageError
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_jobs import files_of_attempt
from jobjar.ledger.ask_stats import EndedJob, OpenCount, ended_jobs, open_counts
from jobjar.ledger.models import Attempt
from jobjar.reports.grouping import GROUPINGS, NEWEST
from jobjar.reports.jobs import output_path
from jobjar.reports.listing import iso_time
from jobjar.reports.output import read_last_lines
from jobjar.reports.sentences import format_end
from jobjar.reports.tables import format_table
from jobjar.selecting.select import count_selected, find_rows
from jobjar.selecting.selection import Selection
from jobjar.selecting.unknown import suggest
from jobjar.units import format_bytes, format_moment, format_seconds

MEASURES = ("waited_s", "run_time_s", "cpu_time_s", "max_rss_kib")
_MEASURE_WORDS = dict(zip(MEASURES, ("waited", "ran", "CPU", "memory"), strict=True))
_STATES = {"claimed": "running", "unclaimed": "waiting"}
_OPEN = ("waiting", "running", "held", "dependent", "limbo")
# The outputs of so many of the newest failures are read.
_READ_FAILURES = 100
_MOST_GROUPS = 20
_MOST_FAILURES = 10
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")


class Spread(NamedTuple):
    """The median, the 95th percentile (the smallest value that 95 % do not exceed) and the maximum of values."""

    median: float
    p95: float
    max: float


class Group(NamedTuple):
    """Jobs that are alike; `group` is what they have in common, None for jobs that have no such thing. `ended` counts those that
    are in `outcomes` and in the spreads. Times are seconds; a spread is None if nothing tells."""

    group: str | None
    waiting: int
    running: int
    held: int
    dependent: int
    limbo: int
    ended: int
    outcomes: dict[str, int]
    waited_s: Spread | None
    run_time_s: Spread | None
    cpu_time_s: Spread | None
    max_rss_kib: Spread | None


class Failure(NamedTuple):
    """Jobs that failed alike. `said` is the error of the newest one's attempt, or the last line of its output; None: it said
    nothing, or was not read. Lines that differ in numbers alone are alike."""

    jobs: int
    outcome: str
    exit_status: int | None
    signal: int | None
    said: str | None
    newest: str


class Stats(NamedTuple):
    """Statistics of jobs. `ended` jobs were looked at, which ended at `since` (UTC epoch seconds) or later; `of` is how many have
    ended in all, None if nobody has counted them. `groups` are those with the most jobs first."""

    by: str
    ended: int
    of: int | None
    since: float | None
    groups: list[Group]
    all: Group
    failures: list[Failure]


class _Gathered:
    """What is gathered of a group."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.values: tuple[list[float], ...] = tuple([] for _ in MEASURES)


def gather_stats(jar: Jar, selection: Selection, by: str = "category", limit: int | None = NEWEST) -> Stats:
    """Statistics of the jobs of a selection: of those that ended at most the `limit` newest (None: all). The caller brings the
    ledger up to date. Raises UsageError, UnknownJob, AmbiguousJob."""
    check_grouping(by)
    filters = selection.filters
    if filters.states:
        raise UsageError(reason="statistics are of jobs of all states; leave out --state")
    connection = jar.ledger.connection
    rows = [row for word in selection.words for row in find_rows(jar, word)] if selection.words else None
    found: dict[str | None, _Gathered] = {}
    failed: list[EndedJob] = []
    ended, since = 0, None
    for job in ended_jobs(connection, filters, rows, limit):
        gathered = found.setdefault(_group_of(job, by), _Gathered())
        gathered.outcomes[job.outcome] += 1
        for values, value in zip(gathered.values, job[8:12], strict=True):
            if value is not None:
                values.append(max(0.0, value))
        if job.outcome not in (SUCCEEDED, CANCELLED):
            failed.append(job)
        ended, since = ended + 1, job.ended_at
    for count in open_counts(connection, filters, by, rows):
        group = _group_of_open(count, by)
        found.setdefault(group, _Gathered()).open[_STATES.get(count.state, count.state)] += count.jobs
    everything = _Gathered()
    for gathered in found.values():
        everything.open += gathered.open
        everything.outcomes += gathered.outcomes
        for values, more in zip(everything.values, gathered.values, strict=True):
            values += more
    groups = [_make_group(group, gathered) for group, gathered in found.items()]
    groups.sort(key=lambda group: (-group.ended, -group.waiting - group.running, group.group or ""))
    of = count_selected(jar, selection._replace(filters=filters._replace(states=("ended",))))
    is_whole = limit is None or ended < limit
    return Stats(
        by, ended, ended if is_whole else of, since, groups, _make_group(None, everything), _alike(jar, failed)
    )


def check_grouping(by: str) -> str:
    """Return what jobs are grouped by, or raise UsageError."""
    if by not in GROUPINGS:
        raise UsageError(
            reason=f"there is no grouping {by!r}{suggest(by, GROUPINGS)}; use one of: {' '.join(GROUPINGS)}"
        )
    return by


def _group_of(job: EndedJob, by: str) -> str | None:
    if by == "name":
        return identifier_in_name(job.name, job.submitter) or None
    if by == "node":
        return job.worker.rpartition(".")[0]
    value: str | None = getattr(job, by)
    return value or None


def _group_of_open(count: OpenCount, by: str) -> str | None:
    if by == "name":
        return identifier_in_name(count.name or "", count.submitter) or None
    if by == "node":
        return (worker_of_place(count.place or "") or "").rpartition(".")[0] or None
    return count.group or None


def _make_group(group: str | None, gathered: _Gathered) -> Group:
    counted, open_jobs = gathered.outcomes, gathered.open
    outcomes = {outcome: counted[outcome] for outcome in (*OUTCOMES, *counted) if counted[outcome]}
    waiting, running, held, dependent, limbo = (open_jobs[state] for state in _OPEN)
    spreads = map(spread, gathered.values)
    return Group(group, waiting, running, held, dependent, limbo, counted.total(), outcomes, *spreads)


def spread(values: list[float]) -> Spread | None:
    """The spread of values, which this sorts; None of none."""
    if not values:
        return None
    values.sort()
    count = len(values)
    median = values[count // 2] if count % 2 else (values[count // 2 - 1] + values[count // 2]) / 2
    return Spread(median, values[math.ceil(0.95 * count) - 1], values[-1])


def _alike(jar: Jar, failed: Sequence[EndedJob]) -> list[Failure]:
    """Failures by how they ended and what they said, the most frequent first."""
    found: dict[tuple[Any, ...], Failure] = {}
    for number, job in enumerate(failed):
        said = read_said(jar, job) if number < _READ_FAILURES else job.message
        how = job.outcome, job.exit_status, job.signal
        key = (*how, None if said is None else _NUMBERS.sub("#", said))
        known = found.get(key)
        found[key] = Failure(1, *how, said, job.uid) if known is None else known._replace(jobs=known.jobs + 1)
    return sorted(found.values(), key=lambda failure: -failure.jobs)


def read_said(jar: Jar, job: EndedJob) -> str | None:
    """The error of a job's last attempt, else the last line of its output."""
    if job.message:
        return job.message
    attempt = Attempt(
        job_uid=job.uid,
        number=job.attempt,
        worker=job.worker,
        worker_uid=job.worker_uid,
        ended_at=job.ended_at,
        output_file=job.output_file,
    )
    lines = read_last_lines(jar, output_path(jar, attempt, files_of_attempt(jar.ledger, attempt)), 1)
    return lines[-1] if lines else None


def describe_for_programs(stats: Stats) -> dict[str, Any]:
    """Statistics as `jobjar stats --format json` has them."""

    def describe(group: Group) -> dict[str, Any]:
        spreads = {name: getattr(group, name) for name in MEASURES}
        return {**group._asdict(), **{name: spread and spread._asdict() for name, spread in spreads.items()}}

    return {
        **stats._asdict(),
        "since": iso_time(stats.since),
        "groups": [describe(group) for group in stats.groups],
        "all": describe(stats.all),
        "failures": [failure._asdict() for failure in stats.failures],
    }


def format_stats(stats: Stats, table_format: str) -> str:
    """Statistics as tables for people."""
    shown = stats.groups[:_MOST_GROUPS]
    named = [(group.group or f"(no {stats.by})", group) for group in shown]
    more = len(stats.groups) - len(shown)
    if len(stats.groups) > 1:
        named.append(("all", stats.all))
    outcomes = list(stats.all.outcomes)
    states = [state for state in _OPEN if getattr(stats.all, state)]
    counts = [
        (name, *(getattr(group, state) for state in states), group.ended, *(group.outcomes.get(o, 0) for o in outcomes))
        for name, group in named
    ]
    headers = (stats.by, *states, "ended", *(outcome.replace("_", " ") for outcome in outcomes))
    sections = [_introduce(stats), format_table(counts, headers, table_format)]
    if more:
        sections.append(f"and {more:,} more (--format json has all)")
    measured = list(_format_measures(named))
    if measured:
        sections.append(format_table(measured, (stats.by, "", "median", "95 %", "max"), table_format))
    failures = [
        (f"{failure.jobs:,}", format_end(*failure[1:4]), failure.newest, failure.said or "")
        for failure in stats.failures[:_MOST_FAILURES]
    ]
    if failures:
        headers = (
            "tasks" if stats.by == "array" else "jobs",
            "how",
            "newest",
            "its error, or the last line of its output",
        )
        sections.append(format_table(failures, headers, table_format))
    return "\n\n".join(sections)


def _introduce(stats: Stats) -> str:
    if not stats.ended or stats.since is None:
        return f"No {'task' if stats.by == 'array' else 'job'} has ended."
    things = "tasks" if stats.by == "array" else "jobs"
    what = f"{stats.ended:,} {things} that ended since {format_moment(stats.since).replace('T', ' ')}"
    if stats.of == stats.ended:
        return f"{what}."
    return f"{what}{'' if stats.of is None else f' (of {stats.of:,})'}; --limit 0 takes all."


def _format_measures(named: Iterable[tuple[str, Group]]) -> Iterable[tuple[str, ...]]:
    for name, group in named:
        first = name
        for measure in MEASURES:
            spread: Spread | None = getattr(group, measure)
            if spread is not None:
                shown = (
                    format_bytes(int(value * 1024)) if measure == "max_rss_kib" else format_seconds(value)
                    for value in spread
                )
                yield first, _MEASURE_WORDS[measure], *shown
                first = ""
