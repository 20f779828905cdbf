"""The fresh directory that each job gets, below `scratch/` in the worker's directory. If untouched, it is kept for the next job.

Making and removing directories costs most on a disk (DESIGN.md, Budget). An untouched directory still has its set time, which
lies in the past. A described job finds `output/` in it, a plain one nothing. After a kill recovery removes it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Container

from jobjar.attempts.attempt import ClaimedJob
from jobjar.attempts.stays import Stays
from jobjar.job_file.names import numbered_name
from jobjar.shared_disk.files import follow_status, look, make_directory, rename
from jobjar.shared_disk.patience import FLICKER_S, patiently
from jobjar.shared_disk.trees import Kept, remove_tree

# Where a described job puts the files to be stored (publishing/underway.py has the same name).
OUTPUTS = "output"
_AGE_S = 3600
# This suffices to change into it, and does not open it on the file server.
_TO_GO_THERE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Scratch:
    """One such directory. While a job has it, or while it is kept for the next, it is at `path` and `descriptor` is open."""

    def __init__(self, above: str, stays: Stays) -> None:
        self._above = above
        self._stays = stays
        self.path: str | None = None
        self.descriptor = -1
        # The identities that it and its output/ have while they are untouched.
        self._fresh: tuple[int, ...] = ()
        self._fresh_outputs: tuple[int, ...] = ()
        self._has_outputs = False
        self._is_as_new: bool | None = None
        # The job that has it, or had it last.
        self._job: ClaimedJob | None = None

    def make(self, job: ClaimedJob, taken: Container[str | None], with_outputs: bool) -> str:
        """Make it fresh for a job, at a path that is not in `taken`; returns its path. Raises OSError."""
        names = itertools.chain((job.name,), (numbered_name(job.name, number) for number in itertools.count(2)))
        paths = (path for name in names if (path := f"{self._above}/{name}") not in taken)
        path = next(paths)
        spare, self.path = self.path, None
        if spare is not None:
            try:
                rename(spare, path)  # there is nothing at the path, or an empty directory, which is replaced
                self.path = path
            except OSError:
                self._remove_spare(spare)
        if self.path is None:
            self._close()
            while look(path) is not None:
                path = next(paths)
            try:
                make_directory(path)
            except FileNotFoundError:  # a job removed the directory above
                make_again(self._above)
                make_directory(path)
            self.descriptor = patiently(lambda: os.open(path, _TO_GO_THERE), path)
            self._fresh = _make_old(path, self.descriptor)
            self.path = path
        if with_outputs != self._has_outputs:
            self._change_outputs(path, with_outputs)
        self._job, self._is_as_new = job, None
        return path

    def _remove_spare(self, path: str) -> None:
        """Remove a directory that seemed untouched and was not: a process was in it, or its job bound something onto it."""
        kept = remove_tree(path)
        if kept and self._job is not None:
            self._stays.note_late(self._job, path, kept)

    def _change_outputs(self, path: str, is_wanted: bool) -> None:
        """Make `output/` in it, or remove the one made for an earlier job."""
        outputs = f"{path}/{OUTPUTS}"
        try:
            if is_wanted:
                make_directory(outputs)
                self._fresh_outputs = _make_old(outputs)
            else:
                patiently(lambda: os.rmdir(outputs), outputs)
            self._fresh = _make_old(path, self.descriptor)
        except OSError:
            self.clear(reusable=False)  # its content is uncertain now
            raise
        self._has_outputs = is_wanted

    def clear(self, reusable: bool) -> list[Kept]:
        """Keep it for the next job if it is untouched and no process may still write (`reusable`). Else remove it, whatever the
        job did to it. Returns what could not be removed."""
        path = self.path
        if path is None or (reusable and not self.is_touched()):
            return []
        self._close()
        self.path = None
        kept = remove_tree(path)
        if kept:
            self._stays.note(path, kept)
        return kept

    def renew(self, job: ClaimedJob, reusable: bool) -> list[Kept]:
        """Make it fresh for the same job, if it was touched. Returns what could not be removed. Raises OSError."""
        self._is_as_new = None
        if reusable and not self.is_touched():
            self._is_as_new = None
            return []
        kept = self.clear(reusable=False)
        self.make(job, (), self._has_outputs)
        return kept

    def is_touched(self) -> bool:
        """Whether it was touched. Only the first call per job looks at it."""
        if self.path is not None and self._is_as_new is None:
            self._is_as_new = self._is_fresh(self.path)
        return not self._is_as_new

    def _is_fresh(self, path: str) -> bool:
        try:
            # Look at the path, not the descriptor: the job may have moved the directory away and made another one.
            if _identity(follow_status(path, FLICKER_S)) != self._fresh:
                return False
            outputs = f"{path}/{OUTPUTS}"
            return not self._has_outputs or (_identity(follow_status(outputs, FLICKER_S)) == self._fresh_outputs)
        except OSError:
            return False

    def discard(self) -> None:
        """Remove the directory that was kept for a job that will not come."""
        if self.path is not None:
            try:
                for path in (f"{self.path}/{OUTPUTS}", self.path)[not self._has_outputs :]:
                    os.rmdir(path)
            except OSError:
                self._remove_spare(self.path)
        self._close()
        self.path = None

    def _close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor, self._fresh = -1, ()
        self._has_outputs, self._fresh_outputs = False, ()


def make_again(directory: str) -> None:
    """Make a directory of the worker's again, which a job removed. Raises FileNotFoundError if the worker's directory itself is
    gone, OSError."""
    with contextlib.suppress(FileExistsError):
        make_directory(directory)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """The values that differ once a directory was touched or replaced."""
    # On most disks the number of links counts sub-directories. So a new one shows even if the time was set back.
    return (status.st_dev, status.st_ino, status.st_mode, status.st_mtime_ns, status.st_nlink)


def _make_old(path: str, descriptor: int | None = None) -> tuple[int, ...]:
    """Set a directory's time so far back that every change shows, even on a disk with whole seconds. Returns its identity then.
    If the disk does not keep that time, returns (): no directory counts as untouched."""
    old = int(time.time()) - _AGE_S
    patiently(lambda: os.utime(path, (old, old)), path)
    status = patiently(lambda: os.stat(path if descriptor is None else descriptor), path)
    return _identity(status) if int(status.st_mtime) == old else ()
