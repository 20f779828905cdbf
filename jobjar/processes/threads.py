"""Work in threads beside a worker's own, and how its results come back. A thread may touch files, but no journal and no ledger.

A crash leaves what the work itself leaves.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

_at_work = 0
_lock = threading.Lock()


def any_at_work() -> bool:
    """Whether a thread may be at work that shares this process's working directory and umask. One may hang in a disk."""
    return _at_work > 0


class WorkThreads:
    """Threads whose results the worker's own thread takes."""

    def __init__(self) -> None:
        self._results: queue.SimpleQueue[tuple[object, Any, BaseException | None]] = queue.SimpleQueue()
        # `reader` can be read once a result has come.
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)

    def begin(self, action: Callable[[], Any]) -> object:
        """Call `action` in a thread. Returns the mark that its result will have."""
        mark = object()
        self._count(1)

        def do() -> None:
            try:
                result: tuple[object, Any, BaseException | None] = (mark, action(), None)
            except BaseException as error:
                result = (mark, None, error)
            finally:
                self._count(-1)
            self._results.put(result)
            with contextlib.suppress(BlockingIOError):  # the pipe is full, so it wakes the reader anyway
                os.write(self._writer, b".")

        threading.Thread(target=do, daemon=True).start()
        return mark

    def take_results(self) -> Iterator[tuple[object, Any, BaseException | None]]:
        """Take (mark, what the action returned, what it raised) of those that have ended."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)
        while not self._results.empty():
            yield self._results.get()

    @staticmethod
    def _count(number: int) -> None:
        global _at_work
        with _lock:
            _at_work += number
