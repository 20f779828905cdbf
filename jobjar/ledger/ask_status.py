"""Questions of people about a whole jar: what waits, what is claimed, what ended. They use the models, and only read."""

from __future__ import annotations

from typing import Any

from jobjar.ledger.ask_closed import ThrottleRow
from jobjar.ledger.models import (
    AttemptReport,
    ClaimedReport,
    HeldReport,
    OldestWaitingReport,
    OutcomeReport,
    QueueReport,
    Report,
    StateReport,
    Throttle,
    ThroughputReport,
)
from jobjar.ledger.store import Ledger

Row = dict[str, Any]


def _select(ledger: Ledger, view: type[Report], *columns: Any) -> list[Row]:
    with ledger.database.bind_ctx((view,)):
        query: Any = view.select(*columns)
        return list(query.dicts())


def count_states(ledger: Ledger) -> dict[str, int]:
    """How many jobs are in each state that any job has."""
    return {row["state"]: row["jobs"] for row in _select(ledger, StateReport)}


def list_claimed(ledger: Ledger) -> list[Row]:
    """The jobs that workers hold, in the order of their claims: `id`, `name`, `category`, `priority`, `place`, `age_s`."""
    job = ClaimedReport
    return _select(ledger, job, job.uid.alias("id"), job.name, job.category, job.priority, job.place, job.age_s)


def find_oldest_waiting(ledger: Ledger) -> Row | None:
    """The job that waits longest: `id`, `name`, `category`, `priority`, `submitted_at`, `age_s`; None if none waits."""
    job = OldestWaitingReport
    columns = job.uid.alias("id"), job.name, job.category, job.priority, job.submitted_at, job.age_s
    return next(iter(_select(ledger, job, *columns)), None)


def list_held(ledger: Ledger) -> list[Row]:
    """The jobs in limbo: `id`, `name`, `held_reason`."""
    return _select(ledger, HeldReport, HeldReport.uid.alias("id"), HeldReport.name, HeldReport.held_reason)


def list_queue(ledger: Ledger) -> list[Row]:
    """What waits: `category`, `priority`, `waiting` (how many), `oldest_at`, when the oldest of them was submitted."""
    return _select(ledger, QueueReport)


def list_outcomes(ledger: Ledger) -> list[Row]:
    """How jobs ended in the last hour and day: `outcome`, `last_hour`, `last_day`."""
    return _select(ledger, OutcomeReport)


def list_undecided(ledger: Ledger) -> list[Row]:
    """The same of attempts that completed no job."""
    return _select(ledger, AttemptReport)


def measure_throughput(ledger: Ledger) -> Row:
    """How many jobs completed in the last hour and day, and how many that is a second."""
    return _select(ledger, ThroughputReport)[0]


def list_throttles(ledger: Ledger) -> list[ThrottleRow]:
    """The batches that are throttled, or were and have not had a success since; by name."""
    with ledger.database.bind_ctx((Throttle,)):
        query: Any = Throttle.select(Throttle.batch, Throttle.told_at, Throttle.until, Throttle.failures)
        return [ThrottleRow(*row) for row in query.where(Throttle.until > 0).order_by(Throttle.batch).tuples()]
