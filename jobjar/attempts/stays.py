"""What could not be removed of a worker's earlier jobs, because something is mounted there: told, and tried again.

Writes the worker's log, and warnings of jobs into the journal. Killed, it forgets: recovery finds what lies in the scratch
directory of a dead worker.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container

from jobjar.attempts.attempt import ClaimedJob, Claimer, late_warning
from jobjar.shared_disk.trees import Kept, remove_tree

_TRIES_AGAIN_AFTER_S = 60.0


class Stays:
    """The scratch directories of one living worker of which something stayed."""

    def __init__(self, claimer: Claimer) -> None:
        self._claimer = claimer
        self.paths: list[str] = []
        # By the monotonic clock.
        self._next_try = 0.0

    def note(self, path: str, kept: list[Kept]) -> None:
        """Say what stayed of the directory `path`, and remember it."""
        if not self.paths:
            self._next_try = time.monotonic() + _TRIES_AGAIN_AFTER_S
        if path not in self.paths:
            self.paths.append(path)
        for each in kept:
            self._claimer.jar.log(str(each))

    def note_late(self, job: ClaimedJob, path: str, kept: list[Kept]) -> None:
        """`note` of a job whose attempt was told to have ended before it showed."""
        self.note(path, [])
        tell_late(self._claimer, job, kept)

    def try_again(self, in_use: Container[str | None], at_once: bool = False) -> None:
        """Remove what can be removed by now, but for the directories that jobs have: once a minute, or `at_once`."""
        if self.paths and (at_once or time.monotonic() >= self._next_try):
            self._next_try = time.monotonic() + _TRIES_AGAIN_AFTER_S
            self.paths = [path for path in self.paths if path not in in_use and remove_tree(path)]


def tell_late(claimer: Claimer, job: ClaimedJob, kept: list[Kept]) -> None:
    """Say, and have it be warnings of a job, what stays of an attempt that was told to have ended."""
    about = job.uid, job.attempt, claimer.paths.name, claimer.worker_id
    for each in kept:
        claimer.jar.log(str(each))
        with contextlib.suppress(OSError):  # the log has it, and recovery finds what it is
            claimer.jar.journal.append([late_warning(*about, str(each))])
