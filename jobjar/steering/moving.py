"""Move jobs that wait or are held: hold, release, another priority, another category. For each job: one rename, then `moved`.

A kill between the two leaves the job at its new place. Reconciliation finds it there, and records that as a move by hand: of a
hold it does not know the reason. The moves of a chunk are journaled in one synced append, so that they outlive this node.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobjar.access.refusals import explain_at
from jobjar.attempts.claimed_file import found_when_held
from jobjar.errors import CannotUseJar
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.journal.entries import MoreOfMove, first_of_life, moved_entry
from jobjar.journal.read import Entry
from jobjar.ledger.ask_steered import SteeredJob
from jobjar.ledger.by_hand import arrival
from jobjar.ledger.fold import fold_journal
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.files import read_status, sync_directory
from jobjar.shared_disk.moves import move_to_free_name


class Move(NamedTuple):
    """Where a job's file goes: to a directory of the jar, under a name. `more` are fields of its entry. `is_rename`: False if the
    file stays where it is, and only its entry says something new. `begins_life`: the job leaves completed/."""

    directory: str
    name: str
    more: MoreOfMove
    is_rename: bool = True
    begins_life: bool = False


class Left(NamedTuple):
    """The jobs of a chunk that were not done: those whose file was elsewhere, and those that were refused, with the reasons."""

    missed: list[SteeredJob]
    refused: list[tuple[SteeredJob, str]]


def move_all(
    jar: Jar, jobs: Sequence[SteeredJob], reason: str, by: str, plan: Callable[[SteeredJob], Move | None]
) -> Left:
    """Move jobs as planned, and journal that for the reason `reason`; None: nothing has to be done. Raises CannotUseJar if the
    journal cannot be written: a scan finds the moves then."""
    left = Left([], [])
    entries: list[Entry] = []
    directories: set[str] = set()
    try:
        for known in jobs:
            move = plan(known)
            if move is None:
                continue
            try:
                if known.job.uid is None:
                    # Nobody in this home may see the file between its rename and the entry that names it.
                    with jar.ledger.writing() as connection:
                        append(jar, _move(jar, known, new_id(), move, reason, by))
                        fold_journal(connection, jar.journal.path)
                else:
                    entries += _move(jar, known, known.job.uid, move, reason, by)
                directories.add(move.directory)
            except FileNotFoundError:
                left.missed.append(known)
            except OSError as error:
                left.refused.append((known, explain_at(error, jar.layout.path(move.directory))))
    finally:
        append(jar, entries)
    for directory in directories:
        sync_directory(jar.layout.path(directory))
    return left


def append(jar: Jar, entries: Sequence[Entry]) -> None:
    """Journal what was done, durably. Raises CannotUseJar."""
    try:
        if entries:
            jar.journal.append(entries, durable=True)
    except OSError as error:
        reason = explain_at(error, jar.journal.path)
        raise CannotUseJar(action="use the journal", path=jar.journal.path, reason=reason) from error


def _move(jar: Jar, known: SteeredJob, uid: str, move: Move, reason: str, by: str) -> list[Entry]:
    """Rename one job's file. Returns the entries to journal. Raises FileNotFoundError, OSError."""
    place, moved_at = known.job.place, known.job.moved_at
    path = jar.layout.path(place)
    status: os.stat_result | None = None
    if not move.is_rename:
        status = read_status(path)
    else:
        above = jar.layout.path(move.directory)
        # COMMIT: from here the job is where it was to go
        name = move_to_free_name(path, above, move.name)
        place, path = f"{move.directory}/{name}", f"{above}/{name}"
        with contextlib.suppress(
            FileNotFoundError
        ):  # a worker has claimed it already, and that claim is the later move
            status = read_status(path)
            moved_at = disk_time(status)
        if status is None and known.job.uid is None:
            return []  # its claimer names it
    entries, job = arrival(known.job, uid, is_read=status is not None)
    more = move.more
    if entries and status is not None:
        more = {**more, "found": found_when_held(known.job, status)}
    number = first_of_life(job.move_number) if move.begins_life else job.move_number + 1
    return [*entries, moved_entry(uid, number, known.job.place, place, moved_at, reason, by, **more)]
