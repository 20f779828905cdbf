"""Cancel waiting jobs: they complete without a run, with outcome `cancelled`, and stay in the history.

Rename the job's file out of unclaimed, into the change's directory in limbo: either this or a worker gets it. Then
stages/complete_without_run.py completes it. A kill midway leaves the file in unclaimed, or in that directory; the next process
that finishes the change goes on with it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.layout import TAKEN, unclaimed_place
from jobjar.ledger.ask_batch_jobs import WaitingJob
from jobjar.shared_disk.files import make_directory, rename
from jobjar.shared_disk.trees import remove_empty_directories
from jobjar.stages.complete_without_run import Cancellation, TakenJob, complete_cancelled


def take_waiting(jar: Jar, jobs: Sequence[WaitingJob], directory: str) -> int:
    """Take waiting jobs out of unclaimed, unless a worker has claimed them meanwhile. Returns how many. Raises OSError."""
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
    """The jobs that were taken and are not completed yet: for each its path, and the place that it had."""
    found = []
    root = f"{directory}/{TAKEN}"
    for path, _, names in os.walk(root):
        category = os.path.relpath(path, root)
        for name in sorted(names):
            found.append((f"{path}/{name}", unclaimed_place("" if category == "." else category, name)))
    return found


def complete_taken(jar: Jar, jobs: Sequence[tuple[str, WaitingJob]], change_id: str, by: str, message: str) -> int:
    """Complete jobs that were taken, each given by its path and its ledger row. Returns how many. Raises OSError."""
    order = Cancellation(change_id, by, message, f"{node_name()}.{os.getpid()}")
    taken = [
        TakenJob(path, job.name, job.uid, job.place, job.category, job.attempts, job.move_number, job.moved_at)
        for path, job in jobs
    ]
    return complete_cancelled(jar, order, taken)


def remove_taken(directory: str) -> None:
    """Remove the directories of a change whose jobs are all completed."""
    remove_empty_directories(f"{directory}/{TAKEN}")
    with contextlib.suppress(OSError):
        os.rmdir(directory)
