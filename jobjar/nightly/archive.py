"""The dated archive and retention, for completed jobs and for the directories of workers that ended.

Old ones go to `archive/YYYY-MM-DD/completed/<name>` and `archive/YYYY-MM-DD/workers/<name>~<worker id>`, by the day on which
they were archived. `jobjar show` and `jobjar output` find them there. JJ_KEEP_COMPLETED and JJ_KEEP_WORKERS say after which age
they are deleted from the archive; nothing is deleted elsewhere. Ages are by the disk's clock.

A job's file is renamed, then the move is journaled, then the journal is folded. After a kill between these, reconciliation finds
the file. A deletion is not journaled: the row becomes `removed` because there is no file, in a rebuilt ledger too. Only one
process of all nodes does this at a time (shared_disk/taking_turns.py); two at once would do no harm.
"""

from __future__ import annotations

import contextlib
import os
import re
import time

from jobjar.attempts.tokens_left import holds_jobs
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.journal.entries import moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import WorkerPaths, archive_place
from jobjar.ledger.ask_nightly import AgedJob, archived_before, completed_before
from jobjar.ledger.fold import fold_journal
from jobjar.ledger.removed import mark_removed
from jobjar.roster import ASIDE, WorkerState, list_workers
from jobjar.shared_disk.contents import WORKER, Unreadable, read_document
from jobjar.shared_disk.files import disk_time, make_directory
from jobjar.shared_disk.listing import list_directory, list_everything
from jobjar.shared_disk.moves import move_to_free_name
from jobjar.shared_disk.taking_turns import give_back_role, renew_role, take_role
from jobjar.shared_disk.trees import remove_tree

# Jobs in one transaction. Between two transactions the lock is free, and workers go on.
BATCH = 500
_DAY_S = 86400.0
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# A directory is renamed to this before it is deleted, so that nobody takes a half of it for the whole.
_DOOMED = ".doomed-"


class Kept:
    """What one night moved and deleted. `skipped`: another node does it this night."""

    def __init__(self) -> None:
        self.skipped = False
        self.archived_jobs = 0
        self.archived_workers = 0
        self.deleted_jobs = 0
        self.deleted_workers = 0
        # Parts of workers' directories that could not be deleted; only the first try reports them.
        self.stays: list[str] = []


def date_of(now: float) -> str:
    """The UTC day of a time of the disk's clock, as used in the names of directories and copies."""
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def keep_in_order(jar: Jar, now: float) -> Kept:
    """Archive and delete by age, as the settings say. Raises OSError, LedgerError; what was done until then
    stays done."""
    kept = Kept()
    settings = jar.settings
    archive_days = settings.archive_after_days
    if not (archive_days or settings.keep_completed_days or settings.keep_workers_days):
        return kept
    if not take_role(jar.layout.archiving, jar.disk_now):
        kept.skipped = True
        return kept
    try:
        for worker in _old_workers(jar, now, _first(archive_days, settings.keep_workers_days)):
            kept.archived_workers += _archive_worker(jar, worker, date_of(now))
        kept.archived_jobs = _archive_jobs(jar, now, _first(archive_days, settings.keep_completed_days))
        if settings.keep_completed_days:
            kept.deleted_jobs = _delete_jobs(jar, now - settings.keep_completed_days * _DAY_S)
        if settings.keep_workers_days:
            _delete_workers(jar, now - settings.keep_workers_days * _DAY_S, kept)
        _remove_empty_days(jar, date_of(now))
    finally:
        give_back_role(jar.layout.archiving)
    return kept


def _first(*days: float) -> float:
    """The smallest number of days that is not 0 (never); 0 if all are."""
    return min((number for number in days if number), default=0.0)


def _make_directories(jar: Jar, path: str) -> None:
    """Make a directory of the archive and those above it, with the jar's permissions. They are missing at first."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            make_directory(directory, 0o777 & ~jar.umask)


# Completed jobs


def _archive_jobs(jar: Jar, now: float, days: float) -> int:
    if not days:
        return 0
    place = archive_place(date_of(now))
    row = count = 0
    while True:
        with jar.ledger.errors_named():
            jar.ledger.ensure_open()
            jobs = completed_before(jar.ledger.connection, row, now - days * _DAY_S, BATCH)
        if not jobs:
            return count
        row = jobs[-1].row
        _make_directories(jar, jar.layout.path(place))
        count += _archive_batch(jar, jobs, place)
        renew_role(jar.layout.archiving)


def _archive_batch(jar: Jar, jobs: list[AgedJob], place: str) -> int:
    entries: list[Entry] = []
    directory = jar.layout.path(place)
    by = login()
    try:
        for job in jobs:
            with contextlib.suppress(FileNotFoundError):  # it was moved: an entry or a scan updates the ledger
                name = move_to_free_name(jar.layout.path(job.place), directory, job.name)
                moved_at = disk_time(os.lstat(f"{directory}/{name}"))
                number, to = job.move_number + 1, f"{place}/{name}"
                entries.append(
                    moved_entry(job.uid, number, job.place, to, moved_at, "archived", by, category=job.category)
                )
    finally:
        jar.journal.append(entries)
    with jar.ledger.writing() as connection:
        fold_journal(connection, jar.journal.path)
    return len(entries)


def _delete_jobs(jar: Jar, ended_before: float) -> int:
    row = count = 0
    while True:
        with jar.ledger.errors_named():
            jar.ledger.ensure_open()
            jobs = archived_before(jar.ledger.connection, row, ended_before, BATCH)
        if not jobs:
            return count
        row = jobs[-1].row
        deleted = []
        for job in jobs:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(jar.layout.path(job.place))
                deleted.append(job)
        with jar.ledger.writing() as connection:
            for job in deleted:
                mark_removed(connection, job.row, job.place)
        count += len(deleted)
        renew_role(jar.layout.archiving)


# Directories of workers


def _quiet_since(paths: WorkerPaths) -> float:
    """When a worker last wrote to its own files, or when its end was noted, by the disk's clock."""
    latest = 0.0
    for path in (paths.identity_file, paths.heartbeat, paths.log):
        with contextlib.suppress(FileNotFoundError):
            latest = max(latest, os.stat(path).st_mtime)
    return latest or os.stat(paths.path).st_mtime


def _old_workers(jar: Jar, now: float, days: float) -> list[WorkerState]:
    """The workers that have been quiet for so many days, whose end is noted (by themselves or by recovery), that hold no job,
    and whose scratch/ is empty."""
    if not days:
        return []
    old = []
    for worker in list_workers(jar.layout):
        holds = holds_jobs(worker)
        if (
            worker.ended
            and not holds
            and not any(list_everything(worker.paths.scratch))
            and _quiet_since(worker.paths) < now - days * _DAY_S
        ):
            old.append(worker)
    return old


def _archive_worker(jar: Jar, worker: WorkerState, date: str) -> bool:
    directory = jar.layout.archived_workers(date)
    _make_directories(jar, directory)
    name = worker.paths.name if worker.set_aside else f"{worker.paths.name}{ASIDE}{worker.worker_id}"
    target = WorkerPaths(f"{directory}/{name}")
    try:
        os.rename(worker.paths.path, target.path)
    except FileNotFoundError:
        return False
    is_the_one = False
    with contextlib.suppress(Unreadable):
        is_the_one = bool(read_document(target.identity_file, WORKER)["worker_id"] == worker.worker_id)
    if not is_the_one:
        # A new worker took the process id at this very moment: this is a living worker's directory. Put it back.
        os.rename(target.path, worker.paths.path)
    return is_the_one


def _delete_workers(jar: Jar, quiet_before: float, kept: Kept) -> None:
    for date in list_directory(jar.layout.archive):
        for entry in list(list_directory(jar.layout.archived_workers(date.name))):
            doomed = f"{os.path.dirname(entry.path)}/{_DOOMED}{entry.name}"
            if entry.name.startswith(_DOOMED):
                doomed = entry.path
            elif _quiet_since(WorkerPaths(entry.path)) < quiet_before:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(entry.path, doomed)
                    kept.deleted_workers += 1
            else:
                continue
            stays = remove_tree(doomed)
            if doomed != entry.path:
                kept.stays += map(str, stays)
            renew_role(jar.layout.archiving)


def _remove_empty_days(jar: Jar, today: str) -> None:
    for date in list(list_directory(jar.layout.archive)):
        if _DATE.fullmatch(date.name) and date.name != today:
            for path in (jar.layout.path(archive_place(date.name)), jar.layout.archived_workers(date.name), date.path):
                with contextlib.suppress(OSError):  # it is missing, or not empty
                    os.rmdir(path)
