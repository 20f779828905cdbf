"""Patience with a network disk: transient errors are tried again, other errors are raised at once.

A file server that is away answers with one of the errors in TRANSIENT, or not at all. `patiently` tries again with growing
pauses until JJ_DISK_PATIENCE has passed, and then raises the last error. An action that is tried again may have happened the
first time: `do_once` recognizes that by the error of a later try. This module writes nothing itself; what a crash leaves
depends on the action.

Without an error, patience costs one function call: no system call, no look at a clock.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Errors that may pass: a server that is away or was restarted, a lost connection, a lock manager that is not up yet, a signal.
# ESTALE means that the server no longer knows the handle; a new look by name shows whether the file is gone. EBUSY, ENOSPC,
# EDQUOT, EROFS, EACCES and EPERM are not among them: people have to mend those, or a loop that reports them waits.
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
# The patience for questions that are soon repeated anyway, and for actions under a lock that others wait for. It is longer
# than a hiccup and shorter than an outage.
FLICKER_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 1.0
# Tries of a process that has to end: a hiccup must not strand its job, and an outage must not hold up its end.
_HURRIED_TRIES = 5


class Patience:
    """How long this process waits for its disk. It has one instance, set up by the code that opens a jar or runs a worker."""

    def __init__(self) -> None:
        self.limit_s = 150.0
        # Whether to go on waiting. A worker that has to end does not.
        self.may_wait: Callable[[], bool] = _always
        # `beat` is called during long work, so that a worker's heartbeat goes on. `between_pieces` is called between the pieces
        # of that work, and raises if the work need not go on.
        self.beat: Callable[[], None] = _do_nothing
        self.between_pieces: Callable[[], None] = _do_nothing
        # Takes one line when an action has waited for longer than FLICKER_S, and one when the disk answers again.
        self.log: Callable[[str], None] = _nothing
        # How many actions have met a transient error. If this grew, an answer of the disk meanwhile may be wrong.
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
    """Return `action()`. It is tried again while it fails with a transient error, for up to `deadline_s` seconds (at most, and
    by default, JJ_DISK_PATIENCE).

    `path` is what the action touches, for messages. `mend` is called before each further try (to open a file again, say).
    Use this for actions that may be done twice; otherwise `do_once`, `rename`, or moves.move. Raises the last OSError.
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
    """`patiently` for an action that cannot be done twice. If a further try raises `done`, an earlier one has happened.

    `done` is FileNotFoundError for unlink and rmdir; FileExistsError for mkdir and link of a name that nobody else makes.
    Raises the last OSError; `done` too, if the first try raises it.
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
    """Continue `patiently` after a first try that failed with the transient `error`. Raises the last OSError."""
    patience.troubles += 1
    limit_s = patience.limit_s if deadline_s is None else min(deadline_s, patience.limit_s)
    started = time.monotonic()
    pause_s, tries, is_logged = _FIRST_PAUSE_S, 1, False
    while True:
        waited_s = time.monotonic() - started
        if waited_s >= limit_s or (tries > _HURRIED_TRIES and not patience.may_wait()):
            raise error
        if waited_s > FLICKER_S and not is_logged:
            is_logged = True
            patience.log(f"{path}: {error.strerror}; waiting for the disk, up to {limit_s:g} s")
        time.sleep(min(pause_s, limit_s - waited_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        tries += 1
        if mend is not None:
            with contextlib.suppress(OSError):  # the action will fail too
                mend()
        try:
            result = action()
        except OSError as again:
            if again.errno not in TRANSIENT:
                raise
            error = again
        else:
            if is_logged:
                patience.log(f"{path}: the disk can be used again")
            return result
