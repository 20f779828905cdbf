"""The workers of a jar, as their directories show them: their nodes, when they started, and whether they still run.

Reads worker.json and the control files. Writes only the end of a worker, first to the journal and then to its worker.json. A
kill between the two leaves it in the journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from jobjar.host import node_name
from jobjar.job_file.request import Capacity, read_capacity
from jobjar.journal.entries import About, worker_ended_entry
from jobjar.layout import PAUSE_ALL, STOP_ALL, Layout, WorkerPaths
from jobjar.liveness import DEAD, UNKNOWN, ProcessIdentity, is_here, liveness
from jobjar.shared_disk.contents import WORKER, Unreadable, read_document
from jobjar.shared_disk.files import list_names, replace_file
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.patience import FLICKER_S, is_transient
from jobjar.text import is_text

if TYPE_CHECKING:
    from jobjar.jar import Jar

# The separator before the worker's id in a directory that was set aside because its process id came round again.
ASIDE = "~"


# Seconds between the heartbeats of a worker whose worker.json does not say.
_HEARTBEAT_TIME_S = 30.0


class WorkerState(NamedTuple):
    """The state of a worker, from its directory. `ended`: it left by itself, or somebody recorded its death. `is_given_up`: a
    person stated that it is gone for good. `alive`: ALIVE, DEAD or UNKNOWN."""

    name: str
    paths: WorkerPaths
    worker_id: str
    process: ProcessIdentity
    user: str
    categories: tuple[str, ...]
    started_at: float
    ended: bool
    alive: str
    set_aside: bool
    heartbeat_time_s: float
    is_storage: bool
    version: str
    is_given_up: bool
    # After failures in a row it claims nothing before this (the disk's time).
    pauses_until: float = 0.0
    failures_in_a_row: int = 0
    last_failed: str | None = None  # the id of the job that failed last
    pilot: str = ""  # the key of the pilot that it is (pilots/pilot.py)
    ends_at: float | None = None  # when it ends by itself; None: it has no end
    setup: str = ""  # the setup that it was started with
    capacity: Capacity | None = None  # what it has for its jobs; None for a worker of an earlier release

    @property
    def slots(self) -> int:
        """How many jobs it runs at once."""
        return 1 if self.capacity is None else self.capacity.slots

    @property
    def is_here(self) -> bool:
        """Whether this process could see its processes."""
        return is_here(self.process)

    @property
    def is_to_recover(self) -> bool:
        """Whether it is dead, and recovery on this node has to finish its work."""
        return self.alive == DEAD and (self.is_given_up or self.is_here)

    @property
    def is_running(self) -> bool:
        """Whether it is alive, or may be: on another node, and not known to have ended."""
        return not self.ended and self.alive != DEAD

    @property
    def recovered_on(self) -> str:
        """The node on which recovery finishes its work. This machine may have had another name when the worker started."""
        return node_name() if self.is_to_recover else self.process.node

    def about(self, uid: str, attempt: int) -> About:
        """What an entry about an attempt of it begins with."""
        return About(uid, attempt, self.name, self.worker_id)

    def asks_for(self, category: str) -> bool:
        """Whether it asks for the jobs of a category; '' means the uncategorized jobs."""
        return category in self.categories or (not self.is_storage and category in ("", self.process.node))

    @property
    def is_paused(self) -> bool:
        pause_all = f"{os.path.dirname(self.paths.path)}/{PAUSE_ALL}"
        return os.path.lexists(self.paths.pause_file) or os.path.lexists(pause_all)

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to leave after its present job."""
        stop_all = f"{os.path.dirname(self.paths.path)}/{STOP_ALL}"
        return os.path.lexists(self.paths.stop_file) or os.path.lexists(stop_all)

    def explain_pause(self) -> str | None:
        """Explain until when it pauses after failures, and after how many; None if it does not."""
        if self.ended or self.alive == DEAD or self.pauses_until <= time.time():
            return None
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.pauses_until))
        after = "a failure" if self.failures_in_a_row <= 1 else f"{self.failures_in_a_row} failures in a row"
        return f"pauses until {until} after {after}"

    def explain_failed(self) -> str:
        """How to see why its last job failed. An earlier release does not note that job."""
        return (
            f"`jobjar show {self.last_failed}` says why"
            if self.last_failed
            else f"`jobjar list --worker {self.name}` names its jobs"
        )


def read_worker(layout: Layout, directory: str) -> WorkerState | None:
    """Read the worker of a directory in JJ_WORKER_HOME; None if it has no worker, or none yet. Raises OSError for a disk in
    trouble, which does not mean that the worker is gone."""
    paths = layout.worker(directory)
    try:
        data = read_document(paths.identity_file, WORKER, FLICKER_S)
        started, namespace = float(data["process_started"]), data.get("pid_namespace", "")
        process = ProcessIdentity(data["node"], data["pid"], started, data["boot_id"], namespace)
        ended = data.get("ended_at") is not None
        is_given_up = data.get("given_up_at") is not None
        alive = DEAD if ended else liveness(process)
        return WorkerState(
            name=data["worker"],
            paths=paths,
            worker_id=data["worker_id"],
            process=process,
            user=data.get("user", ""),
            categories=tuple(data.get("categories", ())),
            started_at=float(data.get("started_at", 0)),
            ended=ended,
            # A person's statement counts if nothing else is known.
            alive=DEAD if is_given_up and alive == UNKNOWN else alive,
            set_aside=ASIDE in directory,
            heartbeat_time_s=float(data.get("heartbeat_time_s", _HEARTBEAT_TIME_S)),
            is_storage=bool(data.get("is_storage", False)),
            version=data.get("version", ""),
            is_given_up=is_given_up,
            pauses_until=float(data.get("pauses_until", 0.0)),
            failures_in_a_row=data.get("failures_in_a_row", 0),
            last_failed=data.get("last_failed"),
            pilot=data.get("pilot", ""),
            ends_at=data.get("ends_at"),
            setup=data.get("setup", ""),
            capacity=read_capacity(data.get("capacity")),
        )
    except OSError as error:
        if is_transient(error):
            raise
        return None
    except (ValueError, KeyError, TypeError):
        return None


def list_workers(layout: Layout) -> list[WorkerState]:
    """List all workers that have a directory, by name. Raises OSError for a disk in trouble."""
    try:
        names = sorted(list_names(layout.workers, FLICKER_S))
    except FileNotFoundError:
        return []
    found = (read_worker(layout, name) for name in names if not name.startswith(".") and is_text(name))
    return [worker for worker in found if worker is not None]


def running_workers(layout: Layout) -> list[WorkerState]:
    """List the workers that run, as far as this node knows: those of other nodes unless they have ended."""
    return [worker for worker in list_workers(layout) if worker.is_running and not worker.set_aside]


def find_archived_worker(jar: Jar, name: str) -> WorkerPaths | None:
    """Find the archived directory `<worker>~<worker id>`, or None."""
    for date in list_directory(jar.layout.archive):
        path = f"{jar.layout.archived_workers(date.name)}/{name}"
        if os.path.isdir(path):
            return WorkerPaths(path)
    return None


def journal_end(jar: Jar, worker: WorkerState, ended_at: float, reason: str) -> None:
    """Record a worker's end in the journal, then in its worker.json. Raises OSError."""
    process = worker.process
    entry = worker_ended_entry(worker.name, worker.worker_id, process.node, process.pid, ended_at, reason)
    jar.journal.append([entry])
    with contextlib.suppress(Unreadable):  # it was damaged since the last read; the journal has the end
        data = read_document(worker.paths.identity_file, WORKER)
        data.update({"ended_at": ended_at, "end_reason": reason})
        replace_file(worker.paths.identity_file, (json.dumps(data, indent=1) + "\n").encode())
