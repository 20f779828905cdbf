"""Make a worker's directory, `workers/<node>.<pid>/`, and record in it and in the journal who the worker is.

The directory is made under another name, `.<node>.<pid>.<mark>.<random>.new` (shared_disk/creating.py), and renamed once it says
whose it is. Two containers may give their workers the same node name and process id, and a rename does not replace a directory
that is not empty. A dead predecessor's directory is set aside first. If a predecessor may live, or if processes of its jobs
remain that this user may not end, the worker is called `<node>.<pid>-2`, or -3 …. A kill midway leaves the other name, which
recovery on this node removes (recovery/tidy.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from typing import Any

from jobjar.attempts.claimed_links import link_worker
from jobjar.errors import NameTaken, WorkerFailed
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.journal.entries import worker_began_entry
from jobjar.layout import Layout, WorkerPaths
from jobjar.liveness import DEAD, ProcessIdentity, sees_processes
from jobjar.recovery.others_processes import may_hold_others
from jobjar.recovery.recover import set_aside
from jobjar.roster import read_worker
from jobjar.settings.layers import heartbeat_interval_s
from jobjar.shared_disk.creating import temporary_path
from jobjar.shared_disk.files import look, make_directory, replace_file
from jobjar.shared_disk.moves import rename_directory
from jobjar.shared_disk.trees import remove_tree
from jobjar.version import VERSION

# With so many silent workers of one name, it is clear that nobody looks after them.
_MOST_NAMESAKES = 100


def choose_worker_name(layout: Layout, identity: ProcessIdentity) -> str:
    """A name for a new worker: `node.pid`, else `node.pid-2`, `node.pid-3` …. No worker that may live has it. Raises OSError,
    WorkerFailed."""
    if not sees_processes():
        reason = (
            "/proc shows the processes of another PID namespace, so that nobody could tell whether this worker lives; "
            "mount that of this one (`unshare --mount-proc`, or `mount -t proc proc /proc`)"
        )
        raise WorkerFailed(reason=reason)
    first = f"{identity.node}.{identity.pid}"
    for number in range(1, _MOST_NAMESAKES + 1):
        name = first if number == 1 else f"{first}-{number}"
        if look(layout.worker(name).path) is None:
            return name
        worker = read_worker(layout, name)
        if worker is not None and worker.alive == DEAD and not may_hold_others(worker):
            return name
    reason = (
        f"there are {_MOST_NAMESAKES} workers called {first} of which it is not known that they ended; give each container a "
        f"name of its own in JJ_NODE, and say which are gone: recover_jobs --worker {first}, and so on"
    )
    raise WorkerFailed(reason=reason)


def make_worker_directory(
    jar: Jar,
    paths: WorkerPaths,
    identity: ProcessIdentity,
    worker_id: str,
    categories: Sequence[str],
    is_storage: bool = False,
    ends_at: float | None = None,
    setup: str = "",
    capacity: dict[str, Any] | None = None,
) -> None:
    """Make a new worker's directory. `ends_at`: when it will end by itself, in UTC epoch seconds. `setup`: the one that it
    was started with.

    Raises NameTaken if another worker took its name meanwhile, OSError."""
    prepared = WorkerPaths(temporary_path(f"{jar.layout.workers}/.{paths.name}"))
    said = {
        "worker": paths.name,
        "worker_id": worker_id,
        "node": identity.node,
        "pid": identity.pid,
        "boot_id": identity.boot_id,
        "process_started": identity.started,
        "pid_namespace": identity.pid_namespace,
        "user": login(),
        "categories": list(categories),
        "version": VERSION,
        "started_at": round(time.time(), 6),
        "heartbeat_time_s": heartbeat_interval_s(jar.settings),
    }
    try:
        for path in (prepared.path, prepared.jobs, prepared.scratch, prepared.output, prepared.discarded_links):
            make_directory(path)
        more: dict[str, Any] = {"is_storage": is_storage, "capacity": capacity}
        more |= {} if ends_at is None else {"ends_at": ends_at}
        more |= _pilot_of_this_process() | ({"setup": setup} if setup else {})
        text = json.dumps({**said, **more}, indent=1) + "\n"
        replace_file(prepared.identity_file, text.encode())
        _set_predecessor_aside(jar, paths)
        _take_name(jar, prepared, paths, worker_id)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(prepared.path)
        raise
    link_worker(jar.layout, paths)
    # The entry comes after the directory: recovery finds the worker by its directory, and journals its end.
    jar.journal.append([worker_began_entry(said, worker_id)])


def _pilot_of_this_process() -> dict[str, str]:
    """The pilot that this process is: its script (pilots/script.py) became this process. A worker that a job starts is none."""
    pid, _, key = os.environ.get("JJ_PILOT", "").partition(" ")
    return {"pilot": key} if key and pid == str(os.getpid()) else {}


def _set_predecessor_aside(jar: Jar, paths: WorkerPaths) -> None:
    predecessor = read_worker(jar.layout, paths.name)
    if predecessor is not None and predecessor.alive == DEAD:
        set_aside(jar, predecessor)


def _take_name(jar: Jar, prepared: WorkerPaths, paths: WorkerPaths, worker_id: str) -> None:
    def is_own() -> bool:
        now = read_worker(jar.layout, paths.name)
        return now is not None and now.worker_id == worker_id

    if not rename_directory(prepared.path, paths.path, is_own):
        raise NameTaken(name=paths.name)
