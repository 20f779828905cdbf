"""Pilots in a ledger: the same in whatever order entries come; which work counts for them."""

from __future__ import annotations

import random

import pytest

from jobjar.journal.entries import pilot_entry, pilot_queue_entry
from jobjar.journal.read import Entry
from jobjar.ledger.apply import apply_entries
from jobjar.ledger.ask_pilots import (
    count_fitting,
    count_strandings_of_machinery,
    count_unfit,
    pilot_queues,
    pilots_of,
    revisions,
)
from jobjar.ledger.rebuild import dump_ledger
from tests.ledger.test_dependents import new_ledger, submitted


def queue(changed_at: float, is_gone: bool = False, **more: object) -> Entry:
    return pilot_queue_entry(
        "night", changed_at, is_gone, **{"system": "slurm", "plan": "{}", "failures": 0, "said": "", **more}
    )


def pilot(number: int, revision: int, state: str, **more: object) -> Entry:
    about = {"queue": "night", "number": number, "name": f"jj{number}", "revision": revision, "state": state}
    return pilot_entry(**about, intended_at=9.0 + number, since=9.0 + revision, **more)


HISTORY = [
    queue(1.0),
    queue(2.0, paused_at=2.0, paused_by="ann", paused_why="why"),
    queue(3.0, failures=1, said="refused"),
    *(
        pilot(1, 1, "intended"),
        pilot(1, 2, "waiting", system_id="7"),
        pilot(1, 3, "running", worker="n1.7", worker_id="w1"),
    ),
    pilot(1, 4, "ended", worker="n1.7", worker_id="w1", ended_at=13.0, end_reason="preempted"),
    *(pilot(2, 1, "intended"), pilot(2, 2, "waiting", system_id="8", reason="Resources")),
]


@pytest.mark.parametrize("seed", range(6))
def test_the_latest_of_a_queue_and_of_each_pilot_stands_in_any_order(seed: int) -> None:
    entries, chance = [*HISTORY, *HISTORY[:3]], random.Random(seed)
    chance.shuffle(entries)
    connection = new_ledger()
    while entries:
        size = chance.randint(1, 5)
        assert apply_entries(connection, entries[:size]) == 0
        entries = entries[size:]
    expected = new_ledger()
    apply_entries(expected, HISTORY)
    assert dump_ledger(connection) == dump_ledger(expected)
    [row] = pilot_queues(connection)
    assert (row.failures, row.said, row.paused_at) == (1, "refused", None)
    [out] = pilots_of(connection, "night")
    assert (out.number, out.state, out.reason) == (2, "waiting", "Resources")
    assert [one.end_reason for one in pilots_of(connection, "night", ended=5)] == ["preempted", None]
    assert revisions(connection, ["jj1", "jj2", "jj3"]) == {"jj1": 4, "jj2": 2}
    assert apply_entries(connection, [queue(4.0, is_gone=True)]) == 0 and pilot_queues(connection) == []


def test_an_entry_that_no_pilot_can_have_is_refused() -> None:
    for wrong in (
        {"name": "../x"},
        {"number": -1},
        {"revision": "1"},
        {"state": ""},
        {"since": "now"},
        {"worker_id": 7},
    ):
        assert apply_entries(new_ledger(), [{**HISTORY[3], **wrong}]) == 1
    assert apply_entries(new_ledger(), [{**HISTORY[0], "queue": "a/b"}]) == 1


def test_what_has_no_time_in_a_pilot_or_must_wait_does_not_count() -> None:
    connection = new_ledger()
    for uid, more in (("a" * 12, {}), ("b" * 12, {"time_limit_s": 50.0}), ("c" * 12, {"time_limit_s": 500.0})):
        entries = submitted(uid)
        entries[0].update(more)
        apply_entries(connection, entries)
    assert count_fitting(connection, ("",), 100.0, 1e9, 10) == (2, {""})
    assert count_fitting(connection, ("",), 100.0, 1e9, 1) == (1, {""})
    assert count_fitting(connection, ("OTHER",), 100.0, 1e9, 10) == (0, set())
    assert count_unfit(connection, "", 100.0) == 1


def test_a_stranding_counts_for_the_machinery_once_the_pilot_s_end_is_known() -> None:
    connection = new_ledger()
    about = {"job": "a" * 12, "attempt": 1, "worker": "n1.7", "worker_uid": "w1"}
    stranded = {"entry": "ended", **about, "ended_at": 20.0, "outcome": "stranded", "final": False}
    apply_entries(connection, [*submitted("a" * 12), stranded, *HISTORY[3:6]])
    assert count_strandings_of_machinery(connection, "a" * 12) == 0
    apply_entries(connection, [HISTORY[6]])
    assert count_strandings_of_machinery(connection, "a" * 12) == 1
