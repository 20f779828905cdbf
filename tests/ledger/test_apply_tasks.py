"""The ends of tasks in a ledger (ledger/apply_tasks.py): the same in any order, each task once, counts kept."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from jobjar.journal.entries import About, batch_entry, tasks_entry
from jobjar.journal.read import Entry
from jobjar.ledger.apply import apply_entries
from jobjar.ledger.ask_arrays import (
    array_of,
    ends_of_tasks,
    failures_by_status,
    recent_tasks,
    task_outcomes,
    tasks_before,
)
from jobjar.ledger.migrate import migrate
from jobjar.ledger.rebuild import dump_ledger
from jobjar.ledger.store import driver

ARRAY = "arrayarray12"
LAST = 12


def new_ledger() -> Any:
    connection = driver.connect(":memory:", isolation_level=None)
    migrate(connection, ":memory:")
    return connection


def batch(lives: list[list[int]], changed_at: float) -> Entry:
    return batch_entry(
        ARRAY,
        submitter="ann",
        submitted_at=1.0,
        description="",
        changed_at=changed_at,
        jobs=3,
        notes=None,
        is_aborted=False,
        restarted_until=0.0,
        array={"first": 1, "last": LAST, "step": 1, **({"lives": lives} if lives else {})},
    )


@st.composite
def ends(draw: st.DrawFn) -> Entry:
    """An entry of some tasks: of any chunk, worker and life, with ends that other entries tell of too."""
    numbers = draw(st.lists(st.integers(1, LAST), min_size=1, max_size=5))
    rows: list[list[Any]] = []
    for number in numbers:
        row: list[Any] = [number, draw(st.sampled_from([0, 0, 1, -9, None])), draw(st.integers(0, 3)), 5, 4, 3, 100, 2]
        row += draw(st.sampled_from([[], [], [1], [2, 1, None], [1, 0, "why"]]))
        rows.append(row)
    life = draw(st.integers(0, 2))  # a chunk has one
    about = About(
        f"chunk{life}{draw(st.integers(1, 2))}", draw(st.integers(1, 2)), "rain.7", draw(st.sampled_from("ab"))
    )
    return tasks_entry(about, ARRAY, draw(st.integers(10_000, 10_002)), 0, rows, "x.out", life)


def without_impossible(entries: list[Entry]) -> list[Entry]:
    """Without second ends of a task in one run at one time: a worker gives them different times."""
    seen = set()
    for entry in entries:
        about = (entry["job"], entry["attempt"], entry["worker_uid"])
        rows = []
        for row in entry["ended"]:
            key = (*about, row[0], entry["at_ms"] + row[2])
            if key not in seen:
                rows.append(row)
            seen.add(key)
        entry["ended"] = rows
    return [entry for entry in entries if entry["ended"]]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(entries=st.lists(ends(), max_size=6), lives=st.lists(st.tuples(st.integers(1, 2), st.integers(1, LAST)), max_size=3),
       seed=st.integers(0, 1000))  # fmt: skip
def test_tasks_give_the_same_ledger_in_any_order_and_twice(
    entries: list[Entry], lives: list[tuple[int, int]], seed: int
) -> None:
    opened = [[life, first, min(LAST, first + 2)] for life, first in lives]
    history = [*without_impossible(entries), batch([], 1.0), batch(opened, 2.0)]
    first = new_ledger()
    assert apply_entries(first, history) == 0
    shuffled = random.Random(seed).sample(history, len(history)) + history[:2]
    second = new_ledger()
    for entry in shuffled:
        assert apply_entries(second, [entry]) == 0
    assert dump_ledger(first) == dump_ledger(second)
    for connection in (first, second):
        array = array_of(connection, ARRAY)
        assert array is not None and array.tasks == LAST
        outcomes = [end.outcome for end in ends_of_tasks(connection, array.id, 1, LAST)]
        assert array.succeeded == outcomes.count("succeeded")
        assert array.failed == len(outcomes) - array.succeeded
        assert sum(count for _, _, count, _ in failures_by_status(connection, array.id)) == array.failed
        assert task_outcomes(connection, array.id) == dict(Counter(outcomes))
        assert {row.outcome: row.last_day for row in recent_tasks(connection, 60.0)} == dict(Counter(outcomes))
        connection.close()


def test_the_first_end_stands_and_a_later_life_opens_it_again() -> None:
    connection = new_ledger()
    worker = About("chunk1", 1, "rain.7", "a")
    late, early = (
        tasks_entry(worker, ARRAY, 2000, 7, [[3, 1, 0, 5, 4, 3, 100, 2]]),
        tasks_entry(About("chunk1", 2, "fog.8", "b"), ARRAY, 1000, 0, [[3, 0, 0, 5, 4, 3, 100, 2]]),
    )
    apply_entries(connection, [late, early])
    array = array_of(connection, ARRAY)
    assert array is not None and (array.succeeded, array.failed) == (1, 0)
    [end] = ends_of_tasks(connection, array.id, 1, 9)
    assert (end.worker, end.outcome, end.ended_ms) == ("fog.8", "succeeded", 1000)
    apply_entries(connection, [batch([[1, 2, 4]], 2.0)])
    assert tasks_before(connection, ARRAY, 1, 9, 1).ended == frozenset()
    apply_entries(connection, [tasks_entry(worker, ARRAY, 500, 0, [[3, 0, 0, 5, 4, 3, 100, 2]])])
    assert list(ends_of_tasks(connection, array.id, 1, 9)) == [], "an end of the life before stands no longer"
    apply_entries(connection, [tasks_entry(worker, ARRAY, 900, 0, [[3, 2, 0, 5, 4, 3, 100, 2]], life=1)])
    [end] = ends_of_tasks(connection, array.id, 1, 9)
    assert (end.status, end.ended_ms) == (2, 900)


@pytest.mark.parametrize(
    "change",
    [
        {"ended": []},
        {"ended": [[1, 0]]},
        {"ended": [[1, 0, 0, 0, 0, 0, 0, "8"]]},
        {"ended": [[1, 0, 0, 0, 0, 0, 0, 1 << 60]]},
        {"ended": [[-1, 0, 0, 0, 0, 0, 0, 0]]},
        {"ended": [[1, 0, 0, 0, 0, 0, 0, -1]]},
        {"ended": [[1, None, 0, 0, 0, 0, 0, 0, 9]]},
        {"ended": [[1, 0, 0, 0, 0, 0, 0, 0, 1, 2, None]]},
        {"ended": [[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 5]]},
        {"ended": {"1": 0}},
        {"array": "../x"},
        {"array": None},
        {"life": -1},
        {"output": "../../etc/passwd"},
        {"at_ms": "now"},
        {"offset": 1.5},
        {"worker": "a/b"},
    ],
)
def test_an_entry_that_makes_no_sense_is_skipped_and_the_others_are_applied(change: dict[str, Any]) -> None:
    connection = new_ledger()
    good = tasks_entry(About("chunk1", 1, "rain.7", "a"), ARRAY, 1000, 0, [[3, 0, 0, 5, 4, 3, 100, 2]])
    assert apply_entries(connection, [{**good, **change}, good]) == 1
    array = array_of(connection, ARRAY)
    assert array is not None and (array.succeeded, array.failed) == (1, 0)
