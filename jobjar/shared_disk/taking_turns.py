"""Roles: what one process of all nodes does at a time, because it made a directory. mkdir has one winner everywhere.

Reads and writes one directory of the jar. Killed with a role, the directory stays, and the role is taken over when nobody
has renewed it for ten minutes by the disk's clock. Two that hold one role at once must do no harm, only double work.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

ABANDONED_AFTER_S = 600.0


def take_role(path: str, disk_now: Callable[[], float], abandoned_after_s: float = ABANDONED_AFTER_S) -> bool:
    """Whether the role is this process's now. `disk_now` tells the disk's time. Raises OSError where the disk refuses."""
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


def renew_role(path: str) -> None:
    """Say that the work goes on."""
    with contextlib.suppress(FileNotFoundError):  # taken over while this process was stopped
        os.utime(path)


def give_back_role(path: str) -> None:
    with contextlib.suppress(OSError):  # taken over as abandoned: the role is another node's now
        os.rmdir(path)
