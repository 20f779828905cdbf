"""What happened to an array, or to tasks of one: what was done to its chunks, together, and how tasks ended. Reads the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from jobjar.jar import Jar
from jobjar.ledger.ask_arrays import TaskEnd, ends_of_tasks, moves_of_chunks, other_ends_of_task, submission_of
from jobjar.reports.history import Event
from jobjar.selecting.arrays import Tasks
from jobjar.units import format_moment, format_seconds

# So many tasks are told of.
_MOST = 1000


def gather_array_history(jar: Jar, tasks: Tasks) -> list[Event]:
    """The events of an array, or of these tasks, the earliest first. What was done to several chunks by one worker or user, for
    one reason, is one event, at the time of the first."""
    events = _of_array(jar, tasks) if tasks.ranges is None else _of_tasks(jar, tasks)
    return sorted(events, key=lambda event: event.at)


def _of_array(jar: Jar, tasks: Tasks) -> Iterator[Event]:
    array, connection = tasks.array, jar.ledger.connection
    submission = submission_of(connection, array.uid)
    if submission.submitted_at is not None:
        details = f"{array.tasks:,} tasks" if array.tasks is not None else ""
        yield Event(submission.submitted_at, "submitted", submission.submitter, None, details)
    for move in moves_of_chunks(connection, array.uid):
        if move.reason == "submitted":
            continue
        by_hand = move.reason == "found"
        until = f", the last at {format_moment(move.last_at).replace('T', ' ')}" if move.chunks > 1 else ""
        details = f"{move.chunks:,} chunk{'' if move.chunks == 1 else 's'}{until}"
        yield Event(
            move.first_at, "moved by hand" if by_hand else move.reason, None if by_hand else move.by, None, details
        )
    ended = array.succeeded + array.failed
    if array.first_ended_ms is not None and array.last_ended_ms is not None:
        yield Event(array.first_ended_ms / 1000, "first task ended", None, None, "")
        yield Event(array.last_ended_ms / 1000, "last task ended", None, None, f"{ended:,} of {array.tasks or ended:,}")


def _of_tasks(jar: Jar, tasks: Tasks) -> Iterator[Event]:
    array, connection = tasks.array, jar.ledger.connection
    numbers = [number for first, last in tasks.ranges or () for number in range(first, min(last, first + _MOST) + 1)]
    for number in numbers[:_MOST]:
        for end in (
            *other_ends_of_task(connection, array.id, number),
            *ends_of_tasks(connection, array.id, number, number),
        ):
            ended_at, took_s = end.ended_ms / 1000, end.wall_us / 1e6
            if end.status is not None:
                yield Event(ended_at - took_s, "began", end.worker, end.attempt, f"{array.uid}[{number}]")
            yield Event(ended_at, "ended", end.worker, end.attempt, _tell_end(array.uid, end, took_s))


def _tell_end(array: str, end: TaskEnd, took_s: float) -> str:
    parts = [f"{array}[{end.number}]", end.outcome]
    if end.status:
        parts.append(f"exit status {end.status}" if end.status > 0 else f"signal {-end.status}")
    parts += [format_seconds(took_s)] if end.status is not None else []
    parts += [end.message] if end.message else []
    return ", ".join(parts)
