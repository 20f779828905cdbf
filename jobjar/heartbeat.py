"""Who has been heard of: the heartbeats of workers, by the clock of the disk that they are on.

A heartbeat's age says that a worker was alive so long ago, and no more: nothing is done to a silent worker but what a person,
or JJ_LEASE_TIME, asks for. Writes nothing but this node's clock file in `ledger/`; who may only read the jar goes by the clock
of his own node. A crash in here leaves nothing.
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
from jobjar.shared_disk.files import read_disk_clock
from jobjar.shared_disk.regular import open_regular
from jobjar.units import format_seconds

# So many heartbeats in a row do not come late together; and some disks tell times in whole seconds.
_BEATS = 4
_SLACK_S = 2.0


def read_heartbeat_ns(path: str) -> int:
    """When a heartbeat was touched last. It is opened: what NFS remembers of a file can be a minute old, and is asked for
    again only then. Raises OSError."""
    descriptor = open_regular(path)
    try:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


class Hearing:
    """One look at heartbeats. The disk's clock is read at most once, when the first heartbeat is asked for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @cached_property
    def _now(self) -> float:
        try:
            return read_disk_clock(self._layout.clock_file(node_name()))
        except OSError:
            return time.time()

    def age_s(self, worker: WorkerState) -> float | None:
        """How long ago a worker's heart beat; None where that cannot be read, or it never did."""
        now = self._now
        try:
            return now - read_heartbeat_ns(worker.paths.heartbeat) / 1e9
        except OSError:
            return None

    def beats(self, worker: WorkerState) -> bool:
        """Whether a worker was heard of lately. A time that lies far ahead is another clock's, and says nothing."""
        age_s = self.age_s(worker)
        return age_s is not None and abs(age_s) < _BEATS * worker.heartbeat_time_s + _SLACK_S

    def silent_s(self, worker: WorkerState) -> float | None:
        """For how many seconds a worker that has not ended was not heard of; None where it was heard of lately, or never."""
        age_s = self.age_s(worker)
        return None if age_s is None or self.beats(worker) else max(0.0, age_s)

    def explain_silence(self, worker: WorkerState) -> str | None:
        """For people: that nothing is heard of a worker, and what to do; None where it was heard of, or has ended."""
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
    """Those of some workers that are alive here, or beat elsewhere."""
    hearing = Hearing(layout)
    return [worker for worker in workers if worker.alive != UNKNOWN or hearing.beats(worker)]


class WorkerName(str):
    """A worker's name. `silence`, for people: None, or that nothing was heard of it lately and what to do; `silent_s`: for how
    many seconds, None where it was heard of, or never."""

    silence: str | None = None
    silent_s: float | None = None


def name_workers(layout: Layout, names: Iterable[str]) -> list[WorkerName]:
    """The names of some workers, with what is known of their silence."""
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
