"""Questions to the ledger about batches and described jobs: how far they are, and what their attempts reported.

They only read. Those about batches take a batch's name, or None for all, and answer by name. They read a batch in the order
of its jobs' ids, which costs some microseconds a job, and nothing for other jobs. Questions to the views use the models. The
others name an index, or the order of a join, for which peewee has no words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import peewee

from jobjar.ledger.ask_batch_jobs import COMPLETED_AT
from jobjar.ledger.models import (
    BatchFailureReport,
    BatchOutcomeReport,
    BatchRestartedReport,
    BatchStorageReport,
    Job,
    OpenJobReport,
)
from jobjar.ledger.precedence import IS_LATEST
from jobjar.ledger.store import Ledger

# The phases in open_job_report, in the order in which a job goes through them.
OPEN_PHASES = (
    "limbo",
    "held",
    "dependent",
    "waiting",
    "claimed",
    "stage_in",
    "run",
    "poll",
    "stage_out",
    "waiting_for_storage",
    "store",
)
# A whole number as SQLite has it; else the number, if it is whole and small enough to be exact.
_WHOLE = """CASE WHEN CAST(CAST(value AS INTEGER) AS TEXT) = value THEN CAST(value AS INTEGER)
    WHEN abs(number) < 9007199254740992 AND CAST(number AS INTEGER) = number THEN CAST(number AS INTEGER) END"""
# A whole number with more digits.
_LONG = "value NOT GLOB '*[^0-9+-]*'"
# Sums are made in two parts, neither of which exceeds 64 bits.
_PART = 10**9
_RATE_JOBS = 1000
_DURATION_JOBS = 100
_RATE_WINDOWS_S = (3600.0, 86400.0)


class BatchRow(NamedTuple):
    """A batch itself. Times are the disk's; `jobs` is the number that its submitter gave."""

    name: str
    submitter: str | None
    submitted_at: float | None
    jobs: int | None
    is_aborted: int
    notes: str | None
    throttled_until: float
    restarted_until: float


def list_batches(ledger: Ledger, name: str | None) -> list[BatchRow]:
    """The batches that journals or jobs name, by name."""
    # Each batch's name is searched after the one before it: an index has no list of its values.
    query = """
        WITH RECURSIVE named (batch) AS (
            SELECT min(batch) FROM job WHERE batch IS NOT NULL
            UNION ALL
            SELECT (SELECT min(batch) FROM job WHERE batch IS NOT NULL AND batch > named.batch) FROM named
            WHERE named.batch IS NOT NULL
        ), every (name) AS (
            SELECT name FROM batch UNION SELECT batch FROM named WHERE batch IS NOT NULL
        )
        SELECT every.name, submitter, submitted_at, jobs, coalesce(is_aborted, 0), notes, coalesce(throttle.until, 0),
            coalesce(restarted_until, 0)
        FROM every LEFT JOIN batch ON batch.name = every.name LEFT JOIN throttle ON throttle.batch = every.name
        WHERE ?1 IS NULL OR every.name = ?1 ORDER BY every.name"""
    return [BatchRow(*row) for row in ledger.connection.execute(query, (name,))]


def _ask(ledger: Ledger, query: str, name: str | None) -> list[tuple[Any, ...]]:
    """The rows of a query, whose {where} becomes the condition of one batch if `name` is given."""
    if name is None:
        rows = ledger.connection.execute(query.format(where=""))
    else:
        rows = ledger.connection.execute(query.format(where="AND batch = ?"), (name,))
    return list(rows)


def _of_batch(query: Any, view: Any, name: str | None) -> Any:
    """The rows of a query to a view for one batch, or for all."""
    return query.where(view.batch.is_null(False) if name is None else view.batch == name).tuples()


def count_phases(ledger: Ledger, name: str | None) -> dict[str, dict[str, int]]:
    """How many jobs are in each phase (open_job_report), or ended with each outcome. `removed`: their files are gone.
    `unknown`: they completed, and nothing says how. Jobs that were submitted again as others do not count."""
    counts: dict[str, dict[str, int]] = {}

    def add(batch: str, phase: str, jobs: int) -> None:
        phases = counts.setdefault(batch, {})
        phases[phase] = phases.get(phase, 0) + jobs

    with ledger.database.bind_ctx((OpenJobReport,)):
        jobs_open = OpenJobReport.select(OpenJobReport.batch, OpenJobReport.phase, peewee.fn.count(peewee.SQL("*")))
        grouped = jobs_open.group_by(OpenJobReport.batch, OpenJobReport.phase)
        for batch, phase, jobs in _of_batch(grouped, OpenJobReport, name):
            add(batch, phase, jobs)
    # The report of outcomes misses two kinds of jobs, because it would have to read each of a million rows for them:
    # the few that have an outcome and are open again, and those that were removed without an outcome.
    decided = "EXISTS (SELECT 1 FROM attempt WHERE job_uid = uid AND is_final = 1)"
    with ledger.database.bind_ctx((BatchOutcomeReport,)):
        for batch, outcome, jobs in _of_batch(BatchOutcomeReport.select(), BatchOutcomeReport, name):
            add(batch, outcome, jobs)
    reopened = (
        "SELECT batch, (SELECT outcome FROM attempt WHERE job_uid = uid AND is_final = 1 "
        "ORDER BY number DESC, ended_at DESC, worker_uid DESC LIMIT 1), count(*) FROM open_job_report "
        f"WHERE move_number > 2 AND batch IS NOT NULL AND {decided} {{where}} GROUP BY 1, 2"
    )
    for batch, outcome, jobs in _ask(ledger, reopened, name):
        add(batch, outcome, -jobs)
    removed = (
        "SELECT batch, count(*) FROM job INDEXED BY job_batch "
        f"WHERE batch IS NOT NULL AND state = 'removed' AND NOT {decided} {{where}} GROUP BY batch"
    )
    for batch, jobs in _ask(ledger, removed, name):
        add(batch, "removed", jobs)
    every = "SELECT batch, count(*) FROM job INDEXED BY job_batch WHERE batch IS NOT NULL {where} GROUP BY batch"
    for batch, jobs in _ask(ledger, every, name):
        unknown = jobs - sum(counts.get(batch, {}).values())
        if unknown:
            add(batch, "unknown", unknown)
    for batch, outcomes in count_restarted(ledger, name).items():
        for outcome, jobs in outcomes.items():
            add(batch, outcome, -jobs)
    return {batch: {phase: jobs for phase, jobs in phases.items() if jobs} for batch, phases in counts.items()}


def count_restarted(ledger: Ledger, name: str | None) -> dict[str, dict[str, int]]:
    """How many jobs were submitted again as others, by how they had ended."""
    counts: dict[str, dict[str, int]] = {}
    with ledger.database.bind_ctx((BatchRestartedReport,)):
        for batch, outcome, jobs in _of_batch(BatchRestartedReport.select(), BatchRestartedReport, name):
            counts.setdefault(batch, {})[outcome] = jobs
    return counts


def count_open_phases(ledger: Ledger) -> dict[str, int]:
    """How many described jobs that have not ended are in each phase, whether they are of a batch or not."""
    with ledger.database.bind_ctx((OpenJobReport,)):
        jobs: Any = OpenJobReport.select(OpenJobReport.phase, peewee.fn.count(peewee.SQL("*")))
        counts: dict[str, int] = dict(jobs.group_by(OpenJobReport.phase).tuples())
    return {
        phase: counts[phase] for phase in (*OPEN_PHASES, *sorted(set(counts) - set(OPEN_PHASES))) if phase in counts
    }


def count_failures(ledger: Ledger, name: str | None) -> dict[str, int]:
    """How many attempts failed, also those of jobs that were tried again."""
    with ledger.database.bind_ctx((BatchFailureReport,)):
        return dict(_of_batch(BatchFailureReport.select(), BatchFailureReport, name))


def sum_stored(ledger: Ledger, name: str | None) -> dict[str, tuple[int, int]]:
    """How many files were stored, and how many bytes they have."""
    with ledger.database.bind_ctx((BatchStorageReport,)):
        rows = _of_batch(BatchStorageReport.select(), BatchStorageReport, name)
        return {batch: (files, size) for batch, files, size in rows}


class Work(NamedTuple):
    """A sum of `work_done`, and how many jobs it is of. Whole numbers add up exactly. None: no job reports a number."""

    sum: int | float | None
    jobs: int


def sum_work_done(ledger: Ledger, name: str | None) -> dict[str, Work]:
    """The work that is done, as work_done_report counts it."""
    return _sum_work(ledger, name, "work_done_report")


def sum_work_under_way(ledger: Ledger, name: str | None) -> dict[str, Work]:
    """The work that attempts under way report so far."""
    return _sum_work(ledger, name, "work_under_way_report")


def _sum_work(ledger: Ledger, name: str | None, report: str) -> dict[str, Work]:
    sums: dict[str, Work] = {}
    # MATERIALIZED: the number is computed once for each row, not once for each sum.
    query = f"""
        WITH said (batch, whole, number, value) AS MATERIALIZED (
            SELECT batch, {_WHOLE}, number, value FROM {report} WHERE abs(number) < 9e999 {{where}})
        SELECT batch, count(*), sum(whole / {_PART}), sum(whole % {_PART}),
            group_concat(CASE WHEN whole IS NULL AND {_LONG} THEN value END, ' '),
            sum(CASE WHEN whole IS NULL AND NOT {_LONG} THEN number END)
        FROM said GROUP BY batch"""
    for batch, jobs, high, low, long, fractions in _ask(ledger, query, name):
        total = (high or 0) * _PART + (low or 0) + sum(map(int, (long or "").split()))
        sums[batch] = Work(total if fractions is None else total + fractions, jobs)
    return sums


class Rate(NamedTuple):
    """How many jobs were completed within how many seconds until now."""

    jobs: int
    seconds: float


def recent_rate(ledger: Ledger, batch: str, now: float, since: float = 0.0, is_over: bool = False) -> Rate | None:
    """How fast jobs of a batch were completed in the last hour (or, if none was, the last day) and after `since`.

    It is measured by the newest thousand of them, from when the first of these began until now, or until the last of
    them if the batch `is_over`. Times are the disk's. None if no job was completed, or one alone and the batch is over.
    """
    query = """
        SELECT moved_at, (SELECT min(started_at) FROM attempt WHERE job_uid = uid) FROM job
        WHERE batch = ? AND state = 'completed' AND moved_at > ? AND place GLOB 'completed/*'
        ORDER BY moved_at DESC LIMIT ?"""
    for window_s in _RATE_WINDOWS_S:
        rows = ledger.connection.execute(query, (batch, max(now - window_s, since), _RATE_JOBS + 1)).fetchall()
        if not rows:
            continue
        if is_over and len(rows) == 1:
            return None  # one job has a duration, and no rate
        newest = rows[0][0] if is_over else max(now, rows[0][0])
        if len(rows) > _RATE_JOBS:
            return Rate(_RATE_JOBS, max(newest - rows[-1][0], 1e-3))
        began_at = min(moved_at if started_at is None else started_at for moved_at, started_at in rows)
        return Rate(len(rows), max(newest - max(began_at, now - window_s), 1e-3))
    return None


def recent_duration(ledger: Ledger, batch: str, now: float) -> float | None:
    """How many seconds jobs of a batch take, from the claim of the last attempt to the job's end. It is the mean of
    the newest hundred that were completed within a day; None if there are none."""
    query = """
        SELECT avg(max(0, moved_at - started_at)) FROM (
            SELECT moved_at, (SELECT max(started_at) FROM attempt WHERE job_uid = uid) AS started_at FROM job
            WHERE batch = ? AND state = 'completed' AND moved_at > ? AND place GLOB 'completed/*'
            ORDER BY moved_at DESC LIMIT ?)"""
    found = ledger.connection.execute(query, (batch, now - _RATE_WINDOWS_S[-1], _DURATION_JOBS)).fetchone()[0]
    return None if found is None else float(found)


def claim_times(ledger: Ledger, batch: str) -> list[float]:
    """When the jobs of a batch that workers hold were claimed, by the disk's clock."""
    query = "SELECT moved_at FROM job INDEXED BY job_batch WHERE batch = ? AND state = 'claimed'"
    return [moved_at for (moved_at,) in ledger.connection.execute(query, (batch,))]


def open_place(ledger: Ledger, batch: str) -> str | None:
    """The place of a job of a batch that waits or is claimed, or None."""
    with ledger.database.bind_ctx((Job,)):
        row = Job.select(Job.place).where(Job.batch == batch, Job.state.in_(("unclaimed", "claimed"))).tuples().first()
        return row[0] if row else None


def count_warned(ledger: Ledger, name: str | None) -> dict[str, int]:
    """How many jobs have warnings."""
    # For all batches, start from the warnings, which are fewer than the jobs.
    every = """
        SELECT batch, count(DISTINCT uid) FROM warning CROSS JOIN job ON uid = job_uid WHERE batch IS NOT NULL GROUP BY batch"""
    one = """
        SELECT batch, count(*) FROM job INDEXED BY job_of_batch
        WHERE batch = ? AND EXISTS (SELECT 1 FROM warning WHERE job_uid = uid) GROUP BY batch"""
    return dict(ledger.connection.execute(every) if name is None else ledger.connection.execute(one, (name,)))


def common_warnings(ledger: Ledger, batch: str, limit: int) -> list[dict[str, Any]]:
    """The warnings of a batch's jobs, the most frequent first: `text`, `jobs` (how many have it), `job`, `id` (one
    of these)."""
    query = """
        SELECT text, count(DISTINCT uid) AS jobs, min(name) AS job, uid AS id FROM job INDEXED BY job_of_batch
        CROSS JOIN warning ON job_uid = uid WHERE batch = ? GROUP BY text ORDER BY jobs DESC, text LIMIT ?"""
    return _dicts(ledger, query, (batch, limit))


# Why an attempt failed: its own message, else that of its phase that failed.
_WHY = """coalesce(attempt.message, (
    SELECT phase.message FROM phase WHERE phase.job_uid = attempt.job_uid AND phase.attempt = attempt.number
    AND phase.worker_uid = attempt.worker_uid AND phase.message IS NOT NULL ORDER BY phase.ended_at DESC, phase.name LIMIT 1))"""
FAILED_OUTCOMES = ("failed", "timed_out", "killed", "crashed")
# The words of the index attempt_failed.
_FAILED = "attempt.outcome IN ('failed', 'timed_out', 'killed', 'crashed')"


def failed_jobs(ledger: Ledger, batch: str, limit: int) -> list[dict[str, Any]]:
    """The jobs of a batch that failed for good and were not submitted again, the latest failures first: `job`, `id`,
    `seed`, `outcome`, `exit_status`, `signal`, `attempt`, `ended_at`, `message` (why)."""
    query = f"""
        SELECT job.name AS job, job.uid AS id, job.seed, attempt.outcome, attempt.exit_status, attempt.signal,
            attempt.number AS attempt, attempt.ended_at, {_WHY} AS message
        FROM attempt INDEXED BY attempt_failed CROSS JOIN job ON job.uid = attempt.job_uid
        WHERE {_FAILED} AND attempt.is_final = 1 AND job.batch = ? AND job.state IN ('completed', 'removed')
            AND NOT EXISTS (SELECT 1 FROM batch WHERE name = job.batch AND restarted_until > 0
                AND restarted_until >= {COMPLETED_AT.format(job="job")})
            AND {IS_LATEST.format(end="attempt")}
        ORDER BY attempt.ended_at DESC, job.uid LIMIT ?"""
    return _dicts(ledger, query, (batch, limit))


def retried_jobs(ledger: Ledger, batch: str, limit: int) -> list[dict[str, Any]]:
    """The jobs of a batch that have not ended and failed before, as `failed_jobs` gives them. Each has its newest
    failure and `not_before`."""
    query = f"""
        SELECT job.name AS job, job.uid AS id, job.seed, attempt.outcome, attempt.exit_status, attempt.signal,
            attempt.number AS attempt, attempt.ended_at, {_WHY} AS message, job.not_before
        FROM attempt INDEXED BY attempt_failed CROSS JOIN job ON job.uid = attempt.job_uid
        WHERE {_FAILED} AND job.batch = ? AND job.state IN ('limbo', 'unclaimed', 'claimed')
            AND NOT EXISTS (
                SELECT 1 FROM attempt AS later WHERE later.job_uid = attempt.job_uid AND later.outcome IS NOT NULL
                AND (later.number, later.worker_uid) > (attempt.number, attempt.worker_uid))
        ORDER BY attempt.ended_at DESC, job.uid LIMIT ?"""
    return _dicts(ledger, query, (batch, limit))


def held_jobs(ledger: Ledger, batch: str, limit: int) -> list[dict[str, Any]]:
    """The jobs of a batch that workers hold: `job`, `id`, `seed`, `phase`, `place`, `claimed_at`."""
    job = OpenJobReport
    with ledger.database.bind_ctx((job,)):
        columns = job.name.alias("job"), job.uid.alias("id"), job.seed, job.phase, job.place
        query: Any = job.select(*columns, job.moved_at.alias("claimed_at"))
        query = query.where(job.batch == batch, job.state == "claimed").order_by(job.moved_at, job.uid)
        return list(query.limit(limit).dicts())


def _dicts(ledger: Ledger, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    cursor = ledger.connection.execute(query, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
