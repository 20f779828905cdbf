"""Further jobs for a worker that has some under way. stages/claim.py says what a kill leaves."""

from __future__ import annotations

from collections.abc import Callable, Container

from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.worker.listener import Listener
from jobjar.worker.next_job import ClaimGivenUp, NextJob
from jobjar.worker.trouble import REFUSALS, Trouble


class MoreJobs:
    """Claims further jobs. `may_claim` is asked before each claim: whether the worker goes on after its last job."""

    def __init__(
        self,
        claimer: Claimer,
        next_job: NextJob,
        listener: Listener,
        trouble: Trouble,
        may_claim: Callable[[], bool],
    ) -> None:
        self._claimer = claimer
        self._next_job = next_job
        self._listener = listener
        self._trouble = trouble
        self._may_claim = may_claim

    def claim(self, held: Container[str], is_ahead: bool) -> ClaimedJob | None:
        """Claim one more job; None if there is none, or if the worker may have none now. `held`: the paths of the jobs that the
        worker has. `is_ahead`: the job would have to wait for a run slot."""
        if not self._may_claim() or self._listener.is_told_to_stop() or any(self._listener.control_files.look()):
            return None
        try:
            self._trouble.return_strays(held)
            self._claimer.is_ahead = is_ahead
            job = self._next_job.claim()
        except ClaimGivenUp:
            return None
        except REFUSALS as error:
            self._trouble.log_refusal(error)
            return None
        finally:
            self._claimer.is_ahead = False
        self._trouble.end()
        return job

    def descriptors(self) -> list[int]:
        """File descriptors that become readable when a job may have come."""
        self._listener.arrivals.watch()
        return self._listener.arrivals.descriptors()

    def has_arrived(self) -> bool:
        """Whether a job may have come."""
        return self._listener.arrivals.any()
