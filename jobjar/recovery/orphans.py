"""End the processes that a dead worker left, and remove what it left below `underway/`, unless its jobs go on from that.

A described job whose state.json says that it was submitted elsewhere goes on there. Its processes that left their session are
not touched, and the worker that claims the job next polls it. After a kill midway the next recovery does the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

from jobjar.described.store import is_kept, keep_published
from jobjar.jar import Jar
from jobjar.layout import Layout
from jobjar.ledger.ask_claiming import attempt_of_worker, completed_among, stored_names
from jobjar.ledger.pieces import in_pieces
from jobjar.ledger.reconcile_jar import PIECE
from jobjar.liveness import processes_of_jobs
from jobjar.processes.ending import end_session
from jobjar.publishing.underway import (
    STORE,
    attempt_directory,
    find_state,
    published_directory,
    remove_underway,
    state_directory,
)
from jobjar.recovery.kept import journal_kept_underway
from jobjar.roster import WorkerState
from jobjar.shared_disk.files import look, look_afresh
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.trees import Kept, remove_tree

# For a job that goes on elsewhere, only the processes of these phases are ended.
_ENDED_PHASES = frozenset(("poll", "stage_out", "store"))


def end_orphans(jar: Jar, worker: WorkerState, uids: set[str], log: Callable[[str], None]) -> None:
    """End the processes that a dead worker's attempts left, because a job must not run twice at once."""
    if not uids:
        return  # to look at all processes takes a while
    grace_time_s = jar.settings.grace_time_s
    elsewhere = {uid for uid in uids if can_be_continued(jar.layout, uid)}
    with jar.ledger.writing() as connection:
        # If the worker was on another machine or in another container, its process ids mean nothing here.
        known = uids - elsewhere if worker.is_here else set()
        attempts = [attempt_of_worker(connection, uid, worker.worker_id) for uid in known]
    for attempt in attempts:
        if attempt is None or not attempt.pid or not attempt.pid_started or attempt.outcome is not None:
            continue
        if end_session(attempt.pid, grace_time_s, lambda: None, attempt.pid_started):
            log(f"{worker.name}: ended the orphaned session {attempt.pid}")
    # A worker killed before it recorded a process left no id of it. The process's environment shows its worker and job.
    found = processes_of_jobs(worker.worker_id, uids - elsewhere)
    if elsewhere:
        found += processes_of_jobs(worker.worker_id, elsewhere, _ENDED_PHASES)
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == os.getsid(0):
                continue  # an orphaned job that runs recover_jobs itself
            if not end_session(os.getsid(pid), grace_time_s, lambda: None):
                os.kill(pid, signal.SIGKILL)
            log(f"{worker.name}: ended the orphaned process {pid}")


def can_be_continued(layout: Layout, uid: str) -> bool:
    """Whether an attempt of this job was submitted elsewhere, or has published its outputs. The next attempt goes on from
    that."""
    return find_state(layout, uid) is not None


def usage_until_published(layout: Layout, uid: str, attempt: int, worker_uid: str) -> dict[str, Any]:
    """The time and usage of an attempt up to the publication of its outputs, as fields of its `ended` entry. Empty if it did not
    publish them."""
    state = find_state(layout, uid)
    if state is None or state.phase != STORE or (state.attempt, state.worker_uid) != (attempt, worker_uid):
        return {}
    names = ("wall_time_s", "user_cpu_s", "system_cpu_s", "max_rss_kib")
    return {name: value for name in names if (value := getattr(state, name)) is not None}


def remove_attempt(layout: Layout, uid: str, attempt: int, worker_uid: str) -> list[Kept]:
    """Remove a dead worker's attempt below underway/, unless it is kept for people or a later attempt goes on from it. Returns
    what could not be removed."""
    path = attempt_directory(layout, uid, attempt, worker_uid)
    state = find_state(layout, uid)
    if is_kept(path) or (state is not None and state_directory(layout, state) == path):
        return []
    kept = remove_tree(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))
    return kept


def _keep_unstored(layout: Layout, uid: str, stored: set[str], log: Callable[[str], None]) -> None:
    """Keep a completed job's published files for people, if it was completed before all of them were stored (it was cancelled,
    say). Raises OSError if that cannot be noted; nothing is removed then."""
    state = find_state(layout, uid)
    if state is None or state.phase != STORE or all(file.name in stored for file in state.files):
        return
    directory = state_directory(layout, state)
    if not is_kept(directory):
        why = f"its job, {state.name}, was completed before these files were stored"
        keep_published(directory, why)
        log(f"{published_directory(directory)} stays: {why}; copy what you need of it, and remove {directory}")


def tidy_underway(jar: Jar, log: Callable[[str], None]) -> None:
    """Remove what completed jobs have below underway/."""
    found = [entry.name for entry in list_directory(jar.layout.underway)]
    if not found:
        return
    completed: list[tuple[str, str]] = []
    stored: dict[str, set[str]] = {}
    for some in in_pieces(found, PIECE):
        with jar.ledger.writing() as connection:
            of_piece = completed_among(connection, some)
            stored.update({uid: stored_names(connection, uid) for uid, _ in of_piece})
        completed += of_piece
    for uid, place in completed:
        path = jar.layout.path(place)
        look_afresh(os.path.dirname(path))
        # This look comes after underway/ was listed: a person may have moved the job out of completed/ to run again.
        if look(path) is None:
            continue
        base = f"{jar.layout.underway}/{uid}"
        _keep_unstored(jar.layout, uid, stored[uid], log)
        if not any(is_kept(entry.path) for entry in list_directory(base)):
            kept = remove_underway(jar.layout, uid)
            journal_kept_underway(jar, uid, kept, log)
            if not kept:
                log(f"removed underway/{uid}: its job is completed")
