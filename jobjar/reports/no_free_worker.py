"""Why no running worker claims the jobs of a category now, and how to start one: none asks for it, or all that do are busy.

Reads worker.json files and the control files by the states that roster.py gives. Writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from jobjar.causes import Cause, Standing
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.layout import Layout
from jobjar.roster import WorkerState
from jobjar.units import format_seconds


def explain_unasked(layout: Layout, category: str, running: Iterable[WorkerState]) -> Standing | None:
    """Explain why none of the running workers claims jobs of this category, and what to do; None if one would."""
    asking = [worker for worker in running if worker.asks_for(category)]
    staying = [worker for worker in asking if not worker.is_stopping]
    pauses = [worker.explain_pause() for worker in staying]
    if any(pause is None and not one.is_paused for one, pause in zip(staying, pauses, strict=True)):
        return None
    who, words = _name_asking(category)
    if any(not one.is_paused for one in staying):
        # The worker that goes on first, among those that pause after failures.
        soonest = min((one for one in staying if not one.is_paused), key=lambda one: one.pauses_until)
        others = f", and so do {len(staying) - 1} others" if len(staying) > 1 else ""
        pauses_until = f"worker {soonest.name}, which asks for it, {soonest.explain_pause()}{others}"
        return Standing(Cause.FAILURE_PAUSE, pauses_until, soonest.explain_failed())
    paused = "the workers that ask for it are paused"
    if staying and os.path.lexists(layout.pause_all_file):
        return Standing(Cause.PAUSE_ALL, paused, f"remove {layout.pause_all_file}")
    if staying:
        return Standing(Cause.PAUSED, paused, "`unpause_worker all`")
    if os.path.lexists(layout.stop_all_file):
        none = f"no {who} is running, and {layout.stop_all_file} keeps all from starting"
        return Standing(Cause.STOP_ALL, none, f"remove {layout.stop_all_file}; `{words}` starts one")
    if asking:
        leaves = f"worker {asking[0].name} leaves" if len(asking) == 1 else f"all {len(asking)} workers leave"
        return Standing(
            Cause.STOPPING, f"{leaves} after the present job, and no other {who} is running", _starts(words)
        )
    return Standing(Cause.NO_WORKER, f"no {who} is running", _starts(words))


def longest_left_s(category: str, running: Iterable[WorkerState], now: float) -> float | None:
    """How many seconds the worker that ends last has left, of those that ask for a category; None if one has no end, or if none
    claims its jobs anyway."""
    asking = [one for one in running if one.asks_for(category) and not one.is_stopping and not one.is_paused]
    ends = [one.ends_at for one in asking if one.ends_at is not None]
    return max(ends) - now if ends and len(ends) == len(asking) else None


def explain_short_time(category: str, needed_s: float, left_s: float) -> Standing:
    """Explain that a job may take longer than any worker that asks for its category has left."""
    _, words = _name_asking(category)
    why = f"no running worker has enough time left: it may take {format_seconds(needed_s)}"
    return Standing(Cause.NO_TIME_LEFT, f"{why}, and the last of them ends in {format_seconds(left_s)}", _starts(words))


def explain_turn(category: str, running: Iterable[WorkerState], holding: Collection[str]) -> Standing | None:
    """Explain that all running workers that ask for this category are busy, and how to start another; None if one is not. The
    workers in `holding` hold jobs."""
    asking = [worker for worker in running if worker.asks_for(category)]
    if not asking or any(worker.paths.name not in holding for worker in asking):
        return None
    who, words = _name_asking(category)
    busy = f"worker {asking[0].name} is" if len(asking) == 1 else f"all {len(asking)} workers are"
    why = f"its turn has not come: {busy} busy with other jobs, and no other {who} is running"
    return Standing(Cause.BUSY, why, _starts(words))


def _starts(words: str) -> str:
    return f"`{words}` starts one"


def _name_asking(category: str) -> tuple[str, str]:
    """Words for a worker that asks for a category, and the command that starts one."""
    if category.startswith(STORAGE_CATEGORY):
        storage_class = category.removeprefix(STORAGE_CATEGORY)
        return f"storage worker of class {storage_class}", f"start_worker --storage {storage_class}"
    if category:
        return f"worker that asks for category {category}", f"start_worker {category}"
    return "worker that asks for uncategorized jobs", "start_worker"
