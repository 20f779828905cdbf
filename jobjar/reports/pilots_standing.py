"""Why no pilot begins for jobs that no worker asks for: no queue of pilots fits them, all that do are paused, or their pilots
wait in the batch system's own queue. Reads the ledger, which the caller brings up to date; writes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import NamedTuple

from jobjar.causes import Cause, Counted, Standing, count_standing
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.ledger.ask_pilots import PilotQueueRow, PilotRow, count_unfit, pilot_queues, pilots_of
from jobjar.ledger.driver import Connection
from jobjar.units import format_seconds


class _Queue(NamedTuple):
    row: PilotQueueRow
    categories: tuple[str, ...]
    work_s: float

    def takes(self, category: str, limit_s: float) -> bool:
        """Whether its pilots ask for a category, and may have time for a job with this limit (0: it has none)."""
        return (not category or category in self.categories) and limit_s <= self.work_s


def _read_queues(connection: Connection) -> list[_Queue]:
    found = []
    for row in pilot_queues(connection):
        plan = json.loads(row.plan or "{}")
        if row.removed_at is None:
            found.append(_Queue(row, tuple(plan.get("categories", ())), float(plan.get("work_s", 0.0))))
    return found


def explain_pilots(connection: Connection, category: str, limit_s: float) -> Standing | None:
    """Explain why no pilot has begun for a job of a category that no worker asks for; None if there are no queues of pilots, or
    if one is about to submit some."""
    queues = _read_queues(connection)
    if not queues or category.startswith(STORAGE_CATEGORY):
        return None
    fitting = [queue for queue in queues if queue.takes(category, limit_s)]
    if not fitting:
        return _explain_unfit(queues, category, limit_s)
    active = [queue for queue in fitting if queue.row.paused_at is None]
    if not active:
        row = fitting[0].row
        since = "" if row.paused_at is None else f" since {_format_time(row.paused_at)}"
        return Standing(
            Cause.PILOTS_PAUSED,
            f"the pilots {row.name} are paused{since}: {row.paused_why}",
            f"see to that, then `jobjar pilots resume {row.name}`",
        )
    for queue in active:
        pilots = [pilot for pilot in pilots_of(connection, queue.row.name) if pilot.state in ("intended", "waiting")]
        if pilots:
            return _explain_waiting(queue.row, pilots)
    return None


def _explain_unfit(queues: list[_Queue], category: str, limit_s: float) -> Standing:
    asking = [queue for queue in queues if queue.takes(category, 0.0)]
    if asking:
        longest = max(asking, key=lambda queue: queue.work_s)
        why = (
            f"no pilot fits it: its time limit is {format_seconds(limit_s)}, and the pilots {longest.row.name} take jobs for "
            f"{format_seconds(longest.work_s)}"
        )
        return Standing(Cause.NO_PILOT_FITS, why, "`jobjar pilots add … --time` adds longer ones")
    why = f"no pilot fits it: none asks for category {category}"
    return Standing(Cause.NO_PILOT_FITS, why, f"`jobjar pilots add … --category {category}` adds some")


def _explain_waiting(row: PilotQueueRow, pilots: list[PilotRow]) -> Standing:
    since = min(pilot.submitted_at or pilot.intended_at for pilot in pilots)
    count = "1 pilot" if len(pilots) == 1 else f"{len(pilots)} pilots"
    has = "has" if len(pilots) == 1 else "have"
    reasons = sorted({pilot.reason for pilot in pilots if pilot.reason})
    said = f" ({', '.join(reasons)})" if reasons else ""
    why = f"{count} of {row.name} {has} waited in the queue of {row.system} since {_format_time(since)}{said}"
    return Standing(Cause.PILOTS_WAIT, why, f"`jobjar pilots show {row.name}` lists them")


def count_pilots(connection: Connection, waiting: Mapping[str, int]) -> list[Counted]:
    """The queues of pilots that are paused, or whose pilots wait, where jobs wait; and the jobs that fit no pilot. `waiting`
    has those that no worker asks for, by category."""
    queues = _read_queues(connection)
    if not queues:
        return []
    found = []
    for queue in queues:
        row = queue.row
        jobs = sum(count for category, count in waiting.items() if queue.takes(category, 0.0))
        if row.paused_at is not None:
            why = f"the pilots {row.name} are paused since {_format_time(row.paused_at)}: {row.paused_why}"
            found.append(
                Counted(Cause.PILOTS_PAUSED, jobs, why, f"see to that, then `jobjar pilots resume {row.name}`")
            )
        elif jobs:
            out = pilots_of(connection, row.name)
            pilots = [pilot for pilot in out if pilot.state in ("intended", "waiting")]
            if pilots:
                found.append(count_standing(_explain_waiting(row, pilots), jobs))
    for category, jobs in waiting.items():
        asking = [queue.work_s for queue in queues if queue.takes(category, 0.0)]
        unfit = count_unfit(connection, category, max(asking)) if asking else jobs
        if unfit and not category.startswith(STORAGE_CATEGORY):
            which = f"of category {category}" if category else "uncategorized"
            because = "their time limits are longer" if asking else "none asks for it"
            why = f"{unfit:,} waiting jobs {which} fit no pilot: {because}"
            found.append(Counted(Cause.NO_PILOT_FITS, unfit, why, "`jobjar pilots add` adds others"))
    return found


def _format_time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
