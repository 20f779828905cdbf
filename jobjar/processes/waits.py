"""What code that has to wait asks for, so that a worker may do something else meanwhile: a child's end, an order, some time.

A generator yields such waits. `block` answers them one by one, for a worker that has nothing else to do; described/overlap.py
answers those of many jobs at once. Reads and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

from jobjar.processes.children import Waiter
from jobjar.processes.wake import wait_readable
from jobjar.shared_disk.patience import patience

T = TypeVar("T")


class Pause(NamedTuple):
    """Wait for some seconds. The answer is None."""

    seconds: float


class Listen(NamedTuple):
    """Wait for the end of a child, if there is a `waiter`, for some seconds at most. With `hears_orders`, also until an order may
    have come. The answer is how the child ended (`Ended`), or None while it runs."""

    waiter: Waiter | None
    timeout_s: float
    hears_orders: bool = True


Steps = Generator[Pause | Listen, Any, T]


def block(steps: Steps[T], orders: Callable[[], list[int]] = list) -> T:
    """Bring steps to their end; returns what they return. `orders` returns the descriptors that become readable when an order may
    have come."""
    answer = None
    while True:
        try:
            wait = steps.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value
        if isinstance(wait, Pause):
            patience.beat()
            time.sleep(wait.seconds)
            answer = None
        elif wait.waiter is not None:
            answer = wait.waiter.wait(wait.timeout_s, orders() if wait.hears_orders else [])
        else:
            wait_readable(orders() if wait.hears_orders else [], wait.timeout_s)
            answer = None
