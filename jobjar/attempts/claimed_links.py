"""The symbolic links in claimed/, for people: one per claimed job, and one per worker, through which the others lead.

Makes a job's link at its claim and takes it away at its end. What a crash leaves there, recovery tidies (recovery/tidy.py).
Nothing depends on the links: a disk that refuses a link stops no job. Nodes may mount the disk at different paths, and earlier
releases wrote absolute links. So a link's text is read as a place in the jar, and a link is never followed.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from jobjar.attempts.attempt import Claimer
from jobjar.job_file.names import numbered_name
from jobjar.layout import Layout, WorkerPaths, held_place
from jobjar.shared_disk.files import link_target, look, rename
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.patience import patiently

MOST_DISCARDED_LINKS = 50_000
# Links are removed for at most so long at once, because jobs and orders wait meanwhile.
_REMOVING_S = 0.25


def link_in_claimed(claimer: Claimer, name: str, path: str) -> str:
    """Make a symbolic link in claimed/ to the job. Returns its path, or '' if the disk refuses it."""
    link_name, number = name, 2
    target = f".{claimer.paths.name}{path[len(claimer.paths.jobs) :]}"
    while True:
        link = f"{claimer.jar.layout.claimed}/{link_name}"
        try:
            patiently(lambda link=link: os.symlink(target, link), link)  # type: ignore[misc]
            return link
        except FileExistsError:
            if _leads_to(link, target):
                return link  # an earlier try made it although it failed, or a dead worker of this name did
            if linked_place(claimer.jar.layout, link) is None:
                with contextlib.suppress(OSError):  # a leftover of a dead worker
                    os.unlink(link)
            else:
                link_name = numbered_name(name, number)
                number += 1
        except OSError:
            return ""


def _leads_to(link: str, target: str) -> bool:
    try:
        return os.readlink(link) == target
    except OSError:
        return False


def take_link_away(claimer: Claimer, link: str) -> None:
    """Move a job's link out of claimed/. It is removed later, with others: on ext4 new inodes are slow for seconds after an
    old one was freed. Removing each link at once cost half a millisecond per job."""
    if not link:
        return
    try:
        if claimer.jar.ledger_home.has_other_homes:
            os.unlink(link)  # over a network one step is cheaper than two, whatever disk the server has
            return
        rename(link, f"{claimer.paths.discarded_links}/{claimer.discarded_links}")
        claimer.discarded_links += 1
    except OSError:
        with contextlib.suppress(OSError):  # recovery removes what stays behind
            os.unlink(link)
    if claimer.discarded_links >= MOST_DISCARDED_LINKS:
        remove_discarded_links(claimer)


def take_own_link_away(claimer: Claimer, link: str) -> None:
    """`take_link_away`, but only if the link leads to this worker. Another worker may have the job and the link by now."""
    with contextlib.suppress(OSError):
        if link and os.readlink(link).startswith(f".{claimer.paths.name}/"):
            take_link_away(claimer, link)


def remove_discarded_links(claimer: Claimer) -> None:
    """Remove links that were taken out of claimed/, as many as can be removed in a moment. For a worker with nothing to do."""
    until = time.monotonic() + _REMOVING_S
    while claimer.discarded_links and time.monotonic() < until:
        claimer.discarded_links -= 1
        with contextlib.suppress(OSError):  # retention removes it with the worker's directory
            os.unlink(f"{claimer.paths.discarded_links}/{claimer.discarded_links}")


def link_worker(layout: Layout, paths: WorkerPaths) -> None:
    """Make the link through which those of a worker's jobs lead. Raises OSError."""
    alias, target = layout.claimed_alias(paths.name), _text_of_link(layout, paths.jobs)
    with contextlib.suppress(FileExistsError):  # a predecessor's link, which leads to the same directory
        patiently(lambda: os.symlink(target, alias), alias)


def unlink_worker(layout: Layout, worker: str) -> None:
    with contextlib.suppress(OSError):  # recovery removes it
        os.unlink(layout.claimed_alias(worker))


def link_job_again(layout: Layout, path: str) -> None:
    """Make the missing link to the job at `path`. Raises FileExistsError, OSError."""
    os.symlink(_text_of_link(layout, path), f"{layout.claimed}/{os.path.basename(path)}")


class Links(NamedTuple):
    """The links in claimed/: those of workers, each with a dot and the worker's name, and those of jobs."""

    of_workers: list[os.DirEntry[str]]
    of_jobs: list[os.DirEntry[str]]


def list_links(layout: Layout) -> Links:
    """The links that are in claimed/ now. Raises OSError."""
    links = Links([], [])
    for entry in list_directory(layout.claimed):
        if entry.is_symlink():
            (links.of_workers if entry.name.startswith(".") else links.of_jobs).append(entry)
    return links


def _text_of_link(layout: Layout, path: str) -> str:
    """The text of a link in claimed/ that leads to `path`, wherever a node has mounted the jar."""
    if path.startswith(f"{layout.home}/"):
        return f"../{path[len(layout.home) + 1 :]}"
    return os.path.relpath(os.path.realpath(path), os.path.realpath(layout.claimed))


def linked_place(layout: Layout, link: str) -> str | None:
    """The place of the job that a link in claimed/ leads to; None if it leads to no job, or no longer. Raises OSError."""
    try:
        text = os.readlink(link)
    except FileNotFoundError:
        return None
    place = _read_place(text)
    if place is None:
        # A person made it.
        target = link_target(link)
        place = None if target is None else _read_place(target)
    return place if place is not None and look(layout.path(place)) is not None else None


def _read_place(text: str) -> str | None:
    """The place that a link means: `.rain.7/LINUX/x.5`, or a path that ends with `rain.7/jobs/LINUX/x.5`."""
    parts = text.split("/")
    if parts[0].startswith(".") and parts[0] not in (".", "..") and len(parts) in (2, 3):
        worker, inner = parts[0][1:], parts[1:]
    elif len(parts) >= 4 and parts[-3] == "jobs":
        worker, inner = parts[-4], parts[-2:]
    elif len(parts) >= 3 and parts[-2] == "jobs":
        worker, inner = parts[-3], parts[-1:]
    else:
        return None
    return held_place(worker, inner[0] if len(inner) == 2 else "", inner[-1])
