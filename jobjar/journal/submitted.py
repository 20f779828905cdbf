"""The entry of a submission's move to unclaimed, by itself or in a batch.

Reads the moved file's time; writes nothing.
"""

from __future__ import annotations

from jobjar.journal.entries import moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import Layout, unclaimed_place
from jobjar.shared_disk.files import disk_time, read_status


def first_move_entry(layout: Layout, submitted: Entry) -> Entry:
    """Make the `moved` entry of a job that has just become claimable."""
    name = submitted["name"]
    place = unclaimed_place(submitted["category"], name)
    path = layout.path(place)
    try:
        moved_at = disk_time(read_status(path))
    except OSError:
        moved_at = submitted["submitted_at"]  # a worker was quicker; its claim is the later move
    return moved_entry(submitted["job"], 1, f"limbo/{name}", place, moved_at, "submitted", submitted["submitter"])
