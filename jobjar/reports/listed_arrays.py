"""What `jobjar list` says of arrays: a line for each, or one for each task that is named. Reads the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobjar.errors import UsageError
from jobjar.jar import Jar
from jobjar.ledger.ask_selected import STATES
from jobjar.reports.arrays import describe_array, describe_tasks, list_arrays
from jobjar.reports.tables import format_table
from jobjar.selecting.arrays import Tasks, find_tasks
from jobjar.selecting.selection import Selection
from jobjar.units import format_moment, format_seconds

_MOST_TASKS = 1000
Described = list[dict[str, Any]]


def take_arrays(jar: Jar, selection: Selection, with_chunks: bool) -> tuple[Selection | None, Described, Described]:
    """Take the arrays and the tasks out of a selection. Returns what is left of it (None: nothing), and what is known of these.
    With `with_chunks` an array's chunks are left, as jobs. Raises UsageError, AmbiguousJob."""
    filters = selection.filters
    if not selection.words:
        if with_chunks:
            return selection, [], []
        return selection._replace(filters=filters._replace(without_chunks=True)), list_arrays(jar, filters), []
    words, arrays, tasks = list[str](), list[dict[str, Any]](), list[dict[str, Any]]()
    chunks_of = list[str]()
    for word in selection.words:
        some = find_tasks(jar, word)
        if some is None:
            words.append(word)
        elif some.ranges is not None:
            tasks += _list_tasks(jar, some, filters.states, filters.outcomes)
        elif with_chunks:
            chunks_of.append(some.array.uid)
        else:
            arrays.append(describe_array(jar, some.array))
    if chunks_of:
        return selection._replace(words=(), filters=filters._replace(batches=tuple(chunks_of))), arrays, tasks
    return (selection._replace(words=tuple(words)) if words else None), arrays, tasks


def _list_tasks(jar: Jar, tasks: Tasks, states: Sequence[str], outcomes: Sequence[str]) -> Described:
    ranges = tasks.ranges or ()
    step = tasks.array.step or 1
    first_index = tasks.array.first or 0
    numbers = [
        number
        for first, last in ranges
        for number in range(first, min(last, first + _MOST_TASKS * step) + 1)
        if (number - first_index) % step == 0
    ]
    if len(numbers) > _MOST_TASKS:
        raise UsageError(reason=f"these are more than {_MOST_TASKS} tasks")
    words = {word for word, state in STATES.items() if state in {STATES[asked] for asked in states}}
    return [
        task
        for task in describe_tasks(jar, tasks.array, numbers)
        if (not states or task["state"] in words) and (not outcomes or task.get("outcome") in outcomes)
    ]


def format_listed_tasks(tasks: Sequence[dict[str, Any]], table_format: str) -> str:
    """Tasks as a table, a line each."""
    rows = []
    for task in tasks:
        exit_status = task.get("exit_status")
        ended_at, took_s = task.get("ended_at"), task.get("wall_time_s")
        rows.append(
            (
                task["id"],
                task.get("outcome") or task["state"],
                exit_status if exit_status is not None else f"signal {task['signal']}" if task.get("signal") else "",
                "" if took_s is None else format_seconds(took_s),
                "" if ended_at is None else format_moment(ended_at).replace("T", " "),
                task.get("worker") or "",
            )
        )
    return format_table(rows, ("task", "state", "exit", "ran", "ended", "worker"), table_format)
