"""Dated copies of a ledger home's database, made with SQLite's backup interface while it is in use.

Reads the live ledger. Writes `<home>/copies/ledger-YYYY-MM-DD.db`: temporary name, fsync, rename. Killed midway, a
temporary file stays, which `sweep_copies` removes in a later night.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat

from jobjar.ledger.database import back_up, check_database, remove_database
from jobjar.ledger.store import Ledger
from jobjar.shared_disk.creating import TEMPORARY, temporary_path
from jobjar.shared_disk.files import sync_directory, sync_file
from jobjar.shared_disk.leftovers import remove_leftovers
from jobjar.shared_disk.regular import UnfitFile

KEPT = 7
_COPY = re.compile(r"ledger-[0-9]{4}-[0-9]{2}-[0-9]{2}\.db")
_TEMPORARY = r"ledger-.*\.db" + TEMPORARY + ".*"


def copy_database(ledger: Ledger, path: str) -> None:
    """Copy the live ledger to `path`, whole or not at all. Raises OSError, LedgerUnavailable."""
    temporary = temporary_path(path)
    try:
        with ledger.errors_named():
            ledger.ensure_open()
            back_up(ledger.path, temporary)
        check_database(temporary)
        sync_file(temporary)
        os.rename(temporary, path)
        sync_directory(os.path.dirname(path))
    finally:
        remove_database(temporary)


def make_dated_copy(ledger: Ledger, date: str) -> str:
    """Copy the live ledger as the copy of `date` (YYYY-MM-DD), and keep the newest seven copies. Returns the copy's
    path. Raises as `copy_database`."""
    directory = ledger.home.dated_copies
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, os.stat(ledger.home.path).st_mode & 0o770)
    _refuse_foreign_link(directory)
    path = f"{directory}/ledger-{date}.db"
    copy_database(ledger, path)
    for name in sorted(name for name in os.listdir(directory) if _COPY.fullmatch(name))[:-KEPT]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")
    return path


def _refuse_foreign_link(path: str) -> None:
    """A link of this user's, or of root's, may lead to another disk. One of a member of a group's jar may lead anywhere. Raises
    UnfitFile."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
        raise UnfitFile(errno.ELOOP, "it is a link that somebody else put there; remove it", path)


def sweep_copies(ledger: Ledger) -> list[str]:
    """Remove what killed processes left half-copied; returns the names. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        _refuse_foreign_link(ledger.home.dated_copies)
    return remove_leftovers(ledger.home.dated_copies, _TEMPORARY)
