"""Calls on their way: in a queue, in groups, with their futures. Nothing here touches the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from jobjar.executor import frames

T = TypeVar("T")
# A group has so much work (by what calls took before), so many calls, and so many bytes at most.
_WORK_S = 0.2
_MOST_CALLS = 1_000
_MOST_BYTES = 8 << 20
# The share of a new duration in the mean of a function.
_NEW_SHARE = 0.2


class CallFuture(Future[T]):
    """The future of a call. `withdraw` takes the call back, if it has not begun, and says whether it did."""

    withdraw: Callable[[], bool] | None = None

    def cancel(self) -> bool:
        """Cancel the call, unless it has begun, or is in a group of calls that has. Returns whether it was cancelled."""
        if not self.done() and self.withdraw is not None and not self.withdraw():
            return False
        return self.cancel_withdrawn()

    def cancel_withdrawn(self) -> bool:
        """Cancel a call that was taken back, and tell those who wait for it."""
        was_cancelled = self.cancelled()
        is_cancelled = super().cancel()
        if is_cancelled and not was_cancelled:
            self.set_running_or_notify_cancel()
        return is_cancelled


class Call:
    """A call as bytes, its function's name for people, and its future. `group` is None while the call waits to be sent."""

    __slots__ = ("arguments", "function", "future", "group", "name")

    def __init__(self, name: str, function: bytes, arguments: bytes) -> None:
        self.name, self.function, self.arguments = name, function, arguments
        self.future: CallFuture[Any] = CallFuture()
        self.group: Group | None = None


class Group:
    """Calls that one job runs one after the other. `left` are those without a result, by number. `offsets`: how far each file of
    results is read. Times are monotonic."""

    def __init__(self, id: str, calls: list[Call], now: float) -> None:
        self.id = id
        self.left = dict(enumerate(calls))
        self.job = ""  # its name, once it is submitted
        self.is_taken = False
        self.offsets: dict[str, int] = {}
        self.news_at = now
        self.ended_at: float | None = None  # when its job was first seen ended
        for call in calls:
            call.group = self

    @property
    def name(self) -> str:
        return self.left[min(self.left)].name

    def encode(self, shared: bytes) -> Iterable[bytes]:
        """The pieces of its file of calls. A function that several calls have is in it once."""
        yield frames.encode(frames.SHARED, 0, shared)
        numbers: dict[bytes, int] = {}
        for number, call in self.left.items():
            function = numbers.setdefault(call.function, len(numbers))
            if function == len(numbers) - 1:
                yield frames.encode(frames.FUNCTION, function, call.function)
            yield frames.encode(frames.CALL, number, frames.FUNCTION_NUMBER.pack(function), call.arguments)


class Sizes:
    """How many calls go into a group: about 0.2 s of work, by what calls of the same function took so far. A call of a function
    that is not known yet goes alone; so does each one if `is_single`."""

    def __init__(self, is_single: bool) -> None:
        self._is_single = is_single
        self._means: dict[str, float] = {}

    def note(self, name: str, took_s: float) -> None:
        """Note how long a call of the function `name` took."""
        mean = self._means.get(name, took_s)
        self._means[name] = mean + _NEW_SHARE * (took_s - mean)

    def take(self, waiting: deque[Call], workers: int) -> list[Call]:
        """Take the calls of the next group from those that wait; [] if none does. `workers` share what waits."""
        if not waiting:
            return []
        most = 1 if self._is_single else min(_MOST_CALLS, -(-len(waiting) // workers))
        taken: list[Call] = []
        work_s, size = 0.0, 0
        while waiting and len(taken) < most:
            call = waiting[0]
            work_s += self._means.get(call.name, _WORK_S)
            size += len(call.arguments) + (0 if taken and taken[-1].function == call.function else len(call.function))
            if taken and (work_s > _WORK_S or size > _MOST_BYTES):
                break
            taken.append(waiting.popleft())
        return taken
