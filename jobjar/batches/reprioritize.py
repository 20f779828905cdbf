"""Give waiting jobs another priority, which is part of their names. For each: one rename within unclaimed, then `moved`.

A kill between the two leaves the job with its new name, and reconciliation knows it by the id in that name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from jobjar.jar import Jar
from jobjar.journal.entries import moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import unclaimed_place
from jobjar.ledger.ask_batch_jobs import WaitingJob
from jobjar.shared_disk.clock import moved_time
from jobjar.shared_disk.moves import move_to_free_name


def reprioritize(jar: Jar, jobs: Sequence[WaitingJob], priority: int, by: str) -> int:
    """Rename the jobs that still wait and have another priority. Returns how many. Raises OSError."""
    entries: list[Entry] = []
    try:
        for job in jobs:
            if job.priority != priority:
                with contextlib.suppress(FileNotFoundError):  # a worker was quicker
                    entries.append(_rename(jar, job, priority, by))
    finally:
        with contextlib.suppress(OSError):  # a scan finds the moves that could not be journaled
            jar.journal.append(entries)
    return len(entries)


def _rename(jar: Jar, job: WaitingJob, priority: int, by: str) -> Entry:
    stem = job.name.rpartition(".")[0] or job.name
    directory = jar.layout.category_directory(job.category)
    name = move_to_free_name(jar.layout.path(job.place), directory, f"{stem}.{priority}")
    # If a worker has claimed it already, that claim is the later move.
    moved_at = moved_time(f"{directory}/{name}", job.moved_at)
    place = unclaimed_place(job.category, name)
    return moved_entry(job.uid, job.move_number + 1, job.place, place, moved_at, "reprioritized", by)
