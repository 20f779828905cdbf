"""What the pages about batches show: how far they are, work done over time, a variable over their jobs. Reads the ledger."""

from __future__ import annotations

import itertools
from typing import Any

from jobjar.errors import UnknownBatch
from jobjar.jar import Jar
from jobjar.ledger.ask_batches import list_batches
from jobjar.ledger.ask_history import Told, history_of_batch, values_of_batch, variables_of_batch
from jobjar.reports.batches import describe_batches
from jobjar.selecting.unknown import suggest_batch
from jobjar.text import as_text, printable_name
from jobjar.web.charts import draw_lines
from jobjar.web.looker import Seen

# Of so many of a batch's jobs variables are read, of so many their values over time; so many points are drawn.
MOST_JOBS, _LINES, _POINTS = 5000, 50, 5000
WORK_DONE = "work_done"


def view_batches(jar: Jar, seen: Seen) -> dict[str, Any]:
    return {"batches": describe_batches(jar, None), "command": "batch_status"}


def view_batch(jar: Jar, seen: Seen, name: str, variable: str) -> dict[str, Any]:
    """One batch. Raises UnknownBatch."""
    name = as_text(name)
    if not list_batches(jar.ledger, name):
        raise UnknownBatch(name=name, home=jar.layout.home, hint=suggest_batch(jar, name))
    (batch,) = describe_batches(jar, name)
    variables = variables_of_batch(jar.ledger.connection, name, MOST_JOBS)
    named = [each for each, _ in variables]
    chosen = variable if variable in named else next((each for each in named if each != WORK_DONE), "")
    return {
        "batch": batch,
        "title": name,
        "command": f"batch_status {name}",
        "variables": variables,
        "chosen": chosen or (named[0] if named else ""),
        "work": chart_work(jar, name) if WORK_DONE in named else None,
        "charts": chart_variable(jar, name, chosen) if chosen else [],
    }


def chart_work(jar: Jar, name: str) -> dict[str, Any] | None:
    """The sum of what the jobs of a batch told as their work done, over time."""
    told = values_of_batch(jar.ledger.connection, name, WORK_DONE, MOST_JOBS)
    if not told:
        return None
    sums = list(itertools.accumulate(value.number for value in told))
    points = [(value.told_at, total) for value, total in zip(told, sums, strict=True)]
    return {
        "title": "Work done",
        "chart": draw_lines([points], f"work done over time: {sums[-1]:g} by {len(told)} jobs", with_points=False),
        "low": min(sums),
        "high": max(sums),
        "from": points[0][0],
        "until": points[-1][0],
        "total": sums[-1],
        "jobs": len(told),
    }


def chart_variable(jar: Jar, name: str, variable: str) -> list[dict[str, Any]]:
    """A variable's latest value of each job, in the order in which they were told; and its values over time."""
    shown = printable_name(variable)
    latest = values_of_batch(jar.ledger.connection, name, variable, MOST_JOBS)
    charts = []
    if latest:
        points = [(float(number), told.number) for number, told in enumerate(latest)]
        label = f"{shown} of {len(latest)} jobs, the latest value of each"
        charts.append(
            {
                "title": f"{shown}, by job",
                "chart": draw_lines([points], label),
                **_ends(latest),
                "jobs": len(latest),
                "is_by_job": True,
            }
        )
    history = history_of_batch(jar.ledger.connection, name, variable, _LINES, _POINTS)
    lines = [
        [(told.told_at, told.number) for told in group]
        for _, group in itertools.groupby(history, key=lambda told: told.uid)
    ]
    lines = [line for line in lines if len(line) > 1]
    if lines:
        label = f"{shown} over time of {len(lines)} jobs"
        charts.append(
            {
                "title": f"{shown}, over time",
                "chart": draw_lines(lines, label, with_points=False),
                **_ends(history),
                "jobs": len(lines),
                "is_by_job": False,
            }
        )
    return charts


def _ends(told: list[Told]) -> dict[str, float]:
    numbers, times = [value.number for value in told], [value.told_at for value in told]
    return {"low": min(numbers), "high": max(numbers), "from": min(times), "until": max(times)}
