"""A job's processes: start them in a session of their own, wait for the first of them, end the rest.

A crash here leaves a session without a worker, which recovery on this node ends (recovery/recover.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jobjar.job_file.header import explain_carriage_return
from jobjar.liveness import own_children, process_start, session_processes
from jobjar.processes.exit_status import NOT_FOUND_STATUS, NOT_RUNNABLE_STATUS
from jobjar.shared_disk.patience import patience
from jobjar.shared_disk.regular import open_regular
from jobjar.shared_disk.umask import users_umask

# How long a file that is still open for writing is tried again before its job goes back.
BUSY_PATIENCE_S = 2.0
# The signals that ask a process to end now.
END_NOW = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# How long a worker waits for such a signal to itself after one has ended its job's process. systemd, scancel and a shutdown
# signal both, one after the other.
DOUBT_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36
_FIRST_LINE_BYTES = 4096
# The ids of children whose starter waits for them. The lock is held while one is started and while others are reaped.
_awaited: set[int] = set()
_awaited_lock = threading.Lock()
# Python ignores these signals. A job starts with their defaults, like any program. A job also ignores all other signals that
# were ignored when this process started, as under a shell.
DEFAULT_SIGNALS = [signal.SIGPIPE] + ([signal.SIGXFSZ] if hasattr(signal, "SIGXFSZ") else [])


class CannotStart(Exception):
    """The kernel refuses to run the job's file. `status` is the exit status that a shell would give."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class StillBusy(Exception):
    """Somebody has the job's file open for writing (ETXTBSY)."""


class Ended(NamedTuple):
    """How a process ended: exactly one of `exit_status` and `signal` is not None. CPU times in seconds."""

    exit_status: int | None
    signal: int | None
    user_cpu_s: float
    system_cpu_s: float
    max_rss_kib: int


def seems_ended_on_request(ended: Ended) -> bool:
    """Whether a process seems to have ended on request: by a signal of END_NOW, or with a shell's exit status for one."""
    number = ended.signal if ended.signal is not None else (ended.exit_status or 0) - 128
    return number in END_NOW


def doubt(between_pieces: Callable[[], object]) -> None:
    """Give the worker DOUBT_S to receive the signal that seems to have ended this thread's process. `between_pieces` is called
    meanwhile; the errors that it raises are passed on."""
    deadline = time.monotonic() + DOUBT_S
    while time.monotonic() < deadline:
        between_pieces()
        time.sleep(0.01)


def adopt_orphans() -> None:
    """Make this process the parent of the processes that its children leave behind (prctl(2)), so that it sees them all."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_session(
    path: str,
    directory: int,
    output: int,
    environment: Mapping[bytes, bytes],
    arguments: Sequence[str] = (),
    error_output: int = -1,
) -> int:
    """Start an executable file in a new session. Returns its process id.

    `directory` and `output` are descriptors: of its working directory, and of the file for its standard output and error;
    `error_output` of another one for its standard error. Its standard input is empty. Raises CannotStart, StillBusy, OSError.
    """
    files = _streams(output, error_output)
    try:
        before = os.getcwd()
    except OSError:
        before = "/"  # this process's directory was unmounted or removed
    # posix_spawn takes no directory and no umask, so the child inherits this process's. Only one thread runs here.
    umask = users_umask()
    own_umask = None if umask is None else os.umask(umask)
    try:
        os.chdir(directory)
        return _spawn_file(path, arguments, files, environment)
    finally:
        if own_umask is not None:
            os.umask(own_umask)
        _return_to(before)


def _streams(output: int, error_output: int) -> Sequence[Any]:
    return [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output if error_output < 0 else error_output, 2),
    ]


def _spawn_file(path: str, arguments: Sequence[str], files: Sequence[Any], environment: Mapping[bytes, bytes]) -> int:
    try:
        return _spawn(path, [path, *arguments], files, environment)
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            return _spawn_by_shell(path, arguments, files, environment)
        if error.errno == errno.ENOENT:
            raise CannotStart(NOT_FOUND_STATUS, f"cannot be run: {_explain_missing(path)}") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.E2BIG, errno.EINVAL):
            raise CannotStart(NOT_RUNNABLE_STATUS, f"cannot be run: {error.strerror}") from error
        raise


def _explain_missing(path: str) -> str:
    """Explain why the kernel does not find the program that runs a job's file."""
    try:
        with open(path, "rb", opener=open_regular) as file:
            first_line = file.readline(_FIRST_LINE_BYTES)
    except FileNotFoundError:
        return "it is gone"
    except OSError:
        first_line = b""
    if first_line.startswith(b"#!") and first_line.rstrip(b"\n").endswith(b"\r"):
        return explain_carriage_return(first_line)
    words = first_line[2:].split() if first_line.startswith(b"#!") else []
    if not words:
        return "a program or library that it needs to start is missing"
    interpreter = words[0].decode("utf-8", "replace")
    return f"the interpreter that its first line names, {interpreter!r}, is missing on this node"


def start_shell(
    text: str, words: Sequence[str], output: int, environment: Mapping[bytes, bytes], error_output: int = -1
) -> int:
    """Start lines of /bin/sh, with `words` as $1, $2 …, in a new session. Returns its process id.

    Unlike `start_session` it does not change this process's directory, so other threads may run. The lines have to change to
    their directory themselves. `output`, `error_output` and standard input are as there.
    Raises CannotStart, StillBusy, OSError.
    """
    files = _streams(output, error_output)
    umask = users_umask()
    if umask is not None:
        text = f"umask {umask:04o}; {text}"  # on the first line, so that the shell's errors have the right line numbers
    try:
        return _spawn("/bin/sh", ["/bin/sh", "-c", text, "sh", *words], files, environment)
    except OSError as error:
        if error.errno in (errno.E2BIG, errno.EINVAL):
            raise CannotStart(NOT_RUNNABLE_STATUS, f"cannot be run: {error.strerror}") from error
        raise


def is_open_for_writing(path: str) -> bool:
    """Whether somebody has a file open for writing, so that it cannot be executed; False if the kernel gives no answer."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # The kernel refuses a read lease while there is a writer (fcntl(2)).
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        finally:
            os.close(descriptor)
    return False


def _return_to(directory: str) -> None:
    """Change to `directory`, or to / if the disk refuses. An error would hide that the child runs."""
    try:
        os.chdir(directory)
    except OSError:
        os.chdir("/")


def _spawn(path: str, words: list[str], files: Sequence[Any], environment: Mapping[bytes, bytes]) -> int:
    deadline = time.monotonic() + BUSY_PATIENCE_S
    while True:
        try:
            return start_awaited(
                lambda: os.posix_spawn(
                    path, words, environment, file_actions=files, setsid=True, setsigdef=DEFAULT_SIGNALS
                )
            )
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            if time.monotonic() > deadline:
                raise StillBusy() from error
            time.sleep(0.02)


def _spawn_by_shell(
    path: str, arguments: Sequence[str], files: Sequence[Any], environment: Mapping[bytes, bytes]
) -> int:
    """Run a text file without a `#!` line by /bin/sh, as execvp(3) does. Raises CannotStart for a binary file."""
    with open(path, "rb") as file:
        if b"\0" in file.read(512):
            raise CannotStart(NOT_RUNNABLE_STATUS, "cannot be run: not a program of this kind of machine")
    return _spawn("/bin/sh", ["/bin/sh", path, *arguments], files, environment)


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


def signal_session(session: int, number: int) -> bool:
    """Send a signal to every process of a session. Returns whether it reached one."""
    any_there = False
    for pid in session_processes(session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            any_there = True
    return any_there


def end_rest(session: int, leader_start: float | None) -> None:
    """Send SIGTERM to the rest of a session whose leader has ended. `leader_start` is when that started: if its process id is
    in use again, nothing is done."""
    if process_start(session) in (None, leader_start):
        signal_session(session, signal.SIGTERM)


def wait_for_child(pid: int, check: Callable[[], object], check_every_s: float, grace_time_s: float) -> Ended:
    """Wait in any thread for the end of a child that it started. `check` is called all the while; an exception from it ends the
    child's session, with this grace time, and is raised."""
    waiter = Waiter(pid)
    try:
        while (ended := waiter.wait(check_every_s, [])) is None:
            check()
        return ended
    except BaseException:
        end_session(pid, grace_time_s, lambda: None)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        raise
    finally:
        waiter.close()


def end_session(
    session: int, grace_time_s: float, reaped: Callable[[], object] = reap_strays, leader_start: float | None = None
) -> bool:
    """End a session: SIGTERM, then SIGKILL after the grace time. Returns whether a process was there to end.

    With `leader_start`, nothing is done if the session's id is in use by another process, which started at another time.
    `reaped` is called to reap children before each look.
    """
    if leader_start is not None and process_start(session) not in (None, leader_start):
        return False
    if not signal_session(session, signal.SIGTERM):
        return False
    signal_session(session, signal.SIGCONT)
    deadline = time.monotonic() + grace_time_s
    pause_s = 0.002
    while True:
        reaped()
        if not session_processes(session):
            return True
        if time.monotonic() > deadline:
            signal_session(session, signal.SIGKILL)
        patience.beat()
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)
