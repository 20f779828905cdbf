"""Questions of people about single jobs: which there are, their attempts, moves and outcomes. They use the models."""

from __future__ import annotations

from collections.abc import Sequence

from jobjar.job_file.names import id_in_name
from jobjar.layout import name_in_place
from jobjar.ledger.models import MODELS, VIEWS, Attempt, Job, JobReport, Move
from jobjar.ledger.store import Ledger


def find_jobs(ledger: Ledger, name_or_id: str) -> list[JobReport]:
    """The jobs that have this id, a beginning of it (4 letters or more), this name, this place, or this identifier
    in their names, whichever matches first; newest first."""
    with ledger.database.bind_ctx((*MODELS, *VIEWS)):
        tries = [
            JobReport.uid == name_or_id,
            JobReport.name == name_or_id,
            (JobReport.name == name_in_place(name_or_id)) & (JobReport.place == name_or_id),
        ]
        if own_id := id_in_name(name_in_place(name_or_id)):
            tries.append(JobReport.uid == own_id)  # it may have another name by now: `x~2` where `x` was taken
        if len(name_or_id) >= 4:
            # A range, which the index of ids can answer.
            beginning = name_or_id.lower()
            tries.append((JobReport.uid >= beginning) & (JobReport.uid < beginning + "\x7f"))
        # This reads the index of names, which is smaller than the table.
        tries.append(JobReport.id.in_(Job.select(Job.id).where(Job.name.contains(f"-{name_or_id}."))))
        for condition in tries:
            found = list(JobReport.select().where(condition).order_by(JobReport.moved_at.desc(), JobReport.id.desc()))
            if found:
                return found
    return []


def list_jobs(ledger: Ledger, state: str, category: str | None = None) -> list[JobReport]:
    """The jobs in a state, in the order in which they would be claimed (completed ones: by their last move); with
    `category`, only those of that category."""
    with ledger.database.bind_ctx((*MODELS, *VIEWS)):
        query = JobReport.select().where(JobReport.state == state)
        if category is not None:
            query = query.where(JobReport.category == category)
        if state == "completed":
            return list(query.order_by(JobReport.moved_at, JobReport.id))
        order = (JobReport.category, JobReport.priority.desc(), JobReport.submitted_at, JobReport.id)
        return list(query.order_by(*order))


def list_attempts(ledger: Ledger, uid: str) -> list[Attempt]:
    """A job's attempts in order."""
    with ledger.database.bind_ctx(MODELS):
        return list(Attempt.select().where(Attempt.job_uid == uid).order_by(Attempt.number, Attempt.started_at))


def files_of_attempt(ledger: Ledger, uid: str, number: int, worker_uid: str) -> dict[str, str]:
    """The paths outside of the jar to which an attempt wrote: of its `output` and its `error`, where its job named them."""
    query = "SELECT stream, path FROM attempt_file WHERE job_uid = ? AND attempt = ? AND worker_uid = ?"
    return dict(ledger.connection.execute(query, (uid, number, worker_uid)))


def list_moves(ledger: Ledger, uid: str) -> list[Move]:
    """A job's moves in order."""
    with ledger.database.bind_ctx(MODELS):
        return list(Move.select().where(Move.job_uid == uid).order_by(Move.moved_at, Move.number))


def job_outcomes(ledger: Ledger, uids: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """State and outcome of each of these jobs that the ledger knows, by its id. The state of a held job is `held`."""
    found: dict[str, tuple[str, str | None]] = {}
    for start in range(0, len(uids), 500):
        some = uids[start : start + 500]
        marks = ",".join("?" * len(some))
        for uid, state, outcome in ledger.connection.execute(
            "SELECT uid, CASE WHEN state = 'limbo' AND held_reason IS NOT NULL THEN 'held' ELSE state END, outcome "
            f"FROM job_report WHERE uid IN ({marks})",
            some,
        ):
            found[uid] = (state, outcome)
    return found
