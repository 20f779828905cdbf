"""Dependents that have to be looked at: which they are, once folds have noted what ended (due.py). judge_dependents.py says what
becomes of them, and steering/dependents.py moves them. The functions take the driver's connection. Writes rows inside the
caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jobjar.job_file.prerequisites import (
    AFTER,
    AFTER_ANY,
    AFTER_FAILED,
    BATCH,
    JOB,
    TASKS,
    Prerequisite,
    array_of_target,
)
from jobjar.ledger.ask_claiming import IS_DEPENDENT
from jobjar.ledger.driver import Connection
from jobjar.ledger.due import ADD_DUE, DEPENDENT
from jobjar.ledger.judge_dependents import (
    IS_OPEN,
    SUCCEEDED,
    WAIT,
    End,
    end_of_batch,
    end_of_job,
    judge_dependent,
)
from jobjar.ledger.partners import BECAUSE, due_of_tasks
from jobjar.ledger.precedence import IS_LATEST

# A dependent of a thousand jobs is judged when the last of them has ended. Jobs end about in the order of their ids, so a search
# from the last id on finds an open one soon.
_OPEN_PREREQUISITE = (
    "SELECT 1 FROM prerequisite AS other CROSS JOIN job AS prior ON prior.uid = other.target WHERE other.job_uid = {uid} "
    f"AND other.what = 'job' AND prior.{IS_OPEN} ORDER BY other.target DESC LIMIT 1"
)
_ADD_DUE_DEPENDENTS = (
    "INSERT OR IGNORE INTO dependents_due SELECT 'dependent', prerequisite.job_uid "
    "FROM prerequisite INDEXED BY prerequisite_target CROSS JOIN job ON job.uid = prerequisite.job_uid "
    f"WHERE target = ?1 AND what = ?2 AND {IS_DEPENDENT} "
    f"AND (prerequisite.kind NOT IN (?3, '{AFTER_ANY}') OR ({_OPEN_PREREQUISITE.format(uid='prerequisite.job_uid')}) IS NULL)"
)


def due_dependents(connection: Connection, limit: int) -> list[str]:
    """The ids of at most `limit` dependents that have to be looked at. They stay due until `forget_due`."""
    query = f"SELECT what, target FROM dependents_due WHERE what IN ('job', 'batch', '{TASKS}')"
    for what, target in connection.execute(query).fetchall():
        if what == TASKS:
            is_over = end_of_batch(connection, target, {}).outcome is not None
            due = [(DEPENDENT, uid) for uid in due_of_tasks(connection, target, is_over)]
            connection.executemany(ADD_DUE, due)
            connection.execute("DELETE FROM dependents_due WHERE what = ? AND target = ?", (what, target))
            continue
        end = end_of_job(connection, target) if what == JOB else end_of_batch(connection, target, {})
        if end.is_ended:
            fits = "" if what != JOB else AFTER if end.outcome == SUCCEEDED else AFTER_FAILED
            connection.execute(_ADD_DUE_DEPENDENTS, (target, what, fits))
        connection.execute("DELETE FROM dependents_due WHERE what = ? AND target = ?", (what, target))
    query = "SELECT target FROM dependents_due WHERE what = 'dependent' LIMIT ?"
    return [uid for (uid,) in connection.execute(query, (limit,))]


def forget_due(connection: Connection, uids: Iterable[str]) -> None:
    """Note that dependents were looked at."""
    connection.executemany(
        "DELETE FROM dependents_due WHERE what = 'dependent' AND target = ?", [(uid,) for uid in uids]
    )


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
        "OR EXISTS (SELECT 1 FROM prerequisite CROSS JOIN dependents_due USING (what, target) WHERE job_uid = uid) "
        f"OR EXISTS (SELECT 1 FROM prerequisite AS one CROSS JOIN dependents_due AS due ON due.what = '{TASKS}' "
        f"WHERE job_uid = uid AND one.what = '{TASKS}' AND one.target > due.target AND one.target < due.target || '\\') "
        "LIMIT 1000"
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
        what, target = array_of_target(*left.pop())
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
