"""failure_throttle: slow a batch whose jobs fail fast, one after the other.

A failure is fast within a minute of the job's claim. After some fast failures in a row (a description's `failure_throttle`, 10
by default) a `throttle` entry is journaled: none of the batch's jobs is claimed for a minute. Each fast failure that ends after
that time doubles it, up to an hour. One success ends the throttle. The ledger is searched for failures only when a job of
a batch has failed fast. Across nodes this is as current as their ledgers. A crash in here leaves the batch as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection

from jobjar.attempts.attempt import (
    FAILED,
    PUBLISHED,
    RETRIED_OUTCOMES,
    SUCCEEDED,
    TIMED_OUT,
    AttemptEnd,
    ClaimedJob,
    Claimer,
)
from jobjar.errors import BadAttribute, LedgerError
from jobjar.job_file.attributes import HEADER_BYTES, read_description
from jobjar.journal.entries import throttle_entry
from jobjar.ledger.ask_closed import ThrottleRow, newest_ends, throttle_of
from jobjar.ledger.fold import fold_journal, fold_journals
from jobjar.shared_disk.files import read_file

FAILURES = 10
FAST_S = 60.0
FIRST_S, LONGEST_THROTTLE_S = 60.0, 3600.0
# Ended attempts of the whole jar that are searched, per failure of the threshold. A batch whose failures are rarer slows nobody.
_AMONG = 20
_TICK_S = 1e-6


def read_threshold(job: ClaimedJob, end: AttemptEnd, now: float) -> int:
    """After how many fast failures in a row the job's batch is throttled, by the job's file; 0 if this attempt did not fail fast.

    Call it before the job moves on. `now` is the disk's time.
    """
    if job.batch is None or end.outcome not in RETRIED_OUTCOMES or now - job.claimed_at > FAST_S:
        return 0
    try:
        said = read_description(read_file(job.path, size=HEADER_BYTES), job.place).failure_throttle
    except (OSError, BadAttribute):
        said = None  # the file was edited meanwhile, or the job was taken back
    return FAILURES if said is None else said


def update_throttle(
    claimer: Claimer, job: ClaimedJob, end: AttemptEnd, threshold: int, now: float, warn: Callable[[str], None]
) -> None:
    """Begin or end a batch's throttle, after an attempt's end was journaled. `threshold` is the result of `read_threshold`,
    `now` the disk's time."""
    batch = job.batch
    if batch is None:
        return
    try:
        if threshold:
            _note_failure(claimer, batch, threshold, now, warn)
        elif end.outcome in (SUCCEEDED, PUBLISHED) and claimer.closed_batches.is_throttled(batch):
            _note_success(claimer, batch, now)
            warn(f"batch {batch}: a job succeeded, the throttle is over")
    except (LedgerError, OSError) as error:
        warn(f"batch {batch}: whether to throttle it could not be looked up, or journaled: {error}")


def _note_success(claimer: Claimer, batch: str, now: float) -> None:
    jar, before = claimer.jar, None
    # If the ledger cannot be asked, the earlier entry's time is unknown. It is almost always before `now`.
    with contextlib.suppress(LedgerError), jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        before = throttle_of(connection, batch)
    _journal_throttle(claimer, batch, _later(now, before), 0.0, 0)


def _later(now: float, before: ThrottleRow | None) -> float:
    """The time for a new `throttle` entry. It is later than that of the entry before, even on a disk with whole seconds,
    because the latest entry counts."""
    return now if before is None else max(now, before.told_at + _TICK_S)


def _note_failure(claimer: Claimer, batch: str, threshold: int, now: float, warn: Callable[[str], None]) -> None:
    jar = claimer.jar
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        before = throttle_of(connection, batch)
        if before is not None and before.until > now:
            return  # the job began before the throttle, and ended during it
        if before is not None and before.until:
            delay_s = min(LONGEST_THROTTLE_S, 2 * (before.until - before.told_at))
            failures = before.failures + 1
        else:
            failures = _count_fast_failures(newest_ends(connection, batch, _AMONG * threshold))
            if failures < threshold:
                return
            delay_s = FIRST_S
        now = _later(now, before)
        # In the same transaction, so that only one of several workers of this home whose jobs fail at once journals it.
        _journal_throttle(claimer, batch, now, now + delay_s, failures)
        fold_journal(connection, jar.journal.path)
    warn(f"batch {batch}: {failures} jobs failed fast in a row; none of it is claimed for {delay_s:g} s")


def _count_fast_failures(ends: Collection[tuple[str, float | None, str | None]]) -> int:
    """How many of the latest ends were fast failures in a row. Ends that decide nothing are skipped."""
    failures = 0
    for _, seconds, outcome in ends:
        if outcome in (FAILED, TIMED_OUT) and seconds is not None and seconds <= FAST_S:
            failures += 1
        elif outcome in (FAILED, TIMED_OUT, SUCCEEDED, PUBLISHED):
            break
    return failures


def _journal_throttle(claimer: Claimer, batch: str, now: float, until: float, failures: int) -> None:
    claimer.jar.journal.append([throttle_entry(batch, now, until, failures)])
    claimer.closed_batches.throttle(batch, until)
    claimer.proposals.stale_at = 0.0
