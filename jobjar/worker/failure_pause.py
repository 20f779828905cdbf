"""What a worker does after a job that failed: it goes on, leaves, or lets a fresh worker take its place.

The fresh worker is the same process with a new program (execv). The process id stays, and with it the worker's name, its
directory, its journaled start, and its parent's hold on it (a terminal, systemd, check_workers). Nothing else stays. So orders
always reach a worker, and failures leave no directories behind. Writes `pauses_until`, `failures_in_a_row` and
`last_failed` into worker.json. A kill at any point leaves an ordinary dead worker that holds no job.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

from jobjar.attempts.attempt import DESCRIBED, FAILED, PUBLISHED, SUCCEEDED, TIMED_OUT
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.layout import WorkerPaths
from jobjar.liveness import ProcessIdentity
from jobjar.settings.layers import Settings, home_of_library
from jobjar.shared_disk.contents import WORKER, Unreadable, read_document
from jobjar.shared_disk.files import replace_file
from jobjar.shared_disk.regular import UnfitFile
from jobjar.shared_disk.umask import return_umask
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


class Predecessor(NamedTuple):
    """The worker whose place a fresh one takes: its name and id, its failures in a row, whether its output goes to its
    worker.log, the program that started it, and whether root may run others' jobs (`--as-root-for-group`)."""

    name: str
    worker_id: str
    failures: int
    is_logging: bool = False
    program_path: str | None = None
    root_is_meant: bool = False


def read_predecessor(text: str) -> Predecessor:
    """Parse what `begin_afresh` passed to this program. Raises ValueError, TypeError."""
    return Predecessor(**json.loads(text))


def begin_afresh(
    home: str,
    categories: Sequence[str],
    is_storage: bool,
    predecessor: Predecessor,
    orders: Sequence[int],
    raised: Container[int],
    log: Callable[[str], None],
) -> None:
    """Become a fresh worker with the same options. Returns only if that is impossible, or if one of the signals `orders` is
    among the `raised` ones. This worker has to leave then."""
    if not os.path.exists(__file__):
        log("its software was moved or changed while it ran, so that no fresh worker can be started; this one leaves")
        return
    # Signals that come from now on wait for the fresh worker's handlers. Before it has them, these signals would kill it.
    signal.pthread_sigmask(signal.SIG_BLOCK, orders)
    named = [name.removeprefix(STORAGE_CATEGORY) if is_storage else name for name in categories]
    # Only a jar's own programs find the library that the jar carries.
    carrier = home_of_library()
    program = ["-P", "-m", "jobjar.programs.start_worker"] if carrier is None else [f"{carrier}/bin/start_worker"]
    words = [sys.executable, *program, "--foreground", "--home", home]
    words += ["--storage"] if is_storage else []
    words += ["--as-root-for-group"] if predecessor.root_is_meant else []
    words += ["--in-place-of", json.dumps(predecessor._asdict()), "--", *named]
    try:
        if not any(number in raised for number in orders):
            return_umask()
            os.execv(sys.executable, words)
    except (OSError, ValueError) as error:  # ValueError: sys.executable is empty, so Python's path is unknown
        log(f"no fresh worker could be started ({sys.executable or 'python'}: {error}); this one leaves")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, orders)


def end_pause(paths: WorkerPaths) -> None:
    """Note in worker.json that the pause is over, and the fresh worker's version. Raises OSError."""
    with contextlib.suppress(Unreadable):  # it was damaged after it was read; a warning was logged
        _note(paths, pauses_until=0.0, version=VERSION)


def _note(paths: WorkerPaths, **fields: Any) -> None:
    said = read_document(paths.identity_file, WORKER)
    replace_file(paths.identity_file, (json.dumps({**said, **fields}, indent=1) + "\n").encode())


def is_own_directory(paths: WorkerPaths, worker_id: str, identity: ProcessIdentity) -> bool:
    """Whether a directory belongs to the worker of this id, which runs in this process and has not ended. Raises OSError."""
    try:
        said = read_document(paths.identity_file, WORKER)
        process = ProcessIdentity(
            said["node"], said["pid"], said["process_started"], said["boot_id"], said.get("pid_namespace", "")
        )
        return process == identity and said["worker_id"] == worker_id and said.get("ended_at") is None
    except (FileNotFoundError, NotADirectoryError, UnfitFile, Unreadable):
        return False
