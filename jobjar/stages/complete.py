"""End an attempt: journal its outcome, then move the job to completed, or back to unclaimed.

`ended` is journaled first. After a kill, recovery does what that entry says and does not run the job again. The rename is the
commit. If the file is gone and the journals show that the job was taken back, the worker lost its lease: it journals
`lost` and claims no credit. The rename is the fence; the looks before it only save a lost attempt some work.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Container
from typing import Any, NamedTuple

from jobjar.attempts.attempt import (
    FAILED,
    INTERRUPTED,
    LOST,
    AttemptEnd,
    ClaimedJob,
    Claimer,
    about_attempt,
)
from jobjar.attempts.claimed_links import take_link_away, take_own_link_away
from jobjar.attempts.failure_throttle import read_threshold, update_throttle
from jobjar.attempts.missing_file import (
    CLAIMED_AGAIN,
    TAKEN_BACK,
    find_file,
    leave_note,
    make_runnable,
    put_file_back,
    was_taken_back,
)
from jobjar.attempts.verdict import HELD, Verdict, decide
from jobjar.errors import LedgerError
from jobjar.journal.entries import MoreOfEnd, MoreOfMove, ended_entry, moved_entry, warned_late_entry, without_credit
from jobjar.journal.read import Entry
from jobjar.layout import Layout, category_of_place
from jobjar.ledger.ask_claiming import is_decided_by
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.reconcile_file import compare_file
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.files import is_gone, look, make_directory, read_status, remove_file
from jobjar.shared_disk.listing import list_held
from jobjar.shared_disk.moves import move_to_free_name
from jobjar.shared_disk.patience import is_transient, patience
from jobjar.shared_disk.placeholder import is_own, read_placeholder

_RETRY_PAUSE_S = 1.0
_YOUNG_S = 1.0


# The fields of `AttemptEnd` that its entry has, in order.
_JOURNALED = tuple(MoreOfEnd.__annotations__)


class Ending(NamedTuple):
    """How an attempt of a job ends, what follows, and when: `at` is the disk's time."""

    job: ClaimedJob
    end: AttemptEnd
    verdict: Verdict
    at: float


class WhileRefused(NamedTuple):
    """What a worker does while the disk refuses to have a job ended: it waits as long as `may_wait()`, and `warn`s people."""

    may_wait: Callable[[], bool]
    warn: Callable[[str], None]

    def insist(self, action: Callable[[], None]) -> bool:
        """Repeat an action while the disk refuses it (it is full, say). Returns whether it was done."""
        warned = False
        while True:
            try:
                action()
                return True
            except OSError as error:
                if not warned:
                    warned = True
                    where = error.filename or "journal"
                    self.warn(f"the end of a job cannot be written: {error.strerror} ({where}); waiting")
                if not self.may_wait():
                    return False
                time.sleep(_RETRY_PAUSE_S)


def entry_of_end(claimer: Claimer, ending: Ending) -> Entry:
    """The `ended` entry of an attempt, which says what follows. Fields without a value are omitted."""
    job, end, verdict, at = ending
    known: Any = {name: value for name in _JOURNALED if (value := getattr(end, name)) is not None}
    # The worker's idea of the disk's time may be a little behind the time of the claim.
    ended_at = max(at, job.claimed_at)
    return ended_entry(
        about_attempt(claimer, job), ended_at, verdict.final, end.outcome, not_before=verdict.not_before, **known
    )


def complete(claimer: Claimer, ending: Ending, refused: WhileRefused, is_next_near: bool = False) -> bool:
    """End an attempt as its verdict says. Returns whether this worker still held the job.

    The entries of the end (`end.entries`) are journaled in one write with `ended`. With `is_next_near` a move to completed is
    journaled in one write with what the worker journals next.

    While the disk refuses (full, read-only), this does what `refused` says. If its waiting ends, the job stays with this worker
    and is stranded. The tokens of its limits are given back in any case, because the job does not run any more.
    """
    job, warn = ending.job, refused.warn
    threshold = read_threshold(job, ending.end, ending.at)
    ended = entry_of_end(claimer, ending)
    durable = claimer.jar.ledger_home.has_other_homes
    moved: list[Entry] = []

    notes: list[str] = []
    is_elsewhere = False

    is_away = _may_be_taken_back(claimer, ending.at - job.claimed_at) and is_gone(job.path, is_patient=False)
    if is_away and was_taken_back(claimer.jar, claimer.worker_id, job, unknown=True):
        journal_loss(claimer, job, ended, refused)
        return False

    def journal_end() -> None:
        claimer.jar.journal.append([*ending.end.entries, ended], durable)

    def move_job() -> None:
        nonlocal ending, is_elsewhere
        verdict = ending.verdict
        troubles = patience.troubles
        try:
            entry = move_ended_job(claimer.jar.layout, job, verdict, claimer.paths.name, notes)
        except FileNotFoundError:
            # Perhaps the rename happened although it reported this error. Then the file is in completed/, and no other
            # worker journaled the move.
            path = f"{claimer.jar.layout.completed}/{job.name}"
            if verdict.final and look(path) is not None:
                if was_taken_back(claimer.jar, claimer.worker_id, job, unknown=True):
                    return
                if patience.troubles == troubles:
                    notes.append("its file was moved to completed/ by hand while it ran")
                entry = _moved_entry(job, verdict, claimer.paths.name, path, f"completed/{job.name}")
            else:
                place = find_file(claimer, job)
                if place == TAKEN_BACK:
                    return
                is_elsewhere = place is not None
                if place is not None:
                    where = "and another worker claimed it" if place == CLAIMED_AGAIN else f"to {place}"
                    notes[:] = [f"its file was moved by hand while it ran, {where}"]
                    return
                ending = _replace_file(claimer, ending, notes)
                entry = move_ended_job(claimer.jar.layout, job, ending.verdict, claimer.paths.name)
        else:
            # After an error the rename counts as done if the file is at its destination. The journals say who moved it.
            if patience.troubles != troubles and was_taken_back(claimer.jar, claimer.worker_id, job, unknown=False):
                return
        moved.append(entry)

    def journal_move() -> None:
        claimer.jar.journal.append(moved)

    if not refused.insist(journal_end) or not refused.insist(move_job):
        claimer.tokens.give_back(job.tokens)
        return False
    if not moved and not is_elsewhere:
        journal_loss(claimer, job, ended, refused)
        return False
    if notes:
        warn(f"{job.name}: {'; '.join(notes)}")
        moved[:0] = [warned_late_entry(about_attempt(claimer, job), note) for note in notes]
    claimer.tokens.give_back(job.tokens)
    claimer.taken_paths.discard(job.path)
    if is_next_near and ending.verdict.final:
        claimer.jar.journal.append_later(moved)
    elif not refused.insist(journal_move):
        warn(f"the move of {job.name} could not be journaled; a scan will find it")
    take_link_away(claimer, job.link)
    update_throttle(claimer, job, ending.end, threshold, ending.at, warn)
    return True


def _replace_file(claimer: Claimer, ending: Ending, notes: list[str]) -> Ending:
    """Put something in the place of a job's file that is gone: the file again if the job is to run again, else a note.
    Returns how the attempt ends now. Raises OSError while the disk refuses."""
    job, end, verdict, _ = ending
    gone = "its file was removed, or moved out of the jar, while it ran"
    if not verdict.final and put_file_back(claimer, job):
        notes[:] = [f"{gone}; the file was put back, for the job is to run again"]
        return ending
    notes[:] = [gone]
    if not verdict.final:
        notes[:] = [f"{gone}; so the job cannot run again"]
        outcome = FAILED if end.outcome == INTERRUPTED else end.outcome
        message = f"{end.message}; {notes[0]}" if end.message else notes[0]
        ending = ending._replace(end=end._replace(outcome=outcome, message=message), verdict=Verdict.complete())
        # If an attempt has two `ended` entries, the final one counts.
        claimer.jar.journal.append([entry_of_end(claimer, ending)], claimer.jar.ledger_home.has_other_homes)
    leave_note(job)
    return ending


def _may_be_taken_back(claimer: Claimer, age_s: float) -> bool:
    """Whether a lease or another node may have taken the job back, so that a look is worth its cost. If this node has no
    leases, those of another node need longer than a moment. The rename notices a person who was quicker."""
    is_young = 0 <= age_s < _YOUNG_S
    return claimer.jar.settings.lease_time_s > 0 or not (not claimer.jar.ledger_home.has_other_homes or is_young)


def journal_loss(claimer: Claimer, job: ClaimedJob, ended: Entry, refused: WhileRefused) -> None:
    """Log and journal that this attempt lost its job. If recovery completed the job with this attempt, `lost` is not
    journaled: the attempt decided the job, and `lost` would undo that."""
    warn = refused.warn
    claimer.tokens.give_back(job.tokens)
    claimer.taken_paths.discard(job.path)
    take_own_link_away(claimer, job.link)
    try:
        was_decided_here = _is_decided_here(claimer, job)
    except LedgerError as error:
        warn(f"{job.name} was taken back while it ran here; which attempt counts cannot be looked up: {error}")
        return
    if was_decided_here:
        warn(f"{job.name} was completed by recovery with what is journaled of the attempt here")
        return
    if was_taken_back(claimer.jar, claimer.worker_id, job, unknown=True):
        message = "its worker lost the lease: the job was taken back meanwhile"
        warn(f"{job.name} was taken back while it ran here: the lease is lost, and this attempt does not count")
    else:
        message = "its file was moved or removed by hand before it ran"
        warn(f"{job.name}: {message}")
    lost = without_credit(ended, LOST, message)
    refused.insist(lambda: claimer.jar.journal.append([lost]))


def _is_decided_here(claimer: Claimer, job: ClaimedJob) -> bool:
    """Whether this worker's attempt completed the job. Raises LedgerError."""
    layout = claimer.jar.layout
    with claimer.jar.ledger.writing() as connection:
        fold_journals(connection, layout)
        # The process that moved it may have been killed before it journaled the move.
        difference = compare_file(connection, layout, f"completed/{job.name}")
        is_there = difference is not None and difference.uid == job.uid
        return is_decided_by(connection, job.uid, job.attempt, claimer.worker_id, is_there)


def move_ended_job(layout: Layout, job: ClaimedJob, verdict: Verdict, by: str, notes: list[str] | None = None) -> Entry:
    """COMMIT: from here the job is completed, unclaimed again, or held. Returns the `moved` entry; oddities of the file are added
    to `notes`.

    Raises FileNotFoundError if the job is not here any more, OSError.
    """
    note = None
    if verdict.final:
        directory, place = layout.completed, "completed"
    elif verdict.reason == HELD:
        directory, place = layout.limbo, "limbo"
    else:
        note = make_runnable(job)
        directory = layout.category_directory(job.category)
        place = f"unclaimed/{job.category}" if job.category else "unclaimed"
        if job.category:
            with contextlib.suppress(FileExistsError):  # the category may have been removed meanwhile
                make_directory(directory)
    name = move_to_free_name(job.path, directory, job.name)
    if note and notes is not None:
        notes[:] = [note]
    return _moved_entry(job, verdict, by, f"{directory}/{name}", f"{place}/{name}", notes)


def _moved_entry(
    job: ClaimedJob, verdict: Verdict, by: str, path: str, place: str, notes: list[str] | None = None
) -> Entry:
    try:
        status = read_status(path)
        moved_at = disk_time(status)
        if notes is not None and job.inode not in (0, status.st_ino):
            notes[:] = ["its file was replaced while it ran"]
    except OSError:
        moved_at = job.claimed_at  # the disk is away, or the job is claimed again already (and that is the later move)
    number = job.move_number + 1
    more: MoreOfMove = {"category": job.category}
    if verdict.not_before:
        more["not_before"] = verdict.not_before
    if verdict.reason == HELD:
        more["held_reason"] = verdict.explanation
    return moved_entry(job.uid, number, job.place, place, moved_at, verdict.reason, by, **more)


def give_back_unrun(claimer: Claimer, job: ClaimedJob, why: str, now: float, refused: WhileRefused) -> None:
    """Return a claimed job that was not run, for the reason `why`. If it cannot be returned, it stays here for recovery."""
    try:
        give_back(claimer, job, why)
    except FileNotFoundError:
        end_unrun(claimer, job, now, refused)
    except OSError as error:
        refused.warn(f"{job.name} could not be given back and stays here for recovery: {error.strerror}")


def give_back(claimer: Claimer, job: ClaimedJob, why: str) -> None:
    """Return a claimed job that was not run, and its tokens; its attempt is `interrupted`. Raises FileNotFoundError if the job
    is not here any more, OSError."""
    verdict = Verdict.give_back()
    try:
        moved = move_ended_job(claimer.jar.layout, job, verdict, claimer.paths.name)
    finally:
        claimer.tokens.give_back(job.tokens)
    claimer.taken_paths.discard(job.path)
    take_link_away(claimer, job.link)
    end = AttemptEnd(INTERRUPTED, message=f"it was given back before it ran: {why}")
    with contextlib.suppress(OSError):  # the disk is full; a scan will find the job
        claimer.jar.journal.append([entry_of_end(claimer, Ending(job, end, verdict, moved["moved_at"])), moved])


def return_strays(claimer: Claimer, log: Callable[[str], None], held: Container[str] = ()) -> None:
    """Give back the files in a worker's `jobs/`, except the paths in `held`. They stayed there when the disk refused to
    give them back earlier. Raises OSError while the disk is in trouble."""
    links: list[str] = []
    for place, entry in list_held(claimer.paths, links):
        if entry.path in held:
            continue
        directory = claimer.jar.layout.category_directory(category_of_place(place) or "")
        try:
            move_to_free_name(entry.path, directory, entry.name)
            claimer.taken_paths.discard(entry.path)
            log(f"{entry.name} was still here; given back")
        except OSError as error:
            if is_transient(error):
                raise
    for path in links:
        placeholder = read_placeholder(path)
        if placeholder is not None and is_own(placeholder):  # a failed claim left it
            remove_file(path)


def end_unrun(claimer: Claimer, job: ClaimedJob, now: float, refused: WhileRefused) -> None:
    """Journal the loss of a job that was not run, and that was gone when it was to be given back."""
    end = AttemptEnd(LOST)
    ended = entry_of_end(claimer, Ending(job, end, decide(job, end, 0, now), now))
    journal_loss(claimer, job, ended, refused)
