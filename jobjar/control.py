"""Control files: STOP and PAUSE in a worker's directory, STOP_ALL and PAUSE_ALL beside them, KILL.<job's id> for one job.

To stop or pause is to make an empty file; anybody may do it with `touch`. Workers look at them between jobs; KILL.<job>
ends a running job. Reads the workers' directories; a crash in here leaves some files made and others not.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobjar.contents import WORKER, read_document
from jobjar.creating import create_file
from jobjar.description import STORAGE_CATEGORY
from jobjar.disk import look_afresh, remove_file
from jobjar.errors import CannotUseJar, JarError, NoneMayStart, StillPaused, UnknownWorker
from jobjar.grouped import name_some
from jobjar.jobname import is_text
from jobjar.layout import Layout, WorkerPaths
from jobjar.liveness import DEAD, UNKNOWN, ProcessIdentity, is_here, liveness
from jobjar.looks import Looks
from jobjar.patience import FLICKER_S, is_transient, patiently
from jobjar.refusals import explain_at

ALL = "all"
# What was set aside because a process id came round again carries its worker's id after this.
ASIDE = "~"
# How often a worker beats that does not say it.
_HEARTBEAT_TIME_S = 30.0
_SHOWN = 20


class WorkerState(NamedTuple):
    """What a worker's directory says. `ended`: it left by itself, or somebody noted that it died. `is_given_up`: a person said
    that it is gone. `alive`: ALIVE, DEAD or UNKNOWN."""

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
    # After a failure it claims nothing before this (the disk's time), and the failures in a row were so many.
    pauses_until: float = 0.0
    failures_in_a_row: int = 0

    @property
    def is_here(self) -> bool:
        """Whether its processes, if there are any, are among those that this process sees."""
        return is_here(self.process)

    @property
    def is_to_recover(self) -> bool:
        """Whether it is dead, and recovery here does what it left undone."""
        return self.alive == DEAD and (self.is_given_up or self.is_here)

    @property
    def is_running(self) -> bool:
        """Alive, or on another node and not known to have ended."""
        return not self.ended and self.alive != DEAD

    def asks_for(self, category: str) -> bool:
        """Whether it asks for the jobs of a category; '' are the uncategorized ones."""
        return category in self.categories or (not self.is_storage and category in ("", self.process.node))

    @property
    def is_paused(self) -> bool:
        pause_all = f"{os.path.dirname(self.paths.path)}/PAUSE_ALL"
        return os.path.lexists(self.paths.pause_file) or os.path.lexists(pause_all)

    def explain_pause(self) -> str | None:
        """Until when it pauses after failures, and after how many; None where it does not."""
        if self.ended or self.alive == DEAD or self.pauses_until <= time.time():
            return None
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.pauses_until))
        after = "a failure" if self.failures_in_a_row <= 1 else f"{self.failures_in_a_row} failures in a row"
        return f"pauses until {until} after {after}"


def read_worker(layout: Layout, directory: str) -> WorkerState | None:
    """The worker of a directory under JJ_WORKER_HOME; None where it is none, or not one yet. Raises OSError where the disk
    is in trouble: the worker is not gone."""
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
            # A person's word counts where nothing is known.
            alive=DEAD if is_given_up and alive == UNKNOWN else alive,
            set_aside=ASIDE in directory,
            heartbeat_time_s=float(data.get("heartbeat_time_s", _HEARTBEAT_TIME_S)),
            is_storage=bool(data.get("is_storage", False)),
            version=data.get("version", ""),
            is_given_up=is_given_up,
            pauses_until=float(data.get("pauses_until", 0.0)),
            failures_in_a_row=data.get("failures_in_a_row", 0),
        )
    except OSError as error:
        if is_transient(error):
            raise
        return None
    except (ValueError, KeyError, TypeError):
        return None


def list_workers(layout: Layout) -> list[WorkerState]:
    """All workers that have a directory, by name."""
    try:
        names = sorted(patiently(lambda: os.listdir(layout.workers), layout.workers, FLICKER_S))
    except FileNotFoundError:
        return []
    found = (read_worker(layout, name) for name in names if not name.startswith(".") and is_text(name))
    return [worker for worker in found if worker is not None]


def running_workers(layout: Layout) -> list[WorkerState]:
    """The workers that run, as far as this node can tell (on others: that have not ended)."""
    return [worker for worker in list_workers(layout) if worker.is_running and not worker.set_aside]


def explain_unasked(layout: Layout, category: str, running: Iterable[WorkerState]) -> str | None:
    """Why none of the workers that run claims a job of this category, and what to do; None where one would."""
    asking = [worker for worker in running if worker.asks_for(category)]
    pauses = [worker.explain_pause() for worker in asking]
    if any(pause is None and not one.is_paused for one, pause in zip(asking, pauses, strict=True)):
        return None
    if any(not one.is_paused for one in asking):
        # Of those that failed, and go on by themselves, the one that does first.
        soonest = min((one for one in asking if not one.is_paused), key=lambda one: one.pauses_until)
        others = f", and so do {len(asking) - 1} others" if len(asking) > 1 else ""
        return (
            f"worker {soonest.name}, which asks for it, {soonest.explain_pause()}{others} (see why its last job failed)"
        )
    if asking:
        pause_all = layout.pause_all_file
        what = f"remove {pause_all}" if os.path.lexists(pause_all) else "`unpause_worker all`"
        return f"the workers that ask for it are paused ({what})"
    if category.startswith(STORAGE_CATEGORY):
        storage_class = category.removeprefix(STORAGE_CATEGORY)
        who, words = f"storage worker of class {storage_class}", f"start_worker --storage {storage_class}"
    elif category:
        who, words = f"worker that asks for category {category}", f"start_worker {category}"
    else:
        who, words = "worker that asks for uncategorized jobs", "start_worker"
    first = f"remove {layout.stop_all_file}; " if os.path.lexists(layout.stop_all_file) else ""
    return f"no {who} is running ({first}`{words}` starts one)"


def select_workers(layout: Layout, names: Iterable[str]) -> tuple[list[WorkerState], list[JarError]]:
    """The running workers that `all`, node names and worker names mean, and an error for each that means none."""
    running = running_workers(layout)
    chosen: dict[str, WorkerState] = {}
    errors: list[JarError] = []
    for name in names:
        matches = [w for w in running if name == ALL or w.name == name or w.process.node == name]
        if not matches and name != ALL:
            errors.append(UnknownWorker(name=name, running=name_running(running)))
        chosen.update({worker.name: worker for worker in matches})
    return list(chosen.values()), errors


def check_may_start(layout: Layout) -> None:
    """Raise NoneMayStart where a new worker would leave at once."""
    if os.path.lexists(layout.stop_all_file):
        raise NoneMayStart(path=layout.stop_all_file)


def name_running(running: Sequence[WorkerState]) -> str:
    """For people: which workers run."""
    names = [worker.name for worker in running]
    return f"{name_some(names, _SHOWN)} run" if names else "no worker runs"


def stop(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Have workers leave before their next job; returns their names, and an error for each unknown one."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        touch(worker.paths.stop_file)
    return [worker.name for worker in workers], errors


def pause(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Have workers claim nothing until unpaused; returns as `stop`."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        touch(worker.paths.pause_file)
    return [worker.name for worker in workers], errors


def unpause(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Undo `pause`; it is fine for workers that were not paused. Returns as `stop`; PAUSE_ALL, which stays, is an error too."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        remove_file(worker.paths.pause_file)
    if os.path.lexists(layout.pause_all_file):
        errors.append(StillPaused(path=layout.pause_all_file))
    return [worker.name for worker in workers], errors


class Orders:
    """What control files tell a worker. On a network disk, where `looks` tells of the directory of all workers, they are looked
    at once per `interval_s`, not before each job, and only where a directory has changed."""

    def __init__(self, layout: Layout, paths: WorkerPaths, interval_s: float, looks: Looks | None) -> None:
        self._layout = layout
        self._paths = paths
        self._interval_s = interval_s
        self._looks = looks
        self._looked_at = float("-inf")
        self._seen = (False, False)
        # When the two directories had changed last when this was seen; None where they may change again unseen.
        self._changed_ns: tuple[int, int] | None = None
        # When this worker's own directory had.
        self.own_changed_ns = 0

    def look(self, at_once: bool = False, max_age_s: float | None = None) -> tuple[bool, bool]:
        """Whether this worker is to leave, and whether it is to pause. On a network disk as it was at most `max_age_s` ago
        (None: as ever), but with `at_once` as it is now."""
        if self._looks is not None:
            now = time.monotonic()
            max_age_s = 0.0 if at_once else self._interval_s if max_age_s is None else max_age_s
            if now - self._looked_at < max_age_s or not self._have_changed(self._looks, max_age_s):
                return self._seen
        # access(2), not lexists(): asked before each job, and a missing file is no exception here.
        stopped = os.access(self._paths.stop_file, os.F_OK) or os.access(self._layout.stop_all_file, os.F_OK)
        paused = not stopped and (
            os.access(self._paths.pause_file, os.F_OK) or os.access(self._layout.pause_all_file, os.F_OK)
        )
        self._seen = (stopped, paused)
        return self._seen

    def _have_changed(self, looks: Looks, max_age_s: float) -> bool:
        """Whether there may be other control files on a network disk than at the last look; afterwards it shows them."""
        self._looked_at = time.monotonic()
        # The directory above first: over NFS the way to the other asks for it too.
        all_changed_ns = looks.changed_ns([self._layout.workers], max_age_s)[self._layout.workers]
        own = look_afresh(self._paths.path)
        self.own_changed_ns = own.st_mtime_ns if own is not None else 0
        changed_ns = (self.own_changed_ns, all_changed_ns)
        if changed_ns == self._changed_ns:
            return False
        self._changed_ns = changed_ns if looks.is_settled(changed_ns) else None
        look_afresh(self._layout.workers)  # as it is now: another process of this node may have seen that it changed
        return True

    def take_kill_request(self, uid: str, job_name: str) -> bool:
        """Whether somebody asked for this running job to be killed; the request is used up. Programs say its id, because a
        worker may hold several jobs of one name; a hand may say the name."""
        if self._looks is not None:
            look_afresh(self._paths.path)
        return take_kill_request(self._paths, uid) or take_kill_request(self._paths, job_name)


def request_kill(layout: Layout, worker: str, job: str) -> None:
    """Ask a worker to kill a job that it runs, by its id; asked twice is asked once. Raises OSError."""
    path = layout.worker(worker).kill_file(job)
    with contextlib.suppress(FileExistsError):
        patiently(lambda: os.close(create_file(path, 0o660)), path)


def take_kill_request(paths: WorkerPaths, job: str) -> bool:
    """Whether somebody asked for a running job to be killed by this word for it; the request is used up."""
    try:
        os.unlink(paths.kill_file(job))
        return True
    except FileNotFoundError:
        return False
    except OSError:
        # A disk that refuses (read-only) says so before it looks whether there is such a file; one that is away says no.
        return os.path.lexists(paths.kill_file(job))


def touch(path: str) -> None:
    """Make a control file. Raises CannotUseJar."""
    try:
        with contextlib.suppress(FileExistsError):  # whatever lies there says it
            patiently(lambda: os.close(create_file(path, 0o660)), path)
    except OSError as error:
        raise CannotUseJar(action="write", path=path, reason=explain_at(error, path)) from error
