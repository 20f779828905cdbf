"""Cancel all waiting jobs of a batch, or give them another priority.

The ledger, brought up to date, names the jobs; cancel.py and reprioritize.py move them. After a kill midway, everything is
repeated from the beginning, and finished jobs are found finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from jobjar.batches.cancel import complete_taken, list_taken, remove_taken, take_waiting
from jobjar.batches.reprioritize import reprioritize
from jobjar.control import request_kill
from jobjar.jar import Jar
from jobjar.job_file.names import id_in_name, new_id, priority_in_name
from jobjar.layout import category_of_place, worker_of_place
from jobjar.ledger.ask_batch_jobs import WaitingJob, job_that_was_at, running_jobs, waiting_jobs
from jobjar.ledger.ask_claiming import attempt_of_worker
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.reconcile_jar import reconcile_in_pieces
from jobjar.shared_disk.files import look

CHUNK = 200


def cancel_batch(
    jar: Jar, name: str, change_id: str, by: str, is_wanted: Callable[[], bool], is_late: bool = False
) -> tuple[int, list[str]]:
    """Complete the waiting jobs of a batch as cancelled, and ask workers to kill its running jobs. Returns the number of the
    cancelled jobs, and the names of the running ones. Raises OSError, LedgerError.

    `is_wanted` returns whether the batch is still aborted. It is called after jobs are listed, and before they are touched. A
    restart makes new jobs, so none of those was listed while the batch was aborted. `is_late`: `by` did not abort the batch, but
    cancels jobs that came back later.
    """
    directory = jar.layout.staged(change_id)
    message = f"batch {name} is aborted, and it had come back" if is_late else f"batch {name} was aborted by {by}"
    reconcile_in_pieces(jar.ledger, jar.layout, with_completed=False, open_journal=jar.open_journal)
    cancelled = _complete_taken(jar, directory, change_id, by, message)
    after = ""
    while True:
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            jobs = waiting_jobs(connection, name, CHUNK, after)
        if not jobs or not is_wanted():
            break
        after = jobs[-1].uid
        take_waiting(jar, jobs, directory)
        cancelled += _complete_taken(jar, directory, change_id, by, message)
    remove_taken(directory)
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        running = running_jobs(connection, name)
    if not is_wanted():
        return cancelled, []  # another process finished this change meanwhile, and the batch was restarted
    for uid, _, place in running:
        worker = worker_of_place(place)
        if worker is not None and look(jar.layout.path(place)) is not None:
            request_kill(jar.layout, worker, uid)
    return cancelled, [job_name for _, job_name, _ in running]


def set_priority(jar: Jar, name: str, priority: int, by: str, is_wanted: Callable[[], bool]) -> None:
    """Give the waiting jobs of a batch a priority, as long as `is_wanted`: no later change gave them another one.

    Raises OSError, LedgerError.
    """
    reconcile_in_pieces(jar.ledger, jar.layout, with_completed=False, open_journal=jar.open_journal)
    with jar.ledger.writing() as connection:
        jobs = waiting_jobs(connection, name, CHUNK)
    while jobs and is_wanted():
        reprioritize(jar, jobs, priority, by)
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            jobs = waiting_jobs(connection, name, CHUNK, jobs[-1].uid)


def _complete_taken(jar: Jar, directory: str, change_id: str, by: str, message: str) -> int:
    taken = list_taken(directory)
    if not taken:
        return 0
    with jar.ledger.writing() as connection:
        known = [(path, _as_taken(connection, place, change_id)) for path, place in taken]
    # A job that the ledger forgot has its id in its name, like all jobs of a batch.
    jobs = [(path, job or _forgotten(path, place)) for (path, job), (_, place) in zip(known, taken, strict=True)]
    return complete_taken(jar, jobs, change_id, by, message)


def _as_taken(connection: Connection, place: str, change_id: str) -> WaitingJob | None:
    """The job that was taken from a place, as it was before this change journaled its end."""
    job = job_that_was_at(connection, place)
    attempt = None if job is None else attempt_of_worker(connection, job.uid, change_id)
    return job if job is None or attempt is None else job._replace(attempts=attempt.number - 1)


def _forgotten(path: str, place: str) -> WaitingJob:
    name = os.path.basename(path)
    category = category_of_place(place) or ""
    return WaitingJob(id_in_name(name) or new_id(), name, place, category, priority_in_name(name), 1, 0.0, 0)
