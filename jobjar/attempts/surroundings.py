"""What a job asked to have around it (job_file/given.py): its own working directory and output files, words and variables.

Which paths an attempt writes its output to is journaled (`files`).
"""

from __future__ import annotations

import contextlib
import errno
import os

from jobjar.attempts.attempt import ClaimedJob, Claimer, about_attempt
from jobjar.attempts.environment import add_given
from jobjar.attempts.own_output import OwnFiles, refused_by_name
from jobjar.job_file.names import has_priority, id_in_name, unnumbered_name
from jobjar.job_file.patterns import fill_pattern
from jobjar.journal.entries import files_entry, warned_late_entry
from jobjar.journal.read import Entry
from jobjar.shared_disk.creating import open_directory


class Surroundings:
    """The surroundings of one attempt. Raises CannotStart with the reason if the job asks for what is not here, OSError while a
    disk refuses."""

    def __init__(self, claimer: Claimer, job: ClaimedJob, environment: dict[bytes, bytes]) -> None:
        assert job.given is not None
        self._job, self._given = job, job.given
        # A descriptor, or -1 for what every job has: its scratch directory.
        self.directory = -1
        self.arguments = self._given.arguments
        self.environment = add_given(environment, self._given)
        given = self._given
        if given.dir is not None:
            self.directory = refused_by_name("directory", given.dir, _open_directory)
        try:
            self._files = OwnFiles(self._fill(given.output), self._fill(given.error), job.pipes_output)
        except BaseException:
            self._close_directory()
            raise
        about = about_attempt(claimer, job)
        self._entries: list[Entry] = [files_entry(about, self._files.paths)] if self._files.paths else []
        self._entries += [warned_late_entry(about, note) for note in self._files.notes]

    def _fill(self, pattern: str | None) -> str | None:
        job = self._job
        if pattern is None:
            return None
        return fill_pattern(pattern, job.uid, name_of_job(job), job.category, job.attempt)

    @property
    def output(self) -> int:
        """A descriptor of the file for its output, or -1 for its worker's output file."""
        return self._files.output

    @property
    def error(self) -> int:
        return self._files.error

    def take_entries(self) -> list[Entry]:
        """Take the entries to be journaled once the job runs."""
        entries, self._entries = self._entries, []
        return entries

    def close(self) -> None:
        """Close what was opened. If the output goes through a pipe, wait for the rest of it."""
        self._files.close()
        self._close_directory()

    def _close_directory(self) -> None:
        if self.directory >= 0:
            with contextlib.suppress(OSError):
                os.close(self.directory)
            self.directory = -1

    def remove(self) -> None:
        """Remove the files that were made for an attempt in which nothing was run."""
        self._files.remove()


def name_of_job(job: ClaimedJob) -> str:
    """What people call a job: the name that it was given, else its id, or the name of a file that was put there by hand."""
    if job.given is not None and job.given.name:
        return job.given.name
    if id_in_name(job.name) is not None:
        return job.uid
    name = unnumbered_name(job.name)
    return name.rpartition(".")[0] if has_priority(name) else name


def _open_directory(path: str) -> int:
    descriptor = open_directory(path)
    if not os.access(path, os.X_OK):
        os.close(descriptor)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return descriptor
