"""Why a task or a chunk ends early, and how an attempt of a chunk ended (arrays/run_chunk.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jobjar.arrays.indexes import with_range
from jobjar.arrays.task_queue import TaskQueue
from jobjar.attempts.attempt import INTERRUPTED, LOST, SUCCEEDED, AttemptEnd
from jobjar.attempts.verdict import Verdict


class ChunkEnd(NamedTuple):
    """How an attempt of a chunk ended, what follows, and the name that its file has from now on: the range of its rest."""

    end: AttemptEnd
    verdict: Verdict
    name: str


class Cause(NamedTuple):
    """Why a task was ended early; `is_own`: only this task is meant, and not its chunk."""

    outcome: str
    message: str | None = None
    is_own: bool = False


class LeftOff(Exception):
    """The chunk is left, for a reason of AttemptEnd's outcomes. The task that ran, if one did, has not ended."""

    def __init__(
        self, outcome: str, message: str | None = None, after_s: float = 0.0, is_to_hold: bool = False
    ) -> None:
        super().__init__(outcome)
        self.outcome, self.message, self.after_s = outcome, message, after_s
        self.is_to_hold = is_to_hold


def conclude_chunk(
    queue: TaskQueue, name: str, end: AttemptEnd, after_s: float, disk_now: Callable[[], float]
) -> ChunkEnd:
    """What follows: the chunk is over if every task has ended; else its rest goes back, for `after_s` seconds at least."""
    rest = queue.ends_of_rest()
    if not rest and end.outcome in (INTERRUPTED, SUCCEEDED):
        return ChunkEnd(end._replace(outcome=SUCCEEDED, message=None), Verdict.complete(), name)
    if end.outcome not in (INTERRUPTED, SUCCEEDED, LOST):
        return ChunkEnd(end, Verdict.complete(), name)
    now = disk_now()
    at = max(queue.due(), now + after_s if after_s else 0.0)
    if end.outcome == SUCCEEDED:  # only tasks that failed are left
        end = end._replace(outcome=INTERRUPTED, message=f"{queue.tried_again} of its tasks are to be tried again")
    return ChunkEnd(end, Verdict.give_back(at=at), with_range(name, min(rest), max(rest)))
