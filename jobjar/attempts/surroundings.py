"""What a job asked to have around it (job_file/given.py): its own working directory and output files, words and variables.

Makes the output files, with the directories above them, and never writes to one that was there: a second job gets `out~2.txt`.
Which path an attempt writes to is journaled (`files`). A kill leaves the file with what was written to it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from jobjar.access.refusals import explain_reason
from jobjar.attempts.attempt import ClaimedJob, Claimer, about_attempt
from jobjar.attempts.copied_output import CopiedOutput
from jobjar.attempts.environment import add_given
from jobjar.host import node_name
from jobjar.job_file.given import fill_pattern
from jobjar.job_file.names import has_priority, id_in_name, unnumbered_name
from jobjar.journal.entries import files_entry, warned_late_entry
from jobjar.journal.read import Entry
from jobjar.processes.exit_status import NOT_RUNNABLE_STATUS
from jobjar.processes.starting import CannotStart
from jobjar.shared_disk.creating import open_directory
from jobjar.shared_disk.patience import FLICKER_S, is_transient, patiently
from jobjar.shared_disk.umask import users_umask, widen_mode

T = TypeVar("T")
# With these the disk refuses for now: the job goes back and is tried again. With any other error the job asks for what is not
# there, or may not be had, and fails.
_FOR_NOW = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
_TO_WRITE = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
# Runs $2 with the rest as its words, in the directory $1.
_SHELL_TEXT = 'cd -- "$1" || exit 126; shift\nexec "$@"\n'


class Surroundings:
    """The surroundings of one attempt. Raises CannotStart with the reason if the job asks for what is not here, OSError while a
    disk refuses."""

    def __init__(self, claimer: Claimer, job: ClaimedJob, environment: dict[bytes, bytes]) -> None:
        assert job.given is not None
        self._job, self._given = job, job.given
        # Descriptors, or -1 for what every job has: its scratch directory, its worker's output file.
        self.directory = self.output = self.error = -1
        self.arguments = self._given.arguments
        self.environment = add_given(environment, self._given)
        # The paths of its own files by stream, and the entries about them.
        self.paths: dict[str, str] = {}
        self._notes: list[str] = []
        self._made: list[str] = []
        self._copied: list[CopiedOutput] = []
        self._opened: list[int] = []
        try:
            self._open()
        except BaseException:
            self.close()
            self.remove()
            raise
        about = about_attempt(claimer, job)
        self._entries: list[Entry] = [files_entry(about, self.paths)] if self.paths else []
        self._entries += [warned_late_entry(about, note) for note in self._notes]

    def _open(self) -> None:
        given = self._given
        if given.dir is not None:
            self.directory = self._keep(_refused_by_name("directory", given.dir, _open_directory))
        if given.output is not None:
            self.output = self._open_stream("output", given.output)
            self.error = self.output
        if given.error is not None:
            is_same = given.error == given.output
            self.error = self.output if is_same else self._open_stream("error", given.error)

    def _open_stream(self, stream: str, pattern: str) -> int:
        job = self._job
        path = fill_pattern(pattern, job.uid, name_of_job(job), job.category, job.attempt)
        descriptor, found = _refused_by_name(f"{stream} file", path, _make_file)
        self._keep(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._made.append(found)
        self.paths[stream] = found
        if found != path:
            self._notes.append(f"{path} was there already and is left as it is; its {stream} went to {found}")
        if job.pipes_output:
            with contextlib.suppress(OSError):  # without a pipe the job writes into the file, as any other
                self._copied.append(CopiedOutput(descriptor))
                return self._copied[-1].descriptor
        return descriptor

    def _keep(self, descriptor: int) -> int:
        self._opened.append(descriptor)
        return descriptor

    def take_entries(self) -> list[Entry]:
        """Take the entries to be journaled once the job runs."""
        entries, self._entries = self._entries, []
        return entries

    def close(self) -> None:
        """Close what was opened. If the output goes through a pipe, wait for the rest of it."""
        for copied in self._copied:
            copied.finish()
        for descriptor in self._opened:
            with contextlib.suppress(OSError):  # NFS reports here that it could not write some of the job's output
                os.close(descriptor)
        self._copied, self._opened = [], []

    def remove(self) -> None:
        """Remove the files that were made for an attempt in which nothing was run."""
        for path in self._made:
            with contextlib.suppress(OSError):
                os.unlink(path)


def in_shell(
    job: ClaimedJob, scratch: str, environment: dict[bytes, bytes], around: Surroundings | None
) -> tuple[str, tuple[str, ...], dict[bytes, bytes]]:
    """How to run a plain job by lines of sh, for a worker whose own directory has to stay: the lines, their words, and the
    environment. Without surroundings the job runs in the directory `scratch`."""
    if around is None or job.given is None:
        return _SHELL_TEXT, (scratch, job.path), environment
    return _SHELL_TEXT, (job.given.dir or scratch, job.path, *around.arguments), around.environment


def name_of_job(job: ClaimedJob) -> str:
    """What people call a job: the name that it was given, else its id, or the name of a file that was put there by hand."""
    if job.given is not None and job.given.name:
        return job.given.name
    if id_in_name(job.name) is not None:
        return job.uid
    name = unnumbered_name(job.name)
    return name.rpartition(".")[0] if has_priority(name) else name


def _refused_by_name(what: str, path: str, action: Callable[[str], T]) -> T:
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


def _open_directory(path: str) -> int:
    descriptor = open_directory(path)
    if not os.access(path, os.X_OK):
        os.close(descriptor)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return descriptor


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
