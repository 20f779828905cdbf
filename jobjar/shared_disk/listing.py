"""List the directories of a jar, and the files there that may be jobs. Writes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from jobjar.layout import (
    CANCELLING,
    LEAVING,
    STAGED,
    TAKEN,
    TAKEN_HELD,
    Layout,
    WorkerPaths,
    archive_place,
    jobs_place,
    unclaimed_place,
)
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.files import is_job_file, look
from jobjar.shared_disk.patience import FLICKER_S, patiently
from jobjar.shared_disk.regular import pass_over
from jobjar.text import is_text


def list_directory(path: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a directory; none if it has gone. Names that are not UTF-8 are skipped: nothing of a jar has one.
    Raises OSError for a disk in trouble, which does not count as empty."""
    return (entry for entry in list_everything(path) if is_text(entry.name))


def list_everything(path: str) -> Iterator[os.DirEntry[str]]:
    """`list_directory` with the names that are not UTF-8."""
    missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
    try:
        with missing, patiently(lambda: os.scandir(path), path, FLICKER_S) as entries:
            yield from entries
    except OSError as error:
        if error.errno != errno.ELOOP or error.filename != path:
            raise
        pass_over(path, "its path has a loop of links")


def list_allowed(path: str) -> Iterator[os.DirEntry[str]]:
    """`list_directory`, but a directory that this user may not list counts as empty, so that the others are still listed.
    Files that the ledger knows in it do not count as gone (files.is_gone)."""
    with contextlib.suppress(PermissionError):
        yield from list_directory(path)


def list_directories(path: str) -> list[str]:
    """The names of the directories in a directory, without hidden ones; none if this user may not list it."""
    return [
        entry.name
        for entry in list_allowed(path)
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
    ]


def list_jar(path: str, place: str, links: list[str] | None = None) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield (place, entry) for each regular file in a jar and its categories, without dot files. The paths of symbolic links
    are appended to `links`. A category of unclaimed/ that this user may not list is skipped (reports/refused.py reports it).
    """
    for entry in list_directory(path):
        if entry.name.startswith("."):
            continue
        if entry.is_file(follow_symlinks=False):
            yield f"{place}/{entry.name}", entry
        elif entry.is_dir(follow_symlinks=False) and place.startswith(("unclaimed", "workers/")):
            for inner in list_allowed(entry.path) if place == "unclaimed" else list_directory(entry.path):
                if not inner.name.startswith(".") and inner.is_file(follow_symlinks=False):
                    yield f"{place}/{entry.name}/{inner.name}", inner
                elif links is not None and inner.is_symlink():
                    links.append(inner.path)
        elif links is not None and entry.is_symlink():
            links.append(entry.path)


def list_held(paths: WorkerPaths, links: list[str] | None = None) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the place and the entry of each file that a worker holds, those in categories included. The paths of symbolic links
    are appended to `links`."""
    return list_jar(paths.jobs, jobs_place(paths.name), links)


def list_jars(
    layout: Layout, with_completed: bool = True, links: list[str] | None = None, meter: Meter = SILENT
) -> set[str]:
    """Return the places of all files in all jars. The jars are read in the order in which jobs move, so that a moving job is
    not missed. The paths of symbolic links are appended to `links`."""
    places = {place for place, _ in list_jar(layout.limbo, "limbo", links)}
    places.update(leaving_places(layout))
    places.update(place for place, _ in meter.counted(list_jar(layout.unclaimed, "unclaimed", links)))
    places.update(list_worker_jobs(layout, links))
    if with_completed:
        places.update(place for place, _ in meter.counted(list_jar(layout.completed, "completed", links)))
        for date in list_directory(layout.archive):
            day = archive_place(date.name)
            places.update(place for place, _ in meter.counted(list_jar(layout.path(day), day, links)))
    return places


def list_worker_jobs(layout: Layout, links: list[str] | None = None) -> Iterator[str]:
    """Yield the places of the files that workers hold. The paths of symbolic links are appended to `links`."""
    for worker in list_directory(layout.workers):
        if worker.is_dir(follow_symlinks=False):
            with contextlib.suppress(PermissionError):  # as in list_allowed
                for place, _ in list_held(layout.worker(worker.name), links):
                    yield place


def leaving_places(layout: Layout) -> Iterator[str]:
    """Yield the places that journals have for jobs that a change of a batch is moving, or a cancellation. Jobs that are just
    becoming claimable are journaled as in limbo; jobs that are being cancelled are still journaled as unclaimed, or as held."""
    for staged in list_directory(layout.limbo):
        if not staged.name.startswith((STAGED, CANCELLING)):
            continue
        for chunk in list_allowed(staged.path):
            is_taken = chunk.name == TAKEN
            if not is_taken and chunk.name != TAKEN_HELD and not chunk.name.endswith(LEAVING):
                continue
            for entry in list_allowed(chunk.path):
                if not entry.is_dir(follow_symlinks=False):
                    yield unclaimed_place("", entry.name) if is_taken else f"limbo/{entry.name}"
                    continue
                for file in list_allowed(entry.path):
                    yield unclaimed_place(entry.name, file.name) if is_taken else f"limbo/{file.name}"


def is_job_at(path: str) -> bool:
    """Whether a job's file is at `path`. A file without its run bit is no job. Neither is the placeholder of a killed move
    (placeholder.py), whose job is elsewhere. Raises OSError."""
    status = look(path)
    return status is not None and is_job_file(status)
