"""Decide where a dead worker's job goes. It is stranded without an outcome; after JJ_CRASH_LIMIT times it has crashed.

Reads the ledger, and what the attempt had reached. Gives a short attempt's output file its name (fileless.py).
"""

from __future__ import annotations

from typing import Any

from jobjar.attempts.attempt import CANCELLED, CRASHED, INTERRUPTED, RETRIED_OUTCOMES, STRANDED, ClaimedJob
from jobjar.attempts.retry_delay import retry_time
from jobjar.attempts.verdict import RECOVERED, Verdict
from jobjar.control import cancel_request
from jobjar.jar import Jar
from jobjar.journal.entries import ended_entry
from jobjar.journal.read import Entry
from jobjar.ledger.ask_arrays import has_ended_tasks
from jobjar.ledger.ask_claiming import HeldAttempt, count_attempts, last_attempt_number
from jobjar.ledger.ask_pilots import count_strandings_of_machinery
from jobjar.ledger.driver import Connection
from jobjar.recovery.fileless import output_left
from jobjar.recovery.orphans import can_be_continued, usage_until_published
from jobjar.roster import WorkerState
from jobjar.units import format_ordinal


def judge_stranded(
    jar: Jar, connection: Connection, worker: WorkerState, job: ClaimedJob, attempt: HeldAttempt | None, cause: str
) -> tuple[list[Entry], Verdict]:
    """Decide where a held job goes. Returns the entries to journal before the move, and the verdict."""
    now = jar.disk_now()
    number = attempt.number if attempt else last_attempt_number(connection, job.uid) + 1
    cancelled = _judge_cancelled(worker, job, attempt, number, now)
    if cancelled is not None:
        return cancelled
    if attempt is not None and attempt.outcome is not None:
        output_left(worker.paths, job.name, number)  # gives its output the name that the entry has
        if attempt.is_final:
            return [], Verdict.complete(f"its outcome was journaled: {attempt.outcome}")
        failures = count_attempts(connection, job.uid, RETRIED_OUTCOMES)
        is_failure = attempt.outcome in RETRIED_OUTCOMES and failures > 0
        at = retry_time(job.retry_delay_s, failures - 1, now) if is_failure else 0
        return [], Verdict.give_back(RECOVERED, at)
    # What a batch system did to a pilot is no crash of its job. The row of the pilot may come only after the recovery.
    by_machinery = count_strandings_of_machinery(connection, job.uid)
    stranded_before = count_attempts(connection, job.uid, (STRANDED,)) - by_machinery
    limit = jar.settings.crash_limit
    # If the attempt has reached something, the next one goes on from there. Then its worker's death does not count as a crash.
    goes_on = can_be_continued(jar.layout, job.uid) or has_ended_tasks(connection, job.uid, number)
    is_last = bool(limit) and stranded_before + 1 >= limit and not goes_on
    outcome = CRASHED if is_last else INTERRUPTED if goes_on else STRANDED
    times = f"stranded for the {format_ordinal(stranded_before + 1)} time"
    if goes_on:
        times = "what it had reached is gone on with"
    message = f"{cause}; {times}"
    more: Any = {"output_file": output_left(worker.paths, job.name, number), "message": message}
    if goes_on:
        more |= usage_until_published(jar.layout, job.uid, number, worker.worker_id)
    entry = ended_entry(worker.about(job.uid, number), now, is_last, outcome, **more)
    return [entry], Verdict.complete(f"crashed: {times}") if is_last else Verdict.give_back(RECOVERED)


def _judge_cancelled(
    worker: WorkerState, job: ClaimedJob, attempt: HeldAttempt | None, number: int, now: float
) -> tuple[list[Entry], Verdict] | None:
    """`judge_stranded` for a job that its worker was asked to cancel; None for others. If the attempt had ended, and the job
    was to run again, the cancellation is an attempt of its own, as that of a job that waits."""
    if attempt is not None and attempt.is_final:
        return None
    # The request has the number before, if it was made when no entry mentioned the claim.
    message = cancel_request(worker.paths, job.uid, (number,) if attempt is not None else (number, number - 1))
    if message is None:
        return None
    output = output_left(worker.paths, job.name, number)
    if attempt is not None and attempt.outcome is not None:
        number, output = number + 1, None
    about = worker.about(job.uid, number)
    entry = ended_entry(about, now, True, CANCELLED, output_file=output, message=message)
    return [entry], Verdict.complete(message)
