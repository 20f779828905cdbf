"""Soft locks: for work that one process on all nodes does at a time. The process that makes the lock's directory has the lock,
and only one mkdir can succeed.

Reads and writes one directory of the jar. If its holder is killed, the directory stays. Another process takes the lock over
when nobody has renewed it for ten minutes by the disk's clock. Two holders of one lock at once must only double the work.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

ABANDONED_AFTER_S = 600.0


def take_soft_lock(path: str, disk_now: Callable[[], float], abandoned_after_s: float = ABANDONED_AFTER_S) -> bool:
    """Try to take a soft lock. Returns whether this process has it now. `disk_now` returns the disk's time. Raises OSError."""
    for _ in range(2):
        try:
            os.mkdir(path)
            return True
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if disk_now() - os.stat(path).st_mtime < abandoned_after_s:
                    return False
                os.rmdir(path)
    return False


def renew_soft_lock(path: str) -> None:
    """Show that the work goes on, so that nobody takes the lock over. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):  # taken over while this process was stopped
        os.utime(path)


def release_soft_lock(path: str) -> None:
    with contextlib.suppress(OSError):  # taken over as abandoned: the lock is another node's now
        os.rmdir(path)
