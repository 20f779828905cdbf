"""The lines of `jobjar top`, for a screen of some size or for none. Reads and writes nothing but what a list of jobs reads.

Each line fits the width. It has a mark, by which a terminal may colour it: TITLE, HEAD, WARNING, NOTHING, or the state of a job
or worker.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from jobjar.reports.arrays import format_array
from jobjar.reports.listing import ListedJob
from jobjar.reports.listing_table import cut, make_table
from jobjar.reports.overview import Overview, Page
from jobjar.reports.workers import KINDS
from jobjar.reports.working import Worker, format_workers
from jobjar.text import printable_name
from jobjar.units import format_rate

NOTHING, TITLE, HEAD, WARNING = "", "title", "head", "warning"
# The states of workers for which a person has to do something come first where not all fit.
_URGENT = ("dead", "silent", "unknown", "paused", "busy", "idle")
# Of a screen, at most this part is for workers; at least so many lines of them.
_WORKERS_PART, _LEAST_WORKERS = 5, 2
_WARNINGS = 2
_ARRAYS = 3


class Line(NamedTuple):
    text: str
    mark: str = NOTHING


def make_head(overview: Overview, width: int | None, warnings: int | None = None) -> list[Line]:
    """What the jar is doing: counts, rates, outcomes, workers by their states, and the first `warnings` warnings (None: all)."""
    jobs, status = overview.status["jobs"], overview.status
    clock = time.strftime("%H:%M:%S", time.localtime(overview.at))
    parts = [f"{jobs['unclaimed']:,} waiting", f"{jobs['claimed']:,} running", f"{jobs['limbo']:,} in limbo"]
    counts = ", ".join([*parts, f"{jobs['completed']:,} ended"])
    ended = ", ".join(
        f"{row['last_hour']:,} {row['outcome'].replace('_', ' ')}" for row in status["outcomes"] if row["last_hour"]
    )
    throughput = status["throughput"]
    rates = [] if overview.rate is None else [f"{format_rate(overview.rate)} now"]
    if throughput:
        rates += [f"{format_rate(throughput[f'per_s_last_{span}'])} in the last {span}" for span in ("hour", "day")]
    lines = [
        Line(f"{clock}  {overview.home}", TITLE),
        Line(f"Jobs     {counts}"),
        *_format_arrays(overview),
        Line(f"Workers  {_count_workers(overview)}"),
        Line(f"Rate     {', '.join(rates) or 'not known'}"),
        Line(f"Ended    {f'{ended} in the last hour' if ended else 'none in the last hour'}"),
    ]
    shown = status["warnings"] if warnings is None else status["warnings"][:warnings]
    lines += [Line(f"! {line}", WARNING) for line in shown]
    left = len(status["warnings"]) - len(shown)
    if left:
        lines.append(Line(f"! {left} more: system_status prints all warnings", WARNING))
    return [Line(_fit(printable_name(line.text), width), line.mark) for line in lines]


def _format_arrays(overview: Overview) -> list[Line]:
    """The tasks of arrays, and how far each of some arrays is; nothing if no array is open."""
    arrays, tasks = overview.status["arrays"], overview.status["tasks"]
    if not arrays or tasks is None:
        return []
    ended = sum(row["last_hour"] for row in tasks["outcomes"])
    lines = [
        Line(f"Tasks    {tasks['waiting']:,} waiting, {tasks['running']:,} running, {ended:,} ended in the last hour")
    ]
    more = [Line(f"         and {len(arrays) - _ARRAYS} more arrays: `jobjar list`")] if len(arrays) > _ARRAYS else []
    return lines + [Line(f"         {format_array(array)}") for array in arrays[:_ARRAYS]] + more


def _count_workers(overview: Overview) -> str:
    counts = dict.fromkeys((*KINDS, "idle"), 0)
    for worker in overview.workers:
        counts[worker.state] += 1
    return ", ".join(f"{counts[state]} {state}" for state in reversed(_URGENT) if counts[state]) or "none is running"


def make_workers(overview: Overview, width: int | None, most: int | None = None) -> list[Line]:
    """The workers as a table of at most `most` lines (None: all). If not all fit, those come first that a person should see."""
    if not overview.workers:
        return []
    workers = sorted(overview.workers, key=lambda worker: _URGENT.index(worker.state))
    room = len(workers) if most is None else most - 1
    shown = workers if len(workers) <= room else workers[: max(room - 1, 0)]
    lines = _format_workers(shown or workers[:1], overview.at, width)
    left = len(workers) - len(shown)
    return lines + ([Line(_fit(f"and {left} more: `jobjar workers` prints them", width))] if left else [])


def _format_workers(workers: list[Worker], now: float, width: int | None) -> list[Line]:
    heads, _, *rows = format_workers(workers, now, "simple").split("\n")
    lines = [Line(_fit(heads.rstrip(), width), HEAD)]
    return lines + [Line(_fit(row, width), worker.state) for row, worker in zip(rows, workers, strict=True)]


def make_jobs(page: Page) -> list[Line]:
    """The jobs of a page as a table. Its first line has the heads; each other line is a job's. Reads the jobs' commands."""
    width = page.asked.width
    if not page.jobs:
        return [Line(_fit("no job fits", width))]
    heads, _, *rows = make_table(page.jobs, None, width, "simple").split("\n")
    lines = [Line(_fit(heads.rstrip(), width), HEAD)]
    return lines + [Line(_fit(row, width), job.state) for row, job in zip(rows, page.jobs, strict=True)]


def describe_page(page: Page) -> str:
    """Which jobs a page has: `jobs 1 to 12 of 312, sorted by age; --state waiting`."""
    asked, last = page.asked, page.asked.first + len(page.jobs)
    of_all = f"{page.found:,}{' and more' if page.has_more else ''}"
    parts = [f"jobs {asked.first + 1:,} to {last:,} of {of_all}" if page.jobs else "no job"]
    if asked.sort is not None or asked.is_reversed:
        parts.append(f"by {asked.sort or 'state'}{', reversed' if asked.is_reversed else ''}")
    chosen = " ".join(part for part in (" ".join(asked.selection.words), asked.selection.describe_filters()) if part)
    return "; ".join([*parts, *([chosen] if chosen else [])])


def name_job(job: ListedJob) -> str:
    """A job for a question: its id and its name."""
    uid = job.job.uid
    name = printable_name(job.name)
    return f"{uid} ({name})" if uid and name else uid or printable_name(job.job.place)


def lay_out(overview: Overview, width: int, height: int) -> tuple[list[Line], list[Line], int]:
    """The head, the workers, and how many jobs fit on a screen with them, where `height` lines are for all three."""
    head = make_head(overview, width, _WARNINGS if height >= 16 else 0)[: max(height // 2, 1)]
    left = height - len(head)
    most = min(max(left // _WORKERS_PART, _LEAST_WORKERS), left - 4) if left >= 6 else 0
    workers = make_workers(overview, width, most + 1) if most > 0 else []
    return head, workers, max(left - len(workers) - 1, 0)


def _fit(text: str, width: int | None) -> str:
    return text if width is None else cut(text, max(width, 1))
