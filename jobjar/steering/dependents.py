"""Let dependents go on, or cancel them, once their prerequisites have ended. Have batches stop that failed (fail_fast.py).

Any process that folds an end may do this; the rename decides which one does. ledger/judge_dependents.py decides what becomes of a
dependent. A ledger keeps which dependents have to be looked at until somebody has (ledger/dependents.py). So after a kill the
next worker, recovery or wait does the rest. Release: one rename from limbo to the category, then `moved` (released). Cancel: the
way of recovery/cancelling.py. The tasks of a chunk whose partners did not succeed are journaled as cancelled first: a kill in
between leaves the chunk due, and a second end of a task stands no longer than its first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from jobjar.access.refusals import explain_at
from jobjar.arrays.ending import cancelled_tasks
from jobjar.errors import CannotUseJar
from jobjar.host import login, node_name
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.journal.read import Entry
from jobjar.ledger.ask_arrays import array_of, ended_numbers
from jobjar.ledger.ask_steered import SteeredJob, steered_jobs
from jobjar.ledger.dependents import due_dependents, forget_due
from jobjar.ledger.driver import Connection
from jobjar.ledger.due import has_due
from jobjar.ledger.fold import fold_journal, fold_journals
from jobjar.ledger.judge_dependents import CANCEL, RELEASE, End, judge_dependent
from jobjar.recovery.cancelling import begin_cancellation, complete_taken, end_cancellation, take
from jobjar.shared_disk.files import sync_directory
from jobjar.steering.fail_fast import stop_failed_batches
from jobjar.steering.waiting import move_to_categories

# How many dependents are moved while the ledger's lock is held.
CHUNK = 500


class Settled(NamedTuple):
    """How many jobs were let go on, and cancelled, and why others could not be moved: they are tried again. `is_stopping`: a
    batch failed, and jobs of it still run, which were asked to end."""

    released: int
    cancelled: int
    refused: list[str]
    is_stopping: bool = False


def settle_dependents(jar: Jar, by: str = "", between: Callable[[], None] = lambda: None) -> Settled:
    """Move all dependents whose prerequisites have ended, and those that come to that by it; cancel the rest of batches that stop
    at their first failure. `by` is the worker that does it, or else this user on this node. `between` is called between chunks.
    Raises LedgerError, CannotUseJar, OSError: the rest is done by the next call."""
    by = by or f"{login()}@{node_name()}"
    released = cancelled = 0
    refused: list[str] = []
    batches: dict[str, End] = {}
    is_stopping, cancel = False, partial(_cancel, jar, by, refused)
    while not refused:
        with jar.ledger.writing() as connection:
            if not has_due(connection):
                break
            fold_journals(connection, jar.layout)
            stopped, is_stopping = stop_failed_batches(jar, connection, CHUNK, cancel, refused)
            cancelled += stopped
            uids = due_dependents(connection, CHUNK)
            to_release, to_cancel = _judge(jar, connection, uids, batches, by)
            left = move_to_categories(jar, to_release, "released", by)
            undone = {known.job.row for known in left.missed} | {known.job.row for known, _ in left.refused}
            released += sum(known.job.row not in undone for known in to_release)
            refused += [f"{known.title}: {reason}" for known, reason in left.refused]
            for message, jobs in to_cancel.items():
                cancelled += cancel(message, jobs)
            fold_journal(connection, jar.journal.path)
            if not refused:
                forget_due(connection, uids)
        between()
        if not uids and not stopped:
            break  # jobs of a batch that failed still run
    return Settled(released, cancelled, refused, is_stopping)


def fold_and_settle(jar: Jar) -> Settled:
    """Fold the journals, then `settle_dependents`: for programs that have ended jobs, or submitted dependents of ended ones."""
    jar.has_new_dependents = False
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
    return settle_dependents(jar)


def _judge(
    jar: Jar, connection: Connection, uids: Sequence[str], batches: dict[str, End], by: str
) -> tuple[list[SteeredJob], dict[str, list[SteeredJob]]]:
    """The dependents to release, and those to cancel by the messages that say why. Journals the ends of the tasks that are
    cancelled. Raises OSError."""
    release: list[int] = []
    cancel: dict[str, list[int]] = {}
    tasks: dict[int, Mapping[int, str]] = {}
    for uid in uids:
        judged = judge_dependent(connection, uid, batches)
        if judged is not None and judged.word == RELEASE:
            release.append(judged.row)
        elif judged is not None and judged.word == CANCEL:
            cancel.setdefault(judged.message, []).append(judged.row)
        if judged is not None and judged.tasks:
            tasks[judged.row] = judged.tasks
    if tasks:
        order = new_id()  # two nodes may do this at once: their entries are of two attempts
        jobs = steered_jobs(connection, tasks)
        entries = [entry for known in jobs for entry in _end(connection, known, tasks[known.job.row], by, order)]
        # The tasks have ended before anybody can claim their chunks.
        jar.journal.append(entries, durable=True)
    by_message = {message: list(steered_jobs(connection, rows)) for message, rows in cancel.items()}
    return list(steered_jobs(connection, release)), by_message


def _end(
    connection: Connection, known: SteeredJob, messages: Mapping[int, str], by: str, order: str
) -> Iterator[Entry]:
    """The entries that end tasks of a chunk."""
    array = array_of(connection, str(known.job.batch))
    if array is None:
        return iter(())
    ended = ended_numbers(connection, array.id, min(messages), max(messages))
    left = [(number, message) for number, message in messages.items() if number not in ended]
    return cancelled_tasks(array.uid, by, order, known.job.seed or 0, left)


def _cancel(jar: Jar, by: str, refused: list[str], message: str, jobs: Sequence[SteeredJob]) -> int:
    """Cancel dependents for one reason; returns how many. Raises CannotUseJar: recovery does the rest."""
    taken = []
    try:
        order = begin_cancellation(jar, by, message)
        for known in jobs:
            try:
                taken.append((take(jar, order, known.job), known.job, known.own_name))
            except FileNotFoundError:
                pass  # somebody moved it: that move is journaled, or is found
            except OSError as error:
                refused.append(f"{known.title}: {explain_at(error, jar.layout.path(known.job.place))}")
        if taken:
            complete_taken(jar, order, taken)
        end_cancellation(jar, order.id)
        sync_directory(jar.layout.limbo)
    except OSError as error:
        reason = f"{explain_at(error, jar.layout.limbo)}; recover_jobs does the rest"
        raise CannotUseJar(action="cancel jobs in", path=jar.layout.home, reason=reason) from error
    return len(taken)
