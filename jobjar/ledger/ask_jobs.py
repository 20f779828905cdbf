"""Questions of people about single jobs: which there are, their attempts and moves, and why they wait. They use the models,
and only read."""

from __future__ import annotations

from typing import Any, NamedTuple

import peewee

from jobjar.job_file.names import id_in_name
from jobjar.layout import name_in_place
from jobjar.ledger.models import (
    Attempt,
    AttemptWarning,
    Job,
    JobReport,
    MonitoredVariable,
    Move,
    OpenJobReport,
    Phase,
    StoredFile,
    VariableHistory,
)
from jobjar.ledger.store import Ledger


def find_jobs(ledger: Ledger, name_or_id: str) -> list[JobReport]:
    """The jobs that have this id, a beginning of it (4 letters or more), this name, this place, or this identifier
    in their names, whichever matches first; newest first."""
    with ledger.database.bind_ctx((Job, JobReport)):
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
    with ledger.database.bind_ctx((JobReport,)):
        query = JobReport.select().where(JobReport.state == state)
        if category is not None:
            query = query.where(JobReport.category == category)
        if state == "completed":
            return list(query.order_by(JobReport.moved_at, JobReport.id))
        order = (JobReport.category, JobReport.priority.desc(), JobReport.submitted_at, JobReport.id)
        return list(query.order_by(*order))


def list_attempts(ledger: Ledger, uid: str) -> list[Attempt]:
    """A job's attempts in order."""
    with ledger.database.bind_ctx((Attempt,)):
        return list(Attempt.select().where(Attempt.job_uid == uid).order_by(Attempt.number, Attempt.started_at))


def files_of_attempt(ledger: Ledger, attempt: Attempt) -> dict[str, str]:
    """The paths outside of the jar to which an attempt wrote: of its `output` and its `error`, where its job named them."""
    query = "SELECT stream, path FROM attempt_file WHERE job_uid = ? AND attempt = ? AND worker_uid = ?"
    return dict(ledger.connection.execute(query, (attempt.job_uid, attempt.number, attempt.worker_uid)))


def list_moves(ledger: Ledger, uid: str) -> list[Move]:
    """A job's moves in order."""
    with ledger.database.bind_ctx((Move,)):
        return list(Move.select().where(Move.job_uid == uid).order_by(Move.moved_at, Move.number))


def name_of_job(ledger: Ledger, uid: str) -> str:
    """The name of a job; '' if the ledger does not know it."""
    with ledger.database.bind_ctx((Job,)):
        row = Job.select(Job.name).where(Job.uid == uid).tuples().first()
        return str(row[0]) if row else ""


def run_before(ledger: Ledger, uid: str, place: str) -> str | None:
    """The name of the job that a worker runs while it holds the job `uid`, which it took ahead and has not run yet;
    None where that is not so. `place` is that of `uid`."""
    worker = "/".join(place.split("/", 2)[:2]) + "/"
    with ledger.database.bind_ctx((Job, Attempt, Phase, OpenJobReport)):
        state = OpenJobReport.select(OpenJobReport.phase).where(OpenJobReport.uid == uid).tuples().first()
        if state is None or state[0] not in ("claimed", "stage_in"):
            return None
        newest = Attempt.select(peewee.fn.max(Attempt.number)).where(Attempt.job_uid == uid)
        later = Phase.select().where((Phase.job_uid == uid) & (Phase.attempt == newest) & (Phase.name != "stage_in"))
        if later.exists():
            return None
        under_way = OpenJobReport.select(OpenJobReport.uid).where(OpenJobReport.phase.in_(("run", "poll")))
        first = (
            Job.select(Job.name)
            .where(Job.state != "completed", Job.state == "claimed", Job.uid != uid)
            .where(peewee.fn.substr(Job.place, 1, len(worker)) == worker)
            .where((Job.kind == "") | Job.uid.in_(under_way))
            .order_by(Job.moved_at)
            .tuples()
            .first()
        )
        return None if first is None else str(first[0])


class AttemptDetails(NamedTuple):
    """What is known of a described job's attempt besides its row. Times are the disk's."""

    phases: list[dict[str, Any]]
    variables: dict[str, str]
    # By variable, its values in order, at most HISTORY_LENGTH (apply_others.py): `told_at`, `value`, and `ordinal`, the
    # value's number in the attempt.
    history: dict[str, list[dict[str, Any]]]
    warnings: list[str]
    stored_files: list[dict[str, Any]]


def attempt_details(ledger: Ledger, attempt: Attempt) -> AttemptDetails:
    """The phases of an attempt in the order in which they began, its monitored variables and their history, its
    warnings, and the files that it stored."""

    def of_attempt(table: Any, *columns: Any) -> Any:
        return table.select(*columns).where(
            (table.job_uid == attempt.job_uid)
            & (table.attempt == attempt.number)
            & (table.worker_uid == attempt.worker_uid)
        )

    with ledger.database.bind_ctx((Phase, MonitoredVariable, VariableHistory, AttemptWarning, StoredFile)):
        phases = of_attempt(Phase, Phase.name, Phase.began_at, Phase.ended_at, Phase.exit_status, Phase.message)
        phases = phases.order_by(Phase.began_at, Phase.ended_at.is_null(), Phase.name)
        latest = of_attempt(MonitoredVariable, MonitoredVariable.name, MonitoredVariable.value)
        values = VariableHistory
        every = of_attempt(values, values.name, values.told_at, values.value, values.ordinal)
        history: dict[str, list[dict[str, Any]]] = {}
        for name, told_at, value, ordinal in every.order_by(values.name, values.ordinal).tuples():
            history.setdefault(name, []).append({"told_at": told_at, "value": value, "ordinal": ordinal})
        warnings = of_attempt(AttemptWarning, AttemptWarning.text).order_by(AttemptWarning.number)
        file = StoredFile
        stored = of_attempt(
            file,
            *(file.source_name, file.storage_name, file.storage_size.alias("size"), file.storage_md5.alias("md5")),
            *(file.storage_hfn.alias("hfn"), file.storage_url.alias("url")),
        )
        return AttemptDetails(
            list(phases.dicts()),
            dict(latest.order_by(MonitoredVariable.name).tuples()),
            history,
            [text for (text,) in warnings.tuples()],
            list(stored.order_by(file.source_name).dicts()),
        )
