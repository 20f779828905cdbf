"""Arrays and tasks as the library has jobs: one outcome for an array, and the fields of a job. Reads the ledger."""

from __future__ import annotations

from typing import Any

from jobjar.attempts.attempt import CANCELLED, FAILED, SUCCEEDED
from jobjar.jar import Jar
from jobjar.ledger.ask_arrays import array_of, chunk_ids
from jobjar.ledger.ask_awaited import BATCH
from jobjar.reports.arrays import describe_array, describe_tasks
from jobjar.reports.targets import Target
from jobjar.selecting.arrays import Tasks

_STATES = {"waiting": "unclaimed", "running": "claimed", "held": "limbo", "dependent": "limbo", "ended": "completed"}


def outcome_of_array(described: dict[str, Any]) -> str | None:
    """The outcome of an array: succeeded if all its tasks have, failed if one did not, cancelled if the others were or never ran;
    None while it has not ended."""
    if described["state"] != "ended":
        return None
    return FAILED if described["failed"] else CANCELLED if described["not_run"] or described["cancelled"] else SUCCEEDED


def join_chunks(jar: Jar, target: Target, outcomes: dict[str, str | None]) -> dict[str, str | None]:
    """The outcomes of what was waited for, with one for each array that was named, instead of those of its chunks."""
    connection = jar.ledger.connection
    for selection in target.selections:
        array = array_of(connection, selection.word or "") if selection.kind == BATCH else None
        if array is not None:
            of_chunks = chunk_ids(connection, array.uid)
            outcomes = {uid: outcome for uid, outcome in outcomes.items() if uid not in of_chunks}
            outcomes[array.uid] = outcome_of_array(describe_array(jar, array))
    return outcomes


def fields_of_tasks(jar: Jar, tasks: Tasks) -> dict[str, Any]:
    """What a job of the library has, of an array or of one task of it."""
    array = describe_array(jar, tasks.array)
    fields = {"name": array["id"], "id": array["id"], "batch": array["id"], "priority": 0, "attempts": [], "moves": []}
    fields |= {"state": _STATES[array["state"]], "submitter": array["submitter"], "submitted_at": array["submitted_at"]}
    if tasks.ranges is None:
        return fields | {"outcome": outcome_of_array(array), "ended_at": array["last_ended_at"]}
    [end] = describe_tasks(jar, tasks.array, [tasks.ranges[0][0]])
    fields |= {"name": end["id"], "id": end["id"], "attempts": end.pop("earlier")}
    if end["state"] == "ended":
        fields |= {name: end[name] for name in ("outcome", "exit_status", "worker", "ended_at")}
        fields |= {"state": _STATES["ended"], "attempts": [*fields["attempts"], end]}
        fields["started_at"] = end["ended_at"] - end["wall_time_s"]
    return fields
