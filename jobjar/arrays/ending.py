"""The ends of tasks that no worker runs, as journals have them: cancelled by a person, or for the end of their partners."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from jobjar.journal.entries import About, tasks_entry
from jobjar.journal.read import Entry
from jobjar.ledger.apply_tasks import OUTCOMES

# So many ends are journaled in an entry.
_IN_ENTRY = 256
_CANCELLED = OUTCOMES.index("cancelled")


def cancelled_tasks(array: str, by: str, order: str, life: int, tasks: Sequence[tuple[int, str]]) -> Iterator[Entry]:
    """The entries for tasks of an array that are cancelled, each with its message. Nobody attempted them: the id of what wants
    that, `order`, stands for the worker."""
    about = About(array, 0, by, order)
    at_ms = time.time_ns() // 1_000_000
    for begin in range(0, len(tasks), _IN_ENTRY):
        ended = [
            [number, None, 0, 0, 0, 0, 0, 0, _CANCELLED, 0, message]
            for number, message in tasks[begin : begin + _IN_ENTRY]
        ]
        yield tasks_entry(about, array, at_ms, 0, ended, life=life)
