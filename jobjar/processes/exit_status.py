"""Exit statuses that mean something by themselves: what a shell gives, and what a job gets that ran too long."""

from __future__ import annotations

# As timeout(1).
TIMED_OUT_STATUS = 124
# As a shell: what cannot be run, and what is not found.
NOT_RUNNABLE_STATUS = 126
NOT_FOUND_STATUS = 127


def shell_status(exit_status: int | None, signal_number: int | None) -> int:
    """An end as the exit status that a shell would give: for a signal 128 and its number."""
    return exit_status if exit_status is not None else 128 + (signal_number or 0)
