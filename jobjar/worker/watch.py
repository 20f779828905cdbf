"""What ends a worker's running attempts early, and what the worker does for itself while they run: beat, mirror, log.

Reads orders and leases; takes a request to kill away, not one to cancel. A crash here leaves what a crash of any worker leaves.
"""

from __future__ import annotations

from collections.abc import Callable

from jobjar.attempts.attempt import CANCELLED, INTERRUPTED, KILLED, ClaimedJob, Claimer
from jobjar.attempts.candidates import refresh
from jobjar.recovery.lease import Leases
from jobjar.worker.listener import Listener
from jobjar.worker.pulse import Pulse


class AttemptWatch:
    """The Watch (attempts/attempt.py) of a worker. `flush_log` writes the lines of its log that were put off, `settle_dependents`
    moves those that are due."""

    def __init__(
        self,
        claimer: Claimer,
        pulse: Pulse,
        listener: Listener,
        leases: Leases,
        flush_log: Callable[[], None],
        settle_dependents: Callable[[], bool],
    ) -> None:
        self._poll_time_s = claimer.jar.settings.poll_time_s
        self._claimer = claimer
        self._pulse = pulse
        self._listener = listener
        self._leases = leases
        self._flush_log = flush_log
        self._settle_dependents = settle_dependents
        self._killed_task: int | None = None
        # Whether `reason` read of something that another attempt may have to heed.
        self.is_woken = False

    @property
    def interval_s(self) -> float:
        return self._listener.own_end.nap_s(self._poll_time_s)

    def after_start(self) -> None:
        refresh(self._claimer, self._pulse.disk_now())

    def descriptors(self) -> list[int]:
        return self._listener.descriptors()

    def take_wake(self) -> bool:
        """Read what woke the worker. Returns whether it may be a reason to end a job."""
        was_woken, self.is_woken = self.is_woken, False
        return self._listener.take_wake() or was_woken

    def reason(self, job: ClaimedJob) -> str | None:
        self.is_woken |= self._listener.take_wake()
        self._pulse.beat()
        self._flush_log()
        self._claimer.jar.mirror(after_s=self._poll_time_s, with_others=True)
        if self._claimer.jar.has_due_dependents:
            self._settle_dependents()
        if self.is_told_to_end():
            return INTERRUPTED
        request = self._listener.control_files.take_kill_request(job.uid, job.name, job.attempt)
        if request is not None and request.task is not None:
            self._killed_task = request.task
        elif request is not None:
            if request.message is None:
                return KILLED
            if job.uid not in self._claimer.cancelled:
                self._claimer.cancelled[job.uid] = request.message
                return CANCELLED
        return self._leases.check_held(job)

    def take_killed_task(self) -> int | None:
        """The task of the running chunk that somebody asked to kill since this was asked last."""
        task, self._killed_task = self._killed_task, None
        return task

    def is_told_to_end(self) -> bool:
        return self._listener.is_told_to_end()

    def may_wait(self) -> bool:
        """Whether to go on waiting while the disk refuses the end of a job."""
        self._pulse.beat()
        self._flush_log()
        return not self.is_told_to_end()
