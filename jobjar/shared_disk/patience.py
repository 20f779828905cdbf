"""Patience with a network disk: what it refuses for the moment is tried again, what it refuses for good is an error at once.

A file server that is away answers with one of the errors in TRANSIENT, or not at all. `patiently` tries again with growing
pauses until JJ_DISK_PATIENCE is over, and raises the last error then. An action that was tried again may have happened the
first time: `do_once` knows by what error a second try says so. Writes nothing itself; what a crash leaves is the action's.

Where there is no error it costs a call and nothing else: no system call, no look at a clock.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# What a disk says that may be good again: a server that is away or was started anew (ESTALE: the handle is no longer known;
# a new look by name tells whether the file is gone), a lost connection, a lock manager that is not up yet, a signal.
# Not EBUSY, ENOSPC, EDQUOT, EROFS, EACCES and EPERM: waiting for those is for people, or for a loop that can say so.
TRANSIENT = frozenset(
    getattr(errno, name)
    for name in (
        "EIO",
        "ESTALE",
        "ENOLCK",
        "EINTR",
        "EAGAIN",
        "ETIMEDOUT",
        "ENOTCONN",
        "ECONNABORTED",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "EREMOTEIO",
        "ESHUTDOWN",
    )
    if hasattr(errno, name)
)
# For what is asked again soon anyway, or done while others wait for a lock: longer than a hiccup, shorter than an outage.
FLICKER_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 1.0
# Tries that a process makes that was told to end: a hiccup must not strand its job, an outage must not keep it.
_HURRIED_TRIES = 5


class Patience:
    """How long this process waits for its disk: one for all that it does, set by who opens a jar or runs a worker."""

    def __init__(self) -> None:
        self.limit_s = 150.0
        # Whether to go on waiting: a worker that was told to end does not.
        self.may_wait: Callable[[], bool] = _always
        # Called while something takes long: a worker beats. And between the pieces of that: it raises where it need not go on.
        self.beat: Callable[[], None] = _do_nothing
        self.between_pieces: Callable[[], None] = _do_nothing
        # Told once when an outage begins to be felt.
        self.log: Callable[[str], None] = _nothing
        # How often an action met a transient error so far: what changed meanwhile may not be what it seems.
        self.troubles = 0


def _always() -> bool:
    return True


def _nothing(line: str) -> None:
    pass


def _do_nothing() -> None:
    pass


patience = Patience()


def is_transient(error: OSError) -> bool:
    return error.errno in TRANSIENT


def patiently(
    action: Callable[[], T],
    path: str,
    deadline_s: float | None = None,
    mend: Callable[[], object] | None = None,
) -> T:
    """`action()`; tried again while it fails with a transient error, for `deadline_s` (default: JJ_DISK_PATIENCE).

    `path` is what it touches, for messages; `mend` is called before each further try (open it anew, say). Raises the
    last OSError. For actions that may be done twice; else `do_once`, `rename`, or moves.move.
    """
    try:
        return action()
    except OSError as error:
        if error.errno not in TRANSIENT:
            raise
        return keep_trying(error, action, path, deadline_s, mend)


def do_once(
    action: Callable[[], None],
    path: str,
    done: type[OSError] = FileNotFoundError,
    deadline_s: float | None = None,
) -> None:
    """`patiently`, for what cannot be done twice: where a further try raises `done`, an earlier one had happened.

    FileNotFoundError for unlink and rmdir, FileExistsError for mkdir and link of what nobody else makes.
    """
    try:
        action()
    except OSError as error:
        if error.errno not in TRANSIENT:
            raise
        try:
            keep_trying(error, action, path, deadline_s)
        except done:
            return


def keep_trying(
    error: OSError,
    action: Callable[[], T],
    path: str,
    deadline_s: float | None = None,
    mend: Callable[[], object] | None = None,
) -> T:
    """`patiently` from the second try on, after the transient `error`."""
    patience.troubles += 1
    limit_s = patience.limit_s if deadline_s is None else min(deadline_s, patience.limit_s)
    started = time.monotonic()
    pause_s, tries, is_told = _FIRST_PAUSE_S, 1, False
    while True:
        waited_s = time.monotonic() - started
        if waited_s >= limit_s or (tries > _HURRIED_TRIES and not patience.may_wait()):
            raise error
        if waited_s > FLICKER_S and not is_told:
            is_told = True
            patience.log(f"{path}: {error.strerror}; waiting for the disk, up to {limit_s:g} s")
        time.sleep(min(pause_s, limit_s - waited_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        tries += 1
        if mend is not None:
            with contextlib.suppress(OSError):  # it shows in the action
                mend()
        try:
            result = action()
        except OSError as again:
            if again.errno not in TRANSIENT:
                raise
            error = again
        else:
            if is_told:
                patience.log(f"{path}: the disk can be used again")
            return result
