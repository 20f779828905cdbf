"""How many tasks a chunk of an array has, and the chunks that its indexes come to. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from jobjar.arrays.indexes import Indexes

# An array makes no more files than this, unless it was told how many tasks a chunk has.
MOST_CHUNKS = 1000
# From twice so many tasks on, a chunk has several. With so many tasks of a chunk, its claim costs each of them little.
_CHUNKS, _ENOUGH = 250, 64


def split_evenly(indexes: Indexes, size: int) -> Iterator[Indexes]:
    """The indexes in ranges of `size`; the last may be shorter."""
    for number in range(0, indexes.count, size):
        last = min(number + size, indexes.count) - 1
        yield Indexes(indexes.at(number), indexes.at(last), indexes.step)


def choose_size(tasks: int, wanted: int | None = None) -> int:
    """How many tasks a chunk has: `wanted`; or one, if there are few tasks; or so many that claims cost little beside the tasks,
    and that the array has no more than MOST_CHUNKS chunks."""
    return wanted or max(1, min(tasks // _CHUNKS, _ENOUGH), -(-tasks // MOST_CHUNKS))
