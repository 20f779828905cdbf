"""What `jobjar top` shows: the jar at a glance, its workers, and a page of its jobs. Asks what status, workers and list ask.

Brings the ledger up to date as these do; moves nothing. overview_lines.py makes lines of it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from jobjar.errors import NothingSelected
from jobjar.jar import Jar
from jobjar.reports.listing import COLUMNS, ListedJob, describe_listed, sort_jobs
from jobjar.reports.refresh import refresh_ledger
from jobjar.reports.status import Status, gather_refreshed
from jobjar.reports.working import Worker, list_working
from jobjar.selecting.select import select_jobs
from jobjar.selecting.selection import Selection

# As many jobs are looked at, in the order of `jobjar list`: what sorts and scrolls these costs the same in any jar.
MOST = 500
# The columns that jobs may be sorted by. None is the order of states. A command stands in the job's file, so no job is sorted
# by it.
SORTS: tuple[str | None, ...] = (None, *(name for name in COLUMNS if name not in ("command", "job")))
# The rate of now is that of so many seconds.
_RATE_S = 60.0


class Asked(NamedTuple):
    """Which jobs a person wants to see: a selection, how they are sorted, and which rows, counted from 0.
    The lines of them are to be `width` characters wide; None: any width."""

    selection: Selection = Selection()
    sort: str | None = None
    is_reversed: bool = False
    first: int = 0
    rows: int = MOST
    width: int | None = None


class Page(NamedTuple):
    """The rows asked for, of `found` jobs that were looked at. `has_more`: the selection has more than were looked at."""

    jobs: list[ListedJob]
    found: int
    has_more: bool
    asked: Asked


class Overview(NamedTuple):
    """A jar at a glance, at `at` (UTC epoch seconds). `rate` is how many jobs ended in a second lately; None: not known yet."""

    home: str
    at: float
    status: Status
    workers: list[Worker]
    rate: float | None


class Glance:
    """Looks at one jar again and again. Everything in it belongs to one thread."""

    def __init__(self, jar: Jar) -> None:
        self._jar = jar
        # When (monotonic clock), and how many jobs had ended by then.
        self._ended: deque[tuple[float, int]] = deque()

    def look(self) -> Overview:
        """Bring the ledger up to date, and say what the jar is doing. Raises NotAJar, LedgerError, CannotUseJar, OSError."""
        jar = self._jar
        jar.check_is_there()
        status = gather_refreshed(jar, refresh_ledger(jar))
        now = time.time()
        with jar.ledger.errors_named():
            workers = list_working(jar, now)
        return Overview(jar.layout.home, now, status, workers, self._measure_rate(status["jobs"]["completed"]))

    def _measure_rate(self, ended: int) -> float | None:
        now = time.monotonic()
        if self._ended and ended < self._ended[-1][1]:
            self._ended.clear()  # jobs were removed, or run again
        self._ended.append((now, ended))
        while len(self._ended) > 2 and self._ended[1][0] <= now - _RATE_S:
            self._ended.popleft()
        since, before = self._ended[0]
        return (ended - before) / (now - since) if now > since else None

    def list_jobs(self, asked: Asked) -> Page:
        """The rows that are asked for, as the ledger has them. Raises LedgerError, UnknownJob, AmbiguousJob, UnknownBatch."""
        jar, now = self._jar, time.time()
        selection = asked.selection
        if not selection.words:  # the head tells of arrays, whose chunks would hide the other jobs
            selection = selection._replace(filters=selection.filters._replace(without_chunks=True))
        with jar.ledger.errors_named():
            try:
                selected = select_jobs(jar, selection, MOST + 1)
            except NothingSelected:
                selected = []
        listed = [describe_listed(jar, job, now) for job in selected[:MOST]]
        if asked.sort is not None:
            listed = sort_jobs(listed, asked.sort, asked.is_reversed)
        elif asked.is_reversed:
            listed.reverse()
        rows = listed[asked.first : asked.first + asked.rows]
        return Page(rows, len(listed), len(selected) > MOST, asked)
