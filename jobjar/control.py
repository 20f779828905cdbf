"""Control files: STOP and PAUSE in a worker's directory, STOP_ALL and PAUSE_ALL beside them, KILL.<job> for one job.

To stop or pause is to make an empty file; anybody may do it with `touch`. Workers look at them between jobs; KILL.<job>
ends a running job. Reads the workers' directories; a crash in here leaves some files made and others not.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from typing import NamedTuple

from jobjar.errors import CannotUseJar, JarError, UnknownWorker
from jobjar.layout import Layout, WorkerPaths
from jobjar.liveness import DEAD, ProcessIdentity, liveness

ALL = "all"
# What was set aside because a process id came round again carries its worker's id after this.
ASIDE = "~"


class WorkerState(NamedTuple):
    """What a worker's directory says. `ended`: it left by itself. `alive`: ALIVE, DEAD or UNKNOWN."""

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

    @property
    def is_running(self) -> bool:
        """Alive, or on another node and not known to have ended."""
        return not self.ended and self.alive != DEAD

    @property
    def is_paused(self) -> bool:
        pause_all = f"{os.path.dirname(self.paths.path)}/PAUSE_ALL"
        return os.path.lexists(self.paths.pause_file) or os.path.lexists(pause_all)


def read_worker(layout: Layout, directory: str) -> WorkerState | None:
    """The worker of a directory under JJ_WORKER_HOME; None where it is none, or not one yet."""
    paths = layout.worker(directory)
    try:
        with open(paths.identity_file, encoding="utf-8") as file:
            data = json.load(file)
        process = ProcessIdentity(data["node"], int(data["pid"]), float(data["process_started"]), data["boot_id"])
        ended = data.get("ended_at") is not None
        return WorkerState(
            name=data["worker"],
            paths=paths,
            worker_id=data["worker_id"],
            process=process,
            user=data.get("user", ""),
            categories=tuple(data.get("categories", ())),
            started_at=float(data.get("started_at", 0)),
            ended=ended,
            alive=DEAD if ended else liveness(process),
            set_aside=ASIDE in directory,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def list_workers(layout: Layout) -> list[WorkerState]:
    """All workers that have a directory, by name."""
    try:
        names = sorted(os.listdir(layout.workers))
    except FileNotFoundError:
        return []
    found = (read_worker(layout, name) for name in names if not name.startswith("."))
    return [worker for worker in found if worker is not None]


def running_workers(layout: Layout) -> list[WorkerState]:
    """The workers that run, as far as this node can tell (on others: that have not ended)."""
    return [worker for worker in list_workers(layout) if worker.is_running and not worker.set_aside]


def select_workers(layout: Layout, names: Iterable[str]) -> tuple[list[WorkerState], list[JarError]]:
    """The running workers that `all`, node names and worker names mean, and an error for each that means none."""
    running = running_workers(layout)
    chosen: dict[str, WorkerState] = {}
    errors: list[JarError] = []
    for name in names:
        matches = [w for w in running if name == ALL or w.name == name or w.process.node == name]
        if not matches and name != ALL:
            errors.append(UnknownWorker(name=name))
        chosen.update({worker.name: worker for worker in matches})
    return list(chosen.values()), errors


def stop(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Have workers leave before their next job; returns their names, and an error for each unknown one."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        _touch(worker.paths.stop_file)
    return [worker.name for worker in workers], errors


def pause(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Have workers claim nothing until unpaused; returns as `stop`."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        _touch(worker.paths.pause_file)
    return [worker.name for worker in workers], errors


def unpause(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Undo `pause`; it is fine for workers that were not paused. Returns as `stop`."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(worker.paths.pause_file)
    return [worker.name for worker in workers], errors


def is_stopped(layout: Layout, paths: WorkerPaths) -> bool:
    # access(2), not lexists(): asked before each job, and a missing file is no exception here.
    return os.access(paths.stop_file, os.F_OK) or os.access(layout.stop_all_file, os.F_OK)


def is_paused(layout: Layout, paths: WorkerPaths) -> bool:
    return os.access(paths.pause_file, os.F_OK) or os.access(layout.pause_all_file, os.F_OK)


def take_kill_request(paths: WorkerPaths, job_name: str) -> bool:
    """Whether somebody asked for this running job to be killed; the request is used up."""
    try:
        os.unlink(paths.kill_file(job_name))
        return True
    except FileNotFoundError:
        return False
    except OSError:
        # A disk that refuses (read-only) says so before it looks whether there is such a file.
        return os.path.lexists(paths.kill_file(job_name))


def _touch(path: str) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o660))
    except OSError as error:
        raise CannotUseJar(action="write", path=path, reason=error.strerror) from error
