"""Claim the right to build something at a path of a shared disk. One process of all hosts has it at a time.

    <target>.building/claimer.<token>      the builder: node, process id, start, boot; touched while it lives

The directory is made elsewhere, with the file in it, and then renamed. A rename does not replace a directory that is not empty,
so one process wins, and it is always known which one. Unlinking the file ends the claim. Its token is in its name, so a process
ends exactly the claim that it looked at. The file outlives a builder that is killed. Processes of its node see at once that the
builder is dead. For other nodes the claim is abandoned after ABANDONED_S without a touch by the disk's clock, and after WATCHED_S
without a touch while they watched.

A process that was stopped for longer finds its claim gone, and must not go on; it may have done one more step meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType

from jobjar.fetching.copying import LOOKS_S, BetweenPieces, nothing
from jobjar.host import node_name
from jobjar.liveness import DEAD, UNKNOWN, ProcessIdentity, liveness, this_process
from jobjar.shared_disk.clock import read_disk_clock
from jobjar.shared_disk.contents import CLAIMER, Unreadable, parse_document
from jobjar.shared_disk.creating import temporary_of_nodes, temporary_path_of_node
from jobjar.shared_disk.files import list_names, remove_file
from jobjar.shared_disk.leftovers import find_leftovers
from jobjar.shared_disk.moves import rename_directory
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import UnfitFile, open_regular, pass_over, read_bounded
from jobjar.shared_disk.trees import remove_tree

TOUCHED_EVERY_S = 10.0
ABANDONED_S = 120.0
WATCHED_S = 30.0
_FIRST_PAUSE_S = 0.02
_GIVES_BACK_EVERY_S = 1.0


class Claim:
    """A claim of this process. A context manager: the claim is touched inside, and given back at the end."""

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
        """End the claim. Where the disk refuses for long, a thread goes on trying: other processes of this node see this one
        alive, and would wait as long as it lives."""
        try:
            remove_file(self._file)  # it may be gone already, taken for abandoned
        except OSError:
            _start_thread(self._go_on_giving_back)
        with contextlib.suppress(OSError):  # not empty: another claim is in it; else `_find_claimer` removes it
            os.rmdir(self._path)

    def _go_on_giving_back(self) -> None:
        while True:
            time.sleep(_GIVES_BACK_EVERY_S)
            with contextlib.suppress(OSError):
                remove_file(self._file)
                return

    def _touch(self) -> None:
        while not self._is_over.wait(TOUCHED_EVERY_S):
            with contextlib.suppress(OSError):  # is_held reports a lost claim
                os.utime(self._file)

    def is_held(self) -> bool:
        """Whether this process still has the claim; another may have taken it for abandoned. Raises OSError."""
        try:
            patiently(lambda: os.utime(self._file), self._file)
        except FileNotFoundError:
            return False
        return True


def _start_thread(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    # The main thread takes the signals. A new thread inherits the mask, so they are blocked while it starts.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


def take_claim(
    target: str, is_done: Callable[[], bool], log: Callable[[str], None], between_pieces: BetweenPieces = nothing
) -> Claim | None:
    """Take the claim on a target as soon as it is free. None where `is_done` says that nothing is left to do.

    Waits for other builders as long as they live. `between_pieces` is called between looks; an exception from it ends the wait.
    Raises OSError.
    """
    path = f"{target}.building"
    watched: dict[str, tuple[float, float]] = {}  # claimer's file -> its time, and since when this process sees it
    pause_s, is_logged = _FIRST_PAUSE_S, False
    while not is_done():
        claim = _try_to_take(target, path)
        if claim is not None:
            return claim
        claimer = _find_claimer(path)
        if claimer is None:
            continue
        if _is_left(target, claimer, watched):
            _take_away(claimer)
            continue
        between_pieces()
        if not is_logged:
            is_logged = True
            log(f"{target}: being made by another worker; waiting")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LOOKS_S)
    return None


def _try_to_take(target: str, path: str) -> Claim | None:
    token = uuid.uuid4().hex
    prepared = temporary_path_beside(target, "claim")
    os.mkdir(prepared)
    try:
        with open(f"{prepared}/claimer.{token}", "x", encoding="utf-8") as file:
            json.dump(this_process()._asdict(), file)
        claim = Claim(path, token)
        try:
            return claim if rename_directory(prepared, path, claim.is_held) else None
        except OSError:
            claim.give_back()  # in case it exists, or will: the disk gave no answer
            raise
    finally:
        remove_tree(prepared)


def _find_claimer(path: str) -> str | None:
    """The path of the claimer's file; None where nobody has the claim now."""
    with contextlib.suppress(FileNotFoundError):
        for name in list_names(path):
            if name.startswith("claimer."):
                return f"{path}/{name}"
        # An empty directory: its claimer is, or was killed, between the removals of file and directory. Most disks would rename
        # over it.
        with contextlib.suppress(OSError):
            os.rmdir(path)
    return None


def _state_of(claimer: str) -> tuple[str | None, float]:
    """Whether the claimer is ALIVE, DEAD or UNKNOWN (None: the claim is gone), and when its file was touched."""
    try:
        # An open makes NFS ask its server, so that the time is not a remembered one.
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
        return UNKNOWN, touched_at  # torn by a crash of its node, so its claimer does not touch it any more
    finally:
        os.close(descriptor)


def _is_left(target: str, claimer: str, watched: dict[str, tuple[float, float]]) -> bool:
    """Whether the claimer is dead, or silent for too long."""
    state, touched_at = _state_of(claimer)
    if state != UNKNOWN:
        return state == DEAD
    now = time.monotonic()
    seen = watched.get(claimer)
    if seen is None or seen[0] != touched_at:
        watched[claimer] = (touched_at, now)
        return False
    disk_now = read_disk_clock(f"{os.path.dirname(target)}/.clock.{node_name()}")
    return now - seen[1] >= WATCHED_S and disk_now - touched_at >= ABANDONED_S


def _take_away(claimer: str) -> None:
    """End an abandoned claim. Several processes may try; one succeeds."""
    with contextlib.suppress(OSError):
        os.unlink(claimer)
        os.rmdir(os.path.dirname(claimer))


def temporary_path_beside(target: str, what: str) -> str:
    """A path beside `target` whose name shows its maker to `sweep`: `.<name>.<node>.<mark>.<random>.<what>`."""
    directory, name = os.path.split(target)
    return temporary_path_of_node(f"{directory}/.{name}", what)


def sweep(target: str) -> None:
    """Remove what killed builders left: beside this target everything but prepared claims, beside others the left-overs of this
    node's dead processes. The caller has the claim on the target, so other processes only prepare claims there."""
    directory, own = os.path.split(target)
    # `replace_file` appends a suffix of its own while it writes.
    names = os.listdir(directory)
    left = find_leftovers(names, r"\..+" + temporary_of_nodes(r"\.[a-z]+") + r"(?:\.[0-9+]+(?:\.[0-9a-f]{16})?\.new)?")
    for name in names:
        path = f"{directory}/{name}"
        if name.endswith(".building") and path != f"{target}.building":
            claimer = _find_claimer(path)
            if claimer is not None and _state_of(claimer)[0] == DEAD:
                _take_away(claimer)
        elif name in left or (name.startswith(f".{own}.") and not name.endswith(".claim")):
            remove_tree(path)  # the rest of it (another user's files, say) does no harm


def remove_halves(directory: str) -> None:
    """Remove half packages that processes of this node set aside and could not remove. Nobody uses them."""
    half = re.compile(r"\..+" + temporary_of_nodes(r"\.half"))
    with contextlib.suppress(FileNotFoundError):
        for name in filter(half.fullmatch, list_names(directory)):
            remove_tree(f"{directory}/{name}")
