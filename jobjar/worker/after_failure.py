"""What a worker does after a job that failed: it goes on, leaves, or has a fresh worker take its place.

The fresh worker is this process with a new program in it (execv): its process id, and with it the worker's name, directory,
journaled start and whoever waits for it (a terminal, systemd, check_workers) stay, and nothing else of the old one does. So
no instant is without a worker that orders reach, and failures leave no directories behind. Writes `pauses_until` and
`failures_in_a_row` into worker.json; killed anywhere, the worker is dead as any other, and holds no job.
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

# What a worker does when all that it has under way has ended: it leaves; it pauses; then a fresh one takes its place.
LEAVING = "leaving"
RESTING = "resting"
RESTARTING = "restarting"
# Doubled so often a pause is longer than any limit.
_MOST_DOUBLINGS = 60


class AfterFailure:
    """The failures of a worker: how many in a row, and what it is to do after the last one."""

    def __init__(self, settings: Settings, in_a_row: int = 0) -> None:
        self._settings = settings
        self.in_a_row = in_a_row
        # LEAVING or RESTING, after a failure.
        self.order: str | None = None
        self._until: float | None = None

    def note(self, kind: str, outcome: str) -> None:
        """An attempt of a job of this kind ended so."""
        if outcome in (SUCCEEDED, PUBLISHED):
            self.in_a_row = 0
        elif outcome in (FAILED, TIMED_OUT):
            said = self._settings.exit_on_failure or ("restart" if kind == DESCRIBED else "no")
            if said != "no":
                self.in_a_row += 1
                self.order = LEAVING if said == "yes" else RESTING

    def begin_pause(self, paths: WorkerPaths, now: float, log: Callable[[str], None]) -> None:
        """Pause from now on (the disk's time), where that was not begun, and say so in the worker's worker.json."""
        if self._until is not None:
            return
        # Of what was under way with the failed job something may have succeeded since: then the row is over, and was one.
        doublings = min(max(self.in_a_row - 1, 0), _MOST_DOUBLINGS)
        pause_s = min(self._settings.failure_pause_s * 2.0**doublings, self._settings.longest_failure_pause_s)
        self._until = time.monotonic() + pause_s
        after = "a failure" if self.in_a_row <= 1 else f"{self.in_a_row} failures in a row"
        log(f"after {after} a fresh worker takes this one's place in {format_seconds(pause_s)}")
        with contextlib.suppress(OSError, ValueError):  # then the report calls it idle
            _note(paths, pauses_until=round(now + pause_s, 3), failures_in_a_row=self.in_a_row)

    def left_s(self) -> float:
        """How much of the pause is left."""
        return 0.0 if self._until is None else self._until - time.monotonic()


class Predecessor(NamedTuple):
    """The worker whose place a fresh one takes: its name and id, its failures in a row, whether its output goes to its
    worker.log, and the program that it was started by."""

    name: str
    worker_id: str
    failures: int
    is_logging: bool = False
    program_path: str | None = None
    root_is_meant: bool = False


def read_predecessor(text: str) -> Predecessor:
    """What `begin_afresh` told. Raises ValueError, TypeError."""
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
    """Become a fresh worker with the same options. Returns only where that cannot be, or where one of the signals `orders` has
    been `raised`: then this worker is to leave."""
    if not os.path.exists(__file__):
        log("its software was moved or changed while it ran, so that no fresh worker can be started; this one leaves")
        return
    # What comes from now on waits for the fresh worker's handlers: without one, these signals would kill it.
    signal.pthread_sigmask(signal.SIG_BLOCK, orders)
    named = [name.removeprefix(STORAGE_CATEGORY) if is_storage else name for name in categories]
    # The library that a jar carries is found by its programs only.
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
    except (OSError, ValueError) as error:  # an empty name: nobody knows where Python is
        log(f"no fresh worker could be started ({sys.executable or 'python'}: {error}); this one leaves")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, orders)


def end_pause(paths: WorkerPaths) -> None:
    """Say in a worker's worker.json that a fresh worker, perhaps of another version, has its place. Raises OSError."""
    with contextlib.suppress(Unreadable):  # damaged since it was read: that was said
        _note(paths, pauses_until=0.0, version=VERSION)


def _note(paths: WorkerPaths, **fields: Any) -> None:
    said = read_document(paths.identity_file, WORKER)
    replace_file(paths.identity_file, (json.dumps({**said, **fields}, indent=1) + "\n").encode())


def is_own_place(paths: WorkerPaths, worker_id: str, identity: ProcessIdentity) -> bool:
    """Whether a worker's directory is that of a worker of this id, in this process, which has not ended. Raises OSError."""
    try:
        said = read_document(paths.identity_file, WORKER)
        process = ProcessIdentity(
            said["node"], said["pid"], said["process_started"], said["boot_id"], said.get("pid_namespace", "")
        )
        return process == identity and said["worker_id"] == worker_id and said.get("ended_at") is None
    except (FileNotFoundError, NotADirectoryError, UnfitFile, Unreadable):
        return False
