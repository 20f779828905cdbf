"""The signal that a job may get before its time limit, so that it can save what it has. Writes nothing."""

from __future__ import annotations

import contextlib
import os
import signal

from jobjar.attempts.attempt import ClaimedJob


def warning_time(job: ClaimedJob, started: float) -> float | None:
    """When a job is to get the signal that it asked for before its time limit. Both times are of the monotonic clock."""
    given = job.given
    if given is None or given.warn_signal is None or not job.time_limit_s:
        return None
    return max(started, started + job.time_limit_s - given.warn_before_s)


def send_warning(job: ClaimedJob, pid: int) -> None:
    """Send a job's main process, and none that it started, the signal before its time limit. The process is not reaped yet."""
    if job.given is not None and job.given.warn_signal is not None:
        with contextlib.suppress(OSError):  # it became another user's
            os.kill(pid, signal.Signals[f"SIG{job.given.warn_signal}"])
