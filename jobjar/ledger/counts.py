"""Counts that are kept (schema/0006): how many jobs are in which state, how many attempts ended in which minute.

Jobs are counted up to a row; triggers keep those counts. Attempts are counted up to a minute, which goes back where an entry
tells of an earlier one. The views add what is not counted yet. Takes the driver's connection; writes inside the caller's
transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from jobjar.ledger.driver import Connection

# So many jobs are counted each time they are asked for, before they are counted for good. That takes milliseconds. A job that
# ends before so many others came is never in a kept count, so its moves change none.
_NEW = 5000
# So long counts of minutes are kept: the reports tell of a day.
_DAY = 24 * 60
_KEPT = 2 * _DAY

_JOBS = """
SELECT state, category, CASE state WHEN 'unclaimed' THEN priority ELSE 0 END AS of_priority, kind, count(*) FROM job
WHERE {} (SELECT job_id FROM counted) GROUP BY state, category, of_priority, kind"""
_ATTEMPTS = """
SELECT CAST(ended_at / 60 AS INTEGER) AS minute, outcome, is_final, count(*) FROM attempt INDEXED BY {}
WHERE {} AND ended_at >= 60 * ?1 AND ended_at < 60 * ?2 GROUP BY minute, outcome, is_final"""
_INDEXES = (("attempt_ended", "is_final = 1"), ("attempt_undecided", "is_final = 0 AND ended_at IS NOT NULL"))


def count_new_jobs(connection: Connection, at_least: int = _NEW) -> None:
    """Count the jobs that came since that was done last, if there are so many."""
    newest, job_id = connection.execute("SELECT (SELECT max(id) FROM job), job_id FROM counted").fetchone()
    if newest is None or newest - job_id < at_least:
        return
    for *key, jobs in connection.execute(_JOBS.format("id >")).fetchall():
        added = connection.execute(
            "UPDATE job_count SET jobs = jobs + ? WHERE state = ? AND category = ? AND priority = ? AND kind = ?",
            (jobs, *key),
        )
        if not added.rowcount:
            connection.execute("INSERT INTO job_count VALUES (?, ?, ?, ?, ?)", (*key, jobs))
    connection.execute("UPDATE counted SET job_id = ?", (newest,))


def count_minutes(connection: Connection) -> None:
    """Count the attempts that ended until a minute ago."""
    (counted,) = connection.execute("SELECT minute FROM counted").fetchone()
    until = int(time.time() / 60) - 1
    if counted >= until:
        return
    for index in _INDEXES:
        connection.execute(
            f"INSERT INTO attempt_count {_ATTEMPTS.format(*index)}", (max(counted, until - _KEPT), until)
        )
    connection.execute("DELETE FROM attempt_count WHERE minute < ?", (until - _KEPT,))
    connection.execute("UPDATE counted SET minute = ?", (until,))


def forget_minutes(connection: Connection, ended_at: Iterable[float | None]) -> None:
    """Count anew from the earliest of these times on: attempts that ended then are about to be written."""
    times = [moment for moment in ended_at if moment is not None]
    minute = int(max(0.0, min(times)) / 60) if times else None
    if minute is None or not connection.execute("SELECT 1 FROM counted WHERE minute > ?", (minute,)).fetchone():
        return
    connection.execute(
        "DELETE FROM attempt_count WHERE minute >= ?1 OR ?1 < (SELECT minute FROM counted) - ?2", (minute, _DAY)
    )
    connection.execute("UPDATE counted SET minute = CASE WHEN ?1 < minute - ?2 THEN 0 ELSE ?1 END", (minute, _DAY))


def forget_minutes_of(connection: Connection, attempts: Iterable[Sequence[Any]]) -> None:
    """`forget_minutes` of the times that the ledger has of attempts: each begins with its job, its number and its worker."""
    query = "SELECT ended_at FROM attempt WHERE job_uid = +? AND number = +? AND worker_uid = +?"
    for attempt in attempts:
        forget_minutes(connection, connection.execute(query, attempt[:3]).fetchone() or ())


def find_wrong_counts(connection: Connection) -> list[str]:
    """The counts that are not what counting gives, as lines."""
    (until,) = connection.execute("SELECT minute FROM counted").fetchone()
    since = max(0, until - _DAY)
    counted = {
        "job_count": set(connection.execute(_JOBS.format("id <="))),
        "attempt_count": {
            row for index in _INDEXES for row in connection.execute(_ATTEMPTS.format(*index), (since, until))
        },
    }
    kept = {
        "job_count": set(connection.execute("SELECT * FROM job_count")),
        "attempt_count": set(connection.execute("SELECT * FROM attempt_count WHERE minute >= ?", (since,))),
    }
    lines = []
    for table, rows in counted.items():
        lines += [f"{table}: {row} is kept, and is not what the rows come to" for row in sorted(kept[table] - rows)]
        lines += [f"{table}: {row} is not kept" for row in sorted(rows - kept[table])]
    return lines
