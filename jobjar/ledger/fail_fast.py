"""Batches that stop at their first failure (`fail_fast`): which have to be looked at, what failed, and which jobs are the rest.

A fold notes such a batch in `dependents_due` when something of it has failed, was submitted, or was changed.
steering/fail_fast.py cancels the rest. The functions take the driver's connection. Writes rows inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jobjar.journal.entries import LIFE
from jobjar.ledger.driver import Connection
from jobjar.ledger.precedence import IS_LATEST

# A row of dependents_due with this word names a batch in which something may have failed.
FAILURE = "failure"
# How the description of such a batch begins, in its journal entries and in the ledger (batches/state.py).
SAID = "fail_fast = yes"
# A person's or another job's cancellation is no failure.
FAILURES = ("failed", "timed_out", "killed", "crashed")
_OUTCOMES_OF_TASKS = {1: "failed", 2: "timed out", 3: "was killed"}  # as in apply_tasks.py
_WORDS = {"timed_out": "timed out", "killed": "was killed"}

# Where the row of an end and of a submission (apply.py) have what is needed.
_OUTCOME, _IS_FINAL, _BATCH = 7, 8, 9
_IS_FAST = f"(description = '{SAID}' OR description GLOB '{SAID}' || char(10) || '*')"
ADD_DUE = f"INSERT OR IGNORE INTO dependents_due SELECT '{FAILURE}', name FROM batch WHERE name = :name AND {_IS_FAST}"
_ADD_DUE_OF_JOB = (
    f"INSERT OR IGNORE INTO dependents_due SELECT '{FAILURE}', batch.name FROM job CROSS JOIN batch ON batch.name = job.batch "
    f"WHERE job.uid = ? AND {_IS_FAST}"
)
_FAILED = f"outcome IN ({', '.join(repr(outcome) for outcome in FAILURES)})"
_IS_OPEN = "state IN ('unclaimed', 'claimed', 'limbo')"
# The run of a job whose outputs wait to be stored is over.
_REST = f"SELECT id, state FROM job WHERE batch = ?1 AND {_IS_OPEN} AND category NOT GLOB 'STORAGE-*'"
# A job begins when it was submitted, or left completed/ for its present life.
_REST_OF_JOBS = (
    f"{_REST} AND CASE WHEN move_number < {LIFE} THEN submitted_at <= ?2 ELSE (SELECT min(moved_at) FROM move "
    f"WHERE job_uid = job.uid AND number >= job.move_number / {LIFE} * {LIFE}) < ?2 END ORDER BY uid"
)
# A chunk of an array knows how often its tasks were opened again.
_REST_OF_CHUNKS = f"{_REST} AND coalesce(seed, 0) <= ?2 ORDER BY uid"


def note_failures(
    connection: Connection, submissions: Sequence[tuple[Any, ...]], ends: Iterable[tuple[Any, ...]]
) -> None:
    """Note the batches to be looked at, after the other rows of a chunk of entries were written. A job that succeeds, or has no
    batch, costs nothing."""
    for name in {row[_BATCH] for row in submissions if row[_BATCH] is not None}:
        connection.execute(ADD_DUE, {"name": name})
    failed = [(end[0],) for end in ends if end[_IS_FINAL] and end[_OUTCOME] in FAILURES]
    if failed:
        connection.executemany(_ADD_DUE_OF_JOB, failed)


class Failure(NamedTuple):
    """What failed in a batch: in words, and when by the disk's clock. `life`: how often the tasks of an array had been opened
    again before (arrays/retry.py)."""

    what: str
    ended_at: float
    life: int | None = None


def due_batches(connection: Connection) -> list[str]:
    """The batches that have to be looked at. They stay due until `forget_batch`."""
    rows = connection.execute("SELECT target FROM dependents_due WHERE what = ?", (FAILURE,))
    return [name for (name,) in rows.fetchall()]


def batches_to_stop(connection: Connection) -> dict[str, Failure]:
    """The batches that have failed, and of whose rest some jobs still wait: none of these is to be claimed any more."""
    failures = ((name, last_failure(connection, name)) for name in due_batches(connection))
    return {
        name: failure
        for name, failure in failures
        if failure is not None and any(state != "claimed" for _, state in rest_of_batch(connection, name, failure))
    }


def forget_batch(connection: Connection, name: str) -> None:
    """Note that a batch was looked at, and that nothing is left to be done."""
    connection.execute("DELETE FROM dependents_due WHERE what = ? AND target = ?", (FAILURE, name))


def last_failure(connection: Connection, name: str) -> Failure | None:
    """The latest failure of a batch; None if nothing has failed for good."""
    array = connection.execute("SELECT id FROM array WHERE uid = ?", (name,)).fetchone()
    if array is not None:
        query = (
            "SELECT number, outcome, ended_ms / 1000.0, life FROM task INDEXED BY task_failed WHERE array = ? "
            f"AND outcome <> 0 AND outcome IN {tuple(_OUTCOMES_OF_TASKS)} ORDER BY life DESC, ended_ms LIMIT 1"
        )
        task = connection.execute(query, array).fetchone()
        if task is not None:
            return Failure(f"its task {task[0]} {_OUTCOMES_OF_TASKS[task[1]]}", task[2], task[3])
    query = (
        "SELECT job.uid, final.outcome, final.ended_at, seed FROM job INDEXED BY job_of_batch "
        "CROSS JOIN attempt AS final INDEXED BY attempt_failed ON final.job_uid = job.uid AND final.is_final = 1 "
        f"WHERE batch = ? AND final.{_FAILED} AND job.state = 'completed' AND {IS_LATEST.format(end='final')} "
        "ORDER BY final.ended_at DESC, job.uid LIMIT 1"
    )
    row = connection.execute(query, (name,)).fetchone()
    if row is None:
        return None
    uid, outcome, ended_at, life = row
    what = f"{uid} {_WORDS.get(outcome, outcome)}"
    return Failure(what, ended_at or 0.0, None if array is None else life or 0)


def is_failing(connection: Connection, name: str) -> bool:
    """Whether a job of a batch has failed for good and is still in its worker's directory: an end is journaled before the move to
    completed/, so one may be folded without the other."""
    query = (
        "SELECT 1 FROM job INDEXED BY job_of_batch CROSS JOIN attempt AS final ON final.job_uid = job.uid AND final.is_final = 1 "
        f"WHERE batch = ? AND job.state = 'claimed' AND final.{_FAILED} AND NOT EXISTS "
        "(SELECT 1 FROM attempt AS later WHERE later.job_uid = job.uid AND later.number > final.number) LIMIT 1"
    )
    return connection.execute(query, (name,)).fetchone() is not None


def rest_of_batch(connection: Connection, name: str, failure: Failure) -> list[tuple[int, str]]:
    """The open jobs of a batch that a failure stops, each by its row and its state. Those that were submitted or retried after it
    go on."""
    if failure.life is None:
        query, value = _REST_OF_JOBS, failure.ended_at
    else:
        query, value = _REST_OF_CHUNKS, failure.life
    return connection.execute(query, (name, value)).fetchall()
