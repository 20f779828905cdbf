"""Find the processes of another user's dead worker that this user may not end. Its jobs stay with it while they run.

In a group's jar any member's recovery may return a dead worker's jobs. Only the worker's user and root may end their processes.
If such a job were returned, it could run twice at once. Reads /proc and the ledger; writes nothing.
"""

from __future__ import annotations

import contextlib
import os

from jobjar.access.access import describe_user, user_of
from jobjar.attempts.tokens_left import holds_jobs
from jobjar.grouped import name_some
from jobjar.layout import Layout
from jobjar.ledger.ask_claiming import attempt_of_worker
from jobjar.ledger.driver import Connection
from jobjar.liveness import process_environment, process_ids, process_start, process_user, session_processes
from jobjar.roster import WorkerState
from jobjar.shared_disk.files import look

_SHOWN = 5


def may_hold_others(worker: WorkerState) -> bool:
    """Whether a dead worker holds jobs whose processes, if there are any, this user may not end. Its directory then keeps its
    path, which those jobs know."""
    return _owner_of(worker) is not None and holds_jobs(worker)


def explain_left_running(connection: Connection, layout: Layout, worker: WorkerState, uids: set[str]) -> dict[str, str]:
    """The jobs of a dead worker that may still run and that this user may not end. For each id, a text that says so and names
    who can. Takes the driver's connection."""
    owner = _owner_of(worker)
    if owner is None:
        return {}
    # What recovery needs to end processes takes a program that only looks a while to import.
    from jobjar.recovery.orphans import can_be_continued

    name = describe_user(owner)
    left: dict[str, str] = {}
    for uid in uids:
        attempt = attempt_of_worker(connection, uid, worker.worker_id)
        if attempt is not None and attempt.outcome is not None:
            continue  # its end was seen
        if can_be_continued(layout, uid):
            continue  # it goes on elsewhere, and its next attempt goes on from there
        if attempt is not None and attempt.pid and process_start(attempt.pid) in (None, attempt.pid_started):
            pids = session_processes(attempt.pid)
        else:
            pids = _hidden_processes(owner, worker.process.started)
        if pids:
            left[uid] = (
                f"it may still run (processes {name_some([str(pid) for pid in pids], _SHOWN)}), and "
                f"{describe_user(os.geteuid())} may not end what {name} runs; "
                f"`recover_jobs` of {name} or root ends and returns it"
            )
    return left


def _owner_of(worker: WorkerState) -> int | None:
    """The user (uid) of a worker of this node, if this user may not end that user's processes; else None."""
    if not worker.is_here or os.geteuid() == 0:
        return None
    known = user_of(worker.user) if worker.user else None
    if known is not None:
        uid = known.uid
    elif worker.user.isdecimal():
        uid = int(worker.user)
    else:
        # This node does not know the login (any more). The worker made its directory; others may have written its worker.json.
        status = look(worker.paths.path)
        if status is None:
            return None
        uid = status.st_uid
    return None if uid == os.geteuid() else uid


def _hidden_processes(uid: int, since: float) -> list[int]:
    """The processes of a user that began after `since` (a process's start as liveness.py gives it), and whose environment this
    user may not read."""
    found = []
    for pid in process_ids():
        with contextlib.suppress(OSError):
            started = process_start(pid)
            if process_user(pid) != uid or started is None or started < since:
                continue
            try:
                process_environment(pid)
            except PermissionError:
                found.append(pid)
    return found
