"""What is known of arrays and of their tasks, for people, and what the tasks wrote.

Reads the ledger and the output files of chunks, below the jar without following a link; writes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from jobjar.arrays.open_tasks import OpenTasks
from jobjar.attempts.attempt import CANCELLED, SUCCEEDED
from jobjar.jar import Jar
from jobjar.job_file.patterns import DEVICES
from jobjar.ledger import ask_arrays
from jobjar.ledger.ask_arrays import (
    ArrayRow,
    TaskEnd,
    array_of,
    chunks_by_state,
    count_open_tasks,
    ends_of_tasks,
    failures_by_status,
    other_ends_of_task,
    recent_tasks,
    submission_of,
    task_outcomes,
)
from jobjar.ledger.ask_selected import NO_FILTERS, STATES, Filters, jobs_of_filters
from jobjar.reports.jobs import open_output, path_in_worker
from jobjar.reports.output import read_output
from jobjar.reports.tables import format_table
from jobjar.reports.tasks_files import TasksFiles
from jobjar.selecting.arrays import Tasks
from jobjar.shared_disk.contents import is_name
from jobjar.units import format_rate, format_seconds

_PIECE_BYTES = 1 << 20
_LISTED_S, _LONGEST_COMMAND = 86400.0, 40
_CANCELLED_COLUMN = 4
_STATES = {
    "running": "it runs",
    "waiting": "it waits",
    "held": "it is held",
    "dependent": "it waits for its prerequisites",
}


def describe_array(jar: Jar, array: ArrayRow) -> dict[str, Any]:
    """All that is known of an array, as JSON has it. Times are UTC epoch seconds. `state` is waiting, running, ended, held or
    dependent. `failed` are the tasks that ended without success, but for those that were `cancelled`."""
    connection = jar.ledger.connection
    chunks = chunks_by_state(connection, array.uid)
    waiting, running, held, dependent = (
        chunks.get(state, 0) for state in ("unclaimed", "claimed", "limbo", "dependent")
    )
    state = (
        "running" if running else "waiting" if waiting else "held" if held else "dependent" if dependent else "ended"
    )
    outcomes = task_outcomes(connection, array.id)
    ended = array.succeeded + array.failed
    tasks = array.tasks or ended
    cancelled = outcomes.get(CANCELLED, 0)
    left = 0 if state == "ended" else max(0, tasks - ended)
    rate = _rate(array)
    submitted = submission_of(connection, array.uid)
    return {
        "id": array.uid,
        "state": state,
        "command": submitted.command,
        "indexes": f"{array.first}-{array.last}" + (f":{array.step}" if array.step not in (None, 1) else ""),
        "tasks": tasks,
        "succeeded": array.succeeded,
        "failed": array.failed - cancelled,
        "cancelled": cancelled,
        # A forged entry may tell of tasks that the array does not have.
        "not_run": max(0, tasks - ended) if state == "ended" else 0,
        "running": min(running, left),  # a worker runs the tasks of its chunk one after the other
        "left": left,
        "rate_per_s": None if rate is None else round(rate, 3),
        "left_s": round(left / rate, 3) if rate and state == "running" and left else None,
        "submitter": submitted.submitter,
        "submitted_at": submitted.submitted_at,
        "first_ended_at": _seconds(array.first_ended_ms),
        "last_ended_at": _seconds(array.last_ended_ms),
        "chunks": {
            "waiting": waiting,
            "running": running,
            "held": held,
            "dependent": dependent,
            "ended": chunks.get("completed", 0),
        },
        "failures": [
            {"outcome": outcome, "status": status, "tasks": count, "first": number}
            for outcome, status, count, number in failures_by_status(connection, array.id)
        ],
    }


def list_arrays(jar: Jar, filters: Filters = NO_FILTERS) -> list[dict[str, Any]]:
    """The arrays that have not ended, or ended within the last day, as `describe_array` has them, the newest first; only those
    that fit. An array fits a state if it has chunks in it, or has ended; an outcome or an exit status if tasks ended so; any
    other filter if one of its chunks fits."""
    since_ms = int((time.time() - _LISTED_S) * 1000)
    listed = [describe_array(jar, array) for array in ask_arrays.list_arrays(jar.ledger.connection, since_ms)]
    return [array for array in listed if _fits(jar, array, filters)]


def _fits(jar: Jar, array: dict[str, Any], filters: Filters) -> bool:
    if filters.states and not any(_is_in(array, STATES[word], word) for word in filters.states):
        return False
    of_failures = {(failure["outcome"], failure["status"]) for failure in array["failures"]}
    if array["succeeded"]:
        of_failures.add((SUCCEEDED, 0))
    if filters.outcomes and not any(outcome in filters.outcomes for outcome, _ in of_failures):
        return False
    if filters.exit_statuses and not any(status in filters.exit_statuses for _, status in of_failures):
        return False
    rest = filters._replace(states=(), outcomes=(), exit_statuses=(), without_chunks=False)
    if rest == NO_FILTERS:
        return True
    if rest.batches and array["id"] not in rest.batches:
        return False
    return any(True for _ in jobs_of_filters(jar.ledger.connection, rest._replace(batches=(array["id"],)), 1))


def _is_in(array: dict[str, Any], state: str, word: str) -> bool:
    chunks = array["chunks"]
    if state == "completed":
        return bool(array["state"] == "ended")
    kinds = {"claimed": ("running",), "unclaimed": ("waiting",)}.get(
        state, ("held", "dependent") if word == "limbo" else (word,)
    )
    return any(chunks.get(kind) for kind in kinds)


def format_arrays(arrays: Sequence[dict[str, Any]], table_format: str = "simple") -> str:
    """Arrays as a table, a line each."""
    rows = []
    has_cancelled = any(array["cancelled"] for array in arrays)
    for array in arrays:
        ended = array["succeeded"] + array["failed"] + array["cancelled"]
        rate = array["rate_per_s"] if array["state"] == "running" else None
        left = array["left_s"]
        cells = [
            array["id"],
            array["state"],
            f"{ended:,} of {array['tasks']:,}",
            f"{array['failed']:,}" if array["failed"] else "",
            f"{array['cancelled']:,}" if array["cancelled"] else "",
            "" if rate is None else format_rate(rate),
            "" if left is None else format_seconds(left),
            (array["command"] or "")[:_LONGEST_COMMAND],
        ]
        rows.append([cell for number, cell in enumerate(cells) if number != _CANCELLED_COLUMN or has_cancelled])
    headers = ["array", "state", "tasks ended", "failed", "cancelled", "rate", "left", "command"]
    if not has_cancelled:
        del headers[_CANCELLED_COLUMN]
    return format_table(rows, headers, table_format)


def count_tasks(jar: Jar) -> dict[str, Any]:
    """The tasks of the jar's arrays: how many wait and run, and how many ended in the last hour and day, by outcome."""
    recent = recent_tasks(jar.ledger.connection, time.time())
    ran = [row for row in recent if row.outcome != CANCELLED]
    hour, day = sum(row.last_hour for row in ran), sum(row.last_day for row in ran)
    left, running = count_open_tasks(jar.ledger.connection)
    return {
        "waiting": max(0, left - running),
        "running": min(left, running),
        "outcomes": [row._asdict() for row in recent],
        "per_s_last_hour": hour / 3600,
        "per_s_last_day": day / 86400,
    }


def format_tasks(tasks: dict[str, Any], table_format: str) -> str:
    """What `count_tasks` says, as a table; empty if there is nothing to say."""
    if not tasks["outcomes"]:
        return ""
    rows = [[row["outcome"], row["last_hour"], row["last_day"]] for row in tasks["outcomes"]]
    rows.append(["rate", format_rate(tasks["per_s_last_hour"]), format_rate(tasks["per_s_last_day"])])
    return format_table(rows, ("tasks ended", "last hour", "last day"), table_format)


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


def count_unsuccessful(described: dict[str, Any]) -> int:
    """How many tasks of an array have not succeeded, whyever; of one that `describe_array` describes."""
    return sum(described[name] for name in ("failed", "cancelled", "not_run", "left"))


def format_array(described: dict[str, Any]) -> str:
    """An array in a sentence: `q5n4dt2sq77v: 812,331 of 1,000,000 tasks have ended, 14 of them failed; 3,200/s; 1 m left`."""
    ended = described["succeeded"] + described["failed"] + described["cancelled"]
    if described["state"] == "ended" and described["succeeded"] == described["tasks"]:
        took = ""
        if described["last_ended_at"] is not None and described["submitted_at"] is not None:
            took = f" in {format_seconds(described['last_ended_at'] - described['submitted_at'])}"
        return f"{described['id']}: all {described['tasks']:,} tasks have succeeded{took}"
    parts = [f"{described['id']}: {ended:,} of {described['tasks']:,} tasks have ended"]
    if described["failed"]:
        parts[0] += f", {described['failed']:,} of them failed"
    if described["cancelled"]:
        parts[0] += f", {described['cancelled']:,} {'' if described['failed'] else 'of them '}were cancelled"
    if described["not_run"]:
        parts.append(f"{described['not_run']:,} were given up before they ran")
    elif described["state"] != "ended":
        parts.append(_STATES[described["state"]])
    if described["state"] == "running" and described["rate_per_s"]:
        parts.append(format_rate(described["rate_per_s"]))
        if described["left_s"]:
            parts.append(f"about {format_seconds(described['left_s'])} left")
    return "; ".join(parts)


def describe_tasks(jar: Jar, array: ArrayRow, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """All that is known of tasks (in ascending order), as JSON has it. `state`: ended, running, waiting, held, dependent, or `not
    run`: its chunk ended before it."""
    states = OpenTasks(jar.ledger.connection, array).states_of(numbers)
    return [_describe_task(jar, array, number, states[number]) for number in numbers]


def _describe_task(jar: Jar, array: ArrayRow, number: int, state: str) -> dict[str, Any]:
    ends = list(ends_of_tasks(jar.ledger.connection, array.id, number, number))
    files = TasksFiles(jar, array.uid)
    others = other_ends_of_task(jar.ledger.connection, array.id, number)
    return {
        "id": f"{array.uid}[{number}]",
        "state": "ended" if ends else state,
        **(_describe_end(jar, ends[0], files) if ends else {}),
        "earlier": [_describe_end(jar, end, files) for end in others],
    }


def _describe_end(jar: Jar, end: TaskEnd, files: TasksFiles) -> dict[str, Any]:
    status, own = end.status, files.find(end.number, end.message)
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
        "output_path": own.get("output") or _output_path(jar, end),
        "error_path": own.get("error"),
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
    files = TasksFiles(jar, tasks.array.uid)
    path: str | None = None
    descriptor = -1
    try:
        for end in find_ends(jar, tasks, only_failed):
            own = files.find(end.number, end.message).get("output")
            if own is not None:
                yield end.number, b""
                if not own.startswith(DEVICES):
                    yield from ((end.number, piece) for piece in read_output(jar, own))
                continue
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
