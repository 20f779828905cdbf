"""Dependents: which jobs wait for which, which of them have to be looked at, and what their prerequisites come to.

`note_dependents` is called by each fold; it costs a jar without dependents one look at an empty table for each chunk of entries.
steering/dependents.py moves what is due. The functions take the driver's connection. Writes rows inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jobjar.job_file.prerequisites import (
    AFTER,
    AFTER_ANY,
    AFTER_FAILED,
    BATCH,
    JOB,
    Prerequisite,
    explain_dependent,
    is_dependent,
    prerequisites_in,
)
from jobjar.ledger.ask_arrays import array_of
from jobjar.ledger.ask_awaited import BATCH as JOBS_OF_BATCH, Awaited, count_ended, count_missing
from jobjar.ledger.ask_batch_jobs import IS_LATEST
from jobjar.ledger.ask_claiming import IS_DEPENDENT
from jobjar.ledger.driver import Connection
from jobjar.ledger.fail_fast import note_failures

# What a row of dependents_due may name beside a job and a batch.
_DEPENDENT = "dependent"
# What becomes of a dependent.
RELEASE, CANCEL, WAIT = "release", "cancel", "wait"
# How the message of an attempt begins that cancelled a job for the end of a prerequisite.
BECAUSE = "its prerequisite "
_SUCCEEDED = "succeeded"
# Where a row of a submission (`_submission` in apply.py) has the job's batch, and what else it was given.
_BATCH, _GIVEN = 9, 13
_WORDS = {"timed_out": "timed out", "killed": "was killed", "cancelled": "was cancelled"}

_IS_OPEN = "state IN ('unclaimed', 'claimed', 'limbo')"
_OUTCOME = (
    "(SELECT outcome FROM attempt WHERE job_uid = job.uid AND is_final = 1 "
    "ORDER BY number DESC, ended_at DESC, worker_uid DESC LIMIT 1)"
)
_ADD = "INSERT OR IGNORE INTO prerequisite (job_uid, what, target, kind) VALUES (?, ?, ?, ?)"
_ADD_DUE = "INSERT OR IGNORE INTO dependents_due VALUES (?, ?)"
_ADD_DUE_OF_JOB = (
    "INSERT OR IGNORE INTO dependents_due SELECT 'job', ?1 "
    "WHERE EXISTS (SELECT 1 FROM prerequisite WHERE target = ?1 AND what = 'job')"
)
_ADD_DUE_OF_BATCH = (
    "INSERT OR IGNORE INTO dependents_due SELECT 'batch', batch FROM job WHERE uid = ?1 AND batch IS NOT NULL "
    "AND EXISTS (SELECT 1 FROM prerequisite WHERE target = job.batch AND what = 'batch')"
)
# A dependent of a thousand jobs is judged when the last of them has ended. Jobs end about in the order of their ids, so a search
# from the last id on finds an open one soon.
_OPEN_PREREQUISITE = (
    "SELECT 1 FROM prerequisite AS other CROSS JOIN job AS prior ON prior.uid = other.target WHERE other.job_uid = {uid} "
    f"AND other.what = 'job' AND prior.{_IS_OPEN} ORDER BY other.target DESC LIMIT 1"
)
_ADD_DUE_DEPENDENTS = (
    "INSERT OR IGNORE INTO dependents_due SELECT 'dependent', prerequisite.job_uid "
    "FROM prerequisite INDEXED BY prerequisite_target CROSS JOIN job ON job.uid = prerequisite.job_uid "
    f"WHERE target = ?1 AND what = ?2 AND {IS_DEPENDENT} "
    f"AND (prerequisite.kind NOT IN (?3, '{AFTER_ANY}') OR ({_OPEN_PREREQUISITE.format(uid='prerequisite.job_uid')}) IS NULL)"
)


def note_dependents(
    connection: Connection,
    submissions: Sequence[tuple[Any, ...]],
    latest: Mapping[str, tuple[Any, ...]],
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
    for uid, (order, entry, *_) in latest.items():
        if order[1]:
            ended.add(uid)
        elif is_dependent(entry.get("held_reason")):
            due.add(uid)
    connection.executemany(_ADD_DUE, [(_DEPENDENT, uid) for uid in due])
    connection.executemany(_ADD_DUE_OF_JOB, [(uid,) for uid in ended])
    # Only its submission says of which batch a job is. That may be read after its end.
    of_batches = ended.union(row[0] for row in submissions if row[_BATCH] is not None)
    connection.executemany(_ADD_DUE_OF_BATCH, [(uid,) for uid in of_batches])


def has_due(connection: Connection) -> bool:
    """Whether dependents have to be looked at, or batches that stop at their first failure."""
    return connection.execute("SELECT 1 FROM dependents_due LIMIT 1").fetchone() is not None


def due_dependents(connection: Connection, limit: int) -> list[str]:
    """The ids of at most `limit` dependents that have to be looked at. They stay due until `forget_due`."""
    query = "SELECT what, target FROM dependents_due WHERE what IN ('job', 'batch')"
    for what, target in connection.execute(query).fetchall():
        end = _end_of_job(connection, target) if what == JOB else _end_of_batch(connection, target, {})
        if end.is_ended:
            fits = "" if what != JOB else AFTER if end.outcome == _SUCCEEDED else AFTER_FAILED
            connection.execute(_ADD_DUE_DEPENDENTS, (target, what, fits))
        connection.execute("DELETE FROM dependents_due WHERE what = ? AND target = ?", (what, target))
    query = "SELECT target FROM dependents_due WHERE what = 'dependent' LIMIT ?"
    return [uid for (uid,) in connection.execute(query, (limit,))]


def forget_due(connection: Connection, uids: Iterable[str]) -> None:
    """Note that dependents were looked at."""
    connection.executemany(
        "DELETE FROM dependents_due WHERE what = 'dependent' AND target = ?", [(uid,) for uid in uids]
    )


class End(NamedTuple):
    """What a prerequisite has come to. `state`: of a job as ledgers have it (None: nobody knows the job); of a batch `completed`
    or `unclaimed`. `outcome`: how it ended, if that is recorded."""

    state: str | None
    outcome: str | None = None

    @property
    def is_ended(self) -> bool:
        return self.state == "completed" or self.outcome is not None

    def fulfils(self, kind: str) -> bool | None:
        """Whether a dependent of this kind may run; None if that cannot be said yet."""
        if not self.is_ended:
            return None
        if kind == AFTER_ANY:
            return True
        return None if self.outcome is None else (self.outcome == _SUCCEEDED) == (kind == AFTER)


class Judgement(NamedTuple):
    """What becomes of a dependent: RELEASE, CANCEL with the message that says why, or WAIT. `row`: the ledger's."""

    row: int
    word: str
    message: str = ""


def judge_dependent(connection: Connection, uid: str, ended_batches: dict[str, End]) -> Judgement | None:
    """What becomes of a job that waits for prerequisites; None if it does not. `ended_batches` keeps what was counted of batches
    that have ended."""
    row = connection.execute(f"SELECT id FROM job WHERE uid = ? AND {IS_DEPENDENT}", (uid,)).fetchone()
    return None if row is None else Judgement(row[0], *judge(ends_of_prerequisites(connection, uid, ended_batches)))


def judge(ends: Iterable[tuple[Prerequisite, End]]) -> tuple[str, str]:
    """RELEASE, CANCEL or WAIT, and the message of CANCEL, for a job with these prerequisites. One without any waits."""
    known = open_ones = 0
    for prerequisite, end in ends:
        fits = end.fulfils(prerequisite.kind)
        if fits is False:
            return CANCEL, explain_cancelled(prerequisite, end)
        known += 1
        open_ones += fits is None
    return (RELEASE if known and not open_ones else WAIT), ""


def explain_cancelled(prerequisite: Prerequisite, end: End) -> str:
    """The message of a dependent that is cancelled for the end of a prerequisite."""
    title = f"{BECAUSE}{prerequisite.title}"
    if prerequisite.kind == AFTER_FAILED:
        return f"{title} succeeded, and it was to run only if that did not"
    if prerequisite.what == BATCH:
        return f"{title} did not succeed in all its jobs"
    return f"{title} {_WORDS.get(str(end.outcome), end.outcome)}"


def ends_of_prerequisites(
    connection: Connection, uid: str, ended_batches: dict[str, End]
) -> Iterator[tuple[Prerequisite, End]]:
    """A job's prerequisites, and what each has come to."""
    query = (
        f"SELECT prerequisite.kind, what, target, state, CASE WHEN {_IS_OPEN} THEN NULL ELSE {_OUTCOME} END FROM prerequisite "
        "LEFT JOIN job ON what = 'job' AND uid = target WHERE prerequisite.job_uid = ? "
        "ORDER BY what, target, prerequisite.kind"
    )
    for kind, what, target, state, outcome in connection.execute(query, (uid,)).fetchall():
        end = _end_of_batch(connection, target, ended_batches) if what == BATCH else End(state, outcome)
        yield Prerequisite(kind, what, target), end


def _end_of_job(connection: Connection, uid: str) -> End:
    query = f"SELECT state, CASE WHEN {_IS_OPEN} THEN NULL ELSE {_OUTCOME} END FROM job WHERE uid = ?"
    row = connection.execute(query, (uid,)).fetchone()
    return End(None) if row is None else End(*row)


def _end_of_batch(connection: Connection, name: str, ended_batches: dict[str, End]) -> End:
    """What a batch has come to: it has ended once none of its jobs is open or still to come."""
    is_open = connection.execute(f"SELECT 1 FROM job WHERE batch = ? AND {_IS_OPEN} LIMIT 1", (name,)).fetchone()
    if is_open or count_missing(connection, name):
        return End("unclaimed")
    array = array_of(connection, name)
    if array is not None:  # its tasks count, and not its chunks
        return End("completed", _SUCCEEDED if array.succeeded == array.tasks else "failed")
    if name not in ended_batches:
        ended = count_ended(connection, Awaited(JOBS_OF_BATCH, name))
        failed = [outcome for outcome in ended.unsuccessful.values() if outcome not in ("unknown", "removed")]
        is_known = failed or not ended.unsuccessful
        outcome = ("failed" if failed else _SUCCEEDED) if is_known else None
        ended_batches[name] = End("completed", outcome) if ended.jobs else End(None)
    return ended_batches[name]


def reason_after_hold(connection: Connection, uid: str) -> str | None:
    """The `held_reason` of a job that is not held any more and waits for its prerequisites; None if they have ended as it wants,
    or if it was claimable before: then somebody has let it go on already."""
    query = (
        "SELECT 1 FROM move CROSS JOIN job ON uid = job_uid WHERE job_uid = ? AND number / 1000000 = move_number / 1000000 "
        "AND destination GLOB 'unclaimed/*'"
    )
    if _judge(connection, uid) == RELEASE or connection.execute(query, (uid,)).fetchone():
        return None
    return _reason(connection, uid)


def reason_again(connection: Connection, uid: str, is_with_prerequisites: bool) -> str | None:
    """The `held_reason` of a job that ended, is to run again, and waits for its prerequisites: these run again too, or may still
    end as it wants. Else None."""
    return _reason(connection, uid) if is_with_prerequisites or _judge(connection, uid) == WAIT else None


def _judge(connection: Connection, uid: str) -> str:
    return judge(ends_of_prerequisites(connection, uid, {}))[0]


def _reason(connection: Connection, uid: str) -> str | None:
    query = "SELECT kind, what, target FROM prerequisite WHERE job_uid = ? ORDER BY what, target, kind"
    prerequisites = [Prerequisite(*row) for row in connection.execute(query, (uid,))]
    return explain_dependent(prerequisites) if prerequisites else None


def cancelled_because_of(connection: Connection, ended: Iterable[tuple[str, str]]) -> list[int]:
    """The jobs (by row) that were cancelled for the end of one of these, each given by what it is and its name."""
    query = (
        "SELECT DISTINCT job.id FROM prerequisite CROSS JOIN job ON uid = prerequisite.job_uid "
        "CROSS JOIN attempt AS final ON final.job_uid = uid AND final.is_final = 1 WHERE target = ?1 AND what = ?2 "
        f"AND state = 'completed' AND {IS_LATEST.format(end='final')} AND substr(final.message, 1, length(?3)) = ?3"
    )
    rows: dict[int, None] = {}
    for what, target in ended:
        start = f"{BECAUSE}{Prerequisite('', what, target).title} "
        rows |= {row: None for (row,) in connection.execute(query, (target, what, start))}
    return list(rows)


def count_dependent(connection: Connection) -> int:
    """How many jobs wait for prerequisites."""
    return int(connection.execute("SELECT count(*) FROM dependent_report").fetchone()[0])


def count_due(connection: Connection) -> int:
    """How many dependents, of a thousand that have to be looked at, could go on or be cancelled now."""
    query = (
        "SELECT uid FROM dependent_report WHERE EXISTS (SELECT 1 FROM dependents_due WHERE what = 'dependent' AND target = uid) "
        "OR EXISTS (SELECT 1 FROM prerequisite CROSS JOIN dependents_due USING (what, target) WHERE job_uid = uid) LIMIT 1000"
    )
    batches: dict[str, End] = {}
    judged = [judge_dependent(connection, uid, batches) for (uid,) in connection.execute(query).fetchall()]
    return sum(one is not None and one.word != WAIT for one in judged)


class LostPrerequisite(NamedTuple):
    """A job that will not end any more, or whose end nobody recorded; how many jobs depend on it, and one of these."""

    target: str
    jobs: int
    dependent: str


def count_lost_prerequisites(connection: Connection) -> list[LostPrerequisite]:
    """The prerequisites of open dependents that are lost."""
    query = (
        "SELECT target, count(*), min(dependent.uid) FROM dependent_report AS dependent "
        "CROSS JOIN prerequisite ON job_uid = dependent.uid LEFT JOIN job ON job.uid = target WHERE what = 'job' "
        "AND (job.uid IS NULL OR job.state = 'removed' OR (job.state = 'completed' AND prerequisite.kind <> 'after_any')) "
        "AND NOT EXISTS (SELECT 1 FROM attempt WHERE job_uid = target AND is_final = 1) GROUP BY target"
    )
    return [LostPrerequisite(*row) for row in connection.execute(query)]


def leads_to_batch(connection: Connection, batch: str, prerequisites: Sequence[Mapping[str, str]]) -> bool:
    """Whether something among these prerequisites waits, in the end, for a batch. A job can only name what is there already. So a
    circle of dependents is possible only where a batch grows."""
    seen: set[tuple[str, str]] = set()
    left = [pair for one in prerequisites for pair in one.items()]
    while left:
        what, target = left.pop()
        if (what, target) in seen:
            continue
        seen.add((what, target))
        if (what, target) == (BATCH, batch):
            return True
        query = (
            "SELECT DISTINCT what, target FROM prerequisite CROSS JOIN job ON job.uid = job_uid "
            f"WHERE job_uid IN (SELECT uid FROM job WHERE {'batch' if what == BATCH else 'uid'} = ? AND {IS_DEPENDENT})"
        )
        left += connection.execute(query, (target,)).fetchall()
    return False
