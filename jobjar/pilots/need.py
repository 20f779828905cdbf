"""How many more pilots the waiting work needs.

Reads the ledger, which the caller brings up to date, and the workers; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jobjar.jar import Jar
from jobjar.ledger.ask_claiming import workers_with_jobs
from jobjar.ledger.ask_pilots import count_fitting
from jobjar.pilots.pilot import INTENDED, RUNNING, WAITING, Pilot
from jobjar.pilots.queue import Plan
from jobjar.pilots.script import slots
from jobjar.roster import WorkerState


class Need(NamedTuple):
    """How many pilots to submit now. `is_idle`: nothing waits that a pilot could run, and no worker that asks for the same holds
    a job: pilots that wait are not needed any more."""

    pilots: int
    is_idle: bool


def asked_categories(plan: Plan) -> tuple[str, ...]:
    """The categories whose jobs a pilot takes, but for that of its node; '' means the uncategorized jobs."""
    return (*(name for name in plan.categories if name), "")


def find_need(jar: Jar, plan: Plan, pilots: Sequence[Pilot], heard: Sequence[WorkerState], now: float) -> Need:
    """How many more pilots a queue needs, by its limits and by what waits. `pilots` are its open ones, `heard` the workers that
    are known to run."""
    categories = asked_categories(plan)
    each = slots(plan)
    with jar.ledger.reading() as connection:
        fitting, found = count_fitting(connection, categories, plan.work_s, now, (plan.most + 1) * each)
        holding = workers_with_jobs(connection)
    asking = [worker for worker in heard if any(worker.asks_for(category) for category in (found or categories))]
    free = [
        worker
        for worker in asking
        if worker.paths.name not in holding and not worker.is_stopping and not worker.is_paused
    ]
    coming = [pilot for pilot in pilots if pilot.state in (INTENDED, WAITING)]
    beginning = [pilot for pilot in pilots if pilot.state == RUNNING and pilot.worker is None]
    left = fitting - (len(coming) + len(beginning)) * each - len(free)
    wanted = min(-(-left // each), plan.most - len(pilots), plan.backlog - len(coming))
    is_idle = not fitting and not any(worker.paths.name in holding for worker in asking)
    return Need(max(0, wanted), is_idle)
