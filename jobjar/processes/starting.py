"""Start jobs' processes: an executable file, or lines of sh, as the leader of a session of its own; or say why that cannot be.

A crash here leaves a session without a worker, which recovery on this node ends (recovery/recover.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jobjar.job_file.header import explain_carriage_return
from jobjar.processes.children import start_awaited
from jobjar.processes.exit_status import NOT_FOUND_STATUS, NOT_RUNNABLE_STATUS, status_if_not_started
from jobjar.processes.threads import any_at_work
from jobjar.shared_disk.regular import open_regular
from jobjar.shared_disk.umask import users_umask

# How long a file that is still open for writing is tried again before its job goes back.
BUSY_PATIENCE_S = 2.0
_FIRST_LINE_BYTES = 4096
# Its directory is descriptor 3; the rest are the words of the program to run there.
_IN_DIRECTORY = 'cd -P /proc/self/fd/3 || exit 126; exec 3<&-; exec "$@"'
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


def start_session(
    path: str,
    directory: int,
    output: int,
    environment: Mapping[bytes, bytes],
    arguments: Sequence[str] = (),
    error_output: int = -1,
    busy_patience_s: float = BUSY_PATIENCE_S,
) -> int:
    """Start an executable file in a new session. Returns its process id.

    `directory` and `output` are descriptors: of its working directory, and of the file for its standard output and error;
    `error_output` of another one for its standard error. Its standard input is empty. Raises CannotStart, StillBusy, OSError.
    """
    files = _streams(output, error_output)
    if any_at_work():
        # posix_spawn takes no directory, and this process's own has to stay while threads are at work.
        files = [*files, (os.POSIX_SPAWN_DUP2, directory, 3)]
        return _spawn_shell(_IN_DIRECTORY, (path, *arguments), files, environment)
    try:
        before = os.getcwd()
    except OSError:
        before = "/"  # this process's directory was unmounted or removed
    # posix_spawn takes no directory and no umask, so the child inherits this process's. No other thread minds.
    umask = users_umask()
    own_umask = None if umask is None else os.umask(umask)
    try:
        os.chdir(directory)
        return _spawn_file(path, arguments, files, environment, busy_patience_s)
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


def _spawn_file(
    path: str,
    arguments: Sequence[str],
    files: Sequence[Any],
    environment: Mapping[bytes, bytes],
    busy_patience_s: float,
) -> int:
    try:
        return _spawn(path, [path, *arguments], files, environment, busy_patience_s)
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            return _spawn_by_shell(path, arguments, files, environment)
        status = status_if_not_started(error)
        if status is None:
            raise
        reason = _explain_missing(path) if status == NOT_FOUND_STATUS else error.strerror
        raise CannotStart(status, f"cannot be run: {reason}") from error


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
    return _spawn_shell(text, words, _streams(output, error_output), environment)


def _spawn_shell(text: str, words: Sequence[str], files: Sequence[Any], environment: Mapping[bytes, bytes]) -> int:
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


def _spawn(
    path: str,
    words: list[str],
    files: Sequence[Any],
    environment: Mapping[bytes, bytes],
    busy_patience_s: float = BUSY_PATIENCE_S,
) -> int:
    deadline = time.monotonic() + busy_patience_s
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
