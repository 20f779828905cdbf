"""The signal that a job may get before its time limit, so that it can save what it has. Writes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobjar.job_file.given import Given


def warning_time(given: Given | None, time_limit_s: float | None, started: float) -> float | None:
    """When a job, or a task, is to get the signal that it asked for before its time limit. Both times are of the monotonic
    clock."""
    if given is None or given.warn_signal is None or not time_limit_s:
        return None
    return max(started, started + time_limit_s - given.warn_before_s)


def send_warning(given: Given | None, pid: int) -> None:
    """Send a job's main process, and none that it started, the signal before its time limit. The process is not reaped yet."""
    if given is not None and given.warn_signal is not None:
        with contextlib.suppress(OSError):  # it became another user's
            os.kill(pid, signal.Signals[f"SIG{given.warn_signal}"])
