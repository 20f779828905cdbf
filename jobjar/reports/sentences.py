"""What is said of a job in a sentence that a person can act on. Reads the ledger and outputs; writes nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from jobjar.attempts.attempt import CANCELLED, SUCCEEDED
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.reports.output import read_last_lines
from jobjar.units import format_seconds

_LAST_LINES = 5


def tell_end(outcome: str | None, exit_status: int | None, by_signal: int | None) -> str:
    """How a job or an attempt ended: `failed, exit status 3`, `killed, signal TERM`."""
    parts = [(outcome or "ended, and nothing tells how").replace("_", " ")]
    if by_signal is not None:
        parts.append(f"signal {name_signal(by_signal)}")
    elif exit_status:
        parts.append(f"exit status {exit_status}")
    return ", ".join(parts)


def name_signal(number: int) -> str:
    """The name of a signal without `SIG`; its number if it has none."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def tell_job(jar: Jar, description: dict[str, Any], now: float) -> str:
    """What a person wants to know first of a job that `describe_job` described: how it ended, with the last lines of its output
    if it failed; what it waits for, and what to do; where it runs. `now` is UTC epoch seconds."""
    uid = description["id"] or description["place"]
    identifier = identifier_in_name(description["name"], description["submitter"])
    return f"{f'{uid} ({identifier})' if identifier else uid} {_tell_state(jar, description, now)}"


def _tell_state(jar: Jar, description: dict[str, Any], now: float) -> str:
    state, because = description["state"], "; ".join(description["waits_because"] or [])

    def ago(moment: float | None) -> str:
        return "" if moment is None else format_seconds(max(0.0, now - moment))

    moved_at = description["moves"][-1]["moved_at"] if description["moves"] else description["submitted_at"]
    if state == "completed":
        return _tell_ended(jar, description, ago)
    if state == "removed":
        return f"was removed {ago(moved_at)} ago: its file was taken away"
    if state == "claimed":
        begun = [attempt for attempt in description["attempts"] if attempt["ended_at"] is None]
        started_at = begun[-1]["started_at"] if begun else None
        since = f" for {ago(started_at)}" if started_at is not None else ""
        runs = f"runs on {description['worker']}{since}{_count_attempt(begun)}" if since else "is with a worker"
        return f"{runs}: {because}" if because else runs
    waits = "waits" if moved_at is None else f"has waited for {ago(moved_at)}"
    return f"{waits}: {because}" if because else waits


def _tell_ended(jar: Jar, description: dict[str, Any], ago: Callable[[float | None], str]) -> str:
    outcome = description["outcome"]
    decided = [attempt for attempt in description["attempts"] if attempt["outcome"] == outcome and outcome]
    last = decided[-1] if decided else {}
    words = (outcome or "ended, and nothing tells how").replace("_", " ")
    detail = tell_end(outcome, description["exit_status"], description["signal"]).partition(", ")[2]
    parts = [("was " if outcome in (CANCELLED, "killed") else "") + words + _count_attempt(decided)]
    parts += [detail] if detail and outcome else []
    if last.get("ended_at") is not None:
        parts.append(f"{ago(last['ended_at'])} ago")
    if last.get("wall_time_s"):
        parts.append(f"after {format_seconds(last['wall_time_s'])}")
    told = ", ".join(parts)
    if outcome in (SUCCEEDED, CANCELLED, None):
        return told
    if last.get("message"):
        told += f"; {last['message']}"
    lines = read_last_lines(jar, last.get("output_path"), _LAST_LINES)
    if not lines:
        return f"{told}; it wrote nothing"
    return "\n    ".join((f"{told}; last lines of its output:", *lines))


def _count_attempt(attempts: list[dict[str, Any]]) -> str:
    number = attempts[-1]["number"] if attempts else 1
    if number < 2:
        return ""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f" on the {number}{ending} attempt"
