"""Where a worker runs its jobs: for each a fresh scratch directory, an output file and an environment.

Makes `scratch/<job>/` and `output/<job>.<attempt>.out` in the worker's directory. An empty directory and an empty output
file are kept for the next job, because making and removing them is what costs most on a disk (DESIGN.md, Budget), and are
kept open, because finding them again is what costs most over a network. An output file lies at `output/.next` until its
job has run for a moment, or has ended and written something: only then it needs a name. Killed before, recovery names it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from jobjar.attempt import ClaimedJob, Claimer
from jobjar.disk import look, make_directory, remove_file, rename
from jobjar.jobname import node_name, numbered_name
from jobjar.patience import FLICKER_S, patiently
from jobjar.trees import remove_tree as remove_tree

# A scratch directory is made to look so old that whatever is put there shows, also where times are whole seconds.
_AGE_S = 3600
# Enough to go there; and it is not opened on the server.
_TO_GO_THERE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class Workbench:
    """The scratch directory and the output file of the job that runs, and what of them is kept for the next."""

    def __init__(self, claimer: Claimer, environment: dict[str, str]) -> None:
        self.claimer = claimer
        # Encoded once, not for each job.
        self._base = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        # Descriptors: of the scratch directory, and of the output file, of this job or the next.
        self.directory = self.output = -1
        self._spare_scratch: str | None = None
        self._fresh_directory: tuple[int, ...] = ()
        self._fresh_output: tuple[int, ...] = ()
        # Where the output file lies; and the name that the last one should have got, which the disk refused.
        self._output_path = claimer.paths.next_output
        self._overdue_name: str | None = None

    def environment(self, job: ClaimedJob, scratch: str) -> dict[bytes, bytes]:
        """The environment of an attempt: the worker's, and what DESIGN.md, "A job's world", lists."""
        own = {
            b"JJ_JOB": job.name,
            b"JJ_JOB_ID": job.uid,
            b"JJ_JOB_FILE": job.path,
            b"JJ_SCRATCH_DIR": scratch,
            b"JJ_PRIORITY": str(job.priority),
            b"JJ_CATEGORY": job.category,
            b"JJ_ATTEMPT": str(job.attempt),
            b"JJ_SUBMITTER": job.submitter,
        }
        return {**self._base, **{name: os.fsencode(value) for name, value in own.items()}}

    def make_scratch(self, job: ClaimedJob) -> str:
        """A fresh empty directory for the job, open as `directory`. Raises OSError."""
        path, number = f"{self.claimer.paths.scratch}/{job.name}", 2
        spare, self._spare_scratch = self._spare_scratch, None
        if spare is not None:
            try:
                rename(spare, path)  # over nothing, or over another empty directory
                return path
            except OSError:
                remove_tree(spare)  # somebody was in it
        self._close_directory()
        while look(path) is not None:
            path = f"{self.claimer.paths.scratch}/{numbered_name(job.name, number)}"
            number += 1
        make_directory(path)
        old = int(time.time()) - _AGE_S
        patiently(lambda: os.utime(path, (old, old)), path)
        self.directory = patiently(lambda: os.open(path, _TO_GO_THERE), path)
        status = patiently(lambda: os.fstat(self.directory), path)
        # Where the disk did not take that time, no directory is taken for untouched.
        self._fresh_directory = _identity(status) if int(status.st_mtime) == old else ()
        return path

    def clear_scratch(self, path: str, reusable: bool) -> None:
        """Remove a job's scratch directory, whatever the job did to it, or keep it for the next where it is as new."""
        try:
            # By its path: the job may have moved the directory away and made another one.
            is_new = _identity(patiently(lambda: os.stat(path), path, FLICKER_S)) == self._fresh_directory
        except OSError:
            is_new = False
        if is_new and reusable:
            self._spare_scratch = path
        else:
            self._close_directory()
            remove_tree(path)

    def make_output(self) -> None:
        """Have a new empty output file, open as `output`. Raises OSError."""
        path = self._output_path = self.claimer.paths.next_output
        self._name_overdue()
        if self.output >= 0 and not self._is_output_fresh():
            self._close_output()  # another node, or a new mount, made it stale
        if self.output < 0:
            try:
                self.output = patiently(lambda: _make_output(path), path)
            except FileExistsError:  # by a try that failed; or it went stale
                remove_file(path)
                self.output = patiently(lambda: _make_output(path), path)
            self._fresh_output = self._output_state()

    def name_output(self, job: ClaimedJob) -> str:
        """Give the output file the name that people look for; returns it. Raises FileNotFoundError where the file is gone,
        OSError."""
        stem, number = f"{self.claimer.paths.output}/{job.name}.{job.attempt}", 2
        if self._output_path == self.claimer.paths.next_output:
            path = f"{stem}.out"
            while (there := look(path)) is not None and not self._is_output(there):
                path = f"{stem}~{number}.out"
                number += 1
            if there is None:  # else recovery has named it, taking this worker for dead
                rename(self._output_path, path)
            self._output_path = path
        elif look(self._output_path) is None:
            raise FileNotFoundError(self._output_path)
        return os.path.basename(self._output_path)

    def clear_output(self, job: ClaimedJob, reusable: bool) -> str | None:
        """Keep an attempt's output; returns its file's name. An empty one is no output: None. With `reusable` nobody can
        write to it any more."""
        try:
            status = patiently(lambda: os.fstat(self.output), self._output_path, FLICKER_S)
            is_removed, is_empty = not status.st_nlink, not status.st_size
        except OSError:
            is_removed = is_empty = False  # the disk is away: there may be something in it
        if is_empty and reusable and not is_removed:
            self._keep_output()
            return None
        try:
            return None if is_removed else self.name_output(job)
        except FileNotFoundError:
            return None  # the job removed it, or took it away
        except OSError:
            if self._output_path == self.claimer.paths.next_output:
                self._overdue_name = f"{self.claimer.paths.output}/{job.name}.{job.attempt}.out"
            return os.path.basename(self._overdue_name or self._output_path)
        finally:
            self._close_output()

    def _is_output(self, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(status, os.fstat(self.output))
        except OSError:
            return False

    def _name_overdue(self) -> None:
        if self._overdue_name is not None:
            with contextlib.suppress(FileNotFoundError):
                rename(self.claimer.paths.next_output, self._overdue_name)
            self._overdue_name = None

    def _keep_output(self) -> None:
        try:
            if self._output_path != self.claimer.paths.next_output:
                rename(self._output_path, self.claimer.paths.next_output)
                self._output_path = self.claimer.paths.next_output
            if self._is_output_fresh():
                return
        except OSError:
            pass  # it is made anew
        self._close_output()
        with contextlib.suppress(OSError):
            os.unlink(self._output_path)

    def _is_output_fresh(self) -> bool:
        try:
            return self._output_state() == self._fresh_output
        except OSError:
            return False

    def _output_state(self) -> tuple[int, ...]:
        """What a job may have changed of its output file: also what is shared with a descriptor that was passed on."""
        status = os.fstat(self.output)
        return (status.st_size, status.st_nlink, status.st_mode, fcntl.fcntl(self.output, fcntl.F_GETFL))

    def discard_spares(self) -> None:
        """Remove what was kept for a next job that will not come."""
        self._close_directory()
        if self._spare_scratch is not None:
            with contextlib.suppress(OSError):
                os.rmdir(self._spare_scratch)
        self._spare_scratch = None
        if self.output >= 0:
            self._close_output()
            with contextlib.suppress(OSError):
                os.unlink(self.claimer.paths.next_output)
        with contextlib.suppress(OSError):
            self._name_overdue()

    def _close_directory(self) -> None:
        if self.directory >= 0:
            os.close(self.directory)
        self.directory, self._fresh_directory = -1, ()

    def _close_output(self) -> None:
        if self.output >= 0:
            with contextlib.suppress(OSError):  # NFS tells here of what it could not write for the job
                os.close(self.output)
        self.output, self._fresh_output = -1, ()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What differs where a directory was touched, or is another one."""
    return (status.st_dev, status.st_ino, status.st_mode, status.st_mtime_ns)


def _make_output(path: str) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o664)


def base_environment(claimer: Claimer) -> dict[str, str]:
    """What all jobs of a worker see: the worker's own environment, JJ_… of the worker, and the jar's programs first."""
    layout = claimer.jar.layout
    return {
        **os.environ,
        "JJ_HOME": layout.home,
        "JJ_WORKER_HOME": layout.workers,
        "JJ_WORKER": claimer.paths.name,
        "JJ_WORKER_ID": claimer.worker_id,
        "JJ_WORKER_DIR": claimer.paths.path,
        "JJ_NODE": node_name(),
        "PATH": f"{layout.bin}:{os.environ.get('PATH', os.defpath)}",
    }
