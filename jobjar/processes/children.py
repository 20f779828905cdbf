"""The children of a worker: wait for one of them, with a time-out; reap those that jobs left behind.

starting.py starts them, ending.py ends them. Reads and writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from jobjar.liveness import own_children

_PR_SET_CHILD_SUBREAPER = 36
# The ids of children whose starter waits for them. The lock is held while one is started and while others are reaped.
_awaited: set[int] = set()
_awaited_lock = threading.Lock()


class Ended(NamedTuple):
    """How a process ended: exactly one of `exit_status` and `signal` is not None. CPU times in seconds."""

    exit_status: int | None
    signal: int | None
    user_cpu_s: float
    system_cpu_s: float
    max_rss_kib: int


def adopt_orphans() -> None:
    """Make this process the parent of the processes that its children leave behind (prctl(2)), so that it sees them all."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_awaited(start: Callable[[], int]) -> int:
    """Start a child that `reap_strays` does not reap. `start` starts it and returns its process id. This lasts until the caller,
    in any thread, reaps the child, closes its Waiter, or gives it up."""
    with _awaited_lock:
        pid = start()
        _awaited.add(pid)
    return pid


def give_up(pid: int) -> None:
    """Stop waiting for a child: it was reaped, or `reap_strays` will reap it."""
    _awaited.discard(pid)


class Waiter:
    """Waits for a child. File descriptors and a time-out may end the wait early."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1

    @property
    def descriptor(self) -> int:
        """A descriptor that becomes readable at the child's end; -1 where there is none such."""
        return self._pidfd

    def wait(self, timeout_s: float | None, wake_descriptors: list[int]) -> Ended | None:
        """Wait for the child's end. Returns None at the time-out, or when one of `wake_descriptors` can be read."""
        poll = select.poll()
        for descriptor in wake_descriptors:
            poll.register(descriptor, select.POLLIN)
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        else:
            ended = reap(self.pid)
            if ended is not None:
                return ended
            timeout_s = min(timeout_s or 0.05, 0.05)
        poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000 + 1)
        return reap(self.pid)

    def close(self) -> None:
        give_up(self.pid)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def reap(pid: int) -> Ended | None:
    """Reap a child. Returns how it ended, or None while it runs. Raises ChildProcessError."""
    found, status, usage = os.wait4(pid, os.WNOHANG)
    if found == 0:
        return None
    give_up(pid)
    scale = 1024 if sys.platform == "darwin" else 1
    code = os.waitstatus_to_exitcode(status)
    return Ended(
        exit_status=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        user_cpu_s=usage.ru_utime,
        system_cpu_s=usage.ru_stime,
        max_rss_kib=usage.ru_maxrss // scale,
    )


def reap_strays() -> bool:
    """Reap the ended processes that jobs left behind, in any session, except those that somebody waits for. Returns whether
    children are left that nobody waits for."""
    with _awaited_lock, contextlib.suppress(ChildProcessError):
        while not _awaited:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return True
        _reap_unawaited()
        children = own_children()
        return children is None or not children <= _awaited
    return False


def reap_ended() -> None:
    """Reap like `reap_strays`, but do not look for children that are left. This is for the time in which a job runs, which may
    wait (`kill -0`, `tail --pid`) for the end of a process that this one has adopted. An ended process behind an awaited child
    is reaped next time."""
    with _awaited_lock, contextlib.suppress(ChildProcessError):
        _reap_unawaited()


def _reap_unawaited() -> None:
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (found := os.waitid(os.P_ALL, 0, look)) is not None and found.si_pid not in _awaited:
        os.waitpid(found.si_pid, os.WNOHANG)
