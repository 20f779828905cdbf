"""Jobs whose files are not there: what their rows say, and which of them were only missed.

A claimer that finds no file where the ledger has a job goes on to the next job. It does not find out whether the file
was removed, or where it is. The next process that lists the jars does (ledger/reconcile_jar.py), and records it
(by_hand.py). Until then a row of `file_mark` has the mark `missed`. Writes rows, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobjar.layout import name_in_place
from jobjar.ledger.by_hand import last_move
from jobjar.ledger.driver import Connection
from jobjar.ledger.renamed import kept_priority

# Stands in the place of a mark. No file has it.
MISSED = "missed"


def mark_removed(connection: Connection, row: int, place: str) -> bool:
    """Note that a job is not at the place where the ledger has it. A scan or an entry that knows better corrects
    that. Returns whether the ledger had it there, with an id."""
    connection.execute("DELETE FROM job WHERE id = ? AND place = ? AND uid IS NULL", (row, place))
    if not connection.execute("UPDATE job SET state = 'removed' WHERE id = ? AND place = ?", (row, place)).rowcount:
        return False
    describe_removed(connection, row)
    return True


def mark_missed(connection: Connection, row: int, place: str) -> None:
    """`mark_removed`, for a caller that did not look for the file elsewhere."""
    if mark_removed(connection, row, place):
        connection.execute("INSERT OR IGNORE INTO file_mark SELECT ?, uid FROM job WHERE id = ?", (MISSED, row))


def missed_jobs(connection: Connection) -> list[int]:
    """The rows of the jobs that were missed and have not shown up since."""
    query = "SELECT job.id FROM file_mark CROSS JOIN job ON uid = job_uid WHERE mark = ? AND state = 'removed'"
    return [row for (row,) in connection.execute(query, (MISSED,))]


def forget_missed(connection: Connection, rows: Iterable[int]) -> None:
    """Forget that these jobs were missed, because they have been looked for; and forget those that showed up."""
    query = "DELETE FROM file_mark WHERE mark = ? AND job_uid = (SELECT uid FROM job WHERE id = ?)"
    connection.executemany(query, [(MISSED, row) for row in rows])
    query = "DELETE FROM file_mark WHERE mark = ? AND NOT EXISTS (SELECT 1 FROM job WHERE uid = job_uid AND state = 'removed')"
    connection.execute(query, (MISSED,))


def describe_removed(connection: Connection, row: int | None) -> None:
    """Make a removed job's row say what follows from its last recorded move, as in a rebuilt ledger: its name, its
    priority, the time and the number of the move. Entries that come later are compared with these."""
    found = connection.execute("SELECT uid FROM job WHERE id = ?", (row,)).fetchone()
    last = None if found is None else last_move(connection, found[0])
    if last is not None:
        name = name_in_place(last.place or last.origin)
        values = (name, kept_priority(connection, found[0], name), last.moved_at, last.number, row)
        connection.execute("UPDATE job SET name = ?, priority = ?, moved_at = ?, move_number = ? WHERE id = ?", values)
