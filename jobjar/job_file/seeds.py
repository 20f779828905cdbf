"""Seeds: the numbers of a batch's jobs, as ranges (`1-1000`, `1-10,20`), never as a list of a million numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# More jobs in one batch are taken for a typing error.
MOST_SEEDS = 10_000_000
_RANGE = re.compile(r"([0-9]{1,18})(?:\s*-\s*([0-9]{1,18}))?")


@dataclass(frozen=True)
class Seeds:
    """A set of seeds: ranges that include both ends, in ascending order, with gaps between them."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)

    def without(self, others: Seeds) -> Seeds:
        """The seeds that are not in `others`."""
        left = []
        passed = 0  # how many of the others' ranges end before this one; both are in order
        for first, last in self.ranges:
            while passed < len(others.ranges) and others.ranges[passed][1] < first:
                passed += 1
            number = passed
            while number < len(others.ranges) and others.ranges[number][0] <= last:
                other_first, other_last = others.ranges[number]
                if first < other_first:
                    left.append((first, other_first - 1))
                first = other_last + 1
                number += 1
            if first <= last:
                left.append((first, last))
        return Seeds(tuple(left))


def join_ranges(ranges: Iterable[tuple[int, int]]) -> Seeds:
    """Make Seeds from ranges in any order, which may overlap: each seed occurs once in the result."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return Seeds(tuple(joined))


def parse_seeds(text: str) -> Seeds:
    """Parse seeds as people write them: numbers and ranges, separated by commas. Raises ValueError with the reason."""
    ranges = []
    for word in text.split(","):
        found = _RANGE.fullmatch(word.strip())
        if not found:
            raise ValueError(f"{word.strip()!r} is neither a whole number nor a range such as 1-1000")
        first, last = int(found.group(1)), int(found.group(2) or found.group(1))
        if last < first:
            raise ValueError(f"{word.strip()!r} ends before it begins")
        ranges.append((first, last))
    seeds = join_ranges(ranges)
    if seeds.count > MOST_SEEDS:
        raise ValueError(f"{seeds.count} seeds are more than a batch may have ({MOST_SEEDS})")
    return seeds
