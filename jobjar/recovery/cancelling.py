"""Complete jobs that are cancelled while they wait or are held, by a person or for the end of a prerequisite: without a run, with
outcome `cancelled`.

    limbo/.cancel-<id>/order.json       who cancels, why, and the process that does it
    limbo/.cancel-<id>/cancelled/       waiting jobs on their way, with the sub-directories of unclaimed
    limbo/.cancel-<id>/held/            held jobs on their way

1. Write order.json. 2. Rename a job's file to there, COMMIT: either this or a worker gets it, and it will be completed. 3. to 5.
Journal `ended`, rename it to completed, journal `moved` (stages/complete_without_run.py). After a kill between 2 and 5, the next
recovery does the rest: on that node once the process is dead, on others at any time, since two may do it at once. The files
that are left are the jobs that are left.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence

from jobjar.attempts.attempt import CANCELLED
from jobjar.attempts.claimed_file import found_when_held
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.journal.read import Entry
from jobjar.layout import CANCELLING, TAKEN, TAKEN_HELD, unclaimed_place
from jobjar.ledger.ask_claiming import Candidate, attempt_of_worker, candidate_at
from jobjar.ledger.by_hand import arrival
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.reconcile_jar import reconcile_in_pieces
from jobjar.liveness import ALIVE, DEAD, ProcessIdentity, liveness, this_process
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.contents import CANCELLATION, Unreadable, read_document
from jobjar.shared_disk.creating import common_mode, write_whole
from jobjar.shared_disk.files import list_names, look, make_directory, read_status, remove_file, rename, sync_directory
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.regular import UnfitFile
from jobjar.shared_disk.trees import remove_empty_directories
from jobjar.stages.complete_without_run import Cancellation, TakenJob, complete_cancelled
from jobjar.text import as_text

_ORDER = "order.json"
# Of a message, in characters: a worker reads so much of the order that has it.
_LONGEST = 10_000
_DAY_S = 86400.0


def begin_cancellation(jar: Jar, by: str, message: str) -> Cancellation:
    """Write down who cancels, and what is said of each job. Raises OSError."""
    process = this_process()
    message = as_text(message)[:_LONGEST]
    order = Cancellation(new_id(), by, message, f"{process.node}.{process.pid}")
    directory = jar.layout.cancelling(order.id)
    make_directory(directory, 0o777 & ~jar.umask)  # if this process is killed now, a recovery removes it after a day
    said = {"by": by, "message": order.message, **process._asdict()}
    path = f"{directory}/{_ORDER}"
    write_whole(path, json.dumps(said).encode(), common_mode(directory))
    return order


def take(jar: Jar, order: Cancellation, job: Candidate) -> str:
    """Take a job's file out of where it waits or is held. Returns its path now. Raises FileNotFoundError if it is not there any
    more, OSError."""
    directory = f"limbo/{CANCELLING}{order.id}"
    is_held = job.place.startswith("limbo/")
    target = above = f"{directory}/{TAKEN_HELD if is_held else TAKEN}"
    if job.category and not is_held:
        target += f"/{job.category}"
    try:
        _take(jar, job, target)
    except FileNotFoundError:
        if look(jar.layout.path(target)) is not None or look(jar.layout.path(job.place)) is None:
            raise
        for place in (above, target):
            with contextlib.suppress(FileExistsError):
                make_directory(jar.layout.path(place), 0o777 & ~jar.umask)
        _take(jar, job, target)
    return jar.layout.path(f"{target}/{job.name}")


def _take(jar: Jar, job: Candidate, place: str) -> None:
    above, name = os.path.split(job.place)
    with jar.directory(above) as source, jar.directory(place) as target:
        # COMMIT: from here the job is going to be cancelled
        rename(f"{source}/{name}", f"{target}/{job.name}")


def complete_taken(jar: Jar, order: Cancellation, jobs: Sequence[tuple[str, Candidate, str]]) -> None:
    """Complete jobs that were taken: each is given by its path, what the ledger has of it, and the name that it gets. Raises
    OSError."""
    arrivals: list[Entry] = []
    taken: list[TakenJob] = []
    for path, job, name in jobs:
        uid = job.uid or new_id()
        try:
            status = read_status(path)
        except FileNotFoundError:
            continue  # another process that finishes this was quicker
        entries, job = arrival(job, uid, is_read=True)
        if entries:
            entries[0]["found"] = found_when_held(job, status)
        arrivals += entries
        taken.append(TakenJob(path, name, uid, job.place, job.category, job.attempts, job.move_number, job.moved_at))
    complete_cancelled(jar, order, taken, arrivals, is_durable=True)
    sync_directory(jar.layout.completed)


def end_cancellation(jar: Jar, order_id: str) -> None:
    """Remove the directory of a call whose jobs are all completed."""
    directory = jar.layout.cancelling(order_id)
    for name in (TAKEN, TAKEN_HELD):
        remove_empty_directories(f"{directory}/{name}")
    with contextlib.suppress(OSError):  # another process still works in it, or has removed it
        names = list_names(directory)
        if all(name.startswith(_ORDER) for name in names):
            for name in names:
                remove_file(f"{directory}/{name}")
            os.rmdir(directory)


def settle_cancellations(jar: Jar, log: Callable[[str], None]) -> None:
    """Complete the jobs that a killed call had taken. Raises LedgerError, OSError."""
    left = [
        entry.name.removeprefix(CANCELLING)
        for entry in list_directory(jar.layout.limbo)
        if entry.name.startswith(CANCELLING) and entry.is_dir(follow_symlinks=False)
    ]
    is_reconciled = False
    for order_id in sorted(left):
        order, state = _read_order(jar, order_id)
        if state == ALIVE:
            continue
        is_over = state == DEAD or _is_old(jar, order_id)
        if order is None and is_over:
            order = Cancellation(order_id, "nobody known", CANCELLED, order_id)  # its file was damaged
        taken = list(_list_taken(jar, order_id))
        if taken and order is not None:
            if not is_reconciled:
                reconcile_in_pieces(jar.ledger, jar.layout, with_completed=False, open_journal=jar.open_journal)
                is_reconciled = True
            with jar.ledger.writing() as connection:
                fold_journals(connection, jar.layout)
                known = [(path, _as_taken(connection, place, order_id)) for path, place in taken]
            # Another node's process may live. It alone gives ids to the jobs that have none.
            jobs = [(path, job, job.name) for path, job in known if job is not None and (job.uid or is_over)]
            complete_taken(jar, order, jobs)
            log(f"completed {len(jobs)} jobs that {order.by} was cancelling")
        if is_over:
            end_cancellation(jar, order_id)


def _as_taken(connection: Connection, place: str, order_id: str) -> Candidate | None:
    """The job that was taken from a place, as it was before its end was journaled. None if the ledger does not know it."""
    job = candidate_at(connection, place)
    if job is None or job.uid is None:
        return job
    attempt = attempt_of_worker(connection, job.uid, order_id)
    return job if attempt is None else job._replace(attempts=attempt.number - 1)


def _read_order(jar: Jar, order_id: str) -> tuple[Cancellation | None, str | None]:
    """A call that cancels, and whether its process lives. Both are None if it was killed before it had said who it is."""
    try:
        said = read_document(f"{jar.layout.cancelling(order_id)}/{_ORDER}", CANCELLATION)
    except (FileNotFoundError, Unreadable, UnfitFile):
        return None, None
    process = ProcessIdentity(
        said["node"], said["pid"], said["started"], said["boot_id"], said.get("pid_namespace", "")
    )
    return Cancellation(order_id, said["by"], said["message"], f"{process.node}.{process.pid}"), liveness(process)


def _is_old(jar: Jar, order_id: str) -> bool:
    status = look(jar.layout.cancelling(order_id))
    return status is not None and jar.disk_now() - disk_time(status) > _DAY_S


def _list_taken(jar: Jar, order_id: str) -> Iterator[tuple[str, str]]:
    """The jobs that were taken and are not completed yet: for each its path, and the place that it had. Links that lead to
    other directories hold none."""
    directory = jar.layout.cancelling(order_id)
    for entry in _list_own(f"{directory}/{TAKEN_HELD}"):
        yield entry.path, f"limbo/{entry.name}"
    for entry in _list_own(f"{directory}/{TAKEN}"):
        if entry.is_dir(follow_symlinks=False):
            for inner in list_directory(entry.path):
                yield inner.path, unclaimed_place(entry.name, inner.name)
        else:
            yield entry.path, unclaimed_place("", entry.name)


def _list_own(path: str) -> Iterator[os.DirEntry[str]]:
    return iter(()) if os.path.islink(path) else list_directory(path)
