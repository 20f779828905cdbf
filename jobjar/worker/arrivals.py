"""Notice new files in the directories that a worker asks for jobs.

Inotify reports files from this node. A look at each directory's time shows those from other nodes. On a network disk the looks
become rare when nothing has come for long. Reads the times of directories; writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from jobjar.processes.wake import DirectoryWatch
from jobjar.shared_disk.change_times import SETTLED_S, Looks

# The time between two looks, as a share of the time without arrivals. So an arrival waits at most a tenth of that time.
_SHARE = 0.1


class Backoff:
    """The time between two looks at a network disk: `least_s` at first. It grows up to `most_s` while nothing comes."""

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._came_at = time.monotonic()

    def reset(self) -> None:
        """Begin again at `least_s`: something has come."""
        self._came_at = time.monotonic()

    def interval_s(self) -> float:
        return max(self._least_s, min(self._most_s, (time.monotonic() - self._came_at) * _SHARE))


class Arrivals:
    """Arrivals in `directories` since the last scan. `looks` looks at them on a network disk; it is None on a local one.
    `disk_now` returns the disk's time. `backoff` sets how often an idle worker looks."""

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
        """Count arrivals from now on. Call this before the scan, or arrivals between the scan and a sleep would be missed."""
        self.watch()
        self._seen = self._look()

    def watch(self) -> None:
        """Watch the directories, including any that are new since the last call."""
        self._watch.watch(self._directories)

    def descriptors(self) -> list[int]:
        return self._watch.descriptors()

    def any(self, max_age_s: float = 0.0) -> bool:
        """Whether something came. A look that is at most `max_age_s` old is good enough."""
        return self._watch.drain() or self._look(max_age_s) != self._seen

    def is_settled(self) -> bool:
        """Whether every further arrival changes a directory's time. Always false on a local disk."""
        return self._looks is not None and self._looks.is_settled(self._seen)

    def close(self) -> None:
        self._watch.close()

    def _look(self, max_age_s: float = 0.0) -> list[int]:
        """When each directory was last changed, in nanoseconds; 0 if it is missing."""
        if self._looks is not None:
            found = self._looks.changed_ns(self._directories, max_age_s)
            changed = [found[path] for path in self._directories]
        else:
            changed = [_changed_ns(path) for path in self._directories]
        now = self._disk_now()
        return [
            # This disk keeps whole seconds, and more may come within this one. So the value is made to differ at each look.
            each + 1 + time.monotonic_ns() % 999_999_999
            if each and each % 1_000_000_000 == 0 and now - each / 1e9 < SETTLED_S
            else each
            for each in changed
        ]


def _changed_ns(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime_ns
    return 0
