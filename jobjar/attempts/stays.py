"""Remember what could not be removed after a worker's earlier jobs, because something is mounted there; log it, and try again.

Writes to the worker's log, and warnings about jobs to the journal. A kill forgets the list; recovery finds the leftovers in the
dead worker's scratch directory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container

from jobjar.attempts.attempt import ClaimedJob, Claimer, about_attempt
from jobjar.journal.entries import warned_late_entry
from jobjar.shared_disk.trees import Kept, remove_tree

_TRIES_AGAIN_AFTER_S = 60.0


class Stays:
    """The scratch directories of one living worker that could not be removed wholly."""

    def __init__(self, claimer: Claimer) -> None:
        self._claimer = claimer
        self.paths: list[str] = []
        # By the monotonic clock.
        self._next_try = 0.0

    def note(self, path: str, kept: list[Kept]) -> None:
        """Log what stayed of the directory `path`, and remember it."""
        if not self.paths:
            self._next_try = time.monotonic() + _TRIES_AGAIN_AFTER_S
        if path not in self.paths:
            self.paths.append(path)
        for each in kept:
            self._claimer.jar.log(str(each))

    def note_late(self, job: ClaimedJob, path: str, kept: list[Kept]) -> None:
        """`note`, for a job whose end was journaled before this was known; it gets a warning."""
        self.note(path, [])
        journal_late(self._claimer, job, kept)

    def try_again(self, in_use: Container[str | None], at_once: bool = False) -> None:
        """Remove what can be removed by now, except the directories that jobs use: once a minute, or `at_once`."""
        if self.paths and (at_once or time.monotonic() >= self._next_try):
            self._next_try = time.monotonic() + _TRIES_AGAIN_AFTER_S
            self.paths = [path for path in self.paths if path not in in_use and remove_tree(path)]


def journal_late(claimer: Claimer, job: ClaimedJob, kept: list[Kept]) -> None:
    """Log what stays of an attempt whose end was journaled, and journal it as warnings of the job."""
    about = about_attempt(claimer, job)
    for each in kept:
        claimer.jar.log(str(each))
        with contextlib.suppress(OSError):  # the log has it, and recovery finds it
            claimer.jar.journal.append([warned_late_entry(about, str(each))])
