"""Questions about queues of pilots, their pilots, and the work that waits for them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from jobjar.ledger.driver import Connection

# How a pilot ends by what is no fault of what it runs.
_OF_THE_MACHINERY = "('cancelled', 'timed_out', 'node_failed', 'preempted')"


class PilotQueueRow(NamedTuple):
    """A row of pilot_queue. `plan` is JSON; times are the disk's."""

    name: str
    changed_at: float
    system: str | None
    plan: str | None
    paused_at: float | None
    paused_by: str | None
    paused_why: str | None
    failures: int
    said: str | None
    removed_at: float | None


class PilotRow(NamedTuple):
    """A row of pilot. Times are the disk's."""

    name: str
    revision: int
    queue: str
    number: int
    state: str
    intended_at: float
    since: float
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    system_id: str | None
    word: str | None
    reason: str | None
    on_node: str | None
    worker: str | None
    worker_id: str | None
    end_reason: str | None
    message: str | None


def pilot_queues(connection: Connection) -> list[PilotQueueRow]:
    """The queues of pilots that are there, by name."""
    columns = ", ".join(PilotQueueRow._fields)
    query = f"SELECT {columns} FROM pilot_queue WHERE is_gone = 0 ORDER BY name"
    return [PilotQueueRow(*row) for row in connection.execute(query)]


def pilots_of(connection: Connection, queue: str, ended: int = 0, after: float = 0.0) -> list[PilotRow]:
    """The pilots of a queue that have not ended, and the last `ended` of those that ended after that time, by number."""
    columns = ", ".join(PilotRow._fields)
    query = f"SELECT {columns} FROM pilot WHERE queue = ? AND state <> 'ended' ORDER BY number"
    found = list(connection.execute(query, (queue,)))
    if ended:
        ended_too = "queue = ? AND state = 'ended' AND intended_at >= ?"
        query = f"SELECT {columns} FROM pilot WHERE {ended_too} ORDER BY ended_at DESC LIMIT ?"
        found += connection.execute(query, (queue, after, ended))
    return sorted((PilotRow(*row) for row in found), key=lambda row: (row.intended_at, row.number))


def revisions(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """Up to which revision the ledger knows pilots, by name."""
    marks = ",".join("?" * len(names))
    return dict(connection.execute(f"SELECT name, revision FROM pilot WHERE name IN ({marks})", tuple(names)))


def count_fitting(
    connection: Connection, categories: Collection[str], longest_s: float, now: float, most: int
) -> tuple[int, set[str]]:
    """How many jobs of these categories wait, may begin now, and end within `longest_s` as far as they say; at most `most` of
    each category. Also which categories they are of."""
    count, found = 0, set()
    query = (
        "SELECT count(*) FROM (SELECT 1 FROM job INDEXED BY job_open WHERE state = 'unclaimed' AND category = ? "
        "AND not_before <= ? AND coalesce(time_limit_s, 0) <= ? LIMIT ?)"
    )
    for category in categories:
        jobs = int(connection.execute(query, (category, now, longest_s, most)).fetchone()[0])
        count += jobs
        if jobs:
            found.add(category)
    return count, found


def count_unfit(connection: Connection, category: str, longest_s: float) -> int:
    """How many jobs of a category wait whose time limit is longer than `longest_s`."""
    query = (
        "SELECT count(*) FROM job INDEXED BY job_open WHERE state = 'unclaimed' AND category = ? "
        "AND coalesce(time_limit_s, 0) > ?"
    )
    return int(connection.execute(query, (category, longest_s)).fetchone()[0])


def count_strandings_of_machinery(connection: Connection, uid: str) -> int:
    """How many stranded attempts of a job were with pilots that the machinery ended: cancelled, out of time, preempted, or whose
    node failed."""
    query = (
        "SELECT count(*) FROM attempt WHERE job_uid = ? AND outcome = 'stranded' AND worker_uid IN "
        f"(SELECT worker_id FROM pilot WHERE worker_id IS NOT NULL AND end_reason IN {_OF_THE_MACHINERY})"
    )
    return int(connection.execute(query, (uid,)).fetchone()[0])
