"""Sees that something came into the directories that a worker asks: inotify tells of this node, one look a directory of others.

Reads the times of directories; writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from jobjar.disk import look_afresh
from jobjar.wake import DirectoryWatch

# A directory that changed so short a time ago on a disk that keeps whole seconds may change again unseen.
_COARSE_S = 2.0


class Arrivals:
    """What came into `directories` since they were last scanned. `disk_now` tells the disk's time."""

    def __init__(self, directories: Sequence[str], is_network: bool, disk_now: Callable[[], float]) -> None:
        self._directories = directories
        self._is_network = is_network
        self._disk_now = disk_now
        self._watch = DirectoryWatch()
        self._seen: list[int] = []

    def begin_scan(self) -> None:
        """Count from now. Before the scan, or what comes between it and a sleep would be told by nobody."""
        self.watch()
        self._seen = self._look()

    def watch(self) -> None:
        """Be woken by what comes, also into directories that were not there before."""
        self._watch.watch(self._directories)

    def descriptors(self) -> list[int]:
        return self._watch.descriptors()

    def any(self) -> bool:
        """Whether something came."""
        return self._watch.drain() or self._look() != self._seen

    def close(self) -> None:
        self._watch.close()

    def _look(self) -> list[int]:
        """When the directories were changed last."""
        changed = []
        for path in self._directories:
            status = None
            if self._is_network:
                status = look_afresh(path)
            else:
                with contextlib.suppress(OSError):
                    status = os.stat(path)
            changed_ns = status.st_mtime_ns if status is not None else 0
            if changed_ns and changed_ns % 1_000_000_000 == 0 and self._disk_now() - changed_ns / 1e9 < _COARSE_S:
                changed_ns += 1 + time.monotonic_ns() % 999_999_999  # in whole seconds: more may come in the same one
            changed.append(changed_ns)
        return changed
