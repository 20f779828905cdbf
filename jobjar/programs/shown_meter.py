"""A line on a terminal that says how far a program is: it is written over and over, and is gone when the program has its answer.

Writes to standard error, and only where that is a terminal: in a pipe, a file or a mail of cron's there is none of it. A wait for
jobs says there now and then, in a line that stays, how far it is.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from jobjar.meter import SILENT, Meter
from jobjar.reports.progress import Progress, format_progress

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")
# Report to tqdm only after so many items; tqdm then decides whether to write.
_AT_A_TIME = 1_000
# A wait that is over sooner shows nothing of how far it is.
_SHOWN_AFTER_S = 0.5
# Where there is no terminal, lines come after so long, and then after pauses that double, up to the longest.
_FIRST_LINE_S, _LONGEST_PAUSE_S = 30.0, 600.0


@contextlib.contextmanager
def open_meter() -> Iterator[Meter]:
    """A meter that shows its line if standard error is a terminal; otherwise a silent one."""
    if not sys.stderr.isatty():
        yield SILENT
        return
    meter = _ShownMeter()
    try:
        yield meter
    finally:
        meter.end()


def _load_tqdm() -> type[tqdm[Any]]:
    from tqdm import tqdm

    # Only one thread of one process writes here, so tqdm needs neither its lock between processes nor its monitor thread.
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0
    return tqdm


class _ShownMeter(Meter):
    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def begin(self, what: str, unit: str, total: int | None = None) -> None:
        self.end()
        self._bar = _load_tqdm()(
            total=total,
            desc=what,
            unit="B" if unit == "bytes" else f" {unit}",
            unit_scale=unit == "bytes",
            leave=False,
            dynamic_ncols=True,
            file=sys.stderr,
        )

    def add(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def counted(self, items: Iterable[T]) -> Iterator[T]:
        iterator = iter(items)
        while some := list(itertools.islice(iterator, _AT_A_TIME)):
            yield from some
            self.add(len(some))

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class ShownWait:
    """Shows how far a wait for jobs is: a bar on a terminal, else a line now and then, by `log`."""

    def __init__(self, log: Callable[[str], None], unit: str = "jobs") -> None:
        self._log, self._unit = log, unit
        self._is_terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._next_line_at, self._pause_s = self._began + _FIRST_LINE_S, _FIRST_LINE_S
        self._first: Progress | None = None
        self._bar: tqdm[Any] | None = None

    def show(self, progress: Progress) -> None:
        """Show how far it is now."""
        now = time.monotonic()
        self._first = self._first or progress
        if self._is_terminal:
            if now - self._began >= _SHOWN_AFTER_S:
                self._show_bar(progress)
        elif now >= self._next_line_at:
            self._log(format_progress(progress, self._first, now - self._began))
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self._next_line_at = now + self._pause_s

    def _show_bar(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = _load_tqdm()(
                total=progress.jobs,
                initial=progress.ended,
                unit=f" {self._unit}",
                leave=False,
                dynamic_ncols=True,
                mininterval=0,
                file=sys.stderr,
            )
        self._bar.total = progress.jobs
        self._bar.set_postfix_str(f"{progress.unsuccessful:,} failed, {progress.running:,} running", refresh=False)
        # A job that is submitted again does not count any more.
        self._bar.update(progress.ended - self._bar.n)
        self._bar.refresh()

    def clear(self) -> None:
        """Take the bar away, until it is shown again: something is to be printed."""
        if self._bar is not None:
            self._bar.clear()

    def log(self, line: str) -> None:
        """Print a line for people beside the bar."""
        self.clear()
        self._log(line)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
