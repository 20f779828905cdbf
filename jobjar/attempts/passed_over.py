"""Find out that a claimer cannot have a job now: its batch has to wait, or this user may not run it.

Only the file of a hand-made job names its batch. It is read once per change of the file; put_off.py remembers the batch.
Writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from jobjar.access.access import may_run_here
from jobjar.access.refusals import explain_directory, explain_file
from jobjar.attempts.attempt import DESCRIBED, Claimer
from jobjar.attempts.put_off import FileMark
from jobjar.errors import BadAttribute, CannotUseJar
from jobjar.job_file.attributes import HEADER_BYTES, read_header
from jobjar.job_file.names import id_in_name, is_own_name
from jobjar.ledger.ask_claiming import Candidate
from jobjar.shared_disk.files import is_job_file, look
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import open_regular


def is_unnamed(candidate: Candidate) -> bool:
    """Whether no entry that was folded names the job, or its file's name was not made for it. The first holds for a hand-made
    job, and for one whose `submitted` entry was not folded yet."""
    return candidate.uid is None or candidate.move_number == 0 or not is_own_name(candidate.name, candidate.uid)


def is_hand_made(candidate: Candidate) -> bool:
    """Whether only the job's file tells its attributes, so that it is read at each claim."""
    return is_unnamed(candidate) or candidate.uid != id_in_name(candidate.name) or not candidate.was_submitted


def batch_of(claimer: Claimer, candidate: Candidate) -> str | None:
    """A candidate's batch. For a hand-made job it is read from the file, but only if anything depends on it."""
    if not is_hand_made(candidate):
        return candidate.batch
    if not (claimer.tokens.know_batches() or claimer.closed_batches):
        return candidate.batch
    try:
        return _read_batch(claimer, candidate.place)
    except (OSError, BadAttribute):
        return candidate.batch  # the claim itself reports what is wrong


def _read_batch(claimer: Claimer, place: str) -> str | None:
    path, batches = claimer.jar.layout.path(place), claimer.passed_over.read_batches
    known = batches.mark_of(place)
    if known is not None and (status := look(path)) is not None and _mark(status) == known:
        return batches.get(place)

    def read() -> tuple[bytes, os.stat_result]:
        with open(path, "rb", opener=open_regular) as file:
            return file.read(HEADER_BYTES), os.fstat(file.fileno())

    batches.forget(place)
    data, status = patiently(read, path)
    batch = read_header(data, place).get("batch")
    batches.note(place, _mark(status), batch)
    return batch


def _mark(status: os.stat_result) -> FileMark:
    return FileMark(status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size)


def has_time_for(claimer: Claimer, candidate: Candidate) -> bool:
    """Whether a claimer with an end has time for a job of which only the file says how long it may take. The ledger left out all
    others that do not fit."""
    if claimer.time_left is None or not (candidate.kind == DESCRIBED or is_hand_made(candidate)):
        return True
    return claimer.time_left.has_room_by_file(candidate)


def pass_over(claimer: Claimer, candidate: Candidate, took_s: float) -> None:
    """Do not try a job again for a while. It took `took_s` seconds to find that this claimer cannot have it."""
    claimer.passed_over.jobs.add(candidate.place, took_s)


def forget(claimer: Claimer, place: str) -> None:
    """Drop what is remembered of a job that was claimed or is gone."""
    claimer.passed_over.read_batches.forget(place)
    claimer.passed_over.jobs.discard(place)
    claimer.refusals.end(place)


class Refused(Exception):
    """This user may not have a job, or any job of its category."""

    def __init__(self, reason: str, is_of_category: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_of_category = is_of_category


def is_refused(claimer: Claimer, candidate: Candidate, warn: Callable[[str], None]) -> bool:
    """Whether this user may not run a job. A look at its file shows that; moving it to the worker and back would wake all
    workers that wait for jobs."""
    path = claimer.jar.layout.path(candidate.place)
    if may_run_here(path):
        return False  # the claim shows if it may be moved too; until one succeeds, its refusal is not logged again
    status = look(path)
    if status is None or not is_job_file(status):
        return False  # the claim itself reports what is wrong
    claimer.passed_over.read_batches.forget(candidate.place)
    claimer.refusals.log_once(candidate.place, explain_file(status, claimer.refusals.user.name), warn)
    return True


def why_not_moved(claimer: Claimer, candidate: Candidate, source: str, error: OSError) -> Refused | CannotUseJar:
    """The error to raise when a move to the worker was not permitted: CannotUseJar, or Refused with the reason."""
    directory = os.path.dirname(source)
    if not os.access(directory, os.W_OK | os.X_OK):
        status = look(directory)
        if not candidate.category or status is None:
            return CannotUseJar(action="claim", path=source, reason=error.strerror)
        return Refused(explain_directory(status, claimer.refusals.user.name), is_of_category=True)
    user = claimer.refusals.user.name
    why = "the sticky bit of its directory, or `chattr +i`, perhaps"
    return Refused(f"{user} may not move it: {error.strerror} ({why})")
