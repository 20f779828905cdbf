"""Moves by hand: the first process that sees a file where the journals do not have it records that, in a `moved` entry.

The entry's reason is `found`. It depends on the journals and the file alone. So two nodes that see one move write the
same entry, and applying it twice changes nothing. If a program's own move is seen before its entry, both entries have
the same number, time and place, and the program's stands (apply.py). Some moves that programs do not journal are not
taken for moves by hand: to workers (their claims record them), to the archive, and from a worker if the file went as
the end of its attempt says.

Reads rows, and the disk's clock for removals. Appends to the journal inside the caller's transaction, before the rows
change. Killed between, the next fold has the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from jobjar.errors import CannotUseJar
from jobjar.host import node_name
from jobjar.job_file.names import priority_in_name
from jobjar.journal.append import Journal
from jobjar.journal.entries import LIFE, first_of_life, moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import NOWHERE, Layout, category_of_place, name_in_place, worker_of_place
from jobjar.ledger.difference import Difference
from jobjar.ledger.driver import Connection
from jobjar.ledger.renamed import kept_priority
from jobjar.shared_disk.clock import read_disk_clock

if TYPE_CHECKING:
    from jobjar.ledger.ask_claiming import Candidate

# The reason and the actor of such a move. Nobody knows the person.
FOUND, HAND = "found", "hand"

# A removal from here is a person's. A job may remove its own file from its worker, which its end records; the nightly
# job deletes old files from the archive.
_REMOVED_FROM = ("limbo/", "unclaimed/", "completed/")

_ENDED = ("completed/", "archive/")

# A removal is as late as the move before it, whenever it was noticed (apply.py).
_AS_OF = (
    "CASE destination WHEN '' THEN coalesce((SELECT max(moved_at) FROM move AS earlier WHERE earlier.job_uid = move.job_uid "
    "AND earlier.number < move.number AND earlier.destination <> ''), moved_at) ELSE moved_at END"
)
_LATEST_FIRST = (
    f"ORDER BY number / {LIFE} DESC, {_AS_OF} DESC, number DESC, destination LIKE 'workers/%' DESC, destination DESC"
)

OpenJournal = Callable[[], Journal | None]


class LastMove(NamedTuple):
    """The last recorded move of a job. `moved_at` is the disk's time; of a removal that of the move before it."""

    moved_at: float
    number: int
    place: str
    origin: str


def last_move(connection: Connection, uid: str | None) -> LastMove | None:
    """The last recorded move of a job, or None where there is none."""
    row = connection.execute(
        f"SELECT {_AS_OF}, number, destination, origin FROM move WHERE job_uid = ? {_LATEST_FIRST} LIMIT 1", (uid,)
    ).fetchone()
    return LastMove(*row) if row else None


def last_category(connection: Connection, uid: str | None) -> str:
    """The category of the last recorded place of a job that showed one; '' if none did."""
    moves = connection.execute(f"SELECT destination, origin FROM move WHERE job_uid = ? {_LATEST_FIRST}", (uid,))
    shown = (category_of_place(place) for places in moves for place in places)
    return next((category for category in shown if category is not None), "")


def arrival_entry(uid: str, place: str, moved_at: float) -> Entry:
    """The entry of the first move of a job that was submitted by hand. Its claimer, which gives it an id, writes it.
    Nobody saw where the file came from."""
    return moved_entry(uid, 1, NOWHERE, place, moved_at, FOUND, HAND)


def arrival(candidate: Candidate, uid: str, is_read: bool) -> tuple[list[Entry], Candidate]:
    """The entry of a hand-made job's first move, if it is not journaled yet, and the candidate with its id and with that move
    counted. `is_read`: no entry about its submission is known."""
    if candidate.uid != uid:
        candidate = candidate._replace(uid=uid)
    if not is_read or candidate.move_number > 0 or candidate.was_submitted:
        return [], candidate
    return [arrival_entry(uid, candidate.place, candidate.moved_at)], candidate._replace(move_number=1)


def journal_moves_by_hand(
    connection: Connection, layout: Layout, differences: Iterable[Difference], open_journal: OpenJournal | None
) -> Journal | None:
    """Journal those of `differences` that are moves by hand. They are not applied yet. Returns the journal, to be
    folded when they are, or None if nothing was journaled. Without `open_journal` nothing is. Raises CannotUseJar,
    OSError."""
    if open_journal is None:
        return None
    entries = []
    now: float | None = None
    for difference in differences:
        # If a job has no recorded move, its claim will record where it came from. A file without a row is a copy of a job.
        is_known = difference.uid is not None and difference.row is not None
        last = last_move(connection, str(difference.uid)) if is_known else None
        if last is None:
            continue
        if difference.kind == "gone":
            if last.place != NOWHERE and difference.place.startswith(_REMOVED_FROM):
                if now is None:
                    now = round(read_disk_clock(layout.clock_file(node_name())), 6)
                entries.append(_removal_entry(connection, difference, last, now))
        elif last.place != difference.place and not _is_move_by_program(connection, difference, last):
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


def _is_move_by_program(connection: Connection, difference: Difference, last: LastMove) -> bool:
    """Whether a move without an entry is a program's, which was killed before it journaled the move, or is about to."""
    place = difference.place
    if place.startswith(("workers/", "archive/")):
        return True
    is_completed = place.startswith("completed/")
    if is_completed or worker_of_place(last.place) is not None:
        # Before a worker or a recovery moves a job, or somebody cancels it, they journal how it ended.
        ended = connection.execute(
            "SELECT 1 FROM attempt WHERE job_uid = ?1 AND ended_at IS NOT NULL AND is_final = ?2 "
            "AND (?2 OR number = (SELECT max(number) FROM attempt WHERE job_uid = ?1))",
            (difference.uid, is_completed),
        ).fetchone()
        return ended is not None
    return False


def _found_entry(connection: Connection, difference: Difference, last: LastMove) -> Entry:
    """The entry for a file that was found at another place than the last recorded one."""
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
    number = number_of_new_life(connection, uid, place, last) or _next_number(connection, uid)
    return moved_entry(uid, number, last.place, place, difference.moved_at, FOUND, HAND, **more)


def number_of_new_life(connection: Connection, uid: str | None, place: str, last: LastMove | None) -> int | None:
    """The number of the move that took a job out of completed/ to this place, which is not recorded: it begins a new life
    (journal/entries.py). None for other moves."""
    if uid is None or last is None or not last.place.startswith(_ENDED) or place.startswith(_ENDED):
        return None
    return first_of_life(_next_number(connection, uid) - 1)


def _removal_entry(connection: Connection, difference: Difference, last: LastMove, now: float) -> Entry:
    """The entry for a file that is in no jar any more. It was missed at `now`, by the disk's clock, and is gone
    `after` the last known move: any move later than that one shows that the file is there."""
    uid, place = str(difference.uid), difference.place
    more = _own_priority(connection, uid, place)
    number = _next_number(connection, uid)
    return moved_entry(uid, number, place, NOWHERE, now, FOUND, HAND, after=last.moved_at, **more)


def _next_number(connection: Connection, uid: str) -> int:
    row = connection.execute("SELECT max(number) FROM move WHERE job_uid = ?", (uid,)).fetchone()
    return int(row[0]) + 1


def _own_priority(connection: Connection, uid: str, place: str) -> dict[str, Any]:
    """The job's priority, if its name at that place does not show it."""
    name = name_in_place(place)
    priority = kept_priority(connection, uid, name)
    return {} if priority == priority_in_name(name) else {"priority": priority}
