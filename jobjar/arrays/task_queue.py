"""Which tasks of a chunk are left to run, and in which order: those that have not begun, then those that are tried again.

Reads and writes nothing; arrays/run_chunk.py asks it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from jobjar.arrays.indexes import Indexes
from jobjar.arrays.orders import Order
from jobjar.ledger.ask_arrays import TasksBefore


class TaskQueue:
    """The tasks of a chunk whose range is `wanted`."""

    def __init__(self, wanted: Indexes) -> None:
        self._wanted = wanted
        # Those that have not begun are those of `_todo` from `_next` on.
        self._todo = range(wanted.first, wanted.last + 1, wanted.step)
        self._next = 0
        # A heap of (when it is due by the disk's time, index) of those tried again.
        self._again: list[tuple[float, int]] = []
        self._ended: set[int] = set()
        # How often those failed that have not ended for good.
        self.failures: dict[int, int] = {}

    def pass_over(self, before: TasksBefore) -> None:
        """Pass over the tasks that have ended in earlier attempts."""
        self._ended, self.failures = before.ended, dict(before.failures)

    def take_next(self, disk_now: Callable[[], float]) -> int | None:
        """The next task to run. None: there is none at this time."""
        while self._next < len(self._todo):
            index = self._todo[self._next]
            self._next += 1
            if index not in self._ended:
                return index
        if self._again and self._again[0][0] <= disk_now():
            return heapq.heappop(self._again)[1]
        return None

    def try_again(self, index: int, due: float = 0.0) -> None:
        """Put a task that was taken back."""
        heapq.heappush(self._again, (due, index))

    @property
    def has_more(self) -> bool:
        return self._next < len(self._todo) or bool(self._again)

    @property
    def not_begun(self) -> int:
        return len(self._todo) - self._next

    @property
    def tried_again(self) -> int:
        """How many tasks are to be tried again."""
        return len(self._again)

    def split(self, count: int) -> tuple[range, range]:
        """The tasks as they are if the last `count` that have not begun are given away, and these."""
        return self._todo[:-count], self._todo[-count:]

    def keep(self, kept: range) -> None:
        self._todo = kept

    def end(self, order: Order) -> Iterator[int]:
        """Take out the tasks that an order names and that are left; yields each."""
        for first, last in order.ranges:
            for index in self._wanted.within(first, last) or ():
                is_left = index in self._todo[self._next :] or any(index == again for _, again in self._again)
                if is_left and index not in self._ended:
                    self._ended.add(index)
                    yield index
        self._again = [one for one in self._again if one[1] not in self._ended]
        heapq.heapify(self._again)

    def ends_of_rest(self) -> list[int]:
        """The first and the last of those that have not begun, and all that are tried again. A range by hand may have
        millions."""
        waiting = self._todo[self._next :]
        ends = (next((one for one in order if one not in self._ended), None) for order in (waiting, waiting[::-1]))
        return [index for index in ends if index is not None] + [index for _, index in self._again]

    def due(self) -> float:
        """When the next task may run, by the disk's time; 0: now."""
        return min((due for due, _ in self._again), default=0.0) if self._next >= len(self._todo) else 0.0
