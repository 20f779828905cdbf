"""Make a worker's directory, `workers/<node>.<pid>/`, and say in it and in the journal who the worker is.

What a predecessor of the same process id left is set aside first. Killed midway, the directory has no worker.json yet:
nothing can be in it, and recovery on this node removes it (tidy.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence

from jobjar.disk import look, make_directory, replace_file
from jobjar.jar import Jar
from jobjar.jobname import login, node_name
from jobjar.layout import WorkerPaths
from jobjar.lease import heartbeat_interval_s
from jobjar.liveness import ProcessIdentity
from jobjar.patience import patiently
from jobjar.recover import set_aside
from jobjar.version import VERSION


def asked_categories(named: Sequence[str], is_storage: bool = False) -> tuple[str, ...]:
    """The categories that a worker asks, in order: its node's, those named, the uncategorized jobs (guide); of a storage
    worker those named alone."""
    if is_storage:
        return tuple(dict.fromkeys(named))
    return tuple(dict.fromkeys((node_name(), *named, "")))


def make_worker_directory(
    jar: Jar,
    paths: WorkerPaths,
    identity: ProcessIdentity,
    worker_id: str,
    categories: Sequence[str],
    is_storage: bool = False,
) -> None:
    """Make the directory of a worker that starts. Raises OSError."""
    if look(paths.path) is not None:
        set_aside(jar, paths)
    for path in (paths.path, paths.jobs, paths.scratch, paths.output, paths.spent_links):
        make_directory(path)
    alias = jar.layout.claimed_alias(paths.name)
    with contextlib.suppress(FileExistsError):  # a predecessor's, which leads to the same place
        patiently(lambda: os.symlink(paths.jobs, alias), alias)
    said = {
        "worker": paths.name,
        "worker_id": worker_id,
        "node": identity.node,
        "pid": identity.pid,
        "boot_id": identity.boot_id,
        "process_started": identity.started,
        "user": login(),
        "categories": list(categories),
        "version": VERSION,
        "started_at": round(time.time(), 6),
        "heartbeat_time_s": heartbeat_interval_s(jar.settings),
    }
    # First the file: whom it names recovery finds, and journals the end of.
    replace_file(paths.identity_file, (json.dumps({**said, "is_storage": is_storage}, indent=1) + "\n").encode())
    jar.journal.append([{**said, "entry": "worker", "worker_uid": worker_id, "worker_id": None}])
