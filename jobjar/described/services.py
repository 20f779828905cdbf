"""What a worker hands to the stages of its jobs: how attempts end, where they run, and who is told. Writes nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from jobjar.attempts.attempt import AttemptEnd, ClaimedJob, Claimer
from jobjar.attempts.verdict import Verdict
from jobjar.attempts.workplace import Workplaces


class Ends(Protocol):
    """Ends attempts: what becomes of their jobs, and their completion (worker/ends.py)."""

    def decide(self, job: ClaimedJob, end: AttemptEnd) -> Verdict: ...

    def complete(self, job: ClaimedJob, end: AttemptEnd, verdict: Verdict) -> bool: ...

    def give_back(self, job: ClaimedJob, why: str) -> None: ...


class Services(NamedTuple):
    """What a worker hands to the stages of its jobs. `disk_now` returns the disk's time."""

    claimer: Claimer
    workplaces: Workplaces
    ends: Ends
    disk_now: Callable[[], float]
    log: Callable[[str], None]
