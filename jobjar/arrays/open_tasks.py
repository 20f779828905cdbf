"""Where the tasks of an array are that have not ended: in which chunk, and whether its worker runs them now. Reads the ledger."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jobjar.arrays.indexes import Indexes, range_in_name
from jobjar.ledger.ask_arrays import ArrayRow, Chunk, array_of, ended_numbers, open_chunks, task_at_work
from jobjar.ledger.driver import Connection

WAITING, RUNNING, HELD, DEPENDENT, NOT_RUN = "waiting", "running", "held", "dependent", "not run"
_STATES = {"unclaimed": WAITING, "claimed": WAITING, "limbo": HELD}


class OpenChunk(NamedTuple):
    """A chunk that has not ended, and the indexes that its name has."""

    chunk: Chunk
    part: Indexes


class OpenTasks:
    """The open chunks of an array, as the ledger has them now."""

    def __init__(self, connection: Connection, array: ArrayRow, only_claimed: bool = False) -> None:
        self._connection, self._array = connection, array
        self.chunks: list[OpenChunk] = []
        indexes = indexes_of(array)
        for chunk in open_chunks(connection, array.uid, only_claimed):
            found = range_in_name(chunk.name)
            part = None if found is None or indexes is None else indexes.within(*found)
            if part is not None:
                self.chunks.append(OpenChunk(chunk, part))
        self.chunks.sort(key=lambda one: one.part.first)

    def chunks_of(self, numbers: Sequence[int]) -> dict[int, OpenChunk]:
        """The chunk that has each of these tasks (in ascending order), if one has; of two, which can be just while one is shared
        or run again, the shorter."""
        found: dict[int, OpenChunk] = {}
        for one in sorted(self.chunks, key=lambda one: -one.part.count):
            begin, end = bisect_left(numbers, one.part.first), bisect_right(numbers, one.part.last)
            found.update((number, one) for number in numbers[begin:end] if number in one.part)
        return found

    def at_work(self, one: OpenChunk) -> int | None:
        """The task that the worker of a chunk runs now; None if it runs none that is known of."""
        if one.chunk.state != "claimed":
            return None
        return task_at_work(self._connection, self._array, one.chunk, one.part.first, one.part.last)

    def states_of(self, numbers: Sequence[int]) -> dict[int, str]:
        """The states of tasks (in ascending order) that have not ended. `not run`: its chunk has ended, and it will not run."""
        chunks = self.chunks_of(numbers)
        running = {self.at_work(one) for one in set(chunks.values())}

        def state_of(number: int) -> str:
            one = chunks.get(number)
            if one is None:
                return NOT_RUN
            if number in running:
                return RUNNING
            return DEPENDENT if one.chunk.is_dependent else _STATES[one.chunk.state]

        return {number: state_of(number) for number in numbers}

    def not_ended(self, ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
        """The indexes in these ranges whose tasks have not ended."""
        indexes = indexes_of(self._array)
        for first, last in ranges if indexes is not None else ():
            part = indexes.within(first, last) if indexes is not None else None
            if part is not None:
                ended = ended_numbers(self._connection, self._array.id, part.first, part.last)
                yield from (number for number in part if number not in ended)


def name_tasks_at_work(connection: Connection, uids: Iterable[str]) -> dict[str, str]:
    """The tasks that run of these arrays (`ARRAY[7]`), by the ids of their chunks."""
    names: dict[str, str] = {}
    for uid in uids:
        array = array_of(connection, uid)
        now = None if array is None else OpenTasks(connection, array, only_claimed=True)
        for one in () if now is None else now.chunks:
            number = now.at_work(one) if now is not None else None
            if number is not None and one.chunk.uid is not None:
                names[one.chunk.uid] = f"{uid}[{number}]"
    return names


def indexes_of(array: ArrayRow) -> Indexes | None:
    """The indexes of an array; None if the entry of its batch is not read yet."""
    if array.first is None or array.last is None or array.step is None:
        return None
    return Indexes(array.first, array.last, array.step)


def whole(array: ArrayRow) -> tuple[tuple[int, int], ...]:
    """All indexes of an array as ranges."""
    return () if array.first is None or array.last is None else ((array.first, array.last),)
