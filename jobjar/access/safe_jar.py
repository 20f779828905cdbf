"""When a jar is refused because workers would run the jobs of others: modes that let others write, links, root in a group's jar.

Reads the status of directories and files; writes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from jobjar.access.access import describe_user
from jobjar.errors import RootForGroup, UnsafeJar, UnsafeLink
from jobjar.layout import Layout
from jobjar.shared_disk.files import follow_status
from jobjar.shared_disk.patience import FLICKER_S, patiently


def check_is_safe(layout: Layout, categories: Iterable[str] | None = None) -> None:
    """Raise UnsafeJar if others could put jobs into this jar, since a worker would run them. `categories` are the categories to
    check; None means all. Raises OSError."""
    named = (
        _subdirectories(layout.unclaimed) if categories is None else map(layout.category_directory, sorted(categories))
    )
    for path in (*layout.directories(), layout.python, layout.config_file, *named):
        check_path_is_safe(path)


def check_path_is_safe(path: str) -> None:
    """Raise UnsafeJar if others can write to `path`; a missing path is safe. Raises OSError."""
    try:
        # A worker calls this while it holds its ledger's lock.
        status = follow_status(path, FLICKER_S)
    except FileNotFoundError:
        return
    if status.st_mode & 0o002:
        raise UnsafeJar(path=path, mode=status.st_mode & 0o7777)


def check_who_runs_jobs(layout: Layout) -> None:
    """Raise RootForGroup if this process is root's and would run jobs of others. Raises OSError."""
    if os.geteuid() != 0:
        return
    for path in (layout.home, layout.limbo, layout.unclaimed, *_subdirectories(layout.unclaimed)):
        status = follow_status(path)
        if status.st_uid != 0 or status.st_mode & 0o020:
            raise RootForGroup(path=path, owner=describe_user(status.st_uid), mode=stat.S_IMODE(status.st_mode))


def refuse_links(layout: Layout) -> None:
    """Raise UnsafeLink if a directory of a group's jar is a link. Any member may have put it there, and others would submit and
    journal to where it leads."""
    for path in layout.directories()[1:]:
        if path.startswith(f"{layout.home}/"):
            refuse_link(path)


def refuse_link(path: str) -> None:
    """Raise UnsafeLink if a link is at `path`, in a group's jar."""
    if os.path.islink(path):
        raise UnsafeLink(path=path)


def _subdirectories(path: str) -> list[str]:
    with patiently(lambda: os.scandir(path), path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
