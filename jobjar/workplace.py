"""Where described jobs are worked on: a working directory and an output file for each attempt, of several at once.

Makes `scratch/<job>/` and `output/<job>.<attempt>.out` in the worker's directory. Untouched directories and empty files are
used again, because making and removing them is what costs most on a disk (DESIGN.md, Budget). Killed anywhere, recovery
removes what is in `scratch/`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from jobjar.attempt import ClaimedJob, Claimer
from jobjar.disk import look, make_directory, remove_file, rename
from jobjar.jobname import numbered_name
from jobjar.patience import FLICKER_S, patiently

# More would only be kept for jobs that do not come: a worker seldom holds more of them at once.
_MOST_SPARES = 4


class Workplace:
    """The directory and the output file of one attempt. `output` is a descriptor."""

    def __init__(self, directory: str, output_path: str, output: int) -> None:
        self.directory = directory
        self.output_path = output_path
        self.output = output


class Workplaces:
    """Makes workplaces, and keeps what is left of them as good as new for the next."""

    def __init__(self, claimer: Claimer, remove_tree: Callable[[str], None]) -> None:
        self._paths = claimer.paths
        self._remove_tree = remove_tree
        self._spare_directories: list[str] = []
        self._spare_outputs: list[str] = []
        self._fresh_mode = 0

    def make(self, job: ClaimedJob, directory: str | None = None) -> Workplace:
        """A workplace for an attempt: in a fresh empty directory, or in `directory`, which is there or is made. Raises
        OSError."""
        if directory is None:
            directory = self._make_scratch(job)
        elif look(directory) is None:
            make_directory(directory)
        try:
            path = self._make_output(job)
            return Workplace(directory, path, patiently(lambda: _open_output(path), path))
        except OSError:
            if directory.startswith(f"{self._paths.scratch}/"):
                self._remove_tree(directory)
            raise

    def _make_scratch(self, job: ClaimedJob) -> str:
        path, number = f"{self._paths.scratch}/{job.name}", 2
        while look(path) is not None:
            path = f"{self._paths.scratch}/{numbered_name(job.name, number)}"
            number += 1
        if self._spare_directories:
            spare = self._spare_directories.pop()
            with contextlib.suppress(OSError):
                rename(spare, path)
                return path
            self._remove_tree(spare)  # somebody was in it
        make_directory(path)
        self._fresh_mode = patiently(lambda: os.stat(path), path).st_mode
        return path

    def _make_output(self, job: ClaimedJob) -> str:
        stem, number = f"{self._paths.output}/{job.name}.{job.attempt}", 2
        path = f"{stem}.out"
        while look(path) is not None:
            path = f"{stem}~{number}.out"
            number += 1
        if self._spare_outputs:
            with contextlib.suppress(OSError):
                rename(self._spare_outputs.pop(), path)
        return path

    def clear(self, place: Workplace, is_alone: bool) -> str | None:
        """Remove an attempt's directory, unless it lies elsewhere; returns its output file's name, None where nothing was
        written. `is_alone`: no process of it is left that might still write."""
        if place.directory.startswith(f"{self._paths.scratch}/"):
            self.clear_directory(place.directory, is_alone)
        try:
            status = os.fstat(place.output)
            is_empty, is_removed = not status.st_size, not status.st_nlink
        except OSError:
            is_empty = is_removed = False  # the disk is away: there may be something in it
        with contextlib.suppress(OSError):  # NFS tells here of what it could not write for the job
            os.close(place.output)
        if is_removed:
            return None
        if is_empty and is_alone:
            if len(self._spare_outputs) < _MOST_SPARES:
                self._spare_outputs.append(place.output_path)
            else:
                with contextlib.suppress(OSError):
                    remove_file(place.output_path)
            return None
        return os.path.basename(place.output_path)

    def clear_directory(self, path: str, is_alone: bool) -> None:
        """Remove a directory, whatever the job did to it, or keep it for another where it is empty and nobody is in it."""
        with contextlib.suppress(OSError):
            mode = patiently(lambda: os.stat(path), path, FLICKER_S).st_mode
            is_new = mode == self._fresh_mode and not os.listdir(path)
            if is_new and is_alone and len(self._spare_directories) < _MOST_SPARES:
                self._spare_directories.append(path)
                return
        self._remove_tree(path)

    def discard_spares(self) -> None:
        """Remove what was kept for jobs that will not come."""
        for path in self._spare_directories:
            with contextlib.suppress(OSError):
                os.rmdir(path)
        for path in self._spare_outputs:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._spare_directories, self._spare_outputs = [], []


def _open_output(path: str) -> int:
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o664)
