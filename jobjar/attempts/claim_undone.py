"""Undo a claim that is not journaled: move the job back where it was, hold it in limbo, or let it wait until it may begin.

The job was renamed to its worker, and no entry says so yet. A job that goes back where it was needs no entry. One that is held or
waits is moved on, and that is journaled as one move from the place where it waited. A kill before the rename leaves a job that a
dead worker holds and no entry mentions, which recovery returns. After it, a scan finds the job where it is; the next claimer
reads its file and does the same again.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from jobjar.attempts.attempt import Claimer
from jobjar.attempts.claimed_file import found_when_held
from jobjar.job_file.given import Given
from jobjar.job_file.names import new_id
from jobjar.job_file.prerequisites import explain_dependent, prerequisites_in
from jobjar.journal.entries import MoreOfMove, moved_entry
from jobjar.journal.read import Entry
from jobjar.journal.submitted import HELD_BY
from jobjar.ledger.ask_claiming import Candidate
from jobjar.ledger.by_hand import arrival
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.files import read_status
from jobjar.shared_disk.moves import move, move_to_free_name

if TYPE_CHECKING:
    from typing import Unpack


class NotYet(Exception):
    """A job that was just claimed is not to run now, by what it was given. `is_to_hold`: a person holds it, or it waits for
    prerequisites. `found`: what its file says, if that was read."""

    def __init__(self, given: Given, is_to_hold: bool, uid: str, found: Entry | None) -> None:
        super().__init__(uid)
        self.given = given
        self.is_to_hold = is_to_hold
        self.uid = uid
        self.found = found


def refuse_early(
    claimer: Claimer, given: Given, candidate: Candidate, uid: str, found: Entry | None, now: float
) -> None:
    """Raise NotYet if a job may not begin yet, does not fit here now, or if a person put it there to be held. `now` is the disk's
    time.

    A job is held once: one that was moved before has been released since."""
    is_to_hold = is_held_once(candidate) and (given.hold or bool(prerequisites_in((found or {}).get("given", {}))))
    if given.begin_at > now or is_to_hold or not claimer.room.fits(given.request):
        raise NotYet(given, is_to_hold, uid, found)


def move_back(path: str, source: str, candidate: Candidate) -> None:
    """Move a job that this worker is not to have back into the directory of `source`, from where it was claimed. It gets another
    name if its own was taken meanwhile. Raises OSError."""
    move_to_free_name(path, os.path.dirname(source), candidate.name)


def move_back_if_possible(path: str, source: str) -> None:
    """Move a job whose claim could not be recorded back to `source`, for other workers. If that fails too, or something is there
    by now, it stays here. The worker gives it back before it claims another."""
    with contextlib.suppress(OSError):
        move(path, source)


def is_held_once(candidate: Candidate) -> bool:
    """Whether nobody has submitted or moved this job yet, so that its file may say that it is to be held first."""
    return candidate.move_number == 0 and not candidate.was_submitted


def next_move(
    claimer: Claimer, candidate: Candidate, place: str, status: os.stat_result, reason: str, **more: Unpack[MoreOfMove]
) -> Entry:
    """The `moved` entry of a candidate's file that a claimer has moved to `place`. The candidate has its id."""
    uid, number, moved_at = str(candidate.uid), candidate.move_number + 1, disk_time(status)
    said: MoreOfMove = {"worker_uid": claimer.worker_id, **more}
    return moved_entry(uid, number, candidate.place, place, moved_at, reason, claimer.paths.name, **said)


def put_off(claimer: Claimer, candidate: Candidate, path: str, not_yet: NotYet) -> None:
    """Do what NotYet says with the job at `path`: hold it, or let it wait. Raises OSError."""
    found, candidate = not_yet.found, candidate._replace(uid=not_yet.uid)
    if not_yet.is_to_hold:
        by = (found or {}).get("submitter") or candidate.submitter
        prerequisites = prerequisites_in((found or {}).get("given", {}))
        is_by_person = not_yet.given.hold or not prerequisites
        reason = f"{HELD_BY}{by}" if is_by_person else explain_dependent(prerequisites)
        hold(claimer, candidate, path, reason, found)
        return
    more: MoreOfMove = {"not_before": not_yet.given.begin_at}
    if found is not None:
        more["found"] = found
    _move_on(claimer, candidate, path, os.path.dirname(candidate.place), "delayed", more)


def hold(claimer: Claimer, candidate: Candidate, path: str, reason: str, found: Entry | None = None) -> None:
    """Move a job that must not run into limbo, and journal the reason, which the report shows. `found`: what its file says, if
    that was read. Raises OSError."""
    if found is None:
        found = found_when_held(candidate, read_status(path))
    _move_on(claimer, candidate, path, "limbo", "held", {"held_reason": reason, "found": found})


def _move_on(claimer: Claimer, candidate: Candidate, path: str, directory: str, reason: str, more: MoreOfMove) -> None:
    above = claimer.jar.layout.path(directory)
    name = move_to_free_name(path, above, candidate.name)
    claimer.taken_paths.discard(path)
    status = read_status(f"{above}/{name}")
    entries, candidate = arrival(candidate, candidate.uid or new_id(), "found" in more)
    more["category"] = candidate.category
    entries.append(next_move(claimer, candidate, f"{directory}/{name}", status, reason, **more))
    claimer.jar.journal.append(entries)
