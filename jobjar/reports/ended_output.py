"""What the tasks of an array write, task by task as they end: each whole, and once. Reads the ledger and output files.

The caller brings the ledger up to date between two calls.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from jobjar.errors import NoOutput
from jobjar.jar import Jar
from jobjar.job_file.seeds import join_ranges
from jobjar.ledger.ask_arrays import ArrayRow, array_of, lengths_of_outputs
from jobjar.reports.arrays import read_output_of_tasks
from jobjar.selecting.arrays import Tasks

# A look at the ends of a large array is not repeated before ten times as long as it took.
_PAUSES = 10
# The output of a task is held until it is whole, if it is not longer than this.
_HELD_BYTES = 1 << 20


class EndedOutput:
    """The outputs of an array's tasks. `in_order`: in the order of their indexes, each as soon as those before it have ended."""

    def __init__(self, jar: Jar, uid: str, in_order: bool) -> None:
        self._jar, self._uid, self._in_order = jar, uid, in_order
        self._printed: set[int] = set()
        self._next = 0
        self._ended = 0
        self._look_at = 0.0

    def read_new(self, is_last: bool = False) -> Iterator[bytes]:
        """What was not read before, in pieces. `is_last`: all have ended. Raises NoOutput for a file that cannot be read, if it
        is the last call; before, another node's disk may show it later."""
        array = array_of(self._jar.ledger.connection, self._uid)
        ended = 0 if array is None else array.succeeded + array.failed
        began = time.monotonic()
        if array is None or (not is_last and (ended == self._ended or began < self._look_at)):
            return
        lengths = self._find_new(array, is_last)
        self._look_at = time.monotonic() + _PAUSES * (time.monotonic() - began)
        try:
            yield from self._read(array, lengths, is_last)
            self._ended = ended
        except NoOutput:
            if is_last:
                raise

    def _find_new(self, array: ArrayRow, is_last: bool) -> dict[int, int]:
        """The tasks to read, each with the length of its output."""
        first = self._next if self._in_order else 0
        lengths: dict[int, int] = {}
        expected = max(first, array.first or 0)
        for number, length in lengths_of_outputs(self._jar.ledger.connection, array.id, first):
            if self._in_order and not is_last and number != expected:
                break
            expected = number + (array.step or 1)
            if number not in self._printed:
                lengths[number] = length
        return lengths

    def _read(self, array: ArrayRow, lengths: dict[int, int], is_last: bool) -> Iterator[bytes]:
        ranges = join_ranges((number, number) for number in sorted(lengths)).ranges
        held: list[bytes] = []
        at: int | None = None
        for number, piece in read_output_of_tasks(self._jar, Tasks(array, tuple(ranges))) if lengths else ():
            if number not in lengths:
                continue  # it ended just now
            if number != at:
                if not self._is_whole(at, held, lengths, is_last):
                    return
                yield from held
                held, at = [], number
            held.append(piece)
            if lengths[number] > _HELD_BYTES:
                yield from held
                held = []
        if self._is_whole(at, held, lengths, is_last):
            yield from held

    def _is_whole(self, number: int | None, held: list[bytes], lengths: dict[int, int], is_last: bool) -> bool:
        """Note that a task's output was read, if what is held is all of it."""
        if number is None:
            return True
        length = lengths[number]
        if not is_last and length <= _HELD_BYTES and sum(map(len, held)) < length:
            return False
        if self._in_order:
            self._next = number + 1
        else:
            self._printed.add(number)
        return True
