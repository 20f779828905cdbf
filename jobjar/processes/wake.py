"""The events that wake a worker early: files that appear in watched directories (inotify), and signals.

Without inotify (on macOS, or if its limit is used up) a worker polls, and sees the same changes within JJ_POLL_TIME.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from jobjar.processes.children import reap_ended

# The byte that a child's end puts into the pipe of `set_wakeup_fd`.
_CHILD_ENDED = bytes([signal.SIGCHLD])


class DirectoryWatch:
    """Becomes readable when a file appears in a watched directory, or gets its run bit there. With `removals`, also when a file
    leaves one, with `changes` when one is written to. Files of the names `ignored` are as good as not there: `drain` does not
    count them."""

    def __init__(self, removals: bool = False, ignored: Collection[str] = (), changes: bool = False) -> None:
        self._ignored = ignored
        self._inotify: Any = None
        self._watched: dict[str, int] = {}
        self._flags = 0
        if sys.platform == "linux":
            import inotify_simple

            flags = inotify_simple.flags
            self._flags = flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE | flags.ATTRIB
            if removals:
                self._flags |= flags.DELETE | flags.MOVED_FROM
            if changes:
                self._flags |= flags.MODIFY
            with contextlib.suppress(OSError):  # fs.inotify.max_user_instances is used up: the worker polls
                self._inotify = inotify_simple.INotify(nonblocking=True)

    def watch(self, directories: Iterable[str]) -> None:
        """Watch these directories too; missing ones are skipped."""
        if self._inotify is None:
            return
        for path in directories:
            if path not in self._watched:
                with contextlib.suppress(OSError):
                    self._watched[path] = self._inotify.add_watch(path, self._flags)

    def descriptors(self) -> list[int]:
        return [] if self._inotify is None else [self._inotify.fileno()]

    def drain(self) -> bool:
        """Take all events. Returns whether there were any."""
        if self._inotify is None:
            return False
        events = self._inotify.read(timeout=0)
        for event in events:
            if event.mask & 0x8000:  # IN_IGNORED: the directory was removed
                gone = [path for path, number in self._watched.items() if number == event.wd]
                for path in gone:
                    del self._watched[path]
        return any(event.name not in self._ignored for event in events)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None


class SignalFlags:
    """Signals as flags. A handler only sets a flag and makes a descriptor readable."""

    def __init__(self) -> None:
        self.raised: set[int] = set()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._before: list[tuple[int, Any]] = []
        self._hears_children: bool | None = None

    def take(self, numbers: Sequence[int]) -> None:
        """Turn these signals into flags. Signals that were ignored when this process started stay ignored, as in a shell:
        `nohup`, and `&` in a script, rely on that."""
        for number in numbers:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before.append((number, signal.signal(number, self._raise)))
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # Signals were blocked while a fresh worker replaced its predecessor (worker/successor.py). They arrive now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        # If SIGCHLD were ignored, the kernel would reap each child, and nobody would learn how it ended.
        self.hear_children(False)

    def hear_children(self, wanted: bool) -> None:
        """Set whether the end of a child wakes this process. That is wanted only during long waits, since it costs something at
        the end of each short job."""
        if wanted == self._hears_children:
            return
        self._hears_children = wanted
        signal.signal(signal.SIGCHLD, self._raise if wanted else signal.SIG_DFL)
        if wanted:
            reap_ended()  # children that ended before send no signal any more
        else:
            self._forget_children()

    def _forget_children(self) -> None:
        """Take the ends of children from the descriptor. They would end the next long wait at once, for nothing. Other signals
        stay readable."""
        with contextlib.suppress(BlockingIOError):
            others = os.read(self._reader, 4096).replace(_CHILD_ENDED, b"")
            if others:
                os.write(self._writer, others)

    def _raise(self, number: int, frame: object) -> None:
        self.raised.add(number)

    def descriptors(self) -> list[int]:
        return [self._reader]

    def drain(self) -> bool:
        """Empty the descriptor, and reap ended children. Returns whether there were signals other than SIGCHLD."""
        others = b""
        with contextlib.suppress(BlockingIOError):
            while seen := os.read(self._reader, 4096):
                others += seen.replace(_CHILD_ENDED, b"")
        reap_ended()
        return bool(others)

    def close(self) -> None:
        """Restore the former handlers."""
        signal.set_wakeup_fd(-1)
        self.hear_children(False)
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
