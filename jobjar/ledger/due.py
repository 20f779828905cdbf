"""What each fold notes for later: which dependents have to be looked at, and which batches that stop at their first failure.

`note_dependents` costs a jar without dependents one look at an empty table for each chunk of entries. dependents.py says which
dependents that comes to. Every program that submits imports this module, and no more of dependents. The functions take the
driver's connection. Writes rows inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobjar.job_file.prerequisites import is_dependent, prerequisites_in
from jobjar.journal.read import Entry
from jobjar.layout import state_of_place
from jobjar.ledger.driver import Connection
from jobjar.ledger.fail_fast import note_failures

# What a row of dependents_due may name beside a job and a batch.
DEPENDENT = "dependent"
# Where a row of a submission (`_submission` in apply.py) has the job's batch, and what else it was given.
_BATCH, _GIVEN = 9, 13

_ADD = "INSERT OR IGNORE INTO prerequisite (job_uid, what, target, kind) VALUES (?, ?, ?, ?)"
ADD_DUE = "INSERT OR IGNORE INTO dependents_due VALUES (?, ?)"
_ADD_DUE_OF_JOB = (
    "INSERT OR IGNORE INTO dependents_due SELECT 'job', ?1 "
    "WHERE EXISTS (SELECT 1 FROM prerequisite WHERE target = ?1 AND what = 'job')"
)
_ADD_DUE_OF_BATCH = (
    "INSERT OR IGNORE INTO dependents_due SELECT 'batch', batch FROM job WHERE uid = ?1 AND batch IS NOT NULL "
    "AND EXISTS (SELECT 1 FROM prerequisite WHERE target = job.batch AND what = 'batch')"
)
# A chunk may have ended with tasks that will not run any more.
_ARRAY_OF_CHUNK = "SELECT batch FROM job WHERE uid = ? AND kind = 'chunk'"


def note_dependents(
    connection: Connection,
    submissions: Sequence[tuple[Any, ...]],
    latest: Mapping[str, Entry],
    ends: Iterable[tuple[Any, ...]],
) -> None:
    """Write the prerequisites of new jobs, and note which dependents have to be looked at, after the other rows of a chunk of
    entries (apply.py) were written; of batches that stop at their first failure too. Raises ValueError if what a job was given
    is invalid."""
    note_failures(connection, submissions, ends)
    prerequisites = [
        (row[0], one.what, one.target, one.kind)
        for row in submissions
        if row[_GIVEN] is not None
        for one in prerequisites_in(json.loads(row[_GIVEN]))
    ]
    if prerequisites:
        connection.executemany(_ADD, prerequisites)
    elif connection.execute("SELECT 1 FROM prerequisite LIMIT 1").fetchone() is None:
        return
    due = {row[0] for row in prerequisites}
    ended = {end[0] for end in ends if end[8]}
    for uid, entry in latest.items():
        if state_of_place(entry["to"]) == "completed":
            ended.add(uid)
        elif is_dependent(entry.get("held_reason")):
            due.add(uid)
    connection.executemany(ADD_DUE, [(DEPENDENT, uid) for uid in due])
    connection.executemany(_ADD_DUE_OF_JOB, [(uid,) for uid in ended])
    # Only its submission says of which batch a job is. That may be read after its end.
    of_batches = ended.union(row[0] for row in submissions if row[_BATCH] is not None)
    connection.executemany(_ADD_DUE_OF_BATCH, [(uid,) for uid in of_batches])
    arrays = {row[0] for uid in of_batches if (row := connection.execute(_ARRAY_OF_CHUNK, (uid,)).fetchone())}
    if arrays:
        from jobjar.ledger.partners import note_ended_tasks

        note_ended_tasks(connection, arrays)


def has_due(connection: Connection) -> bool:
    """Whether dependents have to be looked at, or batches that stop at their first failure."""
    return connection.execute("SELECT 1 FROM dependents_due LIMIT 1").fetchone() is not None
