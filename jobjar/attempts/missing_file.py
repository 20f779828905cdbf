"""Handle a job whose own file is gone at its end: the job removed it, or moved it away, while it ran.

Such a job ends as it exited. If it is to run again, its file is put back: the worker keeps the files of such jobs open. If it is
over, a note takes the file's place. Both are first written under a hidden name in the worker's `jobs/`. A crash before the
rename leaves a job without a file. After it, recovery moves the file on as the journal says.
"""

from __future__ import annotations

import contextlib
import os
import stat

from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.errors import LedgerError
from jobjar.jar import Jar
from jobjar.job_file.names import id_in_name, is_same_name, unnumbered_name
from jobjar.layout import Layout, name_in_place
from jobjar.ledger.ask_claiming import was_followed, was_recovered
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.reconcile_file import compare_file
from jobjar.shared_disk.creating import create_anew
from jobjar.shared_disk.files import is_job_file, look, read_status, rename, write_all
from jobjar.shared_disk.listing import list_jars
from jobjar.shared_disk.patience import patiently

# Results of find_file: somebody took the job back; another worker has claimed it since.
TAKEN_BACK = "taken back"
CLAIMED_AGAIN = "claimed again"
_PIECE_BYTES = 1 << 20
_NOTE = """This job, {name} (id {uid}), removed or moved its own file while it ran.
What it came to is in the journals: jobjar show {uid}
"""


def hold_file(claimer: Claimer, job: ClaimedJob) -> None:
    """Keep a job's file open, to put it back if the job removes it and is to run again."""
    if job.uid not in claimer.held_files:
        with contextlib.suppress(OSError):  # this user may not read it; then it cannot be put back
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            claimer.held_files[job.uid] = os.open(job.path, flags)


def let_file_go(claimer: Claimer, job: ClaimedJob) -> None:
    descriptor = claimer.held_files.pop(job.uid, None)
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def was_taken_back(jar: Jar, worker_id: str, job: ClaimedJob, unknown: bool) -> bool:
    """Whether the journals say that somebody took this attempt's job back; `unknown` if they cannot be read. A process that
    takes a job back journals that durably before it moves the file."""
    with contextlib.suppress(LedgerError, OSError), jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        return was_recovered(connection, job.uid, job.attempt, worker_id, job.move_number)
    return unknown


def find_file(claimer: Claimer, job: ClaimedJob) -> str | None:
    """Where the file is that has left its worker: a place, TAKEN_BACK (also if the ledger cannot be used), CLAIMED_AGAIN, or
    None if it is gone. Raises OSError while the disk does not answer."""
    layout = claimer.jar.layout
    try:
        with claimer.jar.ledger.writing() as connection:
            fold_journals(connection, layout)
            if was_recovered(connection, job.uid, job.attempt, claimer.worker_id, job.move_number):
                return TAKEN_BACK
            if was_followed(connection, job.uid, job.attempt, claimer.worker_id, job.move_number):
                return CLAIMED_AGAIN
            return find_moved(connection, layout, job)
    except LedgerError:
        return TAKEN_BACK


def find_moved(connection: Connection, layout: Layout, job: ClaimedJob) -> str | None:
    """The place in the jar to which a job's file was moved from its worker, or None."""
    # completed/ may hold millions of jobs, so only the job's own name is looked up there.
    completed = f"completed/{job.name}"
    found = {completed} if look(layout.path(completed)) is not None else set()
    found |= list_jars(layout, with_completed=False) - {job.place}
    for place in sorted(found):
        name = name_in_place(place)
        is_own = id_in_name(name) == job.uid
        if job.name not in (name, unnumbered_name(name)) and not (is_own and is_same_name(name, job.name)):
            continue
        if is_own:
            return place
        difference = compare_file(connection, layout, place)
        if difference is not None and difference.uid == job.uid:
            return place
    return None


def make_runnable(job: ClaimedJob) -> str | None:
    """Have a job that goes back to unclaimed be one there, and return a note of what the job did to its file. If the file has
    lost its run bit, it gets that again. If the job put a directory or a link in the place of the file, that is moved out of the
    way: in unclaimed/ a directory would be a category. It stays in the worker's directory under a hidden name. Raises OSError
    while the disk refuses."""
    try:
        status = read_status(job.path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        rename(job.path, f"{os.path.dirname(job.path)}/.{job.uid}.{job.attempt}.no_job")
    elif not is_job_file(status):
        try:
            os.chmod(job.path, stat.S_IMODE(status.st_mode) | stat.S_IRUSR | stat.S_IXUSR)
        except PermissionError:
            return "its file lost its run bit while it ran, and is no job without it"
        return "its file lost its run bit while it ran, and got it again"
    return None


def put_file_back(claimer: Claimer, job: ClaimedJob) -> bool:
    """Put back the file of a job that is to run again. Returns whether that was possible. Raises OSError while the disk
    refuses."""
    held = claimer.held_files.get(job.uid)
    if held is None:
        return False
    try:
        mode = stat.S_IMODE(os.fstat(held).st_mode) & 0o1777
        os.lseek(held, 0, os.SEEK_SET)
        first = os.read(held, _PIECE_BYTES)
    except OSError:
        return False  # another client of a network disk removed it
    if not first:
        return False  # the job emptied it: there is nothing to run
    _write(job, mode, first, held)
    return True


def leave_note(job: ClaimedJob) -> None:
    """Put a note in the place of a job's file. The note is no job: it has no run bit. Raises OSError while the disk refuses."""
    _write(job, 0o644, _NOTE.format(name=job.name, uid=job.uid).encode("utf-8", "surrogateescape"), None)


def _write(job: ClaimedJob, mode: int, first: bytes, rest: int | None) -> None:
    directory = os.path.dirname(job.path)
    hidden = f"{directory}/.{job.uid}.own_file"
    with contextlib.suppress(FileExistsError):  # the job may have removed the directory too
        os.makedirs(directory)
    descriptor = patiently(lambda: create_anew(hidden, 0o600), hidden)
    try:
        write_all(descriptor, first)
        while rest is not None and (piece := os.read(rest, _PIECE_BYTES)):
            write_all(descriptor, piece)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    rename(hidden, job.path)
