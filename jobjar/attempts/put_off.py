"""What a claimer cannot have now, and does not try again for a while: so what is behind it gets its turn, however much it is.

In memory alone; reads and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

# Trying again all that is put off takes at most this share of a claimer's time.
_SHARE = 0.05
# So many files are remembered; then what they said is read again.
_MOST_FILES = 100_000


class PutOff(Generic[K]):
    """Keys that are put off, each for at least `least_s`, and the longer the more it takes to try all of them again."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._until: dict[K, tuple[float, float]] = {}
        self._spent_s = 0.0

    def add(self, key: K, spent_s: float) -> None:
        """Put a key off; to find that out took `spent_s`."""
        self.discard(key)
        self._spent_s += spent_s
        self._until[key] = (time.monotonic() + max(self._least_s, self._spent_s / _SHARE), spent_s)

    def __contains__(self, key: K) -> bool:
        found = self._until.get(key)
        return found is not None and found[0] > time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._until)

    def keys(self) -> list[K]:
        """What is put off now."""
        now = time.monotonic()
        return [key for key, (until, _) in self._until.items() if until > now]

    def all_keys(self) -> list[K]:
        """What was put off and not dropped since, also where the time is over."""
        return list(self._until)

    def next_end_s(self) -> float:
        """In how many seconds the first of them is not put off any more; infinite where there is none."""
        now = time.monotonic()
        return min((max(0.0, until - now) for until, _ in self._until.values()), default=float("inf"))

    def discard(self, key: K) -> None:
        found = self._until.pop(key, None)
        if found is not None:
            self._spent_s = max(0.0, self._spent_s - found[1])

    def forget_old(self) -> None:
        """Drop what is not put off any more."""
        now = time.monotonic()
        for key in [key for key, (until, _) in self._until.items() if until <= now]:
            self.discard(key)

    def clear(self) -> None:
        self._until.clear()
        self._spent_s = 0.0


class FileMark(NamedTuple):
    """By what a changed file is known: contents, mode and place each change the time of its inode."""

    inode: int
    changed_ns: int
    modified_ns: int
    size: int


class ReadBatches:
    """The batches that the files of hand-made jobs name, by their places: each file is read once for each change of it."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[FileMark, str | None]] = {}

    def get(self, place: str) -> str | None:
        """The batch that the file at a place named when it was read; None where it named none, or was not read."""
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
