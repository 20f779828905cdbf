"""The entry of a submission's move to unclaimed, by itself or in a batch.

Reads the moved file's time; writes nothing.
"""

from __future__ import annotations

from jobjar.journal.entries import MoreOfMove, moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import Layout, unclaimed_place
from jobjar.shared_disk.clock import moved_time

# How the reason begins for which a person holds a job. Any other is a fault of its file.
HELD_BY = "held by "


def is_held_by_person(reason: str | None) -> bool:
    """Whether a person holds a job, and no fault of its file."""
    return (reason or "").startswith(HELD_BY)


def first_move_entry(layout: Layout, submitted: Entry) -> Entry:
    """Make the `moved` entry of a job that has just become claimable."""
    name = submitted["name"]
    place = unclaimed_place(submitted["category"], name)
    # If a worker was quicker, its claim is the later move.
    moved_at = moved_time(layout.path(place), submitted["submitted_at"])
    more, by = _when_it_may_begin(submitted, moved_at), submitted["submitter"]
    return moved_entry(submitted["job"], 1, f"limbo/{name}", place, moved_at, "submitted", by, **more)


def held_entry(submitted: Entry) -> Entry:
    """Make the `moved` entry of a job that is submitted into limbo, to be released by a person."""
    place, by = f"limbo/{submitted['name']}", submitted["submitter"]
    at = submitted["submitted_at"]
    more: MoreOfMove = {"held_reason": f"{HELD_BY}{by}", "category": submitted["category"]}
    more |= _when_it_may_begin(submitted, at)
    return moved_entry(submitted["job"], 1, place, place, at, "submitted", by, **more)


def _when_it_may_begin(submitted: Entry, moved_at: float) -> MoreOfMove:
    begin_at = submitted["given"].get("begin_at", 0) if "given" in submitted else 0
    return {"not_before": begin_at} if begin_at > moved_at else {}
