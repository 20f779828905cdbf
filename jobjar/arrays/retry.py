"""Run the tasks of an array again that ended without success: open them again, and submit chunks over them.

It is one change of the array's batch (batches/change.py). The entry of the batch says which tasks are open again, and is
journaled before the chunks can be claimed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jobjar.access.refusals import explain_at
from jobjar.arrays.chunk_size import choose_size
from jobjar.arrays.definition import Definition, read_definition
from jobjar.arrays.indexes import Indexes, range_in_name
from jobjar.arrays.submit import NOTHING, make_chunk
from jobjar.batches.change import commit, making, stage_jobs, take_batch
from jobjar.batches.state import disk_now, read_batch
from jobjar.errors import CannotUseJar, NotSteered
from jobjar.jar import Jar
from jobjar.job_file.prerequisites import AFTER_EACH, TASKS, Meant
from jobjar.job_file.seeds import join_ranges
from jobjar.ledger.ask_arrays import array_of, chunks_cut_short, ended_numbers, has_open_chunks, unsuccessful_numbers
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.judge_dependents import end_of_batch
from jobjar.ledger.partners import arrays_after, cancelled_after, open_partners
from jobjar.shared_disk.contents import Unreadable
from jobjar.stages.submit import Submission


def retry_tasks(
    jar: Jar, uid: str, ranges: Sequence[tuple[int, int]] | None = None, is_dry_run: bool = False
) -> list[int]:
    """Run again what ended without success: of the whole array, or in these ranges of indexes. A task waits for its partner in
    another array (`after_each`) if that has not ended. Returns the indexes; with `is_dry_run`, those that it would be.

    Raises UnknownBatch, CannotUseJar, BatchBusy, NotSteered (there is none), SubmitFailed (nothing was changed), BatchUnfinished.
    """
    if is_dry_run:
        return _find_again(jar, uid, ranges).wanted
    change = take_batch(jar, uid)
    with making(jar, change, f"the retry of array {uid}"):
        state = read_batch(jar, uid)
        wanted, failed, breaks = _find_again(jar, uid, ranges)
        known = dict(state.data["array"])
        waiting = _find_waiting(jar, known.get("after_each", ()), wanted)
        breaks |= {after for before, after in itertools.pairwise(wanted) if (before in waiting) != (after in waiting)}
        life = 1 + max((one[0] for one in known.get("lives", [])), default=0)
        reopened = join_ranges((number, number) for number in wanted if number in failed).ranges
        known["lives"] = [*known.get("lives", []), *([life, first, last] for first, last in reopened)]
        count = stage_jobs(jar, change, _chunks(known, uid, wanted, breaks, life, waiting))
        changed = {
            "array": known,
            "is_aborted": False,
            "jobs": state.data["jobs"] + count,
            "changed_at": disk_now(jar, state.changed_at),
        }
        commit(jar, change, {**state.data, **changed})
    if waiting:
        jar.has_new_dependents = True
    return wanted


def find_dependents(jar: Jar, uid: str, numbers: Sequence[int]) -> dict[str, list[tuple[int, int]]]:
    """The tasks of other arrays, as ranges, that were cancelled because of these tasks."""
    connection = jar.ledger.connection
    found = {array: cancelled_after(connection, array, uid) & set(numbers) for array in arrays_after(connection, uid)}
    return {
        array: list(join_ranges((number, number) for number in sorted(tasks)).ranges)
        for array, tasks in found.items()
        if tasks
    }


def _find_waiting(jar: Jar, arrays: Sequence[str], numbers: Sequence[int]) -> set[int]:
    """Those of these tasks that have partners in these arrays which are still to run."""
    connection = jar.ledger.connection
    return {
        number
        for array in arrays
        if not end_of_batch(connection, array, {}).is_ended
        for number in open_partners(connection, array, numbers)
    }


class _Again(NamedTuple):
    """The tasks to run again, in order; those that ended without success (some of the former never ran); and before which of
    them a chunk has to end."""

    wanted: list[int]
    failed: set[int]
    breaks: set[int]


def _find_again(jar: Jar, uid: str, ranges: Sequence[tuple[int, int]] | None) -> _Again:
    """Find what to run again. Raises CannotUseJar, NotSteered (there is nothing)."""
    definition = _read(jar, uid)
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        array = array_of(connection, uid)
        failed = set() if array is None else set(unsuccessful_numbers(connection, array.id))
        numbers = set(failed)
        chunks = [] if array is None else chunks_cut_short(connection, uid)
        for name in chunks:
            found = range_in_name(name)
            part = None if found is None else definition.indexes.within(*found)
            if part is not None and array is not None:
                numbers |= set(part) - ended_numbers(connection, array.id, part.first, part.last)
        has_more = array is not None and array.succeeded + array.failed < definition.indexes.count
        if array is not None and has_more and not has_open_chunks(connection, uid):
            # Somebody removed a chunk, or cut its range off.
            whole = definition.indexes
            numbers |= set(whole) - ended_numbers(connection, array.id, whole.first, whole.last)
        if ranges is not None:
            numbers = {number for number in numbers if any(first <= number <= last for first, last in ranges)}
        wanted = sorted(numbers)
        breaks = set() if array is None or not has_more else _breaks(connection, array.id, definition.indexes, wanted)
    if not wanted:
        raise NotSteered(job=uid, done="retried", reason="none of its tasks ended without success")
    return _Again(wanted, failed, breaks)


def _read(jar: Jar, uid: str) -> Definition:
    path = jar.layout.batch(uid).file
    try:
        return read_definition(jar.layout, uid)
    except (Unreadable, OSError) as error:
        reason = str(error) if isinstance(error, Unreadable) else explain_at(error, path)
        raise CannotUseJar(action="read", path=path, reason=reason) from error


def _breaks(connection: Connection, array: int, indexes: Indexes, wanted: Sequence[int]) -> set[int]:
    """Those of the tasks that come after one which has not ended and is not to run again: it belongs to another chunk. A chunk
    passes over the tasks that have ended."""
    return {
        after
        for before, after in itertools.pairwise(wanted)
        if (gap := (after - before) // indexes.step - 1)
        and len(ended_numbers(connection, array, before + 1, after - 1)) < gap
    }


def _chunks(
    known: Mapping[str, Any], uid: str, numbers: Sequence[int], breaks: set[int], life: int, waiting: set[int]
) -> Iterator[Submission]:
    size = choose_size(len(numbers))
    each: Meant = {AFTER_EACH: [{TASKS: array} for array in known.get("after_each", ())]}
    some: list[int] = []

    def chunk() -> Submission:
        return make_chunk(known, uid, (some[0], some[-1]), life, awaited=each if some[0] in waiting else NOTHING)

    for number in numbers:
        if some and (len(some) == size or number in breaks):
            yield chunk()
            some = []
        some.append(number)
    if some:
        yield chunk()
