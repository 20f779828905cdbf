"""Questions to the ledger about arrays and their tasks. They take the driver's connection and only read."""

from __future__ import annotations

from typing import NamedTuple

from jobjar.layout import jobs_place
from jobjar.ledger.driver import Connection


class TasksBefore(NamedTuple):
    """What earlier attempts did in a range of tasks: the indexes that have ended for good, and how often others failed."""

    ended: frozenset[int]
    failures: dict[int, int]


def tasks_before(connection: Connection, array: str, first: int, last: int) -> TasksBefore:
    found = connection.execute("SELECT id FROM array WHERE uid = ?", (array,)).fetchone()
    if found is None:
        return TasksBefore(frozenset(), {})
    wanted = (found[0], first, last)
    ended = connection.execute("SELECT number FROM task WHERE array = ? AND number BETWEEN ? AND ?", wanted)
    failed = connection.execute(
        "SELECT number, count(*) FROM task_attempt WHERE array = ? AND number BETWEEN ? AND ? AND is_final = 0 GROUP BY number",
        wanted,
    )
    return TasksBefore(frozenset(number for (number,) in ended), dict(failed.fetchall()))


class ArrayRow(NamedTuple):
    """An array, and how many of its tasks have ended so."""

    uid: str
    first: int | None
    last: int | None
    step: int | None
    tasks: int | None
    succeeded: int
    failed: int


def array_of(connection: Connection, uid: str) -> ArrayRow | None:
    row = connection.execute(
        "SELECT uid, first, last, step, tasks, succeeded, failed FROM array WHERE uid = ?", (uid,)
    ).fetchone()
    return None if row is None else ArrayRow(*row)


def places_with_worker(connection: Connection, uid: str, worker: str) -> list[str]:
    """The places that a job had with a worker, by its moves."""
    beginning = f"{jobs_place(worker)}/"
    moves = connection.execute("SELECT origin, destination FROM move WHERE job_uid = ?", (uid,))
    return [place for move in moves for place in move if place.startswith(beginning)]
