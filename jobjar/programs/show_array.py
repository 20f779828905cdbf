"""How `jobjar show` and `jobjar output` print arrays and tasks."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import TYPE_CHECKING, Any

from jobjar.errors import UsageError
from jobjar.text import printable

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.selecting.arrays import Tasks

_MOST_TASKS = 1000


def show_tasks(jar: Jar, tasks: Tasks, as_json: bool) -> None:
    """Print what is known of an array, or of tasks of it."""
    from jobjar.reports.arrays import describe_array, describe_tasks, format_array

    if tasks.ranges is None:
        described = describe_array(jar, tasks.array)
        print(
            json.dumps(described, indent=1) if as_json else printable(_format_array(described, format_array(described)))
        )
        return
    numbers = [number for first, last in tasks.ranges for number in range(first, min(last, first + _MOST_TASKS) + 1)]
    if len(numbers) > _MOST_TASKS:
        raise UsageError(reason=f"these are more than {_MOST_TASKS} tasks; `jobjar output` prints what they wrote")
    shown = describe_tasks(jar, tasks.array, numbers)
    if as_json:
        print(json.dumps(shown[0] if len(shown) == 1 else shown, indent=1))
    else:
        print(printable("\n\n".join(map(_format_task, shown))))


def _format_array(described: dict[str, Any], sentence: str) -> str:
    from jobjar.reports.tables import format_table

    rows = []
    for name, value in described.items():
        if value is None or name == "failures":
            continue
        if name.endswith("_at"):
            value = _date(value)
        elif name == "chunks":
            value = ", ".join(f"{count:,} {state}" for state, count in value.items() if count)
        rows.append((name.replace("_", " "), f"{value:,}" if type(value) is int else str(value)))
    sections = [sentence, format_table(rows, (), "plain")]
    failures = [
        (
            failure["outcome"],
            _status(failure["status"]),
            f"{failure['tasks']:,}",
            f"jobjar output '{described['id']}[{failure['first']}]'",
        )
        for failure in described["failures"]
    ]
    if failures:
        sections.append(
            "Failures\n" + format_table(failures, ("outcome", "exit", "tasks", "the first one's output"), "simple")
        )
    return "\n\n".join(sections)


def _status(status: int | None) -> str:
    return "" if status is None else str(status) if status >= 0 else f"signal {-status}"


def _format_task(described: dict[str, Any]) -> str:
    from jobjar.reports.tables import format_table

    rows = [
        (name.replace("_", " "), _date(value) if name.endswith("_at") else str(value))
        for name, value in described.items()
        if value is not None and name != "earlier"
    ]
    sections = [format_table(rows, (), "plain")]
    for end in described["earlier"]:
        how = _status(end["exit_status"] if end["signal"] is None else -end["signal"])
        sections.append(f"before: {end['outcome']}, {how}, {_date(end['ended_at'])}, {end['wall_time_s']:.3f} s")
    return "\n".join(sections)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f"{seconds % 1:.3f}"[1:]


def print_output_of_tasks(jar: Jar, tasks: Tasks, options: argparse.Namespace, word: str) -> int:
    """Print what tasks wrote, byte for byte; returns the exit status. Raises UsageError, NoOutput."""
    from jobjar.reports.arrays import read_output_of_tasks

    if tasks.ranges is None and not options.failed and not options.all:
        raise UsageError(reason=f"{word} is an array: name a task ({word}[7]), or use --failed or --all")
    any_ended = False
    for _, piece in read_output_of_tasks(jar, tasks, options.failed):
        any_ended = True
        view = memoryview(piece)
        while view:
            view = view[os.write(1, view) :]
    if not any_ended and not options.failed:
        raise UsageError(reason=f"none of the tasks of {word} has ended")
    return 0
