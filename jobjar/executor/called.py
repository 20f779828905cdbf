"""What is called by reference where calls run: it is imported there, so it imports nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def call_each(function: Callable[..., Any], items: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The results of a function for each of several tuples of arguments, as one call."""
    return [function(*arguments) for arguments in items]
