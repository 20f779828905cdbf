"""When a worker ends by itself: its time is over, it has claimed enough jobs, or it has had nothing to do for long.

`Limits` say it, and go from one worker to the fresh one that takes its place; `OwnEnd` keeps count. Reads clocks; writes nothing.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from jobjar.units import format_seconds


class Limits(NamedTuple):
    """What a worker may have; None: as much as there is. `deadline` is of the monotonic clock, which this machine's processes
    share, and `ends_at` in UTC epoch seconds: whichever comes first. `why` says who set that end, for people.
    `claimed_before`: what those whose place it takes have claimed. `setup`: the named setup that all of it comes from."""

    deadline: float | None = None
    ends_at: float | None = None
    most_jobs: int | None = None
    idle_exit_s: float | None = None
    why: str = ""
    claimed_before: int = 0
    setup: str = ""


NO_LIMITS = Limits()


class OwnEnd:
    """The end of one worker."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.limits = limits
        self.has_time = limits.deadline is not None or limits.ends_at is not None
        self._idle_since: float | None = None
        self._stops_because = ""

    def left_s(self) -> float:
        """The seconds that are left; less than 0 once its time is over."""
        left_s = float("inf")
        if self.limits.deadline is not None:
            left_s = self.limits.deadline - time.monotonic()
        if self.limits.ends_at is not None:
            left_s = min(left_s, self.limits.ends_at - time.time())
        return left_s

    def is_over(self) -> bool:
        """Whether its time is over, so that it has to end now."""
        return self.has_time and self.left_s() <= 0

    def ends_at(self) -> float | None:
        """When its time is over, in UTC epoch seconds, as others are told."""
        return round(time.time() + self.left_s(), 3) if self.has_time else None

    def has_claimed_enough(self, claims: int) -> bool:
        """Whether it may claim no more after so many claims."""
        if self.limits.most_jobs is None or self.limits.claimed_before + claims < self.limits.most_jobs:
            return False
        jobs = "1 job" if self.limits.most_jobs == 1 else f"{self.limits.most_jobs} jobs"
        self._stops_because = f"it has claimed {jobs} (--max-jobs)"
        return True

    def is_idle_for_long(self) -> bool:
        """Note that there is nothing to do. Returns whether that has been so for long enough to end."""
        if self.limits.idle_exit_s is None:
            return False
        self._idle_since = time.monotonic() if self._idle_since is None else self._idle_since
        if time.monotonic() - self._idle_since < self.limits.idle_exit_s:
            return False
        self._stops_because = f"it had no job for {format_seconds(self.limits.idle_exit_s)} (--idle-exit)"
        return True

    def note_work(self) -> None:
        """Note that it has something to do, or that it is kept from it."""
        self._idle_since = None

    def nap_s(self, seconds: float) -> float:
        """So many seconds, but not past its end."""
        if self.limits.idle_exit_s is not None and self._idle_since is not None:
            seconds = min(seconds, self._idle_since + self.limits.idle_exit_s - time.monotonic())
        return max(0.0, min(seconds, self.left_s()))

    def explain_time(self) -> str | None:
        """Why its time is over; None if it is not."""
        return f"its time was over ({self.limits.why})" if self.is_over() else None

    def explain(self) -> str | None:
        """Why the worker ends by itself; None if it does not."""
        return self.explain_time() or self._stops_because or None

    def left_over(self, claims: int) -> Limits:
        """The limits of the fresh worker that takes its place after so many claims."""
        return self.limits._replace(claimed_before=self.limits.claimed_before + claims)
