"""The heartbeats of workers, and their ages by the clock of the disk that they are on.

A heartbeat only shows that its worker was alive at that time. Nothing is done to a silent worker unless a person or
JJ_LEASE_TIME asks for it. This module writes only this node's clock file in `ledger/`. A user who may only read the jar
uses the node's own clock. A crash here leaves nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import cached_property

from jobjar.host import node_name
from jobjar.layout import Layout
from jobjar.liveness import DEAD, UNKNOWN
from jobjar.roster import WorkerState, read_worker
from jobjar.shared_disk.clock import read_disk_clock
from jobjar.shared_disk.regular import open_regular
from jobjar.units import format_seconds

# A worker is silent after this many missing heartbeats, which are hardly all late. Some disks keep times in whole seconds.
_BEATS = 4
_SLACK_S = 2.0


def read_heartbeat_ns(path: str) -> int:
    """Return when a heartbeat was last touched. The file is opened for that: NFS may have a status in its cache that is a minute
    old, and asks its server only at an open. Raises OSError."""
    descriptor = open_regular(path)
    try:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


def has_beaten(worker: WorkerState, age_s: float) -> bool:
    """Whether a heartbeat of this age is a sign that its worker lives. A time far in the future comes from another clock and does
    not count."""
    return abs(age_s) < _BEATS * worker.heartbeat_time_s + _SLACK_S


class Hearing:
    """One look at heartbeats. The disk's clock is read once, for the first heartbeat; each heartbeat is read once."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._ages: dict[str, float | None] = {}

    @cached_property
    def _now(self) -> float:
        try:
            return read_disk_clock(self._layout.clock_file(node_name()))
        except OSError:
            return time.time()

    def age_s(self, worker: WorkerState) -> float | None:
        """Return the age of a worker's last heartbeat in seconds; None if it never beat, or the file cannot be read."""
        path = worker.paths.heartbeat
        if path not in self._ages:
            now = self._now
            try:
                self._ages[path] = now - read_heartbeat_ns(path) / 1e9
            except OSError:
                self._ages[path] = None
        return self._ages[path]

    def beats(self, worker: WorkerState) -> bool:
        """Whether a worker has beaten lately."""
        age_s = self.age_s(worker)
        return age_s is not None and has_beaten(worker, age_s)

    def silent_s(self, worker: WorkerState) -> float | None:
        """Return for how many seconds a worker has been silent; None if it has beaten lately, or never. The caller has to know
        that it has not ended."""
        age_s = self.age_s(worker)
        return None if age_s is None or self.beats(worker) else max(0.0, age_s)

    def explain_silence(self, worker: WorkerState) -> str | None:
        """Explain to people that a worker is silent or dead, and what to do; None if it has beaten lately, or has ended."""
        if worker.ended:
            return None
        if worker.alive == DEAD:
            return f"{worker.name} is dead; recover_jobs takes its jobs back"
        if self.beats(worker):
            return None
        silent_s = self.silent_s(worker)
        said = "has never been heard of" if silent_s is None else f"has been silent for {format_seconds(silent_s)}"
        if worker.alive != UNKNOWN:
            return f"{worker.name} {said}, though its process is there: was it stopped, or does its disk not answer?"
        return f"{worker.name} {said}; where it is gone for good, `recover_jobs --worker {worker.name}` takes its jobs back"


def heard_workers(layout: Layout, workers: list[WorkerState]) -> list[WorkerState]:
    """Select the workers whose state is known here, or that have beaten lately."""
    hearing = Hearing(layout)
    return [worker for worker in workers if worker.alive != UNKNOWN or hearing.beats(worker)]


class WorkerName(str):
    """A worker's name. `silence` explains to people that it is silent or dead, or is None. `silent_s` is for how many seconds it
    has been silent; None if it has beaten lately, or never."""

    silence: str | None = None
    silent_s: float | None = None


def name_workers(layout: Layout, names: Iterable[str]) -> list[WorkerName]:
    """Return the names of some workers, with their silence."""
    hearing = Hearing(layout)
    named = []
    for text in names:
        name = WorkerName(text)
        worker = read_worker(layout, text)
        if worker is not None:
            name.silence = hearing.explain_silence(worker)
            name.silent_s = hearing.silent_s(worker) if name.silence else None
        named.append(name)
    return named
