"""The indexes of an array's tasks, and the ranges of them that chunks have.

A chunk's range is in the name of its file: `…+1-1000.5` has the indexes 1 to 1000, both included. The name is read so only for a
job whose kind is CHUNK: any other may be called so by its submitter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jobjar.job_file.names import has_priority, unnumbered_name

# More tasks are taken for a typing error.
MOST_TASKS = 100_000_000
MOST_INDEX = 10**15
_ARRAY = re.compile(r"([0-9]{1,16})(?:-([0-9]{1,16})(?::([0-9]{1,16}))?)?(?:%([0-9]{1,9}))?")
_RANGE_IN_NAME = re.compile(r"\+([0-9]{1,16})-([0-9]{1,16})$")


@dataclass(frozen=True)
class Indexes:
    """`first`, `first + step`, … up to `last`, which is one of them."""

    first: int
    last: int
    step: int = 1

    @property
    def count(self) -> int:
        return (self.last - self.first) // self.step + 1

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last + 1, self.step))

    def __contains__(self, index: object) -> bool:
        return type(index) is int and self.first <= index <= self.last and (index - self.first) % self.step == 0

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" + (f":{self.step}" if self.step != 1 else "")

    def within(self, first: int, last: int) -> Indexes | None:
        """Those from `first` to `last`; None if there are none."""
        low = max(self.first, first + (self.first - first) % self.step)
        high = min(self.last, last - (last - self.first) % self.step)
        return Indexes(low, high, self.step) if low <= high else None

    def at(self, number: int) -> int:
        """The index of this number; the first has the number 0."""
        return self.first + number * self.step


def parse_array(text: str) -> tuple[Indexes, int | None]:
    """Parse `FIRST-LAST[:STEP][%N]`, or one index. Returns the indexes, and how many may run at once (None: no limit).

    Raises ValueError with the reason."""
    found = _ARRAY.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not of the form FIRST-LAST[:STEP][%N], such as 1-1000 or 0-99:3%8")
    first, last = int(found.group(1)), int(found.group(2) or found.group(1))
    step = int(found.group(3) or 1)
    if last < first:
        raise ValueError(f"{text!r} ends before it begins")
    if not step:
        raise ValueError(f"{text!r} has a step of 0")
    if last > MOST_INDEX:
        raise ValueError(f"{text!r} has indexes above {MOST_INDEX}")
    at_once = None if found.group(4) is None else int(found.group(4))
    if at_once == 0:
        raise ValueError(f"{text!r} lets no task run; hold the array instead (--hold)")
    indexes = Indexes(first, last - (last - first) % step, step)
    if indexes.count > MOST_TASKS:
        raise ValueError(f"{text!r} has {indexes.count} tasks; an array may have {MOST_TASKS}")
    return indexes, at_once


def range_in_name(name: str) -> tuple[int, int] | None:
    """The range in the name of a chunk's file; None if it has none."""
    found = _RANGE_IN_NAME.search(_stem(name))
    if found is None or int(found.group(2)) < int(found.group(1)):
        return None
    return int(found.group(1)), int(found.group(2))


def with_range(name: str, first: int, last: int) -> str:
    """The name of a chunk's file with this range instead of its own. A number of a taken name (`~2`) goes."""
    stem = _stem(name)
    found = _RANGE_IN_NAME.search(stem)
    assert found is not None
    plain = unnumbered_name(name)
    return f"{stem[: found.start()]}+{first}-{last}{plain[len(stem) :]}"


def _stem(name: str) -> str:
    name = unnumbered_name(name)
    return name.rpartition(".")[0] if has_priority(name) else name
