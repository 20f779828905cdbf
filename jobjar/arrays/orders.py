"""Orders to cancel single tasks of an array: files beside its script, one an order, which never change.

    batches/<array>/array/orders/<id>   ranges of indexes; the life of the tasks that are meant; the message of their ends

Whoever holds a chunk looks here at its beginning and once per JJ_POLL_TIME: it begins none of these tasks any more, ends the one
that runs, and journals that they are cancelled. So an order holds, whatever becomes of who gave it and of the workers. Tasks that
are opened again later have a later life, and are not meant.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from jobjar.arrays.indexes import Indexes
from jobjar.jar import Jar
from jobjar.layout import BatchPaths
from jobjar.shared_disk.contents import ORDER, Unreadable, read_document
from jobjar.shared_disk.creating import write_whole
from jobjar.shared_disk.files import list_if_there, look_afresh, make_directory, sync_directory
from jobjar.shared_disk.regular import UnfitFile

Ranges = Sequence[Sequence[int]]


class Order(NamedTuple):
    """An order to cancel tasks of a life, or of an earlier one."""

    ranges: Ranges
    life: int
    message: str

    def names(self, index: int) -> bool:
        return any(first <= index <= last for first, last in self.ranges)


def give_order(jar: Jar, uid: str, name: str, order: Order) -> None:
    """Write an order to an array's workers under a new name. It outlives a crash of this node. Raises OSError."""
    paths = jar.layout.batch(uid)
    with contextlib.suppress(FileExistsError):
        make_directory(paths.orders, 0o777 & ~jar.umask)
    write_whole(f"{paths.orders}/{name}", json.dumps(order._asdict()).encode(), 0o660)
    sync_directory(paths.array)


class OrdersHeard:
    """The orders that a worker has heard, for tasks of one life in a range. `is_network`: other nodes give orders too."""

    def __init__(self, paths: BatchPaths, part: Indexes, life: int, is_network: bool) -> None:
        self._paths, self._part, self._life, self._is_network = paths, part, life, is_network
        self._read: set[str] = set()
        self._orders: list[Order] = []
        self._taken = 0

    def look(self) -> bool:
        """Read new orders. Returns whether there is one for a task of the range."""
        is_new = False
        with contextlib.suppress(OSError):  # a disk that is away: the next look
            if self._is_network:
                look_afresh(self._paths.array)
            for name in sorted({*list_if_there(self._paths.orders)} - self._read):
                if name.startswith("."):
                    continue
                with contextlib.suppress(Unreadable, UnfitFile):  # logged once
                    order = Order(**read_document(f"{self._paths.orders}/{name}", ORDER))
                    if order.life >= self._life and any(self._part.within(*range_) for range_ in order.ranges):
                        self._orders.append(order)
                        is_new = True
                self._read.add(name)
        return is_new

    def take_new(self) -> list[Order]:
        """The orders that came since the last call."""
        new = self._orders[self._taken :]
        self._taken += len(new)
        return new

    def message_for(self, index: int) -> str | None:
        """Why a task is to be cancelled; None if it is not."""
        return next((order.message for order in self._orders if order.names(index)), None)
