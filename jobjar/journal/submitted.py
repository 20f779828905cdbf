"""The entries of a submission, by itself or in a batch: the one before the move to unclaimed, and the one of the move.

Reads the moved file's time; writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from jobjar.job_file.names import id_in_name
from jobjar.journal.append import moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import Layout, unclaimed_place
from jobjar.shared_disk.files import disk_time
from jobjar.shared_disk.patience import patiently

# How the reason begins for which a person holds a job. Any other is a fault of its file.
HELD_BY = "held by "


def submitted_entry(
    name: str, category: str, by: str, status: os.stat_result, attributes: Mapping[str, Any], mark: str
) -> Entry:
    """Make the `submitted` entry of a job. Its file, with this status and this mark, is complete in limbo."""
    return {
        "entry": "submitted",
        "job": id_in_name(name),
        "name": name,
        "category": category,
        "submitter": by,
        "submitted_at": disk_time(status),
        "file": mark,
        **attributes,
    }


def first_move_entry(layout: Layout, submitted: Entry) -> Entry:
    """Make the `moved` entry of a job that has just become claimable."""
    name = submitted["name"]
    place = unclaimed_place(submitted["category"], name)
    path = layout.path(place)
    try:
        moved_at = disk_time(patiently(lambda: os.lstat(path), path))
    except OSError:
        moved_at = submitted["submitted_at"]  # a worker was quicker; its claim is the later move
    entry = moved_entry(submitted["job"], 1, f"limbo/{name}", place, moved_at, "submitted", submitted["submitter"])
    begin_at = submitted["given"].get("begin_at", 0) if "given" in submitted else 0
    return {**entry, "not_before": begin_at} if begin_at > moved_at else entry


def held_entry(submitted: Entry) -> Entry:
    """Make the `moved` entry of a job that is submitted into limbo, to be released by a person."""
    place, by = f"limbo/{submitted['name']}", submitted["submitter"]
    more = {"held_reason": f"{HELD_BY}{by}", "category": submitted["category"]}
    begin_at = submitted["given"].get("begin_at", 0)
    if begin_at > submitted["submitted_at"]:
        more["not_before"] = begin_at
    return moved_entry(submitted["job"], 1, place, place, submitted["submitted_at"], "submitted", by, **more)
