"""Cancel waiting jobs: they complete without being run, with outcome `cancelled`, and stay in the history.

As a worker claims: rename the job's file out of unclaimed, into the change's directory in limbo (of a worker and this, one
gets it); journal `ended` (cancelled, final); rename it to completed (the commit); journal `moved`. Killed midway, the
file is still waiting, or it is in that directory, and the next who finishes the change goes on with it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from jobjar.attempts.attempt import CANCELLED
from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.journal.read import Entry
from jobjar.layout import TAKEN, unclaimed_place
from jobjar.ledger.ask_batch_jobs import WaitingJob
from jobjar.shared_disk.files import disk_time, make_directory, read_disk_clock, rename
from jobjar.shared_disk.moves import move_to_free_name
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.trees import remove_empty_directories


def take_waiting(jar: Jar, jobs: Sequence[WaitingJob], directory: str) -> int:
    """Take jobs that wait out of unclaimed, where nobody has claimed them meanwhile; returns how many. Raises OSError."""
    taken = 0
    for job in jobs:
        target = f"{directory}/{TAKEN}/{job.category}" if job.category else f"{directory}/{TAKEN}"
        for path in (directory, f"{directory}/{TAKEN}", target):
            with contextlib.suppress(FileExistsError):
                make_directory(path, 0o777 & ~jar.umask)
        with contextlib.suppress(FileNotFoundError):  # a worker was quicker
            rename(jar.layout.path(job.place), f"{target}/{job.name}")
            taken += 1
    return taken


def list_taken(directory: str) -> list[tuple[str, str]]:
    """(path, the place that it had) of the jobs that were taken and are not completed yet."""
    found = []
    root = f"{directory}/{TAKEN}"
    for path, _, names in os.walk(root):
        category = os.path.relpath(path, root)
        for name in sorted(names):
            found.append((f"{path}/{name}", unclaimed_place("" if category == "." else category, name)))
    return found


def complete_taken(jar: Jar, jobs: Sequence[tuple[str, WaitingJob]], change_id: str, by: str, message: str) -> int:
    """Complete jobs that were taken: (path, what is known of the job) each; returns how many. Raises OSError."""
    now = read_disk_clock(jar.layout.clock_file(node_name()))
    ended = [
        {
            "entry": "ended",
            "job": job.uid,
            "attempt": job.attempts + 1,
            "worker": f"{node_name()}.{os.getpid()}",
            "worker_uid": change_id,
            "ended_at": round(now, 6),
            "final": True,
            "outcome": CANCELLED,
            "message": message,
        }
        for _, job in jobs
    ]
    jar.journal.append(ended, durable=jar.ledger_home.has_other_homes)
    moved: list[Entry] = []
    try:
        for path, job in jobs:
            with contextlib.suppress(FileNotFoundError):  # another who finishes this change was quicker
                moved.append(_complete(jar, path, job, by))
    finally:
        with contextlib.suppress(OSError):  # what could not be journaled a look at completed/ will find
            jar.journal.append(moved)
    return len(moved)


def _complete(jar: Jar, path: str, job: WaitingJob, by: str) -> Entry:
    name = move_to_free_name(path, jar.layout.completed, job.name)  # COMMIT: from here the job is completed
    completed = f"{jar.layout.completed}/{name}"
    try:
        moved_at = disk_time(patiently(lambda: os.lstat(completed), completed))
    except OSError:
        moved_at = job.moved_at  # archived already, or the disk is away
    return {
        "entry": "moved",
        "job": job.uid,
        "number": job.move_number + 1,
        "from": job.place,
        "to": f"completed/{name}",
        "moved_at": moved_at,
        "reason": "cancelled",
        "by": by,
        "category": job.category,
    }


def remove_taken(directory: str) -> None:
    """Remove the directories of a change whose jobs are all completed."""
    remove_empty_directories(f"{directory}/{TAKEN}")
    with contextlib.suppress(OSError):
        os.rmdir(directory)
