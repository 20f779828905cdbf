"""Decide where a job goes when its attempt ended: to completed, or back to unclaimed, and when it may run again."""

from __future__ import annotations

from typing import NamedTuple

from jobjar.attempts.attempt import INTERRUPTED, LOST, RETRIED_OUTCOMES, TIMED_OUT, AttemptEnd, ClaimedJob
from jobjar.errors import LedgerBusy, LedgerUnavailable
from jobjar.jar import Jar
from jobjar.ledger.ask_claiming import count_attempts
from jobjar.ledger.fold import fold_journals
from jobjar.units import LONGEST_S

LONGEST_RETRY_DELAY_S = 86400.0
TIMED_OUT_STATUS = 124


class Verdict(NamedTuple):
    """Where a job goes after an attempt: `final` to completed, otherwise to unclaimed, not before `not_before`."""

    final: bool
    reason: str
    not_before: float


def decide(job: ClaimedJob, end: AttemptEnd, failures_before: int, now: float) -> Verdict:
    """Decide what follows from the end of an attempt, after `failures_before` failed ones. `now` is the disk's time."""
    if end.outcome in (INTERRUPTED, LOST):
        return Verdict(False, "returned", now + end.retry_after_s if end.retry_after_s else 0)
    if end.outcome in RETRIED_OUTCOMES and failures_before < job.retries and _may_be_retried(job, end):
        delay_s = retry_delay_after(job.retry_delay_s, failures_before)
        return Verdict(False, "retried", now + delay_s if delay_s else 0)
    return Verdict(True, "completed", 0)


def _may_be_retried(job: ClaimedJob, end: AttemptEnd) -> bool:
    """Whether a failure is one of those that its job wants to be tried again. As for a shell, a signal counts as 128 and its
    number, and as for timeout(1), the end at a time limit as 124."""
    given = job.given
    if given is None or (given.retry_on is None and given.no_retry_on is None):
        return True
    from jobjar.job_file.given import has_status

    status = TIMED_OUT_STATUS if end.outcome == TIMED_OUT else end.exit_status
    if status is None:
        status = 128 + (end.signal or 0)
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
    except (LedgerBusy, LedgerUnavailable, OSError):
        return job.attempt - 1


def retry_delay_after(first_delay_s: float, failures_before: int) -> float:
    """How many seconds a failed job waits after so many earlier failures: twice as long each time, up to a day. The first delay
    may be any number, as it can come from a journal."""
    longest_s = min(max(first_delay_s, LONGEST_RETRY_DELAY_S), LONGEST_S)
    return min(first_delay_s * 2.0 ** min(failures_before, 60), longest_s)
