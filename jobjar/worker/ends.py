"""End the attempts of a worker's jobs: what becomes of the job, its completion, the line in the log, the count of failures.

stages/complete.py journals and moves; its words on crashes hold here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from jobjar.attempts.attempt import (
    CANCELLED,
    INTERRUPTED,
    SUCCEEDED,
    TOLD_TO_END,
    AttemptEnd,
    ClaimedJob,
    Claimer,
    describe_end,
)
from jobjar.attempts.missing_file import let_file_go
from jobjar.attempts.on_end import OnEnd
from jobjar.attempts.verdict import Verdict, count_failures, decide
from jobjar.control import withdraw_cancel
from jobjar.stages.complete import Ending, WhileRefused, complete, give_back_unrun
from jobjar.worker.failure_pause import AfterFailure


class Ends:
    """Ends the attempts of one worker. `disk_now` returns the disk's time. `log_later` is for lines that may be put off.
    `on_end` is told of the jobs that are completed."""

    def __init__(
        self,
        claimer: Claimer,
        failures: AfterFailure,
        disk_now: Callable[[], float],
        refused: WhileRefused,
        log_later: Callable[[str], None],
        on_end: OnEnd | None = None,
    ) -> None:
        self._claimer = claimer
        self._failures = failures
        self._disk_now = disk_now
        self._refused = refused
        self._log_later = log_later
        self._on_end = on_end
        # Says why the time of the worker is over; None: it is not.
        self.explain_own_end: Callable[[], str | None] = lambda: None

    def decide(self, job: ClaimedJob, end: AttemptEnd) -> Verdict:
        """What becomes of the job."""
        return self._decide(job, end, self._disk_now())

    def complete(self, job: ClaimedJob, end: AttemptEnd, verdict: Verdict) -> bool:
        """Journal the end and move the job on. Returns whether the worker held the job until then."""
        end = self._name_ender(job, end)
        held = complete(self._claimer, Ending(job, end, verdict, self._disk_now()), self._refused)
        self._forget_cancel(job)
        self._note(job, end, verdict, held)
        return held

    def conclude(self, job: ClaimedJob, end: AttemptEnd) -> None:
        """`decide` and `complete` for a plain job. The worker then looks for its next job at once."""
        now = self._disk_now()
        end = self._name_ender(job, end)
        verdict = self._decide(job, end, now)
        held = complete(self._claimer, Ending(job, end, verdict, now), self._refused, is_next_near=True)
        let_file_go(self._claimer, job)
        self._forget_cancel(job)
        self._note(job, end, verdict, held)

    def give_back(self, job: ClaimedJob, why: str) -> None:
        """Give a job back that was not run."""
        let_file_go(self._claimer, job)
        give_back_unrun(self._claimer, job, why, self._disk_now(), self._refused)

    def _decide(self, job: ClaimedJob, end: AttemptEnd, now: float) -> Verdict:
        return decide(job, end, count_failures(self._claimer.jar, job, end), now)

    def _name_ender(self, job: ClaimedJob, end: AttemptEnd) -> AttemptEnd:
        """Say who cancelled the job, or why its worker ended by itself."""
        if end.outcome == INTERRUPTED and end.message in (None, TOLD_TO_END):
            why = self.explain_own_end()
            return end if why is None else end._replace(message=f"its worker ended: {why}")
        if end.outcome != CANCELLED:
            return end
        who, more = self._claimer.cancelled.get(job.uid, CANCELLED), (end.message or "").removeprefix(CANCELLED)
        return end._replace(message=f"{who}{more}")

    def _forget_cancel(self, job: ClaimedJob) -> None:
        """Remove the request that cancelled a job, now that the job's end is journaled."""
        if self._claimer.cancelled.pop(job.uid, None) is not None:
            with contextlib.suppress(OSError):  # it names an attempt that is over
                withdraw_cancel(self._claimer.jar.layout, self._claimer.paths.name, job.uid)

    def _note(self, job: ClaimedJob, end: AttemptEnd, verdict: Verdict, held: bool) -> None:
        """Log how an attempt ended, and count a failure, after which the worker may have to leave."""
        if held and end.outcome != INTERRUPTED:
            self._log_later(f"{job.name}: {describe_end(end)}{', to be run again' if verdict.is_retry else ''}")
        elif held and end.message:
            self._refused.warn(f"{job.name}: {end.message}")
        if held:
            self._failures.note(job.kind, end.outcome, job.uid)
            if job.batch is not None and verdict.final and end.outcome not in (SUCCEEDED, CANCELLED):
                # Ask the ledger before the next claim: the batch may be one that stops at its first failure.
                self._claimer.proposals.stale_at = 0.0
            if self._on_end is not None and verdict.final:
                self._on_end.note(job, end)
