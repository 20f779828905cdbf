"""Moves that hands made: whoever first sees that a file is not where the journals say tells of it, in a `moved` entry.

Its reason is `found`, and what it says depends on nothing but the journals and the file: two nodes that see one move write
the same entry, and to apply it twice is to apply it once. So is a program's own move that was seen before its entry: the
same number, time and place, and the program's word stands (apply.py). What programs move and say nothing of is none:
to workers (their claims tell), to the archive, and from a worker where its attempt has ended as the file went.
Reads rows, and the disk's clock for what was removed. Appends to the journal inside the caller's transaction, before the
rows change: killed between, the next fold has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jobjar.errors import CannotUseJar
from jobjar.host import node_name
from jobjar.job_file.names import priority_in_name
from jobjar.journal.append import Journal, moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import NOWHERE, Layout, category_of_place, name_in_place
from jobjar.ledger.difference import Difference
from jobjar.ledger.renamed import kept_priority
from jobjar.shared_disk.files import read_disk_clock

# The reason and the actor of such a move: nobody noted who it was.
FOUND, HAND = "found", "hand"

# Whence a removal is a person's. From a worker its job may have removed it, which its end tells; what is too old is deleted
# from the archive by the nightly job.
_REMOVED_FROM = ("limbo/", "unclaimed/", "completed/")

_LATEST_FIRST = "ORDER BY moved_at DESC, number DESC, destination LIKE 'workers/%' DESC, destination DESC"

OpenJournal = Callable[[], Journal | None]


class LastMove(NamedTuple):
    """The last move of a job that is recorded, by the disk's time."""

    moved_at: float
    number: int
    place: str
    origin: str


def last_move(connection: Any, uid: str | None) -> LastMove | None:
    """The last recorded move of a job, or None where there is none."""
    row = connection.execute(
        f"SELECT moved_at, number, destination, origin FROM move WHERE job_uid = ? {_LATEST_FIRST} LIMIT 1", (uid,)
    ).fetchone()
    return LastMove(*row) if row else None


def last_category(connection: Any, uid: str | None) -> str:
    """The category of the last recorded place of a job that showed one."""
    moves = connection.execute(f"SELECT destination, origin FROM move WHERE job_uid = ? {_LATEST_FIRST}", (uid,))
    shown = (category_of_place(place) for places in moves for place in places)
    return next((category for category in shown if category is not None), "")


def arrival_entry(uid: str, place: str, moved_at: float) -> Entry:
    """The first move of a job that a hand submitted, for its claimer, which names it. Nobody saw where the file came from."""
    return moved_entry(uid, 1, NOWHERE, place, moved_at, FOUND, HAND)


def journal_hands(
    connection: Any, layout: Layout, differences: Iterable[Difference], open_journal: OpenJournal | None
) -> Journal | None:
    """Journal what of `differences`, which are not applied yet, hands did; returns the journal, to be folded when they are, or
    None where there is nothing to tell. Without `open_journal` nothing is told. Raises CannotUseJar, OSError."""
    if open_journal is None:
        return None
    entries = []
    now: float | None = None
    for difference in differences:
        # Of a job without a recorded move its claim will tell whence it was taken.
        last = None if difference.uid is None else last_move(connection, difference.uid)
        if last is None:
            continue
        if difference.kind == "gone":
            if last.place != NOWHERE and difference.place.startswith(_REMOVED_FROM):
                if now is None:
                    now = round(read_disk_clock(layout.clock_file(node_name())), 6)
                entries.append(_removal_entry(connection, difference, last, now))
        elif last.place != difference.place and not _is_programs(connection, difference, last):
            entries.append(_found_entry(connection, difference, last))
    if not entries:
        return None
    journal = open_journal()
    if journal is None:
        return None
    try:
        journal.append(entries)
    except OSError as error:
        raise CannotUseJar(action="use the journal", path=journal.path, reason=error.strerror) from error
    return journal


def _is_programs(connection: Any, difference: Difference, last: LastMove) -> bool:
    """Whether a move that no entry tells of is a program's: one that was killed before it said so, or is about to."""
    place = difference.place
    if place.startswith(("workers/", "archive/")):
        return True
    is_completed = place.startswith("completed/")
    if is_completed or last.place.startswith("workers/"):
        # Before a worker, a recovery or who cancels a job moves it, they journal how it ended.
        ended = connection.execute(
            "SELECT 1 FROM attempt WHERE job_uid = ?1 AND ended_at IS NOT NULL AND is_final = ?2 "
            "AND (?2 OR number = (SELECT max(number) FROM attempt WHERE job_uid = ?1))",
            (difference.uid, is_completed),
        ).fetchone()
        return ended is not None
    return False


def _found_entry(connection: Any, difference: Difference, last: LastMove) -> Entry:
    """The entry of a file that was found at another place than the last recorded one."""
    uid, place = str(difference.uid), difference.place
    not_before, held_reason = connection.execute(
        "SELECT not_before, held_reason FROM job WHERE id = ?", (difference.row,)
    ).fetchone()
    more: dict[str, Any] = _own_priority(connection, uid, place)
    if category_of_place(place) is None:
        more["category"] = last_category(connection, uid)
    if not_before and not place.startswith("completed/"):
        more["not_before"] = not_before
    if held_reason is not None and place.startswith("limbo/") and last.place.startswith("limbo/"):
        more["held_reason"] = held_reason
    number = _next_number(connection, uid)
    return moved_entry(uid, number, last.place, place, difference.moved_at, FOUND, HAND, **more)


def _removal_entry(connection: Any, difference: Difference, last: LastMove, now: float) -> Entry:
    """The entry of a file that is in no jar any more: seen to be gone at `now`, by the disk's clock, and `after` the last
    move that is known. Whatever moved it later than that shows that it is there."""
    uid, place = str(difference.uid), difference.place
    more = _own_priority(connection, uid, place)
    number = _next_number(connection, uid)
    return moved_entry(uid, number, place, NOWHERE, now, FOUND, HAND, after=last.moved_at, **more)


def _next_number(connection: Any, uid: str) -> int:
    row = connection.execute("SELECT max(number) FROM move WHERE job_uid = ?", (uid,)).fetchone()
    return int(row[0]) + 1


def _own_priority(connection: Any, uid: str, place: str) -> dict[str, Any]:
    """The job's priority, where its name there does not say it."""
    name = name_in_place(place)
    priority = kept_priority(connection, uid, name)
    return {} if priority == priority_in_name(name) else {"priority": priority}
