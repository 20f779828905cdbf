"""The dated archive and retention, for completed jobs and for the directories of workers that ended.

Old ones go to `archive/YYYY-MM-DD/completed/<name>` and `archive/YYYY-MM-DD/workers/<name>~<worker id>`, by the day on which
they were archived. `jobjar show` and `jobjar output` find them there. JJ_KEEP_COMPLETED and JJ_KEEP_WORKERS say after which age
they are deleted from the archive (array_outputs.py: and with what); nothing is deleted elsewhere. Ages are by the disk's clock.

A job's file is renamed, then the move is journaled, then the journal is folded. After a kill between these, reconciliation finds
the file. A deletion is not journaled: the row becomes `removed` because there is no file, in a rebuilt ledger too. Only one
process of all nodes does this at a time (shared_disk/soft_lock.py); two at once would do no harm.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial

from jobjar.arrays.remove import remove_arrays
from jobjar.attempts.attempt import CHUNK
from jobjar.attempts.tokens_left import holds_jobs
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.journal.entries import moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import WorkerPaths, archive_place, name_in_place
from jobjar.ledger.ask_nightly import OldJob, archived_before, arrays_to_keep, completed_before
from jobjar.ledger.fold import fold_journal
from jobjar.ledger.removed import mark_removed
from jobjar.nightly.array_outputs import ArrayOutputs
from jobjar.roster import ASIDE, WorkerState, list_workers
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.contents import WORKER, Unreadable, read_document
from jobjar.shared_disk.creating import make_directory_in
from jobjar.shared_disk.files import list_if_there, remove_file
from jobjar.shared_disk.listing import list_directory, list_everything
from jobjar.shared_disk.moves import move_to_free_name
from jobjar.shared_disk.regular import UnfitFile, held_directory, pass_over
from jobjar.shared_disk.soft_lock import release_soft_lock, renew_soft_lock, take_soft_lock
from jobjar.shared_disk.trees import remove_tree

# Jobs in one transaction. Between two transactions the lock is free, and workers go on.
BATCH = 500
_DAY_S = 86400.0
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# A directory is renamed to this before it is deleted, so that nobody takes a half of it for the whole.
_DOOMED = ".doomed-"
# The directories of a day.
_JOBS, _WORKERS = "completed", "workers"


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
    if not take_soft_lock(jar.layout.archiving, jar.disk_now):
        kept.skipped = True
        return kept
    try:
        workers = list_workers(jar.layout)
        _put_back(jar, workers)
        old = _old_workers(workers, now, _first(archive_days, settings.keep_workers_days))
        kept.archived_workers = _archive_workers(jar, old, date_of(now))
        kept.archived_jobs = _archive_jobs(jar, now, _first(archive_days, settings.keep_completed_days))
        if settings.keep_completed_days:
            kept.deleted_jobs = _delete_jobs(jar, now - settings.keep_completed_days * _DAY_S)
            remove_arrays(jar, now - settings.keep_completed_days * _DAY_S)
        if settings.keep_workers_days:
            _delete_workers(jar, now - settings.keep_workers_days * _DAY_S, kept)
        _remove_empty_days(jar, date_of(now))
    finally:
        release_soft_lock(jar.layout.archiving)
    return kept


def _first(*days: float) -> float:
    """The smallest number of days that is not 0 (never); 0 if all are."""
    return min((number for number in days if number), default=0.0)


def _held(jar: Jar, *names: str, makes: bool = False) -> contextlib.AbstractContextManager[str]:
    """Hold the directory of these names below archive/: yields a path that goes on meaning it. With `makes` it is made,
    with the jar's permissions. In a group's jar no link is followed: any member may have put one there, and this may run as root.
    Raises UnfitFile (a name is no directory, or leads elsewhere), FileNotFoundError, OSError."""
    return held_directory(
        jar.layout.home,
        os.path.basename(jar.layout.archive),
        *names,
        follow=not jar.is_for_group,
        make=partial(make_directory_in, mode=0o777 & ~jar.umask) if makes else None,
    )


# Completed jobs


def _archive_jobs(jar: Jar, now: float, days: float) -> int:
    if not days:
        return 0
    date = date_of(now)
    row = count = 0
    young = _arrays_to_keep(jar, now - days * _DAY_S)
    while True:
        with jar.ledger.errors_named():
            jar.ledger.ensure_open()
            jobs = completed_before(jar.ledger.connection, row, now - days * _DAY_S, BATCH)
        if not jobs:
            return count
        row = jobs[-1].row
        jobs = _without_chunks_of(jobs, young)
        with _held(jar, date, _JOBS, makes=True) as directory:
            count += _archive_batch(jar, jobs, archive_place(date), directory)
        renew_soft_lock(jar.layout.archiving)


def _archive_batch(jar: Jar, jobs: list[OldJob], place: str, directory: str) -> int:
    entries: list[Entry] = []
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
    young = _arrays_to_keep(jar, ended_before, only_archived=True)
    while True:
        with jar.ledger.errors_named():
            jar.ledger.ensure_open()
            jobs = archived_before(jar.ledger.connection, row, ended_before, BATCH)
        if not jobs:
            return count
        row = jobs[-1].row
        jobs = _without_chunks_of(jobs, young)
        deleted = [job for day, of_day in itertools.groupby(jobs, _day_of) for job in _delete_of_day(jar, day, of_day)]
        with jar.ledger.writing() as connection:
            for job in deleted:
                mark_removed(connection, job.row, job.place)
        count += len(deleted)
        renew_soft_lock(jar.layout.archiving)


def _arrays_to_keep(jar: Jar, ended_before: float, only_archived: bool = False) -> set[str]:
    """The arrays that are not archived, or not deleted, now: all their chunks are, in one night."""
    with jar.ledger.errors_named():
        jar.ledger.ensure_open()
        return arrays_to_keep(jar.ledger.connection, ended_before, only_archived)


def _without_chunks_of(jobs: list[OldJob], arrays: set[str]) -> list[OldJob]:
    return [job for job in jobs if job.kind != CHUNK or job.batch not in arrays] if arrays else jobs


def _day_of(job: OldJob) -> str:
    """The day in a place of the archive (`archive/<day>/completed/<name>`)."""
    return job.place.split("/")[1]


def _delete_of_day(jar: Jar, day: str, jobs: Iterable[OldJob]) -> list[OldJob]:
    """Delete the files of archived jobs; returns the jobs whose file was there."""
    deleted = []
    try:
        with _held(jar, day, _JOBS) as directory:
            for job in jobs:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{directory}/{name_in_place(job.place)}")
                    deleted.append(job)
    except UnfitFile as error:
        pass_over(error.filename, error.strerror)
    except FileNotFoundError:
        pass
    return deleted


# Directories of workers


def _quiet_since(paths: WorkerPaths) -> float:
    """When a worker last wrote to its own files, or when its end was noted, by the disk's clock."""
    latest = 0.0
    for path in (paths.identity_file, paths.heartbeat, paths.log):
        with contextlib.suppress(FileNotFoundError):
            latest = max(latest, os.stat(path).st_mtime)
    return latest or os.stat(paths.path).st_mtime


def _old_workers(workers: list[WorkerState], now: float, days: float) -> list[WorkerState]:
    """The workers that have been quiet for so many days, whose end is noted (by themselves or by recovery), that hold no job
    and no part of an array, and whose scratch/ is empty."""
    if not days:
        return []
    return [
        worker
        for worker in workers
        if worker.ended
        and not holds_jobs(worker)
        and not list_if_there(worker.paths.sharing)
        and not any(list_everything(worker.paths.scratch))
        and _quiet_since(worker.paths) < now - days * _DAY_S
    ]


def _archive_workers(jar: Jar, workers: list[WorkerState], date: str) -> int:
    """Archive the directories of workers; returns how many were there."""
    if not workers:
        return 0
    with _held(jar, date, _WORKERS, makes=True) as directory:
        return sum(_archive_worker(jar, worker, directory) for worker in workers)


def _archive_worker(jar: Jar, worker: WorkerState, directory: str) -> bool:
    """Move a worker's directory to `directory`; returns whether it was there.

    The directory first gets the name of one that is set aside. A kill then leaves it in workers/, where recovery and every
    listing see what it holds, even if it is a living worker's (`_put_back`).
    """
    path = worker.paths.path
    try:
        if not worker.set_aside:
            path = f"{path}{ASIDE}{worker.worker_id}"
            os.rename(worker.paths.path, path)
        if not _is_of(WorkerPaths(path), worker):
            # A new worker took the process id at this very moment: this is a living worker's directory. Put it back.
            os.rename(path, worker.paths.path)
            return False
        os.rename(path, f"{directory}/{os.path.basename(path)}")
    except FileNotFoundError:
        return False
    return True


def _is_of(paths: WorkerPaths, worker: WorkerState) -> bool:
    with contextlib.suppress(Unreadable):
        return bool(read_document(paths.identity_file, WORKER)["worker_id"] == worker.worker_id)
    return False


def _put_back(jar: Jar, workers: list[WorkerState]) -> None:
    """Give a living worker's directory its name again, if an archiving was killed that had taken it for an earlier worker's."""
    for worker in workers:
        is_own = worker.paths.name.endswith(f"{ASIDE}{worker.worker_id}")
        if worker.set_aside and not is_own and worker.is_running:
            with contextlib.suppress(OSError):  # there is another one already
                os.rename(worker.paths.path, jar.layout.worker(worker.name).path)


def _delete_workers(jar: Jar, quiet_before: float, kept: Kept) -> None:
    old: set[str] = set()
    young = {worker.worker_id for worker in list_workers(jar.layout)}
    for _, entry in _archived_workers(jar):
        if not entry.name.startswith(_DOOMED):
            (old if _quiet_since(WorkerPaths(entry.path)) < quiet_before else young).add(_id_in(entry.name))
    outputs = ArrayOutputs(jar, old, young)
    for directory, entry in _archived_workers(jar):
        if _id_in(entry.name) not in outputs.kept:
            _delete_worker(jar, directory, entry, _id_in(entry.name) in old, kept)
            continue
        held = held_directory(entry.path, "output", follow=not jar.is_for_group)
        with contextlib.suppress(FileNotFoundError, UnfitFile), held as path:
            for name in outputs.due(_id_in(entry.name)):
                remove_file(f"{path}/{name}")


def _archived_workers(jar: Jar) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The directories of workers in the archive, each with the path of the directory that it is in."""
    for date in _days(jar):
        try:
            with _held(jar, date, _WORKERS) as directory:
                for entry in list(list_directory(directory)):
                    if entry.is_dir(follow_symlinks=False):  # a file there is none of ours
                        yield directory, entry
        except UnfitFile as error:
            pass_over(error.filename, error.strerror)
        except FileNotFoundError:
            continue


def _id_in(name: str) -> str:
    """The worker's id in the name of its directory in the archive."""
    return name.rpartition(ASIDE)[2]


def _delete_worker(jar: Jar, directory: str, entry: os.DirEntry[str], is_old: bool, kept: Kept) -> None:
    doomed = f"{directory}/{_DOOMED}{entry.name}"
    if entry.name.startswith(_DOOMED):
        doomed = entry.path
    elif is_old:
        with contextlib.suppress(FileNotFoundError):
            os.rename(entry.path, doomed)
            kept.deleted_workers += 1
    else:
        return
    stays = remove_tree(doomed)
    if doomed != entry.path:
        shown = os.path.realpath(directory)
        kept.stays += [str(each._replace(path=each.path.replace(directory, shown))) for each in stays]
    renew_soft_lock(jar.layout.archiving)


def _days(jar: Jar) -> list[str]:
    """The days of which the archive has anything. A file beside them is none of ours."""
    with contextlib.suppress(FileNotFoundError), _held(jar) as archive:
        return [entry.name for entry in list_directory(archive) if entry.is_dir() or entry.is_symlink()]
    return []


def _remove_empty_days(jar: Jar, today: str) -> None:
    for date in _days(jar):
        if _DATE.fullmatch(date) and date != today:
            with contextlib.suppress(OSError), _held(jar, date) as day:
                for name in (_JOBS, _WORKERS):
                    with contextlib.suppress(OSError):  # it is missing, or not empty
                        os.rmdir(f"{day}/{name}")
            with contextlib.suppress(OSError):
                os.rmdir(f"{jar.layout.archive}/{date}")
