"""Sees that something came into the directories that a worker asks: inotify tells of this node, one look a directory of others.

On a network disk the looks become rare when nothing has come for long. Reads the times of directories; writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from jobjar.processes.wake import DirectoryWatch
from jobjar.shared_disk.change_times import SETTLED_S, Looks

# Looks are this share of the time apart in which nothing came: what comes then is seen after a tenth of that at most.
_SHARE = 0.1


class Backoff:
    """How long to wait between two looks at a network disk: `least_s` at first, and the longer the longer nothing has come, up
    to `most_s`."""

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._came_at = time.monotonic()

    def reset(self) -> None:
        """Something has come."""
        self._came_at = time.monotonic()

    def interval_s(self) -> float:
        return max(self._least_s, min(self._most_s, (time.monotonic() - self._came_at) * _SHARE))


class Arrivals:
    """What came into `directories` since they were last scanned. `looks`: how to look at them on a network disk; None on a local
    one. `disk_now` tells the disk's time, `backoff` when a worker looks that has nothing to do."""

    def __init__(
        self, directories: Sequence[str], looks: Looks | None, disk_now: Callable[[], float], backoff: Backoff
    ) -> None:
        self.backoff = backoff
        self._directories = directories
        self._looks = looks
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

    def any(self, max_age_s: float = 0.0) -> bool:
        """Whether something came, as far as a look tells that is at most `max_age_s` old."""
        return self._watch.drain() or self._look(max_age_s) != self._seen

    def is_settled(self) -> bool:
        """Whether whatever comes will be told, by another time of a directory; always asked for on network disks alone."""
        return self._looks is not None and self._looks.is_settled(self._seen)

    def close(self) -> None:
        self._watch.close()

    def _look(self, max_age_s: float = 0.0) -> list[int]:
        """When the directories were changed last."""
        if self._looks is not None:
            found = self._looks.changed_ns(self._directories, max_age_s)
            changed = [found[path] for path in self._directories]
        else:
            changed = [_changed_ns(path) for path in self._directories]
        now = self._disk_now()
        return [
            # In whole seconds: more may come in the same one.
            each + 1 + time.monotonic_ns() % 999_999_999
            if each and each % 1_000_000_000 == 0 and now - each / 1e9 < SETTLED_S
            else each
            for each in changed
        ]


def _changed_ns(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime_ns
    return 0
