"""Work in pieces on a ledger that others wait for. Each piece is one transaction under the lock: nobody waits longer.

Reads and writes nothing itself. Killed midway, the pieces that were done stay done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
# A piece should take no longer.
_PIECE_S = 0.02
_FIRST, _LEAST = 100, 10
# A process that waits for the lock is woken when it is free, and has to run before it is taken again.
_GIVE_WAY_S = 0.001


def give_way() -> None:
    """Let the processes go on that wait for the lock."""
    time.sleep(_GIVE_WAY_S)


def in_pieces(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """The items in pieces: at most `most` at a time, and about as many as the caller does in a fiftieth of a second.
    How long a piece took decides how large the next one is."""
    start, size = 0, min(_FIRST, most)
    while start < len(items):
        if start:
            give_way()
        began = time.monotonic()
        yield items[start : start + size]
        start += size
        took_s = time.monotonic() - began
        if took_s > _PIECE_S:
            size = min(most, max(_LEAST, size // 2))
        elif took_s < _PIECE_S / 2:
            size = min(most, size * 2)
