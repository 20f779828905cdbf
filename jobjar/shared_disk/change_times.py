"""When directories on a network disk last changed. One worker's look serves all workers of its node.

Reads the times of directories and writes them to `looks` in this node's ledger home. A crash here leaves at most a temporary
file there. If `looks` cannot be read or written, each worker looks for itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jobjar.shared_disk.creating import write_whole
from jobjar.shared_disk.files import look_afresh
from jobjar.shared_disk.regular import read_regular

# A directory that changed this recently may change again within one tick of the disk's clock. Some clocks tick in seconds.
SETTLED_S = 2.0
# Older looks are dropped.
_KEPT_S = 3600.0


class _Look(NamedTuple):
    """One look at a directory.

    `changed_ns` is when it last changed (0: it is missing). `looked_at` is the time of the look by this node's clock.
    `above_ns` is when the directory above it last changed (0: it is missing, or was not looked at).
    """

    changed_ns: int
    looked_at: float
    above_ns: int


class Looks:
    """The looks at directories that the workers of one node share. `disk_now` returns the disk's time."""

    def __init__(self, path: str, disk_now: Callable[[], float]) -> None:
        self._path = path
        self._disk_now = disk_now

    def changed_ns(self, directories: Iterable[str], max_age_s: float = 0.0) -> dict[str, int]:
        """Return when each directory last changed; 0 for a missing one. A look that a worker of this node took less than
        `max_age_s` ago is reused. Each new look costs the disk one open."""
        now = time.time()
        noted = self._read(now)
        found: dict[str, int] = {}
        looked: dict[str, _Look] = {}
        # Parents come first: a missing directory can only appear if its parent changes.
        for path in sorted(directories, key=len):
            before, above_ns = noted.get(path), found.get(os.path.dirname(path), 0)
            if before is not None and now - before.looked_at < max_age_s:
                found[path] = before.changed_ns
                continue
            is_still_missing = before is not None and not before.changed_ns and 0 != before.above_ns == above_ns
            status = None if is_still_missing else look_afresh(path)
            found[path] = status.st_mtime_ns if status is not None else 0
            looked[path] = _Look(found[path], now, above_ns)
        if looked:
            # Keep what other workers have seen meanwhile. Drop looks that are not settled: the next change might not show.
            noted = {**self._read(now), **looked}
            self._write(
                {path: look for path, look in noted.items() if self.is_settled((look.changed_ns, look.above_ns))}
            )
        return found

    def is_settled(self, changed_ns: Iterable[int]) -> bool:
        """Whether another change would show, as a time later than these."""
        now = self._disk_now()
        return all(now - changed / 1e9 > SETTLED_S for changed in changed_ns)

    def _read(self, now: float) -> dict[str, _Look]:
        try:
            noted = json.loads(read_regular(self._path, 0))
            looks = {str(path): _Look(int(look[0]), float(look[1]), int(look[2])) for path, look in noted.items()}
        except (OSError, ValueError, TypeError, AttributeError, LookupError):
            return {}
        return {path: look for path, look in looks.items() if 0 <= now - look.looked_at < _KEPT_S}

    def _write(self, looks: dict[str, _Look]) -> None:
        with contextlib.suppress(OSError):  # each worker looks for itself then
            write_whole(self._path, json.dumps(looks).encode(), 0o600, syncs=False)
