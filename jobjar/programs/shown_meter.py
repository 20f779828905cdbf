"""A line on a terminal that says how far a program is: it is written over and over, and is gone when the program has its answer.

Writes to standard error, and only where that is a terminal: in a pipe, a file or a mail of cron's there is none of it.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from jobjar.meter import SILENT, Meter

T = TypeVar("T")
# Report to tqdm only after so many items; tqdm then decides whether to write.
_AT_A_TIME = 1_000


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


class _ShownMeter(Meter):
    def __init__(self) -> None:
        from tqdm import tqdm

        # Only one thread of one process writes here, so tqdm needs neither its lock between processes nor its monitor thread.
        tqdm.set_lock(threading.RLock())
        tqdm.monitor_interval = 0
        self._tqdm = tqdm
        self._bar: tqdm[Any] | None = None

    def begin(self, what: str, unit: str, total: int | None = None) -> None:
        self.end()
        self._bar = self._tqdm(
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
