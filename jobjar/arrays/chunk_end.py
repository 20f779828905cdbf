"""Why a task or a chunk ends early, and how an attempt of a chunk ended (arrays/run_chunk.py)."""

from __future__ import annotations

from typing import NamedTuple

from jobjar.attempts.attempt import AttemptEnd
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
