"""Problems with workers: stranded jobs, dead workers, old heartbeats, a second node of this name, held jobs.

Reads the workers' directories and the status; moves nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.grouped import name_some
from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.liveness import DEAD, UNKNOWN, boot_id
from jobjar.reports.status import gather_status
from jobjar.roster import WorkerState, list_workers
from jobjar.shared_disk.listing import list_directory, list_held
from jobjar.units import format_seconds

GROUP = "workers"
OLD_HEARTBEATS = 10
FEWEST_HEARTBEATS_A_LEASE = 3
# The clocks of a node and of the disk, and the node's boot time, are only known to this accuracy.
_BOOT_DOUBT_S = 30.0


def look_at_workers(jar: Jar, clock_offset_s: float) -> Iterator[Finding]:
    """`clock_offset_s` is this node's clock minus the disk's."""
    workers = [worker for worker in list_workers(jar.layout) if not worker.ended]
    now = time.time() - clock_offset_s
    namesakes = find_namesakes(workers, now)
    yield look_at_namesakes(namesakes)
    # If recover_jobs returned a living namesake's jobs, these would run twice. So do not report them as stranded.
    theirs = {worker.paths.path for worker in namesakes or ()}
    others = [worker for worker in workers if worker.paths.path not in theirs]
    yield look_at_dead(others)
    yield look_at_heartbeats(workers, now, jar.settings.heartbeat_time_s)
    yield look_at_lease(jar.settings.lease_time_s, jar.settings.heartbeat_time_s)
    yield look_at_control(jar)
    yield look_at_held(jar)


def held_jobs(worker: WorkerState) -> list[str]:
    return [entry.name for _, entry in list_held(worker.paths)]


def look_at_dead(workers: list[WorkerState]) -> Finding:
    """Dead workers of this node, and the jobs that they hold."""
    dead = [worker for worker in workers if worker.is_to_recover]
    alive = sum(1 for worker in workers if worker.alive != DEAD)
    stranded = [(worker.name, name) for worker in dead for name in held_jobs(worker)]
    if stranded:
        some = name_some([f"{name} with {worker}" for worker, name in stranded])
        meaning = "their workers died; they wait until somebody takes them back"
        return Finding(GROUP, "stranded jobs", DANGER, f"{len(stranded)}: {some}", meaning, "recover_jobs")
    if dead:
        some = name_some([worker.name for worker in dead])
        return Finding(GROUP, "dead workers", NOTE, f"{len(dead)}: {some}", "they hold no job", "recover_jobs notes it")
    return Finding(GROUP, "dead workers", FINE, f"none; {alive} running (all nodes)")


def find_namesakes(workers: list[WorkerState], now: float) -> list[WorkerState] | None:
    """Workers of another node with this node's name: their boot id differs, but their heartbeat is newer than this node's boot.

    None if this system does not tell its boot time.
    """
    try:
        booted_at = now - time.clock_gettime(time.CLOCK_BOOTTIME)
        boot = boot_id()
    except (OSError, AttributeError):
        return None
    same_name = [worker for worker in workers if worker.process.node == node_name()]
    return [
        worker
        for worker in same_name
        if worker.process.boot_id != boot and (heartbeat_of(worker) or 0.0) > booted_at + _BOOT_DOUBT_S
    ]


def look_at_namesakes(namesakes: list[WorkerState] | None) -> Finding:
    check = "another node of this name"
    if namesakes is None:
        return Finding(
            GROUP, check, NOTE, "not known", "this system does not say when it started", "jobjar doctor --peer"
        )
    if namesakes:
        meaning = "recover_jobs on each of them takes the other's jobs while they run: they run twice"
        advice = "give every node a name of its own (hostnamectl), and start its workers again; no recover_jobs before"
        return Finding(GROUP, check, DANGER, f"{namesakes[0].name} is not of this machine", meaning, advice)
    return Finding(GROUP, check, FINE, "not seen; --peer tells of a pair")


def heartbeat_of(worker: WorkerState) -> float | None:
    try:
        return os.stat(worker.paths.heartbeat).st_mtime
    except OSError:
        return None


def look_at_heartbeats(workers: list[WorkerState], now: float, heartbeat_time_s: float) -> Finding:
    """Workers of other nodes whose last heartbeat is old."""
    check = "other nodes"
    others = [worker for worker in workers if worker.alive == UNKNOWN]
    limit_s = OLD_HEARTBEATS * heartbeat_time_s
    silent = []
    for worker in others:
        beat_at = heartbeat_of(worker)
        age_s = now - (worker.started_at if beat_at is None else beat_at)
        if age_s > limit_s:
            silent.append((worker, age_s, len(held_jobs(worker))))
    if not silent:
        return Finding(GROUP, check, FINE, f"{len(others)} workers, all heard of within {format_seconds(limit_s)}")
    jobs = sum(count for _, _, count in silent)
    some = name_some([f"{worker.name} ({format_seconds(age_s)}, {count} jobs)" for worker, age_s, count in silent])
    measured = f"{len(silent)} silent: {some}"
    nodes = " ".join(sorted({worker.process.node for worker, _, _ in silent}))
    meaning = (
        f"they hold {jobs} jobs; whether they are dead is known only on their nodes" if jobs else "they hold no job"
    )
    return Finding(
        GROUP,
        check,
        WARNING if jobs else NOTE,
        measured,
        meaning,
        f"run recover_jobs on {nodes}, or, where it is gone, recover_jobs --node",
    )


def look_at_lease(lease_time_s: float, heartbeat_time_s: float) -> Finding:
    """Whether a lease outlasts several heartbeats."""
    check = "lease"
    if not lease_time_s:
        meaning = "jobs of a node that does not come back wait for it"
        return Finding(GROUP, check, FINE, f"off: {meaning}")
    measured = f"JJ_LEASE_TIME {format_seconds(lease_time_s)}, JJ_HEARTBEAT_TIME {format_seconds(heartbeat_time_s)}"
    if lease_time_s < FEWEST_HEARTBEATS_A_LEASE * heartbeat_time_s:
        meaning = "a living worker may seem dead between two heartbeats: its jobs are taken back and run twice"
        advice = f"set JJ_LEASE_TIME to {2 * FEWEST_HEARTBEATS_A_LEASE * heartbeat_time_s:g} or more"
        return Finding(GROUP, check, DANGER, measured, meaning, advice)
    return Finding(GROUP, check, FINE, measured)


def look_at_control(jar: Jar) -> Finding:
    """Control files that act on all workers."""
    found = [path for path in (jar.layout.stop_all_file, jar.layout.pause_all_file) if os.path.lexists(path)]
    if found:
        meaning = "every worker, new ones too, stops or pauses while it is there"
        return Finding(GROUP, "control files", NOTE, ", ".join(found), meaning, f"rm {' '.join(found)}, if not meant")
    return Finding(GROUP, "control files", FINE, "neither STOP_ALL nor PAUSE_ALL")


def look_at_held(jar: Jar) -> Finding:
    """Jobs that are held in limbo, and why."""
    held = [job for job in gather_status(jar)["jobs"]["held"] if job["held_reason"]]
    if held:
        some = name_some([f"{job['name']}: {job['held_reason']}" for job in held], separator="; ")
        measured = f"{len(held)}: {some}"
        return Finding(
            GROUP, "held jobs", WARNING, measured, "they are not run", "correct them, move them to unclaimed/"
        )
    count = sum(1 for _ in list_directory(jar.layout.limbo))
    return Finding(GROUP, "held jobs", FINE, f"none with a reason ({count} files in limbo)")
