"""End a dead worker's jobs whose own files are gone because the jobs removed them; and helpers for all jobs of such workers.

A job without a file cannot run again. First its end is journaled. Then a note takes the place of its file
(attempts/missing_file.py), and recovery moves that on like any job whose outcome is journaled. After a kill between the two, the
next recovery leaves the note.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from jobjar.attempts.attempt import CANCELLED, CRASHED, INTERRUPTED, STRANDED, ClaimedJob
from jobjar.attempts.missing_file import find_moved, leave_note
from jobjar.control import cancel_request
from jobjar.jar import Jar
from jobjar.journal.entries import ended_entry
from jobjar.layout import WorkerPaths, category_of_place, name_in_place
from jobjar.ledger.ask_claiming import Candidate, HeldAttempt, attempt_of_worker, candidate_at
from jobjar.ledger.fold import fold_journal, fold_journals
from jobjar.roster import WorkerState, read_worker
from jobjar.shared_disk.files import look, rename


@contextlib.contextmanager
def owner_stays(jar: Jar, worker: WorkerState) -> Iterator[bool]:
    """Hold the home's lock, and yield whether a worker's directory still belongs to it. A new worker with the same process id
    sets the directory aside under this lock (`set_aside`); later findings there would concern that worker, which lives. Other
    nodes use another lock. So from there the answer may be out of date at once, which costs an attempt."""
    with jar.ledger_home.locked():
        now = read_worker(jar.layout, worker.paths.name)
        yield now is not None and now.worker_id == worker.worker_id


def end_fileless(jar: Jar, worker: WorkerState, fileless: Mapping[str, str], cause: str) -> list[str]:
    """Journal the end of a dead worker's jobs whose files are nowhere in the jar, and leave a note in the place of each.
    `fileless` has the jobs' places by id. Returns the places that have a note now. Raises LedgerError,
    OSError."""
    return [place for uid, place in sorted(fileless.items()) if _end_one(jar, worker, uid, place, cause)]


def _end_one(jar: Jar, worker: WorkerState, uid: str, place: str, cause: str) -> bool:
    with owner_stays(jar, worker) as is_owner, jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        candidate = candidate_at(connection, place)
        attempt = attempt_of_worker(connection, uid, worker.worker_id)
        if not is_owner or candidate is None or candidate.uid != uid or attempt is None:
            return False
        job = as_claimed(jar, candidate, place, attempt)
        if look(job.path) is not None or find_moved(connection, jar.layout, job) is not None:
            return False
        if not attempt.is_final:
            was_seen = attempt.outcome not in (None, INTERRUPTED, STRANDED)
            cancelled = cancel_request(worker.paths, uid, (attempt.number,))
            outcome = str(attempt.outcome) if was_seen else CRASHED if cancelled is None else CANCELLED
            message = f"{cancelled or cause}; its file was removed while it ran, so it cannot run again"
            left = output_left(worker.paths, job.name, attempt.number)
            about = worker.about(uid, attempt.number)
            entry = ended_entry(about, jar.disk_now(), True, outcome, output_file=left, message=message)
            jar.journal.append([entry], durable=jar.ledger_home.has_other_homes)
            fold_journal(connection, jar.journal.path)
        leave_note(job)
        return True


def as_claimed(jar: Jar, candidate: Candidate, place: str, attempt: HeldAttempt | None) -> ClaimedJob:
    settings = jar.settings
    return ClaimedJob(
        uid=str(candidate.uid),
        name=name_in_place(place),
        path=jar.layout.path(place),
        place=place,
        category=category_of_place(place) or "",
        priority=candidate.priority,
        submitter=candidate.submitter or "",
        attempt=attempt.number if attempt else 0,
        move_number=candidate.move_number,
        retries=settings.retries if candidate.retries is None else candidate.retries,
        retry_delay_s=settings.retry_delay_s if candidate.retry_delay_s is None else candidate.retry_delay_s,
        time_limit_s=0.0,
        link="",
        claimed_at=0.0,
    )


def output_left(paths: WorkerPaths, job_name: str, attempt: int) -> str | None:
    """The name of a stranded attempt's output file; None if it has no output. The file of a short attempt gets its name only
    here (attempts/workplace.py)."""
    path = paths.output_file(job_name, attempt)
    with contextlib.suppress(OSError):
        if look(path) is None and os.stat(paths.next_output).st_size:
            rename(paths.next_output, path)
    try:
        return os.path.basename(path) if os.stat(path).st_size else None
    except OSError:
        return None
