"""Cancel single tasks of an array, on any node; or kill those that run.

An order for the array's workers comes first (arrays/orders.py). Then this journals the ends of those tasks that no worker holds,
and waits for the others until their workers have journaled them. Of a worker that claimed such a task meanwhile the first end
stands, as of any two. Killed midway, the order stays: whoever holds the chunks does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from jobjar import control
from jobjar.access.refusals import explain_at
from jobjar.arrays.ending import cancelled_tasks
from jobjar.arrays.open_tasks import NOT_RUN, RUNNING, OpenChunk, OpenTasks, whole
from jobjar.arrays.orders import Order, give_order
from jobjar.attempts.attempt import CANCELLED
from jobjar.errors import CannotUseJar, JarError, NotRunning, NotSteered
from jobjar.host import login, node_name
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.journal.read import Entry
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_arrays import ArrayRow, latest_life, outcomes_in
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals
from jobjar.recovery.recover import Recovery, recover_worker
from jobjar.roster import read_worker
from jobjar.selecting.arrays import Tasks, name_tasks
from jobjar.steering.verb import SteeredTasks

_END_WITHIN_S, _LOOK_EVERY_S, _SHOWS_WITHIN_S = 10.0, 0.1, 1.0
# So many entries are journaled together.
_TOGETHER = 40
# The tasks that it was done to, and what it was not done to, with the reasons.
Done = tuple[SteeredTasks, list[JarError]]


class _Cancelling:
    """One order, until what it names has ended."""

    def __init__(self, jar: Jar, tasks: Tasks, reason: str | None, end_chunks: Callable[[list[int]], object]) -> None:
        self.end_chunks = end_chunks
        self._jar, self._array, self._ranges = jar, tasks.array, tasks.ranges or whole(tasks.array)
        self._name, self._by = new_id(), login()
        self._message = f"cancelled by {self._by}{f': {reason}' if reason else ''}"

    def give(self, connection: Connection) -> None:
        order = Order(self._ranges, latest_life(connection, self._array.id), self._message)
        path = self._jar.layout.batch(self._array.uid).array
        try:
            give_order(self._jar, self._array.uid, self._name, order)
        except OSError as error:
            raise CannotUseJar(action="write to", path=path, reason=explain_at(error, path)) from error

    def end_waiting(self, connection: Connection, tasks: OpenTasks, numbers: Sequence[int]) -> list[int]:
        """Journal the ends of those of these tasks that no worker holds. Returns the chunks, by row, that have none left."""
        of_chunks: dict[OpenChunk, list[int]] = {}
        for number, one in tasks.chunks_of(numbers).items():
            if one.chunk.state != "claimed":
                of_chunks.setdefault(one, []).append(number)
        entries = [entry for one, some in of_chunks.items() for entry in self._entries(some, one.chunk.seed or 0)]
        try:
            for begin in range(0, len(entries), _TOGETHER):
                self._jar.journal.append(entries[begin : begin + _TOGETHER], durable=True)
        except OSError as error:
            path = self._jar.journal.path
            raise CannotUseJar(action="use the journal", path=path, reason=explain_at(error, path)) from error
        if entries:
            fold_journals(connection, self._jar.layout)
        return [one.chunk.row for one in of_chunks if next(tasks.not_ended([_bounds(one)]), None) is None]

    def _entries(self, numbers: Sequence[int], life: int) -> Iterator[Entry]:
        by, tasks = f"{self._by}@{node_name()}", [(number, self._message) for number in numbers]
        return cancelled_tasks(self._array.uid, by, self._name, life, tasks)


def cancel_tasks(
    jar: Jar, tasks: Tasks, reason: str | None, is_dry_run: bool, end_chunks: Callable[[list[int]], object]
) -> Done:
    """Cancel tasks of an array. `end_chunks` cancels the chunks (by row) that have none left. The caller brings the ledger up to
    date. Raises CannotUseJar, LedgerError."""
    array, connection = tasks.array, jar.ledger.connection
    ranges = tasks.ranges or whole(array)
    now = OpenTasks(connection, array)
    states = now.states_of(list(now.not_ended(ranges)))
    before = outcomes_in(connection, array.id, ranges)
    cancelling = _Cancelling(jar, tasks, reason, end_chunks)
    # A part of a chunk that is just given to another worker shows nowhere for a moment.
    is_shared = any(one.chunk.state == "claimed" for one in now.chunks)
    left = [number for number, state in states.items() if state != NOT_RUN or is_shared]
    unfinished: list[int] = []
    if left and not is_dry_run:
        with jar.ledger.writing() as writing:
            fold_journals(writing, jar.layout)
            cancelling.give(writing)
        unfinished = _wait(jar, array, cancelling, left)
    errors: list[JarError] = []
    ended = {
        number: outcome for number, outcome in outcomes_in(connection, array.id, ranges).items() if number in states
    }
    done = [number for number in left if is_dry_run or ended.get(number) == CANCELLED]
    others = {**before, **{number: outcome for number, outcome in ended.items() if outcome != CANCELLED}}
    if others:
        errors.append(
            _explain(array, sorted(others), f"it has ended ({next(iter(others.values()))})", "they have ended")
        )
    gone = [number for number, state in states.items() if state == NOT_RUN and number not in ended]
    if gone:
        unfinished = [number for number in unfinished if number not in set(gone)]
        errors.append(_explain(array, gone, "its chunk was cancelled before", "their chunks were cancelled before"))
    if unfinished:
        why = "the worker was asked to end {}, and has not yet; if it is dead, recover_jobs gives the rest to another"
        errors.append(_explain(array, unfinished, why.format("it"), why.format("them")))
    running = sum(states[number] == RUNNING for number in done)
    return SteeredTasks(array.uid, len(done) - running, running), errors


def kill_tasks(jar: Jar, tasks: Tasks) -> list[str]:
    """Ask the workers that run these tasks to kill them; of a whole array, all that run. Returns the workers' names. Raises
    NotRunning if none of them runs."""
    array, connection = tasks.array, jar.ledger.connection
    now = OpenTasks(connection, array)
    running = {number: one for one in now.chunks if (number := now.at_work(one)) is not None}
    if tasks.ranges is None:
        wanted = sorted(running)
    else:
        wanted = [number for number in now.not_ended(tasks.ranges) if number in running]
    workers = []
    for number in wanted:
        chunk = running[number].chunk
        worker = worker_of_place(chunk.place)
        if worker is not None and chunk.uid is not None:
            control.request_task_kill(jar.layout, worker, chunk.uid, chunk.attempts, number)
            workers.append(worker)
    if workers:
        return workers
    ended = outcomes_in(connection, array.id, tasks.ranges or ())
    title = array.uid if tasks.ranges is None else name_tasks(array, tasks.ranges)
    state = f"ended ({next(iter(ended.values()))})" if len(ended) == 1 else "ended" if ended else "waiting"
    what_next = f"`jobjar retry {title}` runs it again" if ended else f"`jobjar cancel {title}` keeps it from running"
    raise NotRunning(job=title, state=state, what_next=what_next)


def _wait(jar: Jar, array: ArrayRow, cancelling: _Cancelling, numbers: list[int]) -> list[int]:
    """Wait until tasks have ended; returns those that have not in time."""
    began = time.monotonic()
    deadline = began + jar.settings.grace_time_s + jar.settings.poll_time_s + _END_WITHIN_S
    recovered: set[str] = set()
    unfinished: list[int] = []
    while True:
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            now = OpenTasks(connection, array)
            numbers = list(_still_open(now, numbers))
            emptied = cancelling.end_waiting(connection, now, numbers)
            numbers = list(_still_open(now, numbers))
        if emptied:
            cancelling.end_chunks(emptied)
        if time.monotonic() > began + _SHOWS_WITHIN_S:
            chunks = now.chunks_of(numbers)
            unfinished += [number for number in numbers if number not in chunks]
            numbers = sorted(chunks)
        if not numbers or time.monotonic() > deadline:
            return unfinished + numbers
        _recover_dead(jar, now, numbers, recovered)
        time.sleep(_LOOK_EVERY_S)


def _still_open(tasks: OpenTasks, numbers: Sequence[int]) -> Iterator[int]:
    wanted = set(numbers)
    return (number for number in tasks.not_ended([(numbers[0], numbers[-1])] if numbers else ()) if number in wanted)


def _recover_dead(jar: Jar, tasks: OpenTasks, numbers: Sequence[int], recovered: set[str]) -> None:
    """Recover the dead workers of this node that hold some of these tasks: their chunks go back."""
    workers = {worker_of_place(one.chunk.place) for one in set(tasks.chunks_of(numbers).values())}
    for name in sorted(filter(None, workers - recovered)):
        recovered.add(name)
        worker = read_worker(jar.layout, name)
        if worker is not None and worker.is_to_recover:
            recover_worker(jar, worker, Recovery())


def _bounds(one: OpenChunk) -> tuple[int, int]:
    return one.part.first, one.part.last


def _explain(array: ArrayRow, numbers: Sequence[int], why: str, why_all: str) -> NotSteered:
    title = name_tasks(array, [(number, number) for number in numbers])
    return NotSteered(
        job=title, done=CANCELLED, reason=why if len(numbers) == 1 else f"{len(numbers):,} tasks: {why_all}"
    )
