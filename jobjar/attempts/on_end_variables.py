"""What a command for ends is told, as variables: of a job, of a batch, of all jobs. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from jobjar.attempts.attempt import SUCCEEDED, AttemptEnd, ClaimedJob, describe_end
from jobjar.ledger.ask_last_ends import EndedJob

# What has ended (JJ_ENDED).
JOB, JOBS, BATCH, ALL = "job", "jobs", "batch", "all"
# The outcome of several jobs (JJ_OUTCOME) of which not all succeeded.
_NOT_ALL = "failed"


def facts_of_attempt(job: ClaimedJob, end: AttemptEnd) -> dict[str, str]:
    """The facts about a job that this attempt completed."""
    return _facts_of(job, end, end.wall_time_s)


def facts_of_ended(ended: EndedJob) -> dict[str, str]:
    """The facts about a job, by the ledger."""
    end = AttemptEnd(ended.outcome, ended.exit_status, ended.signal, ended.run_time_s or 0.0, message=ended.message)
    return _facts_of(ended, end, ended.run_time_s)


def _facts_of(job: ClaimedJob | EndedJob, end: AttemptEnd, run_time_s: float | None) -> dict[str, str]:
    known = {
        "JJ_JOB": job.name,
        "JJ_JOB_ID": job.uid,
        "JJ_CATEGORY": job.category,
        "JJ_BATCH": job.batch,
        "JJ_SUBMITTER": job.submitter,
        "JJ_ATTEMPT": job.attempt,
        "JJ_OUTCOME": end.outcome,
        "JJ_EXIT_STATUS": end.exit_status,
        "JJ_SIGNAL": end.signal,
        "JJ_RUN_TIME": None if run_time_s is None else f"{run_time_s:.3f}",
    }
    return facts_of_job(known, describe_end(end))


def facts_of_job(known: Mapping[str, object], how: str) -> dict[str, str]:
    """The facts about a job: those that are known, as text; an empty text for what is None. `how` says how it ended."""
    facts = {name: "" if value is None else str(value) for name, value in known.items()}
    return {**facts, "JJ_ENDED": JOB, "JJ_MESSAGE": f"job {facts['JJ_JOB']}: {how}"}


def facts_of_several(kind: str, name: str, jobs: int, unsuccessful: int, how: str = "") -> dict[str, str]:
    """The facts about a batch, all jobs, or some: how many they are, and how many of them did not succeed. `name` is the
    batch's, or ''."""
    what = {BATCH: f"batch {name}", ALL: "all jobs", JOBS: "jobs"}[kind]
    return {
        "JJ_ENDED": kind,
        "JJ_BATCH": name,
        "JJ_JOBS": str(jobs),
        "JJ_UNSUCCESSFUL": str(unsuccessful),
        "JJ_OUTCOME": _NOT_ALL if unsuccessful else SUCCEEDED,
        "JJ_MESSAGE": f"{what}: {how or f'{jobs - unsuccessful:,} of {jobs:,} succeeded'}",
    }
