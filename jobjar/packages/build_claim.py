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
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType

from jobjar.fetching.copies import LOOKS_S, BetweenPieces, nothing
from jobjar.host import node_name
from jobjar.liveness import DEAD, MARK, UNKNOWN, ProcessIdentity, is_left, liveness, mark, own_nodes, this_process
from jobjar.shared_disk.contents import CLAIMER, Unreadable, parse_document
from jobjar.shared_disk.files import read_disk_clock, remove_file
from jobjar.shared_disk.patience import is_transient, patiently
from jobjar.shared_disk.regular import UnfitFile, open_regular, pass_over, read_bounded
from jobjar.shared_disk.trees import remove_tree

TOUCHED_EVERY_S = 10.0
ABANDONED_S = 120.0
WATCHED_S = 30.0
_FIRST_PAUSE_S = 0.02
_GIVES_BACK_EVERY_S = 1.0


class Claim:
    """A claim that this process has. A context: it is given back at the end."""

    def __init__(self, path: str, token: str) -> None:
        self._path = path
        self.token = token
        self._file = f"{path}/claimer.{token}"
        self._is_over = threading.Event()

    def __enter__(self) -> Claim:
        self._thread = _start_thread(self._touch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self.give_back()

    def give_back(self) -> None:
        """End the claim. Where the disk refuses that for longer than this process waits, a thread goes on with it: the others of
        this node see a process that lives, and would wait for it as long as it does."""
        try:
            remove_file(self._file)  # it may have been taken away as left
        except OSError:
            _start_thread(self._go_on_giving_back)
        with contextlib.suppress(OSError):  # not empty: there is another claim; or `_find_claimer` removes it
            os.rmdir(self._path)

    def _go_on_giving_back(self) -> None:
        while True:
            time.sleep(_GIVES_BACK_EVERY_S)
            with contextlib.suppress(OSError):
                remove_file(self._file)
                return

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


def _start_thread(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    # Signals are for the main thread; a new thread has its maker's mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


def take_claim(
    place: str, is_done: Callable[[], bool], log: Callable[[str], None], between_pieces: BetweenPieces = nothing
) -> Claim | None:
    """The claim on a place, once nobody else has it; None where `is_done` says that there is nothing to do any more.

    Waits for others as long as they live; `between_pieces` is called between looks, and what it raises ends that. Raises OSError.
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
            _take_away(claimer)
            continue
        between_pieces()
        if not is_told:
            is_told = True
            log(f"{place}: being made by another worker; waiting")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LOOKS_S)
    return None


def _try_to_take(place: str, path: str) -> Claim | None:
    token = uuid.uuid4().hex
    prepared = temporary_path(place, "claim")
    os.mkdir(prepared)
    try:
        with open(f"{prepared}/claimer.{token}", "x", encoding="utf-8") as file:
            json.dump(this_process()._asdict(), file)
        claim = Claim(path, token)
        try:
            os.rename(prepared, path)
        except OSError as error:
            # A failed rename may have happened (NFS sends requests again): what lies there is believed.
            if is_transient(error) and _has_happened(claim):
                return claim
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return None
        return claim
    finally:
        remove_tree(prepared)


def _has_happened(claim: Claim) -> bool:
    """Whether a claim is there. Raises OSError where the disk does not tell; the claim is given back then, if it is."""
    try:
        return claim.is_held()
    except OSError:
        claim.give_back()
        raise


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


def _state_of(claimer: str) -> tuple[str | None, float]:
    """Whether who has a claim is ALIVE, DEAD or UNKNOWN, and when it was touched; None where the claim has gone."""
    try:
        # Opened: NFS then asks its server, and tells no times from before.
        descriptor = open_regular(claimer)
    except FileNotFoundError:
        return None, 0.0
    except UnfitFile as error:
        pass_over(claimer, error.strerror)
        return UNKNOWN, os.lstat(claimer).st_mtime
    try:
        touched_at = os.fstat(descriptor).st_mtime
        said = parse_document(read_bounded(descriptor, claimer), CLAIMER)
        return liveness(
            ProcessIdentity(**{name: said[name] for name in ProcessIdentity._fields if name in said})
        ), touched_at
    except Unreadable:
        return UNKNOWN, touched_at  # torn by a crash of its node: nobody touches it any more
    finally:
        os.close(descriptor)


def _is_left(place: str, claimer: str, watched: dict[str, tuple[float, float]]) -> bool:
    """Whether who has the claim is dead, or silent for too long."""
    state, touched_at = _state_of(claimer)
    if state != UNKNOWN:
        return state == DEAD
    now = time.monotonic()
    seen = watched.get(claimer)
    if seen is None or seen[0] != touched_at:
        watched[claimer] = (touched_at, now)
        return False
    disk_now = read_disk_clock(f"{os.path.dirname(place)}/.clock.{node_name()}")
    return now - seen[1] >= WATCHED_S and disk_now - touched_at >= ABANDONED_S


def _take_away(claimer: str) -> None:
    """End the claim of one that is left: of several that try, one does."""
    with contextlib.suppress(OSError):
        os.unlink(claimer)
        os.rmdir(os.path.dirname(claimer))


def temporary_path(place: str, what: str) -> str:
    """A name beside a place that tells whose it is: `.<name>.<node>.<pid>.<random>.<what>`, for `sweep`."""
    directory, name = os.path.split(place)
    return f"{directory}/.{name}.{node_name()}.{mark()}.{uuid.uuid4().hex[:8]}.{what}"


def sweep(place: str) -> None:
    """Remove what killed builders left: of this place all that lies beside it, of others what dead processes of this node
    left. For who has the claim on the place: others only prepare claims there."""
    directory, own = os.path.split(place)
    # What writes whole files adds a name of its own for a moment (disk.replace_file).
    of_this_node = re.compile(
        rf"\..+\.{own_nodes()}\.{MARK}\.[0-9a-f]{{8}}\.[a-z]+(?:\.[0-9+]+(?:\.[0-9a-f]{{16}})?\.new)?"
    )
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        found = of_this_node.fullmatch(name)
        if name.endswith(".building") and path != f"{place}.building":
            claimer = _find_claimer(path)
            if claimer is not None and _state_of(claimer)[0] == DEAD:
                _take_away(claimer)
        elif (found and is_left(found)) or (name.startswith(f".{own}.") and not name.endswith(".claim")):
            remove_tree(path)  # what stays of it (another user's, say) is only in the way


def remove_halves(directory: str) -> None:
    """Try again to remove what was taken away of packages on this node and could not be removed then. Nobody uses it."""
    half = re.compile(rf"\..+\.{own_nodes()}\.{MARK}\.[0-9a-f]{{8}}\.half")
    with contextlib.suppress(FileNotFoundError):
        for name in filter(half.fullmatch, patiently(lambda: os.listdir(directory), directory)):
            remove_tree(f"{directory}/{name}")
