"""Why a claimer cannot have a job now: its batch has to wait, which of a hand-made job only its file tells; or this user may not.

Reads a hand-made job's file, once for each change of it (put_off.py remembers what it said); writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from jobjar.access.access import may_run_here
from jobjar.access.refusals import explain_directory, explain_file
from jobjar.attempts.attempt import Claimer
from jobjar.attempts.put_off import FileMark
from jobjar.errors import BadAttribute, CannotUseJar
from jobjar.job_file.attributes import HEADER_BYTES, read_header
from jobjar.job_file.names import id_in_name, is_own_name
from jobjar.ledger.ask_claiming import Candidate
from jobjar.shared_disk.files import is_job_file, look
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import open_regular


def is_unnamed(candidate: Candidate) -> bool:
    """Whether no entry that was read yet names the job (it was put there by hand, or its submission is still to be read), or its
    file has a name that was not made for it."""
    return candidate.uid is None or candidate.move_number == 0 or not is_own_name(candidate.name, candidate.uid)


def is_hand_made(candidate: Candidate) -> bool:
    """Whether its file alone tells what it is, at each of its claims."""
    return is_unnamed(candidate) or candidate.uid != id_in_name(candidate.name) or not candidate.was_submitted


def batch_of(claimer: Claimer, candidate: Candidate) -> str | None:
    """A candidate's batch. Of a hand-made job its file tells, which is looked at where anything depends on it."""
    proposals = claimer.proposals
    if not is_hand_made(candidate):
        return candidate.batch
    if not (claimer.tokens.know_batches() or proposals.throttles or proposals.aborted):
        return candidate.batch
    try:
        return _read_batch(claimer, candidate.place)
    except (OSError, BadAttribute):
        return candidate.batch  # the claim itself tells what is wrong


def _read_batch(claimer: Claimer, place: str) -> str | None:
    path, batches = claimer.jar.layout.path(place), claimer.proposals.read_batches
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


def pass_over(claimer: Claimer, candidate: Candidate, spent_s: float) -> None:
    """Not try a job again for a while; to find out that it cannot be had took `spent_s`."""
    claimer.proposals.passed_over.add(candidate.place, spent_s)


def forget(claimer: Claimer, place: str) -> None:
    """Remember nothing of a job that was claimed, or has gone."""
    claimer.proposals.read_batches.forget(place)
    claimer.proposals.passed_over.discard(place)
    claimer.refusals.end(place)


class Refused(Exception):
    """This user may not have a job, or any of its category."""

    def __init__(self, reason: str, is_of_category: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_of_category = is_of_category


def is_refused(claimer: Claimer, candidate: Candidate, warn: Callable[[str], None]) -> bool:
    """Whether this user may not run a job, as a look at its file tells: to move it there and back would wake all who wait for
    jobs."""
    path = claimer.jar.layout.path(candidate.place)
    if may_run_here(path):
        return False  # whether it may be moved, too, the claim tells; what was said of it is said no more until that succeeds
    status = look(path)
    if status is None or not is_job_file(status):
        return False  # the claim itself tells what is wrong
    claimer.proposals.read_batches.forget(candidate.place)
    claimer.refusals.tell(candidate.place, explain_file(status, claimer.refusals.user.name), warn)
    return True


def why_not_moved(claimer: Claimer, candidate: Candidate, source: str, error: OSError) -> Refused | CannotUseJar:
    """What it is that a move to the worker was not allowed."""
    directory = os.path.dirname(source)
    if not os.access(directory, os.W_OK | os.X_OK):
        status = look(directory)
        if not candidate.category or status is None:
            return CannotUseJar(action="claim", path=source, reason=error.strerror)
        return Refused(explain_directory(status, claimer.refusals.user.name), is_of_category=True)
    user = claimer.refusals.user.name
    why = "the sticky bit of its directory, or `chattr +i`, perhaps"
    return Refused(f"{user} may not move it: {error.strerror} ({why})")
