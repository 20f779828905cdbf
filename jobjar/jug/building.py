"""The right to build something at a place of a shared disk: one process of all hosts has it at a time.

    <place>.building/claimer.<token>      who builds: node, process id, start, boot; touched while it lives

The directory is made elsewhere, with the file in it, and renamed to its name: rename does not replace a directory that is
not empty, so one wins, and it is never unknown who. To end a claim is to take that one file away, by its token: nobody
takes away another claim than the one that he looked at. Killed with it, the file stays: on the same node it is known
at once that its process is dead; on others it counts as left when it was not touched for ABANDONED_S by the disk's clock, and
not for WATCHED_S while somebody watched.

A process that was stopped for longer finds its claim gone and must not go on; it may meanwhile have done one step more.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType

from jobjar.disk import read_server_clock
from jobjar.jobname import node_name
from jobjar.liveness import ALIVE, DEAD, ProcessIdentity, liveness, process_start, this_process
from jobjar.patience import is_transient, patience, patiently

TOUCHED_EVERY_S = 10.0
ABANDONED_S = 120.0
WATCHED_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


class ToldToEnd(Exception):
    """This process was told to end while it waited."""


class Claim:
    """A claim that this process has. A context: it is given back at the end."""

    def __init__(self, path: str, token: str) -> None:
        self._path = path
        self.token = token
        self._file = f"{path}/claimer.{token}"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> Claim:
        # Signals are for the main thread; a new thread has its maker's mask.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # taken away as left; or a disk in trouble: it is left from now on
            os.unlink(self._file)
            os.rmdir(self._path)

    def _touch(self) -> None:
        while not self._is_over.wait(TOUCHED_EVERY_S):
            with contextlib.suppress(OSError):  # is_held tells
                os.utime(self._file)

    def is_held(self) -> bool:
        """Whether nobody took it away as left. Raises OSError."""
        try:
            patiently(lambda: os.utime(self._file), self._file)
        except FileNotFoundError:
            return False
        return True


def take_claim(place: str, is_done: Callable[[], bool], say: Callable[[str], None]) -> Claim | None:
    """The claim on a place, once nobody else has it; None where `is_done` says that there is nothing to do any more.

    Waits for others as long as they live. Raises ToldToEnd, OSError.
    """
    path = f"{place}.building"
    watched: dict[str, tuple[float, float]] = {}  # claimer's file -> its time, and since when we see it so
    pause_s, is_told = _FIRST_PAUSE_S, False
    while not is_done():
        claim = _try_to_take(place, path)
        if claim is not None:
            return claim
        claimer = _find_claimer(path)
        if claimer is None:
            continue
        if _is_left(place, claimer, watched):
            _take_away(place, claimer)
            continue
        if not patience.may_wait():
            raise ToldToEnd
        if not is_told:
            is_told = True
            say(f"{place}: being made by another worker; waiting")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return None


def _try_to_take(place: str, path: str) -> Claim | None:
    token = uuid.uuid4().hex
    directory, name = os.path.split(place)
    prepared = f"{directory}/.{name}.{node_name()}.{os.getpid()}.{token[:8]}.claim"
    os.mkdir(prepared)
    try:
        with open(f"{prepared}/claimer.{token}", "x", encoding="utf-8") as file:
            json.dump(this_process()._asdict(), file)
        try:
            os.rename(prepared, path)
        except OSError as error:
            # A failed rename may have happened (NFS sends requests again): what lies there is believed.
            if is_transient(error) and patiently(lambda: os.path.lexists(f"{path}/claimer.{token}"), path):
                return Claim(path, token)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return None
        return Claim(path, token)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)


def _find_claimer(path: str) -> str | None:
    """The file of who has the claim; None where nobody has it now."""
    with contextlib.suppress(FileNotFoundError):
        for name in patiently(lambda: os.listdir(path), path):
            if name.startswith("claimer."):
                return f"{path}/{name}"
        # Its claimer was killed, or is, between the file and the directory. Most disks would rename over it.
        with contextlib.suppress(OSError):
            os.rmdir(path)
    return None


def _is_left(place: str, claimer: str, watched: dict[str, tuple[float, float]]) -> bool:
    """Whether who has the claim is dead, or silent for too long."""
    try:
        # Opened: NFS then asks its server, and tells no times from before.
        with open(claimer, encoding="utf-8") as file:
            touched_at = os.fstat(file.fileno()).st_mtime
            state = liveness(ProcessIdentity(**json.load(file)))
    except FileNotFoundError:
        return False
    except (ValueError, TypeError):
        state = "torn"  # by a crash of its node: nobody touches it
    if state in (ALIVE, DEAD):
        return state == DEAD
    if state == "torn":
        touched_at = os.stat(claimer).st_mtime
    now = time.monotonic()
    seen = watched.get(claimer)
    if seen is None or seen[0] != touched_at:
        watched[claimer] = (touched_at, now)
        return False
    directory = os.path.dirname(place)
    disk_now = read_server_clock(f"{directory}/.clock.{node_name()}")
    return now - seen[1] >= WATCHED_S and disk_now - touched_at >= ABANDONED_S


def _take_away(place: str, claimer: str) -> None:
    """End the claim of one that is left: of several that try, one does."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(claimer)


def sweep(place: str) -> None:
    """Remove what killed builders of a place left beside it. For who has its claim: others only prepare claims."""
    directory, name = os.path.split(place)
    for found in os.listdir(directory):
        if not found.startswith(f".{name}."):
            continue
        words = found.split(".")
        if words[-1] == "claim":
            # Of a process that waits, or of one of this node that is no more.
            own = f".{name}.{node_name()}."
            pid = found[len(own) :].partition(".")[0] if found.startswith(own) else ""
            if not pid.isdigit() or process_start(int(pid)) is not None:
                continue
        shutil.rmtree(f"{directory}/{found}", ignore_errors=True)
