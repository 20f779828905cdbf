"""Files that carry a known job's name and are not that job, and jobs whose files were renamed by hand.

A job's own name is the one from its submission. Another priority, or the `~2` of a taken name, leaves it the same. Any
other file whose name has the id in it is a copy (an editor's backup, say), unless the job's own file is gone and the
mark shows that this is it (shared_disk/file_mark.py). The mark also finds a file of quite another name: `mv
unclaimed/JOB unclaimed/CATEGORY` where there is no such category. Reads rows, and the files in question.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from jobjar.job_file.names import (
    carried_id,
    has_priority,
    id_in_name,
    is_same_name,
    is_temporary_name,
    originals_of_backup,
    priority_in_name,
    with_priority,
)
from jobjar.layout import Layout, name_in_place, state_of_place
from jobjar.ledger.driver import Connection
from jobjar.shared_disk.file_mark import mark_prefix, read_mark
from jobjar.shared_disk.listing import is_job_at

# An editor that keeps a backup renames the job's file and then writes it anew: its name may be missing for so long.
_EDITED_WITHIN_S = 2.0


class Known(NamedTuple):
    """A job that the ledger knows, by its row."""

    row: int
    uid: str
    state: str
    place: str


def may_be_passing(name: str, status: os.stat_result) -> bool:
    """Whether an editor may be just about to rename a file (`sed -i` gives it the job's run bit first)."""
    return is_temporary_name(name) and is_young(status)


def is_young(status: os.stat_result) -> bool:
    """Whether a file got its name so lately that an editor may still be working on it."""
    return time.time() - status.st_ctime < _EDITED_WITHIN_S


def recorded_name(connection: Connection, uid: str) -> str | None:
    """The name with which a job was submitted, by the journals; None if that has no id in it, or they do not say."""
    query = "SELECT destination, origin FROM move WHERE job_uid = ? ORDER BY number, moved_at"
    for places in connection.execute(query, (uid,)):
        for name in map(name_in_place, places):
            if id_in_name(name) == uid:
                return name
    return None


def is_odd_name(connection: Connection, uid: str, name: str, known_name: str) -> bool:
    """Whether a file's name has a job's id in it and is not the job's own. `known_name` is the name in the job's
    row."""
    if carried_id(name) != uid or is_same_name(name, known_name):
        return False
    recorded = recorded_name(connection, uid)
    return recorded is not None and not is_same_name(name, recorded)


def find_renamed(connection: Connection, layout: Layout, place: str, status: os.stat_result) -> Known | None:
    """The job whose file is the one at `place`, and nowhere else; None if there is none, or doubt. Raises OSError."""
    if state_of_place(place) not in ("limbo", "unclaimed"):
        return None
    prefix = mark_prefix(status)
    rows = connection.execute(
        "SELECT job.id, job.uid, job.state, job.place, mark FROM file_mark CROSS JOIN job ON job.uid = file_mark.job_uid "
        "WHERE mark >= ? AND mark < ?",
        (prefix, prefix[:-1] + "/"),
    ).fetchall()
    if len(rows) != 1:
        return None
    job = Known(*rows[0][:4])
    if job.state in ("claimed", "completed") or (job.state != "removed" and is_job_at(layout.path(job.place))):
        return None
    decided = "SELECT 1 FROM attempt WHERE job_uid = ? AND is_final = 1"
    if connection.execute(decided, (job.uid,)).fetchone() is not None:
        return None  # its file is history: putting it here again submits another job
    if carried_id(name_in_place(place)) == job.uid and is_young(status):
        return None
    return job if read_mark(layout.path(place), status) == rows[0][4] else None


def is_unlike(connection: Connection, layout: Layout, uid: str, place: str, status: os.stat_result) -> bool:
    """Whether a file cannot be that of a submitted job, though its name is the one that a hand gave to the job's
    file. Any file may have such a name, and this one has another mark. Raises OSError."""
    if recorded_name(connection, uid) is None:
        return False  # a hand-made job is known by its name
    prefix = mark_prefix(status)
    query = "SELECT mark FROM file_mark WHERE mark >= ? AND mark < ? AND job_uid = ?"
    marks = [mark for (mark,) in connection.execute(query, (prefix, prefix[:-1] + "/", uid))]
    return not marks or read_mark(layout.path(place), status) not in marks


def is_new_file(connection: Connection, row: int, status: os.stat_result) -> bool:
    """Whether a file with the name of a completed hand-made job is not that job's: a new file is a new job. The
    job's own file was moved back from completed/, and runs again."""
    found = connection.execute(
        "SELECT found_file FROM job WHERE id = ? AND found_file IS NOT NULL AND state IN ('completed', 'removed') "
        "AND EXISTS (SELECT 1 FROM attempt WHERE job_uid = job.uid AND is_final = 1)",
        (row,),
    ).fetchone()
    return found is not None and found[0] != mark_prefix(status)


def kept_priority(connection: Connection, uid: str | None, name: str) -> int:
    """The priority of a job that has this name now. If the name is not its own and shows none, it is that of its own
    name."""
    if uid is None or has_priority(name):
        return priority_in_name(name)
    recorded = recorded_name(connection, uid)
    if recorded is None or is_same_name(name, recorded):
        return priority_in_name(name)
    return priority_in_name(recorded)


def own_name(connection: Connection, uid: str, name: str, priority: int) -> str:
    """The name that a worker gives to a job's renamed file: the job's own, with its present priority."""
    recorded = recorded_name(connection, uid)
    if recorded is None or is_same_name(name, recorded):
        return name
    return with_priority(recorded, priority)


def find_renamed_jobs(connection: Connection) -> list[tuple[str, str]]:
    """(place, own name) of each job that waits under a name that is not its own."""
    rows = connection.execute(
        "SELECT uid, name, place FROM job INDEXED BY job_renamed WHERE (state = 'limbo' OR state = 'unclaimed') "
        "AND uid IS NOT NULL AND move_number > 0 AND (instr(name, uid) = 0 OR name NOT GLOB '*.[0-9-]*')"
    )
    found = []
    for uid, name, place in rows:
        recorded = recorded_name(connection, uid)
        if recorded is not None and not is_same_name(name, recorded):
            found.append((place, recorded))
    return found


def explain_second_file(connection: Connection, uid: str | None, name: str) -> str | None:
    """Why a file that is to be claimed must not run, and what to do: it is a second file of another job. None if it
    may run. `uid` is its id in the ledger."""
    carried = carried_id(name)
    if carried is not None and carried != uid:
        row = connection.execute("SELECT name, state FROM job WHERE uid = ?", (carried,)).fetchone()
    elif carried is None and uid is None:
        marks = ",".join("?" * len(originals := originals_of_backup(name)))
        query = (
            f"SELECT name, state FROM job WHERE name IN ({marks}) AND state <> 'removed' ORDER BY moved_at DESC LIMIT 1"
        )
        row = connection.execute(query, originals).fetchone() if originals else None
    else:
        row = None
    if row is None:
        return None
    return (
        f"its name makes it a copy or a backup of job {row[0]} ({row[1]}), which would run twice; remove it, or give it a name "
        "of its own (mv limbo/… unclaimed/NAME) to have it run as another job"
    )


def places_of_known_copies(connection: Connection) -> set[str]:
    """The places of the files that are held because their names have another job's id in them."""
    rows = connection.execute(
        "SELECT place, name, uid FROM job WHERE state <> 'completed' AND state = 'limbo' AND held_reason IS NOT NULL"
    )
    return {place for place, name, uid in rows if carried_id(name) not in (None, uid)}
