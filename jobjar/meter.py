"""How far something is that takes long: whoever does it says so to a meter, of which a program shows what it shows.

Reads and writes nothing: this one is silent, as in a library and wherever nobody looks on. programs/shown_meter.py is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Meter:
    """One stage of a work after the other, each with so many things to do."""

    def begin(self, what: str, unit: str, total: int | None = None) -> None:
        """The next stage, which is to do `total` of `unit` (None: nobody knows how many)."""

    def add(self, count: int) -> None:
        """So many more are done."""

    def counted(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each of which counts as done when the next one is asked for."""
        return iter(items)

    def end(self) -> None:
        """All is done, or it is given up: nothing is shown any more."""


SILENT = Meter()
