"""What happened to a job, one event after the other: its moves, its attempts, the phases of a described one.

Reads the ledger; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from jobjar.jar import Jar
from jobjar.layout import NOWHERE, category_of_place, state_of_place, worker_of_place
from jobjar.ledger.models import JobReport
from jobjar.reports.jobs import describe_attempts, describe_moves
from jobjar.units import format_seconds


class Event(NamedTuple):
    """Something that happened to a job at a time (UTC epoch seconds, by the disk's clock). `event` is the reason of a move, or
    began, ended, or phase; `by` is the worker or user."""

    at: float
    event: str
    by: str | None
    attempt: int | None
    details: str


def gather_history(jar: Jar, job: JobReport) -> list[Event]:
    """The events of a job, the earliest first.

    What happened in an attempt comes before the move by which its worker let go of the job. A file's time may be some
    milliseconds behind the clock that timed the attempt's end.
    """
    attempts: dict[str, list[dict[str, Any]]] = {}
    for attempt in describe_attempts(jar, job):
        attempts.setdefault(attempt["worker"], []).append(attempt)
    events: list[Event] = []
    for move in describe_moves(jar, job):
        held = attempts.get(worker_of_place(move["from"] or NOWHERE) or "")
        if held:
            events += (event._replace(at=min(event.at, move["moved_at"])) for event in _events_of(held.pop(0)))
        events.append(_event_of(move))
    events += (event for left in attempts.values() for attempt in left for event in _events_of(attempt))
    return sorted(events, key=lambda event: event.at)  # of one moment in the order above


def _event_of(move: dict[str, Any]) -> Event:
    by_hand = move["reason"] == "found"
    origin, destination = move["from"] or NOWHERE, move["to"] or NOWHERE
    return Event(
        move["moved_at"],
        "moved by hand" if by_hand else move["reason"],
        None if by_hand else move["by"],
        None,
        f"{name_place(origin)} to {name_place(destination)}" if origin else f"to {name_place(destination)}",
    )


def name_place(place: str) -> str:
    """Where a job is, in short: which jar, which category, which worker."""
    if place == NOWHERE:
        return "nowhere"
    if state_of_place(place) == "claimed":
        return place.split("/")[1]
    category = category_of_place(place)
    return f"{place.partition('/')[0]}/{category}" if category else place.partition("/")[0]


def _events_of(attempt: dict[str, Any]) -> Iterator[Event]:
    number, worker = attempt["number"], attempt["worker"]
    if attempt["started_at"] is not None:
        yield Event(attempt["started_at"], "began", worker, number, "")
    for phase in attempt["phases"]:
        parts = [phase["name"]]
        if phase["ended_at"] is not None:
            parts.append(format_seconds(max(0.0, phase["ended_at"] - phase["began_at"])))
        parts += [phase["message"]] if phase["message"] else []
        yield Event(phase["began_at"], "phase", worker, number, ", ".join(parts))
    if attempt["ended_at"] is not None:
        parts = [attempt["outcome"] or "unknown"]
        parts += [f"signal {attempt['signal']}"] if attempt["signal"] is not None else []
        parts += [f"exit status {attempt['exit_status']}"] if attempt["exit_status"] else []
        parts += [format_seconds(attempt["wall_time_s"])] if attempt["wall_time_s"] is not None else []
        parts += [attempt["message"]] if attempt["message"] else []
        yield Event(attempt["ended_at"], "ended", worker, number, ", ".join(parts))
