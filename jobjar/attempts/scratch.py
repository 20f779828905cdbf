"""The fresh directory that a worker makes for each job, below `scratch/` in its own, and keeps for the next where it is as new.

Making and removing directories is what costs most on a disk (DESIGN.md, Budget). An untouched one is known by its time, which
lies in the past. A described job finds `output/` in it, a plain one nothing. Killed before it is cleared, recovery removes it.
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
from jobjar.shared_disk.files import look, make_directory, rename
from jobjar.shared_disk.patience import FLICKER_S, patiently
from jobjar.shared_disk.trees import Kept, remove_tree

# Where a described job puts what is to be stored (publishing/outputs.py has the same name of it).
OUTPUTS = "output"
_AGE_S = 3600
# Enough to go there; and it is not opened on the server.
_TO_GO_THERE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Scratch:
    """One such directory: at `path` while it is a job's, or is kept for the next, with an open `descriptor`."""

    def __init__(self, above: str, stays: Stays) -> None:
        self._above = above
        self._stays = stays
        self.path: str | None = None
        self.descriptor = -1
        # What it, and its output/, are known by as long as nobody touched them.
        self._fresh: tuple[int, ...] = ()
        self._fresh_outputs: tuple[int, ...] = ()
        self._has_outputs = False
        self._is_as_new: bool | None = None
        # Whose it is, or was last.
        self._job: ClaimedJob | None = None

    def make(self, job: ClaimedJob, taken: Container[str | None], with_outputs: bool) -> str:
        """Have it fresh for a job, at another path than those `taken`; returns its path. Raises OSError."""
        names = itertools.chain((job.name,), (numbered_name(job.name, number) for number in itertools.count(2)))
        paths = (path for name in names if (path := f"{self._above}/{name}") not in taken)
        path = next(paths)
        spare, self.path = self.path, None
        if spare is not None:
            try:
                rename(spare, path)  # over nothing, or over another empty directory
                self.path = path
            except OSError:
                self._remove_spare(spare)
        if self.path is None:
            self._close()
            while look(path) is not None:
                path = next(paths)
            try:
                make_directory(path)
            except FileNotFoundError:  # a job removed what is above
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
        """Remove a directory that looked as new and was not: somebody was in it, or its job bound something onto it."""
        kept = remove_tree(path)
        if kept and self._job is not None:
            self._stays.note_late(self._job, path, kept)

    def _change_outputs(self, path: str, is_wanted: bool) -> None:
        """Make `output/` in it, or take away the one that an earlier job found there."""
        outputs = f"{path}/{OUTPUTS}"
        try:
            if is_wanted:
                make_directory(outputs)
                self._fresh_outputs = _make_old(outputs)
            else:
                patiently(lambda: os.rmdir(outputs), outputs)
            self._fresh = _make_old(path, self.descriptor)
        except OSError:
            self.clear(reusable=False)  # nobody could say what is in it
            raise
        self._has_outputs = is_wanted

    def clear(self, reusable: bool) -> list[Kept]:
        """Remove it, whatever the job did to it, or keep it for the next where it is as new and no process may still write.
        Returns what could not be removed."""
        path = self.path
        if path is None or (reusable and not self.is_touched()):
            return []
        self._close()
        self.path = None
        kept = remove_tree(path)
        if kept:
            self._stays.note(path, kept)
        return kept

    def is_touched(self) -> bool:
        """Whether it is not as new any more. Asked again it is not looked at again."""
        if self.path is not None and self._is_as_new is None:
            self._is_as_new = self._is_fresh(self.path)
        return not self._is_as_new

    def _is_fresh(self, path: str) -> bool:
        try:
            # By its path: the job may have moved the directory away and made another one.
            if _identity(patiently(lambda: os.stat(path), path, FLICKER_S)) != self._fresh:
                return False
            outputs = f"{path}/{OUTPUTS}"
            return not self._has_outputs or (
                _identity(patiently(lambda: os.stat(outputs), outputs, FLICKER_S)) == self._fresh_outputs
            )
        except OSError:
            return False

    def discard(self) -> None:
        """Remove what was kept for a job that will not come."""
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
    """Make a directory of the worker's own that a job removed. Raises FileNotFoundError where the worker's is gone, OSError."""
    with contextlib.suppress(FileExistsError):
        make_directory(directory)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What differs where a directory was touched, or is another one."""
    # The links count its directories, where the disk does: one that was made shows though the time was set back.
    return (status.st_dev, status.st_ino, status.st_mode, status.st_mtime_ns, status.st_nlink)


def _make_old(path: str, descriptor: int | None = None) -> tuple[int, ...]:
    """Have a directory look so old that whatever is put there shows, also where times are whole seconds; returns what it is
    known by then. Where the disk does not take that time, no directory is taken for untouched."""
    old = int(time.time()) - _AGE_S
    patiently(lambda: os.utime(path, (old, old)), path)
    status = patiently(lambda: os.stat(path if descriptor is None else descriptor), path)
    return _identity(status) if int(status.st_mtime) == old else ()
