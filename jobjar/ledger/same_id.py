"""Several files with one id in their names: one of them is the job of that id, and every ledger takes the same one.

That is the job that a journal records. If no journal knows the files, it is the first by name and place. The others
have no id of their own, and are held when they are claimed (renamed.py). Writes rows, inside the caller's transaction.
"""

from __future__ import annotations

from jobjar.layout import name_in_place
from jobjar.ledger.driver import Connection


def free_id(connection: Connection, uid: str | None, place: str) -> str | None:
    """The id as a job of the file at `place`, which the ledger does not know: `uid`, which its name has, or None if
    another job has that. A job that was only seen, and comes after this one, gives it up."""
    row = connection.execute(
        "SELECT id, name, place, move_number, found_number FROM job WHERE uid = ?", (uid,)
    ).fetchone()
    if row is None:
        return uid
    number, name, other, move_number, found_number = row
    is_only_seen = move_number == 0 and found_number is None
    if not is_only_seen or (name, other) <= (name_in_place(place), place):
        return None
    connection.execute("UPDATE job SET uid = NULL, submitted_at = moved_at WHERE id = ?", (number,))
    return uid
