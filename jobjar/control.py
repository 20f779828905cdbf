"""Control files: STOP and PAUSE in a worker's directory, STOP_ALL and PAUSE_ALL beside them, KILL.<job's id> for one job.

An empty file stops or pauses workers; people may make it with `touch`. Workers look at these files between jobs. KILL.<job>
ends a running job: as killed, or as cancelled if the file says so. This module reads the workers' directories. A crash here
leaves some of the files made and others not.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from jobjar.access.refusals import explain_at
from jobjar.errors import CannotUseJar, JarError, NoneMayStart, StillPaused, UnknownWorker
from jobjar.grouped import name_some
from jobjar.layout import Layout, WorkerPaths
from jobjar.roster import WorkerState, running_workers
from jobjar.shared_disk.change_times import Looks
from jobjar.shared_disk.contents import KILL, Unreadable, parse_document
from jobjar.shared_disk.creating import create_file, write_whole
from jobjar.shared_disk.files import look_afresh, remove_file
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import open_regular

ALL = "all"
_MOST_BYTES = 1 << 16
_SHOWN = 20


def select_workers(layout: Layout, names: Iterable[str]) -> tuple[list[WorkerState], list[JarError]]:
    """Find the running workers that names mean: `all`, names of nodes, names of workers. Returns them, and an error for each
    name that means none."""
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
    """Raise NoneMayStart if a new worker would leave at once."""
    if os.path.lexists(layout.stop_all_file):
        raise NoneMayStart(path=layout.stop_all_file)


def explain_paused_start(layout: Layout) -> str | None:
    """Explain that a worker that was just started claims nothing, and what to remove; None if nothing pauses all workers."""
    path = layout.pause_all_file
    return f"{path} pauses every worker, new ones too, until it is removed" if os.path.lexists(path) else None


def name_running(running: Sequence[WorkerState]) -> str:
    """Say for people which workers run."""
    names = [worker.name for worker in running]
    return f"{name_some(names, _SHOWN)} {'runs' if len(names) == 1 else 'run'}" if names else "no worker runs"


def stop(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Have workers leave before their next job. Returns their names, and an error for each unknown name. Raises CannotUseJar."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        touch(worker.paths.stop_file)
    return [worker.name for worker in workers], errors


def pause(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Have workers claim nothing until unpaused. Returns and raises as `stop`."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        touch(worker.paths.pause_file)
    return [worker.name for worker in workers], errors


def unpause(layout: Layout, names: Iterable[str]) -> tuple[list[str], list[JarError]]:
    """Undo `pause`, also for workers that are not paused. Returns as `stop`. PAUSE_ALL stays, and gives an error too. Raises
    OSError."""
    workers, errors = select_workers(layout, names)
    for worker in workers:
        remove_file(worker.paths.pause_file)
    if os.path.lexists(layout.pause_all_file):
        errors.append(StillPaused(path=layout.pause_all_file))
    return [worker.name for worker in workers], errors


class KillRequest(NamedTuple):
    """What a KILL file says. An empty one, as people make it, kills the job. One with a `message` cancels it, in this attempt.
    One with a `task` kills this task of a chunk, if it runs in this attempt."""

    attempt: int | None = None
    message: str | None = None
    task: int | None = None


class Orders:
    """The orders that control files give a worker.

    On a network disk, `looks` shows when the directory of all workers changed. The files are then looked at once per
    `interval_s`, not before each job, and only if a directory has changed. On a local disk, `looks` is None.
    """

    def __init__(self, layout: Layout, paths: WorkerPaths, interval_s: float, looks: Looks | None) -> None:
        self._layout = layout
        self._paths = paths
        self._interval_s = interval_s
        self._looks = looks
        self._looked_at = float("-inf")
        self._seen = (False, False)
        # When the two directories had last changed at that look; None if another change might not show.
        self._changed_ns: tuple[int, int] | None = None
        # When this worker's own directory had last changed.
        self.own_changed_ns = 0

    def look(self, at_once: bool = False, max_age_s: float | None = None) -> tuple[bool, bool]:
        """Return whether this worker has to leave, and whether it has to pause. On a network disk the answer may be `max_age_s`
        old (None: `interval_s`); with `at_once` it is current."""
        if self._looks is not None:
            now = time.monotonic()
            max_age_s = 0.0 if at_once else self._interval_s if max_age_s is None else max_age_s
            if now - self._looked_at < max_age_s or not self._have_changed(self._looks, max_age_s):
                return self._seen
        # access(2) instead of lexists(): this is called before each job, and raises no exception for a missing file.
        stopped = os.access(self._paths.stop_file, os.F_OK) or os.access(self._layout.stop_all_file, os.F_OK)
        paused = not stopped and (
            os.access(self._paths.pause_file, os.F_OK) or os.access(self._layout.pause_all_file, os.F_OK)
        )
        self._seen = (stopped, paused)
        return self._seen

    def _have_changed(self, looks: Looks, max_age_s: float) -> bool:
        """Whether the control files on a network disk may have changed since the last look. If so, the next access sees them."""
        self._looked_at = time.monotonic()
        # The directory above comes first: over NFS, the path to the other asks for it too.
        all_changed_ns = looks.changed_ns([self._layout.workers], max_age_s)[self._layout.workers]
        own = look_afresh(self._paths.path)
        self.own_changed_ns = own.st_mtime_ns if own is not None else 0
        changed_ns = (self.own_changed_ns, all_changed_ns)
        if changed_ns == self._changed_ns:
            return False
        self._changed_ns = changed_ns if looks.is_settled(changed_ns) else None
        # The look above may have been another process's. Then this process's cache is still old.
        look_afresh(self._layout.workers)
        return True

    def take_kill_request(self, uid: str, job_name: str, attempt: int) -> KillRequest | None:
        """The request to end this running job, if there is one. It is removed. One to cancel this attempt stays until the job has
        ended (`withdraw_cancel`), so that it holds if this worker is killed meanwhile. Programs use the job's id, since a worker
        may hold several jobs of one name. People may use the name."""
        if self._looks is not None:
            look_afresh(self._paths.path)
        for job in (uid, job_name):
            request = read_kill_request(self._paths, job)
            if request is None:
                continue
            if request.message is not None and request.task is None and request.attempt == attempt:
                return request
            with contextlib.suppress(OSError):  # a read-only disk
                os.unlink(self._paths.kill_file(job))
            # A request to cancel is about one attempt: it may come when that has just ended.
            return request if request.attempt in (None, attempt) else None
        return None


def request_kill(layout: Layout, worker: str, job: str) -> None:
    """Ask a worker to kill the job with this id, which it runs. A second request changes nothing. Raises OSError."""
    path = layout.worker(worker).kill_file(job)
    with contextlib.suppress(FileExistsError):
        patiently(lambda: os.close(create_file(path, 0o660)), path)


def request_task_kill(layout: Layout, worker: str, chunk: str, attempt: int, task: int) -> None:
    """Ask a worker to kill a task that it runs in this attempt of the chunk with this id. Raises OSError."""
    text = json.dumps({"attempt": attempt, "message": "", "task": task})
    write_whole(layout.worker(worker).kill_file(chunk), text.encode(), 0o660, syncs=False)


def request_cancel(layout: Layout, worker: str, job: str, attempt: int, message: str) -> None:
    """Ask a worker to end this attempt of the job with this id as cancelled. `message` says who wants that, and why. Raises
    OSError."""
    text = json.dumps({"attempt": attempt, "message": message})
    write_whole(layout.worker(worker).kill_file(job), text.encode(), 0o660, syncs=False)


def withdraw_cancel(layout: Layout, worker: str, job: str) -> None:
    """Remove what `request_cancel` left, because it was done or came too late. Raises OSError."""
    remove_file(layout.worker(worker).kill_file(job))


def cancel_request(paths: WorkerPaths, job: str, attempts: Container[int]) -> str | None:
    """What a request says that one of these attempts of the job with this id is to be cancelled; None if there is none."""
    request = read_kill_request(paths, job)
    is_one = request is not None and request.task is None and request.attempt in attempts
    return request.message if request is not None and is_one else None


def read_kill_request(paths: WorkerPaths, job: str) -> KillRequest | None:
    """The request to end a running job by this id or name, if there is one."""
    path = paths.kill_file(job)
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return None
    except OSError:  # whatever is there gives the order; for a disk that is away, the answer is no
        return KillRequest() if os.path.lexists(path) else None
    with contextlib.suppress(OSError, Unreadable), open(descriptor, "rb") as file:
        if data := file.read(_MOST_BYTES):
            said = parse_document(data, KILL)
            return KillRequest(said["attempt"], said["message"], said.get("task"))
    return KillRequest()


def touch(path: str) -> None:
    """Make a control file. Raises CannotUseJar."""
    try:
        with contextlib.suppress(FileExistsError):  # whatever is there gives the order
            patiently(lambda: os.close(create_file(path, 0o660)), path)
    except OSError as error:
        raise CannotUseJar(action="write", path=path, reason=explain_at(error, path)) from error
