"""Exit statuses that mean something by themselves: what a job gets that cannot be started, or ran too long. Reads nothing."""

from __future__ import annotations

import errno

# As timeout(1).
TIMED_OUT_STATUS = 124
# As a shell: what cannot be run, and what is not found.
NOT_RUNNABLE_STATUS = 126
NOT_FOUND_STATUS = 127
_ABOUT_THE_JOB = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.E2BIG, errno.EINVAL)


def shell_status(exit_status: int | None, signal_number: int | None) -> int:
    """An end as the exit status that a shell would give: for a signal 128 and its number."""
    return exit_status if exit_status is not None else 128 + (signal_number or 0)


def status_if_not_started(error: OSError) -> int | None:
    """The exit status of a job that the kernel refuses to run for this error, as a shell would give it; None if the error says
    nothing about the job."""
    if error.errno == errno.ENOENT:
        return NOT_FOUND_STATUS
    return NOT_RUNNABLE_STATUS if error.errno in _ABOUT_THE_JOB else None
