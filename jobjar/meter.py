"""The progress of long work: the code that does the work reports it to a meter, which a program may show.

This meter is silent: the library uses it, and programs whose output nobody watches. programs/shown_meter.py shows progress.
This module reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Meter:
    """Takes the progress of work in stages, each with a number of things to do."""

    def begin(self, what: str, unit: str, total: int | None = None) -> None:
        """Begin the next stage, with `total` things to do, counted in `unit`. None: the number is unknown."""

    def add(self, count: int) -> None:
        """Report that `count` more things are done."""

    def counted(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items. Each counts as done when the next one is asked for."""
        return iter(items)

    def end(self) -> None:
        """End the work, done or given up. Nothing is shown any more."""


SILENT = Meter()
