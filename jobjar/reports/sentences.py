"""What is said of a job in a sentence that a person can act on. Reads the ledger and outputs; writes nothing."""

from __future__ import annotations

import signal
from typing import Any, NamedTuple

from jobjar.attempts.attempt import CANCELLED, CRASHED, KILLED, SUCCEEDED, TIMED_OUT
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.reports.output import read_last_lines
from jobjar.units import format_ordinal, format_seconds

_LAST_LINES = 5


class End(NamedTuple):
    """How a job or an attempt ended. `ended_at` is UTC epoch seconds. `attempt` is its number, 0 if that is not known."""

    outcome: str | None
    exit_status: int | None
    signal: int | None
    ended_at: float | None = None
    wall_time_s: float | None = None
    attempt: int = 0
    worker: str | None = None
    message: str | None = None


_UNKNOWN_END = "ended, and nothing tells how"
# What follows the name of a job that ended so.
_DID = {TIMED_OUT: "ran into its time limit", KILLED: "was killed", CANCELLED: "was cancelled", CRASHED: "was given up"}


def format_end(outcome: str | None, exit_status: int | None, by_signal: int | None) -> str:
    """How a job or an attempt ended: `failed, exit status 3`, `killed, signal TERM`."""
    return ", ".join([(outcome or _UNKNOWN_END).replace("_", " "), *_format_status(exit_status, by_signal)])


def format_whole_end(end: End, now: float) -> str:
    """All that is known of an end, after a job's name: `failed on the 2nd attempt, exit status 3, 14 s ago, after 1 s on rain.7`.
    `now` is UTC epoch seconds."""
    if end.outcome is None:
        return _UNKNOWN_END
    did, message = _DID.get(end.outcome, end.outcome), end.message
    if end.outcome == CANCELLED and message is not None and message.startswith(CANCELLED):
        did, message = f"was {message}", None
    is_run = end.outcome != CANCELLED or end.wall_time_s is not None
    parts = [f"{did}{format_attempt(end.attempt)}" if is_run else did, *_format_status(end.exit_status, end.signal)]
    if end.ended_at is not None:
        parts.append(f"{format_seconds(max(0.0, now - end.ended_at))} ago")
    if end.wall_time_s and is_run:
        parts.append(f"after {format_seconds(end.wall_time_s)}{f' on {end.worker}' if end.worker else ''}")
    told = ", ".join(parts)
    return f"{told}; {message}" if message else told


def format_attempt(number: int) -> str:
    """` on the 2nd attempt`; nothing of the first."""
    return f" on the {format_ordinal(number)} attempt" if number > 1 else ""


def _format_status(exit_status: int | None, by_signal: int | None) -> list[str]:
    if by_signal is not None:
        return [f"signal {name_signal(by_signal)}"]
    return [f"exit status {exit_status}"] if exit_status else []


def name_signal(number: int) -> str:
    """The name of a signal without `SIG`; its number if it has none."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def format_job(jar: Jar, description: dict[str, Any], now: float) -> str:
    """What a person wants to know first of a job that `describe_job` described: how it ended, with the last lines of its output
    if it failed; what it waits for, and what to do; where it runs. `now` is UTC epoch seconds."""
    uid = description["id"] or description["place"]
    identifier = identifier_in_name(description["name"], description["submitter"])
    return f"{f'{uid} ({identifier})' if identifier else uid} {_format_state(jar, description, now)}"


def _format_state(jar: Jar, description: dict[str, Any], now: float) -> str:
    state, because = description["state"], "; ".join(description["waits_because"] or [])

    def ago(moment: float | None) -> str:
        return "" if moment is None else format_seconds(max(0.0, now - moment))

    moved_at = description["moves"][-1]["moved_at"] if description["moves"] else description["submitted_at"]
    if state == "completed":
        return _format_ended(jar, description, now)
    if state == "removed":
        return f"was removed {ago(moved_at)} ago: its file was taken away"
    if state == "claimed":
        begun = [attempt for attempt in description["attempts"] if attempt["ended_at"] is None]
        started_at = begun[-1]["started_at"] if begun else None
        since = f" for {ago(started_at)}" if started_at is not None else ""
        runs = (
            f"runs on {description['worker']}{since}{format_attempt(begun[-1]['number'])}"
            if since
            else "is with a worker"
        )
        return f"{runs}: {because}" if because else runs
    waits = "waits" if moved_at is None else f"has waited for {ago(moved_at)}"
    return f"{waits}: {because}" if because else waits


def _format_ended(jar: Jar, description: dict[str, Any], now: float) -> str:
    outcome = description["outcome"]
    decided = [attempt for attempt in description["attempts"] if attempt["outcome"] == outcome and outcome]
    last: dict[str, Any] = decided[-1] if decided else {"number": 0}
    end = End(
        outcome,
        description["exit_status"],
        description["signal"],
        last.get("ended_at"),
        last.get("wall_time_s"),
        last["number"],
        last.get("worker"),
        last.get("message"),
    )
    told = format_whole_end(end, now)
    if outcome in (SUCCEEDED, CANCELLED, None):
        return told
    lines = read_last_lines(jar, last.get("output_path"), _LAST_LINES)
    if not lines:
        return f"{told}; it wrote nothing"
    return "\n    ".join((f"{told}; last lines of its output:", *lines))
