"""Complete jobs that were taken out of where they waited, to be cancelled: without a run, with outcome `cancelled`.

Whoever cancels has renamed their files into a directory of its own; so neither a worker nor a scan meets them. Here `ended`
(cancelled, final) is journaled, then each file is renamed to completed (the commit), then `moved` is journaled. A kill midway
leaves files in that directory: recovery (recovery/cancelling.py), or the next process that finishes a batch's change, calls
this again. The attempt's key is the order's id, so both journal the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from jobjar.attempts.attempt import CANCELLED
from jobjar.jar import Jar
from jobjar.journal.entries import About, ended_entry, moved_entry
from jobjar.journal.read import Entry
from jobjar.shared_disk.clock import moved_time
from jobjar.shared_disk.moves import move_to_free_name


class Cancellation(NamedTuple):
    """What cancels jobs: a person's call, or a change of a batch. Its id, the user, what is said of each job, and the process, as
    its attempts have it."""

    id: str
    by: str
    message: str
    worker: str


class TakenJob(NamedTuple):
    """A job that was taken: where its file is now, the name that it gets, and what is known of it. `attempts` is the number of
    those that it has had."""

    path: str
    name: str
    uid: str
    place: str
    category: str
    attempts: int
    move_number: int
    moved_at: float


def complete_cancelled(
    jar: Jar, order: Cancellation, jobs: Sequence[TakenJob], before: Sequence[Entry] = (), is_durable: bool = False
) -> int:
    """Complete jobs that were taken. The entries `before` are journaled first; with `is_durable` all of them outlive this node.
    Returns how many were completed here: another process may be quicker. Raises OSError."""
    now = jar.disk_now()
    abouts = [About(job.uid, job.attempts + 1, order.worker, order.id) for job in jobs]
    ended = [ended_entry(about, now, True, CANCELLED, message=order.message) for about in abouts]
    jar.journal.append([*before, *ended], durable=is_durable or jar.ledger_home.has_other_homes)
    by_directory: dict[str, list[TakenJob]] = {}
    for job in jobs:
        by_directory.setdefault(os.path.dirname(job.path), []).append(job)
    moved: list[Entry] = []
    try:
        for path, some in by_directory.items():
            # Another process that finishes this may be quicker: with a job, or with all and their directory.
            with (
                contextlib.suppress(FileNotFoundError),
                jar.directory(os.path.relpath(path, jar.layout.home)) as source,
                jar.directory("completed") as target,
            ):
                for job in some:
                    with contextlib.suppress(FileNotFoundError):
                        moved.append(_complete(order, job, source, target))
    finally:
        with contextlib.suppress(OSError):  # reconciliation with completed/ finds the moves
            jar.journal.append(moved, durable=is_durable)
    return len(moved)


def _complete(order: Cancellation, job: TakenJob, source: str, target: str) -> Entry:
    """Complete a job that was taken. `source` and `target` are the directories that it leaves and gets into."""
    # COMMIT: from here the job is completed
    name = move_to_free_name(f"{source}/{os.path.basename(job.path)}", target, job.name)
    moved_at = moved_time(f"{target}/{name}", job.moved_at)
    number, place = job.move_number + 1, f"completed/{name}"
    return moved_entry(job.uid, number, job.place, place, moved_at, "cancelled", order.by, category=job.category)
