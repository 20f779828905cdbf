"""The entry of a submission's move to unclaimed, by itself or in a batch.

Reads the moved file's time; writes nothing.
"""

from __future__ import annotations

from jobjar.journal.entries import MoreOfMove, moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import Layout, unclaimed_place
from jobjar.shared_disk.files import disk_time, read_status

# How the reason begins for which a person holds a job. Any other is a fault of its file.
HELD_BY = "held by "


def is_held_by_person(reason: str | None) -> bool:
    """Whether a person holds a job, and no fault of its file."""
    return (reason or "").startswith(HELD_BY)


def first_move_entry(layout: Layout, submitted: Entry) -> Entry:
    """Make the `moved` entry of a job that has just become claimable."""
    name = submitted["name"]
    place = unclaimed_place(submitted["category"], name)
    path = layout.path(place)
    try:
        moved_at = disk_time(read_status(path))
    except OSError:
        moved_at = submitted["submitted_at"]  # a worker was quicker; its claim is the later move
    entry = moved_entry(submitted["job"], 1, f"limbo/{name}", place, moved_at, "submitted", submitted["submitter"])
    begin_at = submitted["given"].get("begin_at", 0) if "given" in submitted else 0
    return {**entry, "not_before": begin_at} if begin_at > moved_at else entry


def held_entry(submitted: Entry) -> Entry:
    """Make the `moved` entry of a job that is submitted into limbo, to be released by a person."""
    place, by = f"limbo/{submitted['name']}", submitted["submitter"]
    more: MoreOfMove = {"held_reason": f"{HELD_BY}{by}", "category": submitted["category"]}
    begin_at = submitted["given"].get("begin_at", 0)
    if begin_at > submitted["submitted_at"]:
        more["not_before"] = begin_at
    return moved_entry(submitted["job"], 1, place, place, submitted["submitted_at"], "submitted", by, **more)
