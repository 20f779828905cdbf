"""The links in claimed/, which show people the jobs that run: to which job each leads.

Nodes may have mounted the disk at different paths, and earlier releases wrote absolute links; so what a link says is read as a
place in the jar, and never followed. Reads; writes nothing.
"""

from __future__ import annotations

import os

from jobjar.disk import link_target, look
from jobjar.layout import Layout, held_place


def target_in_claimed(layout: Layout, path: str) -> str:
    """What a link in claimed/ has to say to lead to `path`, wherever a node has mounted the jar."""
    if path.startswith(f"{layout.home}/"):
        return f"../{path[len(layout.home) + 1 :]}"
    return os.path.relpath(os.path.realpath(path), os.path.realpath(layout.claimed))


def linked_place(layout: Layout, link: str) -> str | None:
    """The place of the job that a link in claimed/ leads to; None where it leads to none (any more). Raises OSError."""
    try:
        text = os.readlink(link)
    except FileNotFoundError:
        return None
    place = _read_place(text)
    if place is None:
        # Made by a hand.
        target = link_target(link)
        place = None if target is None else _read_place(target)
    return place if place is not None and look(layout.path(place)) is not None else None


def _read_place(text: str) -> str | None:
    """The place that a link means: `.rain.7/LINUX/x.5`, or a path that ends with `rain.7/jobs/LINUX/x.5`."""
    parts = text.split("/")
    if parts[0].startswith(".") and parts[0] not in (".", "..") and len(parts) in (2, 3):
        worker, inner = parts[0][1:], parts[1:]
    elif len(parts) >= 4 and parts[-3] == "jobs":
        worker, inner = parts[-4], parts[-2:]
    elif len(parts) >= 3 and parts[-2] == "jobs":
        worker, inner = parts[-3], parts[-1:]
    else:
        return None
    return held_place(worker, inner[0] if len(inner) == 2 else "", inner[-1])
