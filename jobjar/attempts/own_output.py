"""Files that people named for the output of a job, or of a task of an array.

Makes them, with the directories above them, and never writes to one that was there: a second job gets `out~2.txt`. A kill leaves
the file with what was written to it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
from collections.abc import Callable
from typing import TypeVar

from jobjar.access.refusals import explain_reason
from jobjar.attempts.copied_output import CopiedOutput
from jobjar.host import node_name
from jobjar.processes.exit_status import NOT_RUNNABLE_STATUS
from jobjar.processes.starting import CannotStart
from jobjar.shared_disk.patience import FLICKER_S, is_transient, patiently
from jobjar.shared_disk.umask import users_umask, widen_mode

T = TypeVar("T")
# With these the disk refuses for now: the job goes back and is tried again. With any other error the job asks for what is not
# there, or may not be had, and fails.
_FOR_NOW = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
_TO_WRITE = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY


class OwnFiles:
    """The files for the output and the errors of one attempt, at these paths; None: it has none. Raises CannotStart with the
    reason if there can be no such file here, OSError while a disk refuses; then none is left."""

    def __init__(self, output: str | None, error: str | None, pipes_output: bool) -> None:
        # Descriptors; -1 without a file.
        self.output = self.error = -1
        # The paths of the files by stream, and what people have to know of them.
        self.paths: dict[str, str] = {}
        self.notes: list[str] = []
        self._pipes_output = pipes_output
        self._made: list[str] = []
        self._copied: list[CopiedOutput] = []
        self._opened: list[int] = []
        try:
            if output is not None:
                self.output = self.error = self._open("output", output)
            if error is not None and error != output:
                self.error = self._open("error", error)
        except BaseException:
            self.close()
            self.remove()
            raise

    def _open(self, stream: str, path: str) -> int:
        descriptor, found = refused_by_name(f"{stream} file", path, _make_file)
        self._opened.append(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._made.append(found)
        self.paths[stream] = found
        if found != path:
            self.notes.append(f"{path} was there already and is left as it is; {explain_where(stream, found)}")
        if self._pipes_output:
            with contextlib.suppress(OSError):  # without a pipe the job writes into the file, as any other
                self._copied.append(CopiedOutput(descriptor))
                return self._copied[-1].descriptor
        return descriptor

    def close(self) -> None:
        """Close the files. If the output goes through a pipe, wait for the rest of it."""
        for copied in self._copied:
            copied.finish()
        for descriptor in self._opened:
            with contextlib.suppress(OSError):  # NFS reports here that it could not write some of the output
                os.close(descriptor)
        self._copied, self._opened = [], []

    def remove(self) -> None:
        """Remove the files that were made for an attempt in which nothing was run."""
        for path in self._made:
            with contextlib.suppress(OSError):
                os.unlink(path)


def explain_where(stream: str, path: str) -> str:
    """Say, at the end of a note, where the output of an attempt is (`find_where`)."""
    return f"its {stream} went to {path}"


def find_where(stream: str, notes: str) -> str | None:
    """The path that notes, one a line, name for a stream; None if they name none."""
    found = re.search(rf"its {stream} went to (/.*)$", notes, re.MULTILINE)
    return None if found is None else found.group(1)


def refused_by_name(what: str, path: str, action: Callable[[str], T]) -> T:
    """What `action` gives for `path`. Raises CannotStart that names the path and this node, OSError while the disk refuses."""
    try:
        return patiently(lambda: action(path), path, FLICKER_S)
    except OSError as error:
        if is_transient(error) or error.errno in _FOR_NOW:
            raise OSError(error.errno, error.strerror, path) from error
        where = error.filename if isinstance(error.filename, str) and error.filename != path else path
        at = "" if where == path else f" at {where}"
        message = f"cannot be run: its {what} {path} cannot be used on node {node_name()}: {explain_reason(error)}{at}"
        raise CannotStart(NOT_RUNNABLE_STATUS, message) from error


def _make_file(path: str) -> tuple[int, str]:
    """Make a new file at `path`, or beside it if something is there; returns its descriptor and its path. What is no file, such
    as /dev/null, is opened."""
    umask = users_umask() or 0  # the kernel takes off this process's umask too
    _make_directories(os.path.dirname(path), 0o777 & ~umask)
    for number in itertools.count(2):
        free = path if number == 2 else _numbered(path, number - 1)
        try:
            descriptor = os.open(free, _TO_WRITE | os.O_CREAT | os.O_EXCL, 0o666 & ~umask)
        except FileExistsError:
            mode = os.stat(free).st_mode if os.path.exists(free) else 0
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), free) from None
            if stat.S_ISCHR(mode):
                return os.open(free, _TO_WRITE), free
        else:
            widen_mode(descriptor, 0o666)
            return descriptor, free
    raise AssertionError("there is a last number")


def _make_directories(path: str, mode: int) -> None:
    if os.path.isdir(path):
        return
    _make_directories(os.path.dirname(path), mode)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        widen_mode(descriptor, 0o777)
    finally:
        os.close(descriptor)


def _numbered(path: str, number: int) -> str:
    """`out~2.txt` for `out.txt`."""
    above, name = os.path.split(path)
    stem, extension = os.path.splitext(name)
    return f"{above}/{stem}~{number}{extension}"
