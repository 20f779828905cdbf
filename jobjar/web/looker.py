"""Looks at a jar for the pages, in one thread of its own: the event loop never waits for a disk or for SQLite.

It brings this node's ledger up to date, which is an index over the journals, and reads it. It moves and journals nothing. Who may
only read the jar gets a private ledger. While nothing has changed, a look costs a few calls of stat.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from jobjar.errors import CannotUseJar, JarError, LedgerError
from jobjar.jar import Jar
from jobjar.journal.read import list_journals
from jobjar.ledger.counts import count_minutes
from jobjar.ledger.database import UNREADABLE
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.looks import look_at_small
from jobjar.reports.refresh import refresh_private_ledger
from jobjar.reports.status import Status, gather_refreshed
from jobjar.reports.working import Worker, list_working
from jobjar.settings.layers import Settings
from jobjar.shared_disk.patience import patience
from jobjar.web.past import Past, Span

T = TypeVar("T")
_PATIENCE_S = 2.0
# A question that takes longer is given up: others wait behind it.
LONGEST_S = 5.0
# So many may wait.
_MOST_WAITING = 300
# Heartbeats and ages change although nothing is journaled.
_LOOK_ANYWAY_S = 15.0
# A ledger that could not be used is tried again after so long.
_PRIVATE_FOR_S = 30.0
_ADVANCE_S = 0.05
# The instructions of SQLite between two looks at the clock: a fraction of a millisecond.
_INSTRUCTIONS = 20_000


class TooLong(JarError):
    template = (
        "this question took longer than {limit_s:g} s and was given up; ask for less: a state, a batch, a shorter time"
    )


class Busy(JarError):
    template = "too many questions wait for an answer; try again in a moment"


class Seen(NamedTuple):
    """What was seen at a look. `number` counts the looks at which something may have changed."""

    number: int
    at: float
    status: Status
    workers: list[Worker]
    spans: dict[str, Span]


class Looker:
    """Asks one jar. `ask` may be called from the event loop alone."""

    def __init__(self, settings: Settings, every_s: float = 1.0) -> None:
        self._settings = settings
        self.every_s = every_s
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="looker")
        self._jar: Jar | None = None
        self._past = Past()
        self._seen: Seen | None = None
        self._marks: tuple[object, ...] = ()
        self._looked_at = 0.0
        self._took_s = 0.0
        self._private_until = 0.0
        self._waiting = 0
        self.is_ending = False

    async def ask(self, question: Callable[..., T], *words: Any) -> T:
        """What `question(jar, seen, *words)` says, of a jar that was looked at just now. Raises what it raises, Busy, TooLong."""
        if self._waiting >= _MOST_WAITING:
            raise Busy()
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._answer, question, words)
        finally:
            self._waiting -= 1

    async def look(self) -> int:
        """Look if it is time to; returns the number of the last look."""
        return await self.ask(lambda jar, seen: seen.number)

    async def count_past(self) -> bool:
        """Count a piece of the past; returns whether there are more."""

        def count(jar: Jar, seen: Seen) -> bool:
            if self._past.is_to_count:
                self._past.advance(jar.ledger.connection, _ADVANCE_S)
            return self._past.is_to_count

        return await self.ask(count)

    def close(self) -> None:
        self.is_ending = True
        self._pool.submit(self._close)
        self._pool.shutdown(wait=True)

    # In the thread

    def _answer(self, question: Callable[..., T], words: tuple[Any, ...]) -> T:
        try:
            return self._answer_once(question, words)
        except (*UNREADABLE, LedgerError, CannotUseJar, OSError):
            self._close()  # the jar, or its ledger, may have been replaced: it is opened again
            return self._answer_once(question, words)

    def _answer_once(self, question: Callable[..., T], words: tuple[Any, ...]) -> T:
        patience.may_wait = lambda: not self.is_ending
        jar = self._jar = self._jar or Jar(self._settings)
        jar.check_is_there()
        seen = self._look_if_due(jar)
        connection = jar.ledger.connection
        until = time.monotonic() + LONGEST_S
        connection.set_progress_handler(lambda: int(time.monotonic() > until), _INSTRUCTIONS)
        try:
            return question(jar, seen, *words)
        except UNREADABLE as error:
            if time.monotonic() > until:
                raise TooLong(limit_s=LONGEST_S) from error
            raise
        finally:
            with contextlib.suppress(*UNREADABLE):
                connection.set_progress_handler(None, 0)

    def _look_if_due(self, jar: Jar) -> Seen:
        now = time.monotonic()
        # In a large jar, or on a slow disk, looks come more rarely.
        pause_s = max(self.every_s, 5 * self._took_s)
        if self._seen is not None and now < self._looked_at + pause_s:
            return self._seen
        marks = _read_marks(jar)
        is_old = self._seen is None or now > self._looked_at + _LOOK_ANYWAY_S
        if self._seen is not None and marks == self._marks and not is_old and self._past.is_whole:
            return self._seen
        self._bring_up_to_date(jar)
        with jar.ledger.errors_named():
            status = gather_refreshed(jar, [])
            workers = list_working(jar, time.time())
            spans = self._past.read(jar.ledger.connection, status["jobs"]["unclaimed"])
        number = 1 if self._seen is None else self._seen.number + 1
        self._seen = Seen(number, time.time(), status, workers, spans)
        self._marks = marks
        self._looked_at = time.monotonic()
        self._took_s = self._looked_at - now
        return self._seen

    def _bring_up_to_date(self, jar: Jar) -> None:
        """Fold what is new. Files that a hand put there are seen once a worker, or a program, has looked at them: this one
        journals nothing."""
        if jar.ledger.is_private and time.monotonic() >= self._private_until:
            jar.close_ledger()
        try:
            if not jar.ledger.is_private:
                jar.ledger.ensure_open(_PATIENCE_S)
                with jar.ledger.writing(_PATIENCE_S) as connection:
                    fold_journals(connection, jar.layout)
                    count_minutes(connection)
                return
            look_at_small(jar.ledger, jar.layout)
        except (LedgerError, CannotUseJar):
            self._private_until = time.monotonic() + _PRIVATE_FOR_S
            refresh_private_ledger(jar)

    def _close(self) -> None:
        jar, self._jar = self._jar, None
        self._seen = None if jar is None else self._seen
        self._looked_at = 0.0
        if jar is not None:
            with contextlib.suppress(JarError, OSError, *UNREADABLE):
                jar.close()


def _read_marks(jar: Jar) -> tuple[object, ...]:
    """What changes if anything is journaled, or a worker comes or goes."""
    marks: list[object] = []
    for path in (*list_journals(jar.layout.journals), jar.layout.workers, jar.layout.unclaimed, jar.layout.limbo):
        try:
            status = os.stat(path)
        except OSError:
            marks.append((path, None))
            continue
        marks.append((path, status.st_size, status.st_mtime_ns))
    return tuple(marks)
