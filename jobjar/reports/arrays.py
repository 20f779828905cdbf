"""What is known of arrays and of their tasks, for people, and what the tasks wrote.

Reads the ledger and the output files of chunks, below the jar without following a link; writes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from jobjar.jar import Jar
from jobjar.ledger import ask_arrays
from jobjar.ledger.ask_arrays import (
    ArrayRow,
    TaskEnd,
    array_of,
    chunks_by_state,
    ends_of_tasks,
    failures_by_status,
    other_ends_of_task,
    submission_of,
)
from jobjar.reports.jobs import open_output, path_in_worker
from jobjar.reports.tables import format_table
from jobjar.selecting.arrays import Tasks
from jobjar.shared_disk.contents import is_name
from jobjar.units import format_rate, format_seconds

_PIECE_BYTES = 1 << 20
_LISTED_S, _LONGEST_COMMAND = 86400.0, 40


def describe_array(jar: Jar, array: ArrayRow) -> dict[str, Any]:
    """All that is known of an array, as JSON has it. Times are UTC epoch seconds. `state` is waiting, running, ended, or held."""
    chunks = chunks_by_state(jar.ledger.connection, array.uid)
    waiting, running, held = (chunks.get(state, 0) for state in ("unclaimed", "claimed", "limbo"))
    state = "running" if running else "waiting" if waiting else "held" if held else "ended"
    ended = array.succeeded + array.failed
    tasks = array.tasks or ended
    rate = _rate(array)
    submitted = submission_of(jar.ledger.connection, array.uid)
    return {
        "id": array.uid,
        "state": state,
        "command": submitted.command,
        "indexes": f"{array.first}-{array.last}" + (f":{array.step}" if array.step not in (None, 1) else ""),
        "tasks": tasks,
        "succeeded": array.succeeded,
        "failed": array.failed,
        "not_run": tasks - ended if state == "ended" else 0,
        "left": 0 if state == "ended" else tasks - ended,
        "rate_per_s": None if rate is None else round(rate, 3),
        "left_s": round((tasks - ended) / rate, 3) if rate and state == "running" and ended < tasks else None,
        "submitter": submitted.submitter,
        "submitted_at": submitted.submitted_at,
        "first_ended_at": _seconds(array.first_ended_ms),
        "last_ended_at": _seconds(array.last_ended_ms),
        "chunks": {"waiting": waiting, "running": running, "held": held, "ended": chunks.get("completed", 0)},
        "failures": [
            {"outcome": outcome, "status": status, "tasks": count, "first": number}
            for outcome, status, count, number in failures_by_status(jar.ledger.connection, array.id)
        ],
    }


def list_arrays(jar: Jar, states: Collection[str] = ()) -> list[dict[str, Any]]:
    """The arrays that have not ended, or ended within the last day, as `describe_array` has them, the newest first; only those in
    these states, if there are any."""
    since_ms = int((time.time() - _LISTED_S) * 1000)
    listed = [describe_array(jar, array) for array in ask_arrays.list_arrays(jar.ledger.connection, since_ms)]
    return [array for array in listed if not states or array["state"] in states]


def format_arrays(arrays: Sequence[dict[str, Any]], table_format: str = "simple") -> str:
    """Arrays as a table, a line each."""
    rows = []
    for array in arrays:
        ended = array["succeeded"] + array["failed"]
        rate = array["rate_per_s"] if array["state"] == "running" else None
        left = array["left_s"]
        rows.append(
            (
                array["id"],
                array["state"],
                f"{ended:,} of {array['tasks']:,}",
                f"{array['failed']:,}" if array["failed"] else "",
                "" if rate is None else format_rate(rate),
                "" if left is None else format_seconds(left),
                (array["command"] or "")[:_LONGEST_COMMAND],
            )
        )
    return format_table(rows, ("array", "state", "tasks ended", "failed", "rate", "left", "command"), table_format)


def describe_if_array(jar: Jar, batch: str) -> dict[str, Any] | None:
    """`describe_array` of a batch that is an array; else None."""
    array = array_of(jar.ledger.connection, batch)
    return None if array is None else describe_array(jar, array)


def _rate(array: ArrayRow) -> float | None:
    """How many tasks ended per second, from the first end to the last; None without two ends."""
    if array.first_ended_ms is None or array.last_ended_ms is None or array.last_ended_ms <= array.first_ended_ms:
        return None
    return (array.succeeded + array.failed - 1) * 1000 / (array.last_ended_ms - array.first_ended_ms)


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def format_array(described: dict[str, Any]) -> str:
    """An array in a sentence: `q5n4dt2sq77v: 812,331 of 1,000,000 tasks have ended, 14 of them failed; 3,200/s; 1 m left`."""
    ended = described["succeeded"] + described["failed"]
    if described["state"] == "ended" and not described["failed"] and not described["not_run"]:
        took = ""
        if described["last_ended_at"] is not None and described["submitted_at"] is not None:
            took = f" in {format_seconds(described['last_ended_at'] - described['submitted_at'])}"
        return f"{described['id']}: all {described['tasks']:,} tasks have succeeded{took}"
    parts = [f"{described['id']}: {ended:,} of {described['tasks']:,} tasks have ended"]
    if described["failed"]:
        parts[0] += f", {described['failed']:,} of them failed"
    if described["not_run"]:
        parts.append(f"{described['not_run']:,} were cancelled before they ran")
    elif described["state"] != "ended":
        parts.append({"running": "it runs", "waiting": "it waits", "held": "it is held"}[described["state"]])
    if described["state"] == "running" and described["rate_per_s"]:
        parts.append(format_rate(described["rate_per_s"]))
        if described["left_s"]:
            parts.append(f"about {format_seconds(described['left_s'])} left")
    return "; ".join(parts)


def describe_task(jar: Jar, array: ArrayRow, number: int) -> dict[str, Any]:
    """All that is known of a task, as JSON has it."""
    ends = list(ends_of_tasks(jar.ledger.connection, array.id, number, number))
    others = other_ends_of_task(jar.ledger.connection, array.id, number)
    return {
        "id": f"{array.uid}[{number}]",
        "state": "ended" if ends else "not ended",
        **(_describe_end(jar, ends[0]) if ends else {}),
        "earlier": [_describe_end(jar, end) for end in others],
    }


def _describe_end(jar: Jar, end: TaskEnd) -> dict[str, Any]:
    status = end.status
    return {
        "outcome": end.outcome,
        "exit_status": status if status is not None and status >= 0 else None,
        "signal": -status if status is not None and status < 0 else None,
        "ended_at": end.ended_ms / 1000,
        "wall_time_s": end.wall_us / 1e6,
        "user_cpu_s": end.user_us / 1e6,
        "system_cpu_s": end.system_us / 1e6,
        "max_rss_kib": end.max_rss_kib,
        "message": end.message,
        "chunk": end.chunk,
        "attempt": end.attempt,
        "worker": end.worker,
        "output_path": _output_path(jar, end),
        "output_offset": end.offset,
        "output_bytes": end.length,
    }


def _output_path(jar: Jar, end: TaskEnd) -> str | None:
    if (
        not end.length
        or end.output_file is None
        or not all(map(is_name, (end.worker, end.worker_uid, end.output_file)))
    ):
        return None
    return path_in_worker(jar, end.worker, end.worker_uid, end.output_file)


def find_ends(jar: Jar, tasks: Tasks, only_failed: bool = False) -> Iterator[TaskEnd]:
    """The ends of the tasks that a word names, by index."""
    array = tasks.array
    for first, last in tasks.ranges or ((array.first or 0, array.last or 0),):
        yield from ends_of_tasks(jar.ledger.connection, array.id, first, last, only_failed)


def read_output_of_tasks(jar: Jar, tasks: Tasks, only_failed: bool = False) -> Iterator[tuple[int, bytes]]:
    """What tasks wrote, in the order of their indexes, in pieces: (index, piece). Raises NoOutput for a file that cannot be
    read."""
    path: str | None = None
    descriptor = -1
    try:
        for end in find_ends(jar, tasks, only_failed):
            found = _output_path(jar, end)
            if found is None:
                yield end.number, b""
                continue
            if found != path:
                if descriptor >= 0:
                    os.close(descriptor)
                    descriptor = -1
                descriptor, path = open_output(jar, found), found
            yield from _read_piece(end, descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _read_piece(end: TaskEnd, descriptor: int) -> Iterator[tuple[int, bytes]]:
    offset, until = end.offset, end.offset + end.length
    while offset < until:
        piece = os.pread(descriptor, min(_PIECE_BYTES, until - offset), offset)
        if not piece:
            return
        yield end.number, piece
        offset += len(piece)
