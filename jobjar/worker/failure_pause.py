"""What a worker does after a job that failed: it goes on, leaves, or pauses until a fresh worker takes its place.

How that one takes its place is in successor.py. Writes `pauses_until`, `failures_in_a_row` and `last_failed` into worker.json. A
kill at any point leaves an ordinary dead worker that holds no job.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from jobjar.attempts.attempt import DESCRIBED, FAILED, PUBLISHED, SUCCEEDED, TIMED_OUT
from jobjar.layout import WorkerPaths
from jobjar.settings.layers import Settings
from jobjar.shared_disk.contents import WORKER, Unreadable, read_document
from jobjar.shared_disk.files import replace_file
from jobjar.units import format_seconds
from jobjar.version import VERSION

# What a worker does once all its jobs have ended: it leaves; or it pauses, and then a fresh worker takes its place.
LEAVING = "leaving"
RESTING = "resting"
RESTARTING = "restarting"
# A pause that was doubled so often is longer than any limit.
_MOST_DOUBLINGS = 60


class AfterFailure:
    """The failures of a worker: how many in a row, and what it does after the last one."""

    def __init__(self, settings: Settings, in_a_row: int = 0) -> None:
        self._settings = settings
        self.in_a_row = in_a_row
        # LEAVING or RESTING after a failure, else None.
        self.order: str | None = None
        self._until: float | None = None
        self._last_failed = ""

    def note(self, kind: str, outcome: str, uid: str) -> None:
        """Count an attempt of the job of this id and kind, which ended with this outcome."""
        if outcome in (SUCCEEDED, PUBLISHED):
            self.in_a_row = 0
        elif outcome in (FAILED, TIMED_OUT):
            said = self._settings.exit_on_failure or ("restart" if kind == DESCRIBED else "no")
            if said != "no":
                self.in_a_row += 1
                self._last_failed = uid
                self.order = LEAVING if said == "yes" else RESTING

    def begin_pause(self, paths: WorkerPaths, now: float, log: Callable[[str], None]) -> None:
        """Begin the pause, unless it has begun, and note its end in worker.json. `now` is the disk's time."""
        if self._until is not None:
            return
        # Another job of this worker may have succeeded since. Then the count is 0, and the pause is that after one failure.
        doublings = min(max(self.in_a_row - 1, 0), _MOST_DOUBLINGS)
        pause_s = min(self._settings.failure_pause_s * 2.0**doublings, self._settings.longest_failure_pause_s)
        self._until = time.monotonic() + pause_s
        after = "a failure" if self.in_a_row <= 1 else f"{self.in_a_row} failures in a row"
        log(f"after {after} a fresh worker takes this one's place in {format_seconds(pause_s)}")
        with contextlib.suppress(OSError, ValueError):  # the report calls it idle then
            more = {"last_failed": self._last_failed} if self._last_failed else {}
            _note(paths, pauses_until=round(now + pause_s, 3), failures_in_a_row=self.in_a_row, **more)

    def left_s(self) -> float:
        """How many seconds of the pause are left."""
        return 0.0 if self._until is None else self._until - time.monotonic()


def end_pause(paths: WorkerPaths) -> None:
    """Note in worker.json that the pause is over, and the fresh worker's version. Raises OSError."""
    with contextlib.suppress(Unreadable):  # it was damaged after it was read; a warning was logged
        _note(paths, pauses_until=0.0, version=VERSION)


def _note(paths: WorkerPaths, **fields: Any) -> None:
    said = read_document(paths.identity_file, WORKER)
    replace_file(paths.identity_file, (json.dumps({**said, **fields}, indent=1) + "\n").encode())
