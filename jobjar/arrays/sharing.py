"""Give a part of a chunk's tasks away, so that idle workers share the rest of an array: no one is in charge of that.

The worker that holds the chunk writes a file for the other part into `sharing/<id>/` of its own directory, where nobody takes it
for a job. COMMIT: it renames its own held file to the shorter range; that fails if the chunk was taken back, as any rename from
there does. Then it moves the other file to unclaimed. After a kill before the commit the file is discarded; after it recovery
moves it on. The name of the chunk's file decides which: `settle_shared`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from jobjar.arrays.indexes import range_in_name, with_range
from jobjar.arrays.submit import chunk_script
from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.attempts.claimed_links import link_in_claimed, take_link_away
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.job_file.attributes import HEADER_BYTES, read_header
from jobjar.job_file.names import id_in_name, identifier_in_name, is_same_name, make_name
from jobjar.journal.entries import moved_entry, submitted_entry
from jobjar.journal.read import Entry
from jobjar.journal.submitted import first_move_entry
from jobjar.layout import WorkerPaths, category_of_place, held_place, name_in_place, worker_of_place
from jobjar.ledger.ask_arrays import places_with_worker
from jobjar.ledger.by_hand import last_move
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals
from jobjar.roster import ASIDE
from jobjar.shared_disk.clock import disk_time, moved_time
from jobjar.shared_disk.creating import create_anew
from jobjar.shared_disk.file_mark import make_mark
from jobjar.shared_disk.files import (
    list_if_there,
    make_directory,
    read_file,
    read_status,
    remove_file,
    rename,
    sync_directory,
    write_all,
)
from jobjar.shared_disk.listing import list_held
from jobjar.shared_disk.moves import move_under_own_name
from jobjar.shared_disk.patience import is_transient
from jobjar.stages.complete import WhileRefused

# The reason of the move by which a worker shortens a chunk that it holds.
SHARED = "shared"
# Before a chunk is shared, its worker has held it for so long. Idle workers then find other chunks first, if there are any.
HELD_S = 1.0


def count_to_give(left: int, is_running: bool) -> int:
    """How many of the `left` tasks of a chunk that have not begun go to an idle worker: half of them. While a task runs
    (`is_running`), even the last one goes: nobody knows how long that takes."""
    return (left + 1) // 2 if is_running else left // 2


def share(
    claimer: Claimer,
    job: ClaimedJob,
    kept: tuple[int, int],
    given: tuple[int, int],
    refused: WhileRefused,
    lines: str = "",
) -> ClaimedJob:
    """Keep a range of a held chunk, and give another away, with `#JJ` lines. Returns the job as it is held now.

    Raises FileNotFoundError if the chunk was taken back, OSError: nothing was given away then.
    """
    jar = claimer.jar
    directory = f"{claimer.paths.sharing}/{job.uid}"
    for path in (claimer.paths.sharing, directory):
        with contextlib.suppress(FileExistsError):
            make_directory(path)
    identifier = identifier_in_name(with_range(job.name, *given), job.submitter)
    prepared = f"{directory}/{make_name(job.priority, identifier or '+{}-{}'.format(*given), True)}"
    try:
        descriptor = create_anew(prepared, 0o600, os.O_RDWR)
        try:
            write_all(descriptor, chunk_script(str(job.batch), job.seed or 0, lines))
            os.fchmod(descriptor, 0o770 if jar.is_for_group else 0o700)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(directory)
        name = with_range(job.name, *kept)
        path = f"{os.path.dirname(job.path)}/{name}"
        # COMMIT: from here the other part is no task of this chunk.
        rename(job.path, path)
    except OSError as error:
        if not is_transient(error):  # else the rename may still happen, and recovery finds out
            remove_file(prepared)
        raise
    claimer.taken_paths.discard(job.path)
    claimer.taken_paths.add(path)
    place = held_place(claimer.paths.name, job.category, name)
    at = moved_time(path, job.claimed_at)
    entry = moved_entry(job.uid, job.move_number + 1, job.place, place, at, SHARED, claimer.paths.name)
    refused.insist(lambda: jar.journal.append([entry]))  # else recovery does it
    refused.insist(lambda: submit_shared(jar, prepared, job.category, job.submitter))  # else recovery does it
    _remove_empty(directory, claimer.paths.sharing)
    take_link_away(claimer, job.link)
    link = link_in_claimed(claimer, name, path)
    return job._replace(name=name, path=path, place=place, move_number=job.move_number + 1, link=link)


def submit_shared(jar: Jar, path: str, category: str, submitter: str) -> None:
    """Move the file of a part that was given away to unclaimed. Raises OSError: recovery does the rest."""
    layout, name = jar.layout, os.path.basename(path)
    try:
        status = read_status(path)
        data = read_file(path, size=HEADER_BYTES)
    except FileNotFoundError:
        return  # a recovery has moved it, or this worker, which was taken for dead
    attributes = read_header(data, path)
    submitted = submitted_entry(name, category, submitter, disk_time(status), attributes, make_mark(status, data))
    jar.journal.append([submitted], durable=jar.ledger_home.has_other_homes)
    target = layout.category_directory(category)
    with contextlib.suppress(FileExistsError):
        make_directory(target, 0o777 & ~jar.umask)
    try:
        move_under_own_name(path, f"{target}/{name}")
    except FileNotFoundError:
        return  # as above
    jar.journal.append([first_move_entry(layout, submitted)])


def entry_of_sharing(connection: Connection, job: ClaimedJob) -> Entry | None:
    """The entry by which the worker of a chunk says that it made its range shorter, if it was killed before it journaled that;
    else None. Recovery journals it before it moves the chunk: the worker's own would be the same. Raises OSError."""
    last, worker = last_move(connection, job.uid), worker_of_place(job.place)
    if last is None or worker is None or worker_of_place(last.place) != worker or last.place == job.place:
        return None
    if range_in_name(job.name) is None or not is_same_name(job.name, name_in_place(last.place)):
        return None
    at = disk_time(read_status(job.path))
    return moved_entry(job.uid, last.number + 1, last.place, job.place, at, SHARED, worker)


def settle_shared(jar: Jar, paths: WorkerPaths, log: Callable[[str], None]) -> None:
    """Settle what a worker was about to give away of chunks that it does not hold any more: submit what it had given, discard the
    rest. It commits nothing more of that. Raises LedgerError, OSError."""
    # The files are listed before the jobs: a chunk that is claimed again, and shared anew, has other files.
    found = {uid: list_if_there(f"{paths.sharing}/{uid}") for uid in list_if_there(paths.sharing)}
    held = {id_in_name(entry.name) for _, entry in list_held(paths)}
    for uid, names in found.items():
        if uid in held:
            continue
        directory = f"{paths.sharing}/{uid}"
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            places = places_with_worker(connection, uid, paths.name.partition(ASIDE)[0])
        kept = [part for place in places if (part := range_in_name(name_in_place(place))) is not None]
        categories = [category for place in places if (category := category_of_place(place))]
        for name in names:
            part, path = range_in_name(name), f"{directory}/{name}"
            # If in doubt it is submitted: a task that ran twice has one end, and one that is lost has none.
            if part is None or (kept and part[0] <= min(last for _, last in kept)):
                remove_file(path)
                continue
            submit_shared(jar, path, categories[0] if categories else "", login())
            log(f"{paths.name}: went on to give the tasks {part[0]}-{part[1]} of an array away")
        _remove_empty(directory)
    _remove_empty(paths.sharing)


def _remove_empty(*directories: str) -> None:
    for path in directories:
        with contextlib.suppress(OSError):  # not empty: what is in it could not be given away yet
            os.rmdir(path)
