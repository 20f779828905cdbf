"""What wakes a worker before its time: files put into watched directories (inotify), and signals.

Where there is no inotify (macOS, or its limit is used up) a worker sees the same changes within JJ_POLL_TIME, by looking.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterable
from typing import Any


class DirectoryWatch:
    """Becomes readable when a file appears in, or gets its run bit in, one of some directories; with `removals`, also when
    one is taken away."""

    def __init__(self, removals: bool = False) -> None:
        self._inotify: Any = None
        self._watched: dict[str, int] = {}
        self._flags = 0
        if sys.platform == "linux":
            import inotify_simple

            flags = inotify_simple.flags
            self._flags = flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE | flags.ATTRIB
            if removals:
                self._flags |= flags.DELETE | flags.MOVED_FROM
            with contextlib.suppress(OSError):  # fs.inotify.max_user_instances: polling does instead
                self._inotify = inotify_simple.INotify(nonblocking=True)

    def watch(self, directories: Iterable[str]) -> None:
        """Watch these directories too; those that do not exist (yet) are left out."""
        if self._inotify is None:
            return
        for path in directories:
            if path not in self._watched:
                with contextlib.suppress(OSError):
                    self._watched[path] = self._inotify.add_watch(path, self._flags)

    def descriptors(self) -> list[int]:
        return [] if self._inotify is None else [self._inotify.fileno()]

    def drain(self) -> bool:
        """Forget what was seen; returns whether there was anything."""
        if self._inotify is None:
            return False
        events = self._inotify.read(timeout=0)
        for event in events:
            if event.mask & 0x8000:  # IN_IGNORED: the directory was removed
                gone = [path for path, number in self._watched.items() if number == event.wd]
                for path in gone:
                    del self._watched[path]
        return bool(events)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None


class SignalFlags:
    """Signals as flags: a handler sets one and makes a descriptor readable, and does nothing else."""

    def __init__(self) -> None:
        self.raised: set[int] = set()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._before: list[tuple[int, Any]] = []

    def take(self, numbers: Iterable[int]) -> None:
        """Turn these signals into flags."""
        for number in numbers:
            self._before.append((number, signal.signal(number, self._raise)))
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # Those that came while a fresh worker took its predecessor's place have waited for this (after_failure.py).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number for number, _ in self._before])

    def _raise(self, number: int, frame: object) -> None:
        self.raised.add(number)

    def descriptors(self) -> list[int]:
        return [self._reader]

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    def close(self) -> None:
        """Put the handlers back."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before:
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)


def wait_readable(descriptors: Iterable[int], timeout_s: float) -> None:
    """Wait until one of the descriptors can be read, or the time has passed."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll(max(0.0, timeout_s) * 1000 + 1)
