"""Looks at a jar in a thread of its own, for a screen that must answer keys while a disk is slow or a job is being ended.

The screen asks (`ask`, `cancel`), and takes what was seen last (`seen`). A jar that cannot be read is opened again at each look.
It reads as status and list do, and writes only where it cancels a job. A kill leaves what a kill of `jobjar cancel` leaves.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from jobjar.access.refusals import name_refusal
from jobjar.errors import JarError, LedgerError
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.ledger.database import UNREADABLE, name_error
from jobjar.reports.listing import ListedJob
from jobjar.reports.overview import Asked, Glance, Overview, Page
from jobjar.reports.overview_lines import Line, make_jobs
from jobjar.reports.refresh import describe_source, name_source, refresh_ledger
from jobjar.selecting.named import is_pattern
from jobjar.selecting.selection import Selection
from jobjar.settings.layers import Settings
from jobjar.shared_disk.patience import patience
from jobjar.steering.cancel import Cancel
from jobjar.steering.steer import steer

# Looks take at most this share of the time, whatever was asked for: in a large jar, or on a slow disk, they come more rarely.
_SHARE = 0.1
# A ledger that could not be used is tried again after so long.
_PRIVATE_FOR_S = 30.0
_ERRORS = (JarError, OSError, *UNREADABLE)


class Seen(NamedTuple):
    """What was seen last. `number` is that of the last question that this answers. `error` is why nothing newer is seen."""

    number: int = 0
    overview: Overview | None = None
    page: Page | None = None
    lines: Sequence[Line] = ()  # of the page
    error: str | None = None
    source: str | None = None


class Watcher(threading.Thread):
    """Looks every `every_s` seconds, and at once when the screen asks."""

    def __init__(self, settings: Settings, every_s: float) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self._every_s = every_s
        self._asked, self._number = Asked(), 0
        self._lock = threading.Lock()
        self._wakes = threading.Event()
        self._orders: deque[ListedJob] = deque()
        self._is_ending = False
        self._jar: Jar | None = None
        self._glance: Glance | None = None
        self._next_look = 0.0
        self._private_until = 0.0
        self.seen = Seen()
        # Lines for the person at the screen, the newest last.
        self.notices: deque[str] = deque(maxlen=10)

    # Called by the screen

    def ask(self, asked: Asked) -> int:
        """Have other jobs listed; returns the question's number."""
        with self._lock:
            self._number += 1
            self._asked = asked
            number = self._number
        self._wakes.set()
        return number

    def cancel(self, job: ListedJob) -> None:
        self._orders.append(job)
        self._wakes.set()

    def look_now(self) -> None:
        self._next_look = 0.0
        self._wakes.set()

    def end(self, within_s: float) -> bool:
        """Have the thread end; returns whether it did so in time."""
        self._is_ending = True
        self._wakes.set()
        self.join(within_s)
        return not self.is_alive()

    # In the thread

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        patience.log, patience.may_wait = self.notices.append, lambda: not self._is_ending
        while not self._is_ending:
            self._turn()
            self._wakes.wait(max(0.0, self._next_look - time.monotonic()))
            self._wakes.clear()
        self._close()

    def _turn(self) -> None:
        with self._lock:
            asked, number = self._asked, self._number
        seen = self.seen
        try:
            while self._orders:
                self._cancel(self._orders.popleft())
                self._next_look = 0.0
            overview = self._look() if time.monotonic() >= self._next_look else seen.overview
            assert self._glance is not None and self._jar is not None
            source = name_source(**describe_source(self._jar))
            try:
                page = self._glance.list_jobs(asked)
            except LedgerError:
                raise
            except JarError as error:  # there is no such job or batch
                self.seen = Seen(number, overview, error=str(error), source=source)
                return
            self.seen = Seen(number, overview, page, make_jobs(page), source=source)
        except UNREADABLE as error:
            self._fail(number, str(name_error(error, "of this node")))
        except OSError as error:
            self._fail(number, name_refusal(error))
        except JarError as error:
            self._fail(number, str(error))

    def _fail(self, number: int, why: str) -> None:
        """Keep what was seen before, and open the jar again at the next look."""
        self.seen = self.seen._replace(number=number, error=why)
        self._next_look = max(self._next_look, time.monotonic() + self._every_s)
        self._close()

    def _close(self) -> None:
        jar, self._jar, self._glance = self._jar, None, None
        if jar is not None:
            with contextlib.suppress(*_ERRORS):
                jar.close()

    def _open(self) -> Jar:
        if self._jar is None:
            jar = Jar(self._settings)
            jar.log = self.notices.append
            self._jar, self._glance = jar, Glance(jar)
        return self._jar

    def _look(self) -> Overview:
        began = time.monotonic()
        jar = self._open()
        if jar.ledger.is_private and began >= self._private_until:
            jar.close_ledger()  # the home's own may be usable by now
        assert self._glance is not None
        overview = self._glance.look()
        now = time.monotonic()
        if jar.ledger.is_private and now >= self._private_until:
            self._private_until = now + max(_PRIVATE_FOR_S, (now - began) / _SHARE)
        self._next_look = now + max(self._every_s, (now - began) / _SHARE)
        return overview

    def _cancel(self, job: ListedJob) -> None:
        word = job.job.uid or job.job.place
        if is_pattern(word):
            self.notices.append(f"{word} could name other jobs too; `jobjar cancel` says which")
            return
        jar = self._open()
        try:
            refresh_ledger(jar)
            steered = steer(jar, Selection((word,)), Cancel(login()))
        except JarError as error:
            self.notices.append(str(error))
            return
        finally:
            jar.mirror()
        self.notices.append("; ".join(map(str, steered.errors)) or f"cancelled {steered.describe_jobs()}")
