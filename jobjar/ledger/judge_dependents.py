"""What a prerequisite has come to, and what becomes of the jobs that wait for it: they go on, are cancelled, or wait.

Reads the ledger; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jobjar.job_file.prerequisites import (
    AFTER,
    AFTER_ANY,
    AFTER_EACH,
    AFTER_FAILED,
    BATCH,
    TASKS,
    Prerequisite,
    explain_dependent,
)
from jobjar.ledger.ask_arrays import array_of
from jobjar.ledger.ask_awaited import BATCH as JOBS_OF_BATCH, Awaited, count_ended, count_missing
from jobjar.ledger.ask_claiming import IS_DEPENDENT
from jobjar.ledger.driver import Connection
from jobjar.ledger.partners import BECAUSE, have_ended, tasks_without

# What becomes of a dependent.
RELEASE, CANCEL, WAIT = "release", "cancel", "wait"
SUCCEEDED = "succeeded"
_WORDS = {"timed_out": "timed out", "killed": "was killed", "cancelled": "was cancelled"}
IS_OPEN = "state IN ('unclaimed', 'claimed', 'limbo')"
_OUTCOME = (
    "(SELECT outcome FROM attempt WHERE job_uid = job.uid AND is_final = 1 "
    "ORDER BY number DESC, ended_at DESC, worker_uid DESC LIMIT 1)"
)
_REMOVED_CHUNK = (
    "SELECT 1 FROM job WHERE batch = ? AND state = 'removed' "
    "AND NOT EXISTS (SELECT 1 FROM attempt WHERE job_uid = uid AND is_final = 1) LIMIT 1"
)


class End(NamedTuple):
    """What a prerequisite has come to. `state`: of a job as ledgers have it (None: nobody knows the job); of a batch `completed`
    or `unclaimed`, and so of a range of tasks. `outcome`: how it ended, if that is recorded."""

    state: str | None
    outcome: str | None = None

    @property
    def is_ended(self) -> bool:
        return self.state == "completed" or self.outcome is not None

    def fulfils(self, kind: str) -> bool | None:
        """Whether a dependent of this kind may run; None if that cannot be said yet."""
        if not self.is_ended:
            return None
        if kind in (AFTER_ANY, AFTER_EACH):
            return True
        return None if self.outcome is None else (self.outcome == SUCCEEDED) == (kind == AFTER)


class Judgement(NamedTuple):
    """What becomes of a dependent: RELEASE, CANCEL with the message that says why, or WAIT. `row`: the ledger's. `tasks`: those
    of a chunk that are cancelled because their partners did not succeed, each with its message."""

    row: int
    word: str
    message: str = ""
    tasks: Mapping[int, str] = {}


def judge_dependent(connection: Connection, uid: str, ended_batches: dict[str, End]) -> Judgement | None:
    """What becomes of a job that waits for prerequisites; None if it does not. `ended_batches` keeps what was counted of batches
    that have ended."""
    row = connection.execute(f"SELECT id FROM job WHERE uid = ? AND {IS_DEPENDENT}", (uid,)).fetchone()
    return None if row is None else _judge(connection, uid, ended_batches, row[0])


def _judge(connection: Connection, uid: str, ended_batches: dict[str, End], row: int = 0) -> Judgement:
    ends = list(ends_of_prerequisites(connection, uid, ended_batches))
    word, message = judge(ends)
    if word != RELEASE or not any(one.what == TASKS for one, _ in ends):
        return Judgement(row, word, message)
    without = tasks_without(connection, uid)
    if without is None:
        return Judgement(row, WAIT)
    if without.have_rest:
        return Judgement(row, RELEASE, "", without.tasks)
    return Judgement(row, CANCEL, f"{BECAUSE}{ends[-1][0].title} succeeded in none of its tasks", without.tasks)


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
        f"SELECT prerequisite.kind, what, target, state, CASE WHEN {IS_OPEN} THEN NULL ELSE {_OUTCOME} END FROM prerequisite "
        "LEFT JOIN job ON what = 'job' AND uid = target WHERE prerequisite.job_uid = ? "
        "ORDER BY what, target, prerequisite.kind"
    )
    for kind, what, target, state, outcome in connection.execute(query, (uid,)).fetchall():
        if what == BATCH:
            end = end_of_batch(connection, target, ended_batches)
        else:
            end = end_of_tasks(connection, target) if what == TASKS else End(state, outcome)
        yield Prerequisite(kind, what, target), end


def end_of_job(connection: Connection, uid: str) -> End:
    query = f"SELECT state, CASE WHEN {IS_OPEN} THEN NULL ELSE {_OUTCOME} END FROM job WHERE uid = ?"
    row = connection.execute(query, (uid,)).fetchone()
    return End(None) if row is None else End(*row)


def end_of_batch(connection: Connection, name: str, ended_batches: dict[str, End]) -> End:
    """What a batch has come to: it has ended once none of its jobs is open or still to come."""
    is_open = connection.execute(f"SELECT 1 FROM job WHERE batch = ? AND {IS_OPEN} LIMIT 1", (name,)).fetchone()
    if is_open or count_missing(connection, name):
        return End("unclaimed")
    array = array_of(connection, name)
    if array is not None:  # its tasks count, and not its chunks
        if array.succeeded + array.failed != array.tasks and connection.execute(_REMOVED_CHUNK, (name,)).fetchone():
            return End("completed")  # nobody knows what became of them; a listing that came late, perhaps
        return End("completed", SUCCEEDED if array.succeeded == array.tasks else "failed")
    if name not in ended_batches:
        ended = count_ended(connection, Awaited(JOBS_OF_BATCH, name))
        failed = [outcome for outcome in ended.unsuccessful.values() if outcome not in ("unknown", "removed")]
        is_known = failed or not ended.unsuccessful
        outcome = ("failed" if failed else SUCCEEDED) if is_known else None
        ended_batches[name] = End("completed", outcome) if ended.jobs else End(None)
    return ended_batches[name]


def end_of_tasks(connection: Connection, target: str) -> End:
    """What a range of an array's tasks has come to: it has ended once each task has, or will not run any more."""
    ended = have_ended(connection, target)
    if ended is None:
        return End(None)
    if not ended:
        ended = end_of_batch(connection, target.partition("[")[0], {}).outcome is not None
    return End("completed" if ended else "unclaimed")


def reason_after_hold(connection: Connection, uid: str) -> str | None:
    """The `held_reason` of a job that is not held any more and waits for its prerequisites; None if they have ended as it wants,
    or if it was claimable before: then somebody has let it go on already."""
    query = (
        "SELECT 1 FROM move CROSS JOIN job ON uid = job_uid WHERE job_uid = ? AND number / 1000000 = move_number / 1000000 "
        "AND destination GLOB 'unclaimed/*'"
    )
    judged = _judge(connection, uid, {})
    if (judged.word == RELEASE and not judged.tasks) or connection.execute(query, (uid,)).fetchone():
        return None
    return _reason(connection, uid)


def reason_again(connection: Connection, uid: str, is_with_prerequisites: bool) -> str | None:
    """The `held_reason` of a job that ended, is to run again, and waits for its prerequisites: these run again too, or may still
    end as it wants. Else None."""
    return _reason(connection, uid) if is_with_prerequisites or _judge(connection, uid, {}).word == WAIT else None


def _reason(connection: Connection, uid: str) -> str | None:
    query = "SELECT kind, what, target FROM prerequisite WHERE job_uid = ? ORDER BY what, target, kind"
    prerequisites = [Prerequisite(*row) for row in connection.execute(query, (uid,))]
    return explain_dependent(prerequisites) if prerequisites else None
