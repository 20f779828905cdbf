"""The workers' part of `system_status`: workers of this node by their processes, workers of others by their heartbeats.

Reads the workers' directories; writes nothing but this node's clock file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from jobjar.causes import Cause, Counted
from jobjar.hearing import Hearing
from jobjar.layout import worker_of_place
from jobjar.liveness import DEAD, UNKNOWN
from jobjar.roster import WorkerState
from jobjar.units import format_seconds

# The kinds that workers are counted as. Busy and paused workers count as running too.
KINDS = ("running", "busy", "paused", "dead", "silent", "unknown")


def describe_workers(
    workers: Iterable[WorkerState], hearing: Hearing, claimed: Iterable[dict[str, Any]]
) -> dict[str, Any]:
    """Each worker that has not ended, and the number of each kind on each node. A worker is `unknown` if it is of another node
    and has no heartbeat."""
    holds: dict[str, dict[str, Any]] = {}
    for job in claimed:
        holds.setdefault(worker_of_place(job["place"]) or "", job)
    listed = []
    nodes: dict[str, dict[str, Any]] = {}
    for worker in workers:
        if worker.ended:
            continue
        name = worker.process.node
        node = nodes.setdefault(name, {"node": name, **dict.fromkeys(KINDS, 0)})
        held = holds.get(worker.paths.name)
        silent_s = hearing.silent_s(worker) if worker.alive == UNKNOWN else None
        if worker.alive == DEAD:
            state = "dead"
        elif silent_s is not None:
            state = "silent"
        elif worker.alive == UNKNOWN and not hearing.beats(worker):
            state = "unknown"
        else:
            node["running"] += 1
            is_resting = worker.is_paused or worker.explain_pause() is not None
            state = "busy" if held else "paused" if is_resting else "idle"
        if state in node:
            node[state] += 1
        listed.append(
            {
                "worker": worker.name,
                "node": name,
                "state": state,
                "silent_s": None if silent_s is None else round(silent_s, 3),
                "job": None if held is None else held["name"],
                "task": None if held is None else held["task"],
                "user": worker.user,
                "categories": list(worker.categories),
                "started_at": worker.started_at,
                "pauses_until": worker.pauses_until if worker.explain_pause() is not None else None,
                "failures_in_a_row": worker.failures_in_a_row,
            }
        )
    return {"nodes": sorted(nodes.values(), key=lambda node: str(node["node"])), "workers": listed}


def mark_stranded(workers: Iterable[WorkerState], claimed: Iterable[dict[str, Any]]) -> None:
    dead = {worker.paths.name for worker in workers if worker.alive == DEAD}
    for job in claimed:
        job["worker"] = worker_of_place(job["place"])
        job["stranded"] = job["worker"] in dead


def count_silent(workers: Sequence[WorkerState], hearing: Hearing, claimed: Sequence[dict[str, Any]]) -> list[Counted]:
    """A line for each silent worker: since when, what it holds, and what to do. A person has to look or to decide."""
    found = []
    for worker in workers:
        silent_s = None if worker.ended or worker.alive == DEAD else hearing.silent_s(worker)
        if silent_s is None:
            continue
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - silent_s))
        count = sum(1 for job in claimed if worker_of_place(job["place"]) == worker.paths.name)
        holds = "holds no job" if not count else "holds 1 job" if count == 1 else f"holds {count} jobs"
        what = f"where it is gone for good: `recover_jobs --worker {worker.name}`"
        if worker.alive != UNKNOWN:
            what = f"its process {worker.process.pid} is there: was it stopped, or does its disk not answer?"
        why = f"{worker.name} has been silent for {format_seconds(silent_s)}, since {since}, and {holds}"
        found.append(Counted(Cause.SILENT, count, why, what))
    return found
