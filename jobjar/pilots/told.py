"""Journal what is known of pilots and their queues. Files come first, then the journal: what a kill left unjournaled between
the two is journaled by the next turn (`heal`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from jobjar.jar import Jar
from jobjar.ledger.ask_pilots import PilotQueueRow, pilot_queues, revisions
from jobjar.pilots.pilot import Pilot
from jobjar.pilots.queue import QueueState, queue_entry

_TICK_S = 1e-6


def tell_pilots(jar: Jar, pilots: Iterable[Pilot]) -> None:
    """Journal what is known of pilots. Raises OSError."""
    entries = [pilot.entry() for pilot in pilots]
    if entries:
        jar.journal.append(entries, durable=True)


def tell_queue(jar: Jar, queue: QueueState, is_gone: bool = False) -> None:
    """Journal what a queue is now, if the ledger does not know it. Raises OSError, LedgerError."""
    with jar.ledger.reading() as connection:
        row = next((row for row in pilot_queues(connection) if row.name == queue.name), None)
    if row is not None and not is_gone and _is_same(row, queue):
        return
    now = jar.disk_now()
    # Later than the entry before, even on a disk with whole seconds, because the latest stands.
    changed_at = now if row is None else max(now, row.changed_at + _TICK_S)
    jar.journal.append([queue_entry(queue, changed_at, is_gone)], durable=True)


def heal(jar: Jar, pilots: Sequence[Pilot]) -> None:
    """Journal again what the ledger does not know of open pilots. Raises OSError, LedgerError."""
    if not pilots:
        return
    with jar.ledger.reading() as connection:
        known = revisions(connection, [pilot.name for pilot in pilots])
    tell_pilots(jar, [pilot for pilot in pilots if known.get(pilot.name, 0) < pilot.revision])


def _is_same(row: PilotQueueRow, queue: QueueState) -> bool:
    paused, removed = queue.paused, queue.removed
    said = (
        row.plan,
        row.paused_at,
        row.paused_by,
        row.paused_why,
        row.failures,
        row.said,
        row.removed_at,
    )
    return said == (
        json.dumps(queue.plan._asdict(), sort_keys=True),
        None if paused is None else paused.at,
        None if paused is None else paused.by,
        None if paused is None else paused.why,
        queue.failures,
        queue.said,
        None if removed is None else removed.at,
    )
