"""Remember jobs that a claimer cannot have now, and does not try again for a while. So the jobs behind them get their turn.

Kept in memory only; reads and writes no files.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

# New tries of all that is put off take at most this share of a claimer's time.
_SHARE = 0.05
# At most so many files are remembered. Beyond that all are forgotten, and read again.
_MOST_FILES = 100_000


class PutOff(Generic[K]):
    """Keys that are put off, each for at least `least_s` seconds. They are put off longer if trying all of them takes longer."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._until: dict[K, tuple[float, float]] = {}
        self._tries_take_s = 0.0

    def add(self, key: K, took_s: float) -> None:
        """Put a key off. The try that failed took `took_s` seconds."""
        self.discard(key)
        self._tries_take_s += took_s
        self._until[key] = (time.monotonic() + max(self._least_s, self._tries_take_s / _SHARE), took_s)

    def __contains__(self, key: K) -> bool:
        found = self._until.get(key)
        return found is not None and found[0] > time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._until)

    def keys(self) -> list[K]:
        """The keys that are put off now."""
        now = time.monotonic()
        return [key for key, (until, _) in self._until.items() if until > now]

    def all_keys(self) -> list[K]:
        """All keys that were put off and not dropped since, including those whose time is over."""
        return list(self._until)

    def next_end_s(self) -> float:
        """Seconds until the first key's time is over; infinite if there is no key."""
        now = time.monotonic()
        return min((max(0.0, until - now) for until, _ in self._until.values()), default=float("inf"))

    def discard(self, key: K) -> None:
        found = self._until.pop(key, None)
        if found is not None:
            self._tries_take_s = max(0.0, self._tries_take_s - found[1])

    def forget_old(self) -> None:
        """Drop the keys whose time is over."""
        now = time.monotonic()
        for key in [key for key, (until, _) in self._until.items() if until <= now]:
            self.discard(key)

    def clear(self) -> None:
        self._until.clear()
        self._tries_take_s = 0.0


class FileMark(NamedTuple):
    """What differs once a file was changed. New content, a new mode and a move each change its inode's time."""

    inode: int
    changed_ns: int
    modified_ns: int
    size: int


class ReadBatches:
    """The batches that hand-made jobs' files name, by place. Each file is read once per change."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[FileMark, str | None]] = {}

    def get(self, place: str) -> str | None:
        """The batch that the file at a place named when it was read; None if it named none or was not read."""
        found = self._read.get(place)
        return None if found is None else found[1]

    def mark_of(self, place: str) -> FileMark | None:
        found = self._read.get(place)
        return None if found is None else found[0]

    def note(self, place: str, mark: FileMark, batch: str | None) -> None:
        if len(self._read) >= _MOST_FILES:
            self._read.clear()
        self._read[place] = (mark, batch)

    def forget(self, place: str) -> None:
        self._read.pop(place, None)


class PassedOver:
    """What a claimer cannot have now. Each key is put off for at least `least_s` seconds."""

    def __init__(self, least_s: float) -> None:
        # Places of jobs that this user may not run, or that are hand-made, and whose files name a batch that has to wait.
        self.jobs: PutOff[str] = PutOff(least_s)
        # Categories whose directories this user may not use.
        self.categories: PutOff[str] = PutOff(least_s)
        self.read_batches = ReadBatches()
