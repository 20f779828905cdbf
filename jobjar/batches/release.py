"""Make the jobs of a batch claimable after its change was committed.

Their files lie, whole and synced, in the change's directory in limbo, with one directory per chunk. The steps for each chunk:
rename it to `….leaving` (reconciliation takes the files in it for jobs in limbo), journal `submitted` of its jobs, rename them to
unclaimed, journal `moved`, remove the chunk. Jobs that are to be held are journaled so with `submitted`, and renamed to limbo.
After a kill anywhere, the work is repeated; two processes may do it at once. The files that are left are the jobs that are left,
and folding an entry twice is harmless.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import NamedTuple

from jobjar.attempts.attempt import CHUNK, DESCRIBED
from jobjar.errors import BadAttribute
from jobjar.jar import Jar
from jobjar.job_file.attributes import HEADER_BYTES, read_header, settle_attributes
from jobjar.job_file.prerequisites import meant_by_chunk, take_words
from jobjar.journal.entries import submitted_entry
from jobjar.journal.read import Entry
from jobjar.journal.submitted import first_move_entry, held_entry, is_to_be_held
from jobjar.layout import LEAVING, unclaimed_place
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.file_mark import make_mark
from jobjar.shared_disk.files import list_names, make_directory, rename, sync_directory
from jobjar.shared_disk.moves import move_under_own_name
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import UnfitFile, open_regular, pass_over
from jobjar.shared_disk.trees import remove_tree

_CHUNK = re.compile(rf"[0-9]+(?:{re.escape(LEAVING)})?")
_COUNTER = re.compile(r"-[0-9]+-([0-9]+)-")


class _Leaving(NamedTuple):
    path: str
    category: str
    name: str

    @property
    def order(self) -> tuple[int, str]:
        """The order in which the jobs were written: by the writer's counter, which follows its process id in the name."""
        found = _COUNTER.search(self.name)
        return int(found.group(1)) if found else 0, self.name


def release_staged(jar: Jar, directory: str, by: str, meter: Meter = SILENT) -> int:
    """Make all jobs in a change's directory claimable, in their order, and remove it. Returns how many this call moved, which
    are reported to `meter`. `by` submitted them. Raises OSError: the next process that settles the change does the rest."""
    released = 0
    try:
        chunks = sorted(filter(_CHUNK.fullmatch, list_names(directory)))
    except FileNotFoundError:
        return 0
    for chunk in chunks:
        path = f"{directory}/{chunk}"
        if not chunk.endswith(LEAVING):
            try:
                rename(path, path + LEAVING)
            except FileNotFoundError:
                continue  # another process has it, and a later settling finds what that one leaves
            path += LEAVING
        moved = _release_chunk(jar, path, by)
        meter.add(moved)
        released += moved
        jar.mirror(after_s=jar.settings.poll_time_s)
    with contextlib.suppress(OSError):  # another process still works in it
        os.rmdir(directory)
    return released


def discard_staged(directory: str) -> None:
    """Remove the files of a discarded change. Two processes may do it at once. Raises OSError where some of it stays."""
    remove_tree(directory)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)


def _release_chunk(jar: Jar, path: str, by: str) -> int:
    jobs = sorted(_list_chunk(path), key=lambda job: job.order)
    submitted = [(job, entry) for job in jobs if (entry := _submitted_entry(job, by)) is not None]
    # What is to be held is journaled as in limbo, where the files in this directory count as well.
    held = [held_entry(entry) for _, entry in submitted if is_to_be_held(entry)]
    jar.journal.append([*(entry for _, entry in submitted), *held], durable=True)
    moved: list[Entry] = []
    try:
        for job, entry in submitted:
            if is_to_be_held(entry):
                with contextlib.suppress(FileNotFoundError):  # another process moved it
                    move_under_own_name(job.path, f"{jar.layout.limbo}/{job.name}")
            elif (move_entry := _move_to_unclaimed(jar, job, entry)) is not None:
                moved.append(move_entry)
    finally:
        with contextlib.suppress(OSError):  # a scan finds the moves that could not be journaled
            jar.journal.append(moved)
    if held:
        sync_directory(jar.layout.limbo)
    for category in {job.category for job in jobs} if len(held) < len(submitted) else ():
        sync_directory(jar.layout.category_directory(category))
    for category in sorted({job.category for job in jobs} | {""}, reverse=True):
        with contextlib.suppress(OSError):  # another process still works in it
            os.rmdir(f"{path}/{category}" if category else path)
    return len(moved)


def _list_chunk(path: str) -> list[_Leaving]:
    jobs = []
    with contextlib.suppress(FileNotFoundError), patiently(lambda: os.scandir(path), path) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                jobs.append(_Leaving(entry.path, "", entry.name))
                continue
            with contextlib.suppress(FileNotFoundError), os.scandir(entry.path) as inner:
                jobs += [_Leaving(file.path, entry.name, file.name) for file in inner]
            if not any(job.category == entry.name for job in jobs):
                with contextlib.suppress(OSError):
                    os.rmdir(entry.path)
    return jobs


def _submitted_entry(job: _Leaving, by: str) -> Entry | None:
    """Make a job's `submitted` entry; None where another process has moved the job on, or its path is no regular file."""

    def read() -> tuple[bytes, os.stat_result]:
        with open(job.path, "rb", opener=open_regular) as file:
            return file.read(HEADER_BYTES), os.fstat(file.fileno())

    try:
        data, status = patiently(read, job.path)
    except FileNotFoundError:
        return None
    except UnfitFile as error:
        pass_over(job.path, error.strerror)
        return None
    try:
        attributes = settle_attributes(read_header(data, job.path), job.path, status)
        words = take_words(attributes.get("given", {}))  # what a restart submits again waits for nothing
        if words and attributes.get("kind") == CHUNK:
            attributes["given"] |= meant_by_chunk(words)
    except BadAttribute:
        attributes = {
            "kind": DESCRIBED
        }  # edited by hand meanwhile; the worker that claims it holds it, with the reason
    return submitted_entry(job.name, job.category, by, disk_time(status), attributes, make_mark(status, data))


def _move_to_unclaimed(jar: Jar, job: _Leaving, submitted: Entry) -> Entry | None:
    """Move one file. Returns its `moved` entry, or None where another process moved it."""
    path = jar.layout.path(unclaimed_place(job.category, job.name))
    with contextlib.suppress(FileExistsError):
        make_directory(os.path.dirname(path), 0o777 & ~jar.umask)  # the category may have been removed meanwhile
    try:
        move_under_own_name(job.path, path)
    except FileNotFoundError:
        return None
    return first_move_entry(jar.layout, submitted)
