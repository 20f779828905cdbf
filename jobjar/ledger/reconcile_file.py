"""Make the ledger agree with the directories about single files. The place of a job's file is the truth.

Reads the jars: names, and the status of files that the ledger does not know. Writes rows, and has moves by hand
journaled (by_hand.py). Killed midway, the transaction is taken back. reconcile_jar.py does this for the whole jar.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from jobjar.host import login_of
from jobjar.job_file.names import carried_id, id_in_name, oddity_in_name, unnumbered_name
from jobjar.layout import (
    Layout,
    category_of_place,
    name_in_place,
    state_of_place,
)
from jobjar.ledger.by_hand import OpenJournal, journal_moves_by_hand, last_category, last_move
from jobjar.ledger.difference import Difference
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journal, fold_journals
from jobjar.ledger.large_looks import begin_look, find_large, find_others, note_look
from jobjar.ledger.removed import describe_removed
from jobjar.ledger.renamed import (
    find_renamed,
    is_new_file,
    is_odd_name,
    is_unlike,
    is_young,
    kept_priority,
    may_be_passing,
)
from jobjar.ledger.same_id import free_id
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.files import is_job_file, look
from jobjar.shared_disk.listing import is_job_at, list_everything
from jobjar.text import is_text


def compare_file(connection: Connection, layout: Layout, place: str, ignored: Iterable[int] = ()) -> Difference | None:
    """What the file at `place` is, which the ledger does not have there; None if it is gone or no job.

    It is the first of these: a job that was renamed by hand; the job of this place that was thought removed; the job of
    the id in its name; a job of its name whose own file is not where it should be (moved by hand); a new job. A file
    whose name has the id and something more, as a backup's has, is that job only if its mark says so (renamed.py).
    Raises OSError.
    """
    name = name_in_place(place)
    status = look(layout.path(place))
    if status is None or not is_job_file(status) or (oddity_in_name(name) and state_of_place(place) != "claimed"):
        return None
    is_waiting = state_of_place(place) in ("limbo", "unclaimed")
    if is_waiting and may_be_passing(name, status):
        return None
    rows = connection.execute(
        "SELECT id, uid, state, place, name FROM job WHERE uid = :uid OR name IN (:name, :unnumbered) "
        "ORDER BY (place = :place) DESC, (uid IS :uid) DESC, (name = :name) DESC, moved_at DESC, uid DESC, id DESC",
        {"place": place, "uid": carried_id(name), "name": name, "unnumbered": unnumbered_name(name)},
    ).fetchall()
    at_home = next((row for row, _, state, was, _ in rows if was == place and state != "removed"), None)
    if at_home is not None and at_home not in ignored:
        return None
    is_hand_made = id_in_name(name) is None
    renamed = find_renamed(connection, layout, place, status) if is_waiting and is_hand_made else None
    if renamed is not None and renamed.row not in ignored:
        return Difference("moved", renamed.row, renamed.uid, place, renamed.place, disk_time(status))
    for row, uid, state, was, known_name in rows:
        if row in ignored:
            continue
        is_there = was != place and state != "removed" and is_job_at(layout.path(was))
        if is_waiting and uid is not None and was != place and is_odd_name(connection, uid, name, known_name):
            if is_there:
                continue
            renamed = find_renamed(connection, layout, place, status)
            if renamed is None or renamed.row != row:
                if is_young(status):
                    return None  # an editor may be about to write the job's own file anew
                continue
        if is_waiting and is_new_file(connection, row, status):
            continue
        if uid is not None and carried_id(name) != uid and is_unlike(connection, layout, uid, place, status):
            continue
        if is_there and not _is_taken_for_backup(connection, layout, place, uid, was, name):
            continue
        return Difference("moved", row, uid, place, was, disk_time(status))
    # The claimer gives a hand-made name its id, because two ledgers would give it two.
    return Difference("new", None, id_in_name(name), place, "", disk_time(status), status.st_uid)


def _is_taken_for_backup(
    connection: Connection, layout: Layout, place: str, uid: str | None, was: str, name: str
) -> bool:
    """Whether the ledger has a job at a backup of its file, and the file of its own name has come back."""
    if uid is None or carried_id(name) != uid or state_of_place(was) not in ("limbo", "unclaimed"):
        return False
    other = name_in_place(was)
    return is_odd_name(connection, uid, other, name) and not is_odd_name(connection, uid, name, other)


def scan_category(
    connection: Connection,
    layout: Layout,
    category: str,
    limit_s: float = float("inf"),
    open_journal: OpenJournal | None = None,
) -> bool:
    """Take files that were put into the unclaimed jar by hand into the ledger, for about `limit_s` seconds. Returns
    whether there are more. Removes nothing."""
    directory = layout.category_directory(category)
    place = f"unclaimed/{category}" if category else "unclaimed"
    before = begin_look(directory) if place in find_large(connection) else None
    entries = list(list_everything(directory))
    seen = [entry for entry in entries if is_text(entry.name) and not entry.name.startswith(".")]
    known = _unclaimed_names(connection, category)
    if any(entry.name not in known for entry in seen):
        # A submission is journaled before its file can be seen: a file that is unknown after this was put there by
        # hand.
        fold_journals(connection, layout)
        known = _unclaimed_names(connection, category)
    new: list[Difference] = []
    until, has_more = time.monotonic() + limit_s, False
    for entry in sorted((entry for entry in seen if entry.name not in known), key=lambda entry: entry.name):
        if new and time.monotonic() > until:
            has_more = True
            break
        if entry.is_file(follow_symlinks=False):
            difference = compare_file(connection, layout, f"{place}/{entry.name}")
            if difference is not None:
                new.append(difference)
    # Files that came in one tick of the disk's clock are claimed in the order of their names, not of the directory.
    new.sort(key=lambda difference: (difference.moved_at, difference.place))
    apply_differences(connection, layout, new, open_journal)
    if before is not None and not has_more:
        others = find_others((entry for entry in entries if entry.name not in known), place)
        note_look(connection, place, before, known.issubset(entry.name for entry in seen), others)
    return has_more


def _unclaimed_names(connection: Connection, category: str) -> set[str]:
    query = "SELECT name FROM job WHERE state <> 'completed' AND state = 'unclaimed' AND category = ?"
    return {name for (name,) in connection.execute(query, (category,))}


def apply_differences(
    connection: Connection, layout: Layout, differences: Sequence[Difference], open_journal: OpenJournal | None
) -> None:
    """Make the ledger agree with the directories in these points. Moves by hand are recorded in the journal that
    `open_journal` gives, and not at all without `open_journal`. Raises CannotUseJar, OSError."""
    journal = journal_moves_by_hand(connection, layout, differences, open_journal)
    for difference in differences:
        apply_difference(connection, difference)
    if journal is not None:
        fold_journal(connection, journal.path)


def apply_difference(connection: Connection, difference: Difference) -> None:
    """Make the ledger agree with the directories in one point."""
    place = difference.place
    if difference.kind == "gone":
        if difference.uid is None:
            connection.execute("DELETE FROM job WHERE id = ?", (difference.row,))
        else:
            connection.execute("UPDATE job SET state = 'removed' WHERE id = ?", (difference.row,))
            describe_removed(connection, difference.row)
        return
    name = name_in_place(place)
    values = {
        "row": difference.row,
        "uid": difference.uid,
        "name": name,
        "state": state_of_place(place),
        "place": place,
        "category": category_of_place(place),
        "priority": kept_priority(connection, difference.uid, name),
        "moved_at": difference.moved_at,
        "number": None,
        "submitter": login_of(difference.owner) if difference.kind == "new" else None,
    }
    connection.execute(
        "DELETE FROM job WHERE uid IS NULL AND name = :name AND place = :place AND id IS NOT :row", values
    )
    if difference.kind == "moved":
        recorded, category = _recorded_move(connection, difference.uid, place)
        if recorded is not None:
            values["moved_at"], values["number"] = recorded
        if values["category"] is None:
            values["category"] = category
        connection.execute(
            "UPDATE job SET name = :name, state = :state, place = :place, priority = :priority, moved_at = :moved_at, "
            "category = :category, move_number = coalesce(:number, move_number), "
            # Nothing is recorded of a job without an id: in every ledger it is as old as its file's last move.
            "submitted_at = CASE WHEN uid IS NULL THEN :moved_at ELSE submitted_at END WHERE id = :row",
            values,
        )
    else:
        values["uid"] = free_id(connection, difference.uid, place)
        connection.execute(
            "INSERT INTO job (uid, name, state, place, category, priority, submitter, submitted_at, moved_at, "
            "found_number) VALUES (:uid, :name, :state, :place, coalesce(:category, ''), :priority, :submitter, :moved_at, "
            ":moved_at, NULL)",
            values,
        )


def _recorded_move(connection: Connection, uid: str | None, place: str) -> tuple[tuple[float, int] | None, str]:
    """Time and number of a job's last journaled move if that led to `place`, else None; and the category of the last
    place that showed one. Both follow from the journals, not from what this ledger happened to see."""
    decided = connection.execute(
        "SELECT moved_at, number, destination FROM move WHERE job_uid = ? "
        "ORDER BY number / 1000000 DESC, "
        "(destination LIKE 'completed/%' OR destination LIKE 'archive/%') DESC, moved_at DESC, number DESC, "
        "destination LIKE 'workers/%' DESC, destination DESC LIMIT 1",
        (uid,),
    ).fetchone()
    # A completed job that was put back by hand is where that move took it.
    moves = [move for move in (decided, last_move(connection, uid)) if move is not None and move[2] == place]
    return (moves[0][:2] if moves else None), last_category(connection, uid)
