"""Decide where a job goes when its attempt ended: to completed, or back to unclaimed, and when it may run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobjar.attempts.attempt import INTERRUPTED, LOST, RETRIED_OUTCOMES, TIMED_OUT, AttemptEnd, ClaimedJob
from jobjar.attempts.retry_delay import retry_time
from jobjar.errors import LedgerError
from jobjar.jar import Jar
from jobjar.ledger.ask_claiming import count_attempts
from jobjar.ledger.fold import fold_journals
from jobjar.processes.exit_status import TIMED_OUT_STATUS, shell_status

if TYPE_CHECKING:
    from jobjar.job_file.given import Given

# The reasons of the moves that follow an attempt, as journals have them.
COMPLETED = "completed"
RETRIED = "retried"
RETURNED = "returned"
RECOVERED = "recovered"
HELD = "held"


class Verdict(NamedTuple):
    """Where a job goes after an attempt: made by `complete`, `retry`, `give_back`, `hold`. `reason` is the move's; `explanation`
    is for people. Before `not_before` (the disk's time; 0: at once) nobody claims the job."""

    reason: str
    not_before: float = 0
    explanation: str = ""

    @classmethod
    def complete(cls, explanation: str = "") -> Verdict:
        """The job is over, and goes to completed."""
        return cls(COMPLETED, 0, explanation)

    @classmethod
    def retry(cls, at: float) -> Verdict:
        """The attempt failed, and the job runs again from the time `at` on."""
        return cls(RETRIED, at)

    @classmethod
    def give_back(cls, reason: str = RETURNED, at: float = 0) -> Verdict:
        """The attempt decided nothing, and the job goes back to unclaimed."""
        return cls(reason, at)

    @classmethod
    def hold(cls, why: str) -> Verdict:
        """The job cannot run until a person mends what `why` says, and goes to limbo."""
        return cls(HELD, 0, why)

    @property
    def final(self) -> bool:
        """Whether the job is over."""
        return self.reason == COMPLETED

    @property
    def is_retry(self) -> bool:
        return self.reason == RETRIED


def decide(job: ClaimedJob, end: AttemptEnd, failures_before: int, now: float) -> Verdict:
    """Decide what follows from the end of an attempt, after `failures_before` failed ones. `now` is the disk's time."""
    if end.outcome in (INTERRUPTED, LOST):
        return Verdict.give_back(at=now + end.retry_after_s if end.retry_after_s else 0)
    if end.outcome in RETRIED_OUTCOMES and failures_before < job.retries and _may_be_retried(job, end):
        return Verdict.retry(at=retry_time(job.retry_delay_s, failures_before, now))
    return Verdict.complete()


def _may_be_retried(job: ClaimedJob, end: AttemptEnd) -> bool:
    return may_be_retried(job.given, end.outcome, end.exit_status, end.signal)


def may_be_retried(given: Given | None, outcome: str, exit_status: int | None, signal: int | None) -> bool:
    """Whether a failure is one of those that a job, or a task, wants to be tried again. As for timeout(1), the end at a time
    limit counts as 124."""
    if given is None or (given.retry_on is None and given.no_retry_on is None):
        return True
    from jobjar.job_file.given import has_status

    status = TIMED_OUT_STATUS if outcome == TIMED_OUT else shell_status(exit_status, signal)
    if given.retry_on is not None and not has_status(given.retry_on, status):
        return False
    return given.no_retry_on is None or not has_status(given.no_retry_on, status)


def count_failures(jar: Jar, job: ClaimedJob, end: AttemptEnd) -> int:
    """How many attempts of a job failed before the one with this end; 0 if nothing depends on that."""
    if end.outcome not in RETRIED_OUTCOMES or not job.retries:
        return 0
    try:
        with jar.ledger.writing() as connection:
            # Fold all journals, not only this home's: an earlier attempt may have failed on another node just now.
            fold_journals(connection, jar.layout)
            return count_attempts(connection, job.uid, RETRIED_OUTCOMES)
    except (LedgerError, OSError):
        return job.attempt - 1
