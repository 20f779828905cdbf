"""Claim as a worker does: turn after turn, while there is more to be tried."""

from __future__ import annotations

from collections.abc import Callable

from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.stages import claim


def claim_in_turns(claimer: Claimer, now: float, warn: Callable[[str], None]) -> ClaimedJob | None:
    """The next job; None only where there is none. One turn of `claim_next` may end for want of time on a busy machine."""
    while True:
        job = claim.claim_next(claimer, now, warn)
        if job is not None or not claimer.has_more:
            return job
