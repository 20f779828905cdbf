"""Queues of pilots and their pilots, as data and as tables. Reads the ledger, which the caller brings up to date; writes
nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jobjar.jar import Jar
from jobjar.ledger.ask_pilots import PilotQueueRow, PilotRow, pilot_queues, pilots_of
from jobjar.reports.listing import iso_time
from jobjar.reports.tables import format_table
from jobjar.units import format_seconds

STATES = ("intended", "waiting", "running")


def describe_queues(jar: Jar) -> list[dict[str, Any]]:
    """All queues of pilots: what they submit, how many pilots are out, and why they are paused."""
    with jar.ledger.reading() as connection:
        return [_describe(row, pilots_of(connection, row.name)) for row in pilot_queues(connection)]


def describe_queue(jar: Jar, name: str, ended: int) -> dict[str, Any] | None:
    """A queue, with its pilots and the last `ended` of those that have ended; None if there is none."""
    with jar.ledger.reading() as connection:
        row = next((row for row in pilot_queues(connection) if row.name == name), None)
        if row is None:
            return None
        added_at = json.loads(row.plan or "{}").get("added_at", 0.0)
        pilots = pilots_of(connection, name, ended, added_at)
    return {**_describe(row, pilots), "pilots": [_describe_pilot(pilot) for pilot in pilots]}


def _describe(row: PilotQueueRow, pilots: Sequence[PilotRow]) -> dict[str, Any]:
    plan = json.loads(row.plan or "{}")
    state = "removed" if row.removed_at is not None else "paused" if row.paused_at is not None else "active"
    return {
        "name": row.name,
        "system": row.system,
        "state": state,
        "categories": plan.get("categories", []),
        "time_s": plan.get("time_s"),
        "max": plan.get("most"),
        "backlog": plan.get("backlog"),
        "idle_exit_s": plan.get("idle_exit_s"),
        "cores": plan.get("cores") or None,
        "memory_mib": plan.get("memory_mib") or None,
        "gpus": plan.get("gpus") or None,
        "options": plan.get("options", []),
        "before": plan.get("before", []),
        **{name: sum(pilot.state == name for pilot in pilots) for name in STATES},
        "failures_in_a_row": row.failures,
        "last_failure": row.said or None,
        "paused_at": iso_time(row.paused_at),
        "paused_by": row.paused_by,
        "paused_why": row.paused_why,
    }


def _describe_pilot(pilot: PilotRow) -> dict[str, Any]:
    times = ("intended_at", "since", "submitted_at", "started_at", "ended_at")
    said = {name: value for name, value in pilot._asdict().items() if name not in ("queue", "revision")}
    return said | {name: iso_time(said[name]) for name in times}


def format_queues(described: Sequence[Mapping[str, Any]], table_format: str) -> str:
    """A table of queues."""
    rows = [
        [
            one["name"],
            one["system"],
            one["state"],
            " ".join(one["categories"]) or "-",
            one["waiting"] + one["intended"],
            one["running"],
            one["max"],
            format_seconds(one["time_s"] or 0),
            one["paused_why"] or one["last_failure"] or "",
        ]
        for one in described
    ]
    headers = ("pilots", "system", "state", "categories", "waiting", "running", "max", "time", "why")
    return format_table(rows, headers, table_format)


def format_queue(one: Mapping[str, Any], table_format: str) -> str:
    """What a queue is, and a table of its pilots."""
    said = [
        ("pilots", one["name"]),
        (
            "state",
            one["state"] + (f" since {one['paused_at']}: {one['paused_why']}" if one["state"] == "paused" else ""),
        ),
        ("system", one["system"]),
        ("categories", " ".join(one["categories"]) or "uncategorized jobs alone"),
        ("each for", format_seconds(one["time_s"] or 0)),
        ("at most", f"{one['max']}, of which {one['backlog']} wait"),
        ("leave when idle for", format_seconds(one["idle_exit_s"] or 0)),
        *((name, one[name]) for name in ("cores", "memory_mib", "gpus") if one[name]),
        *([("options", shlex.join(one["options"]))] if one["options"] else []),
        *[("before", line) for line in one["before"]],
    ]
    if one["failures_in_a_row"]:
        said.append(("failed in a row", f"{one['failures_in_a_row']}; the last {one['last_failure']}"))
    width = max(len(name) for name, _ in said)
    lines = [f"{name:{width}}  {value}" for name, value in said]
    rows = [
        [
            pilot["number"],
            pilot["system_id"] or "-",
            pilot["state"] if pilot["state"] != "ended" else pilot["end_reason"] or "ended",
            pilot["since"],
            pilot["on_node"] or "",
            pilot["worker"] or "",
            pilot["message"] or pilot["reason"] or "",
        ]
        for pilot in one["pilots"]
    ]
    if rows:
        headers = ("pilot", "id", "state", "since", "node", "worker", "why")
        lines += ["", format_table(rows, headers, table_format)]
    return "\n".join(lines)
