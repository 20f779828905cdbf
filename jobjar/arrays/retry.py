"""Run the tasks of an array again that ended without success: open them again, and submit chunks over them.

It is one change of the array's batch (batches/change.py). The entry of the batch says which tasks are open again, and is
journaled before the chunks can be claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobjar.arrays.chunk_size import choose_size
from jobjar.arrays.definition import read_definition
from jobjar.arrays.indexes import range_in_name
from jobjar.arrays.submit import make_chunk
from jobjar.batches.change import commit, making, stage_jobs, take_batch
from jobjar.batches.state import disk_now, read_batch
from jobjar.errors import NotSteered
from jobjar.jar import Jar
from jobjar.job_file.seeds import join_ranges
from jobjar.ledger.ask_arrays import array_of, chunks_cut_short, ended_numbers, unsuccessful_numbers
from jobjar.ledger.fold import fold_journals
from jobjar.stages.submit import Submission


def retry_tasks(jar: Jar, uid: str, ranges: Sequence[tuple[int, int]] | None = None) -> int:
    """Run again what ended without success: of the whole array, or in these ranges of indexes. Returns how many tasks.

    Raises UnknownBatch, BatchBusy, NotSteered (there is none), SubmitFailed (nothing was changed), BatchUnfinished.
    """
    definition = read_definition(jar.layout, uid)
    change = take_batch(jar, uid)
    with making(jar, change, f"the retry of array {uid}"):
        state = read_batch(jar, uid)
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
        if ranges is not None:
            numbers = {number for number in numbers if any(first <= number <= last for first, last in ranges)}
        if not numbers:
            raise NotSteered(job=uid, done="retried", reason="none of its tasks ended without success")
        known = dict(state.data["array"])
        life = 1 + max((one[0] for one in known.get("lives", [])), default=0)
        reopened = join_ranges((number, number) for number in numbers & failed).ranges
        known["lives"] = [*known.get("lives", []), *([life, first, last] for first, last in reopened)]
        count = stage_jobs(jar, change, _chunks(known, uid, sorted(numbers), life))
        changed = {
            "array": known,
            "is_aborted": False,
            "jobs": state.data["jobs"] + count,
            "changed_at": disk_now(jar, state.changed_at),
        }
        commit(jar, change, {**state.data, **changed})
    return len(numbers)


def _chunks(known: Mapping[str, Any], uid: str, numbers: list[int], life: int) -> Iterator[Submission]:
    size = choose_size(len(numbers))
    for begin in range(0, len(numbers), size):
        some = numbers[begin : begin + size]
        yield make_chunk(known, uid, (some[0], some[-1]), life)
