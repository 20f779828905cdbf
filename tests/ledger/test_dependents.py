"""Which dependents are due, and what becomes of them: in whatever order, and in whatever pieces, entries are folded."""

from __future__ import annotations

import random
from typing import Any

import pytest

from jobjar.journal.read import Entry
from jobjar.ledger.apply import apply_entries
from jobjar.ledger.dependents import due_dependents, forget_due
from jobjar.ledger.driver import Connection
from jobjar.ledger.due import has_due
from jobjar.ledger.judge_dependents import CANCEL, RELEASE, WAIT, Judgement, judge_dependent
from jobjar.ledger.migrate import migrate
from jobjar.ledger.rebuild import dump_ledger
from jobjar.ledger.store import driver


def new_ledger() -> Connection:
    connection: Connection = driver.connect(":memory:", isolation_level=None)
    migrate(connection, ":memory:")
    return connection


def submitted(uid: str, given: dict[str, Any] | None = None, batch: str | None = None) -> list[Entry]:
    """The entries of a submission: into limbo with prerequisites, else to unclaimed."""
    name = f"20260102T030405Z-{uid}-rain-1-1-ann.0"
    more = {"given": given} if given else {}
    of_batch = {"batch": batch} if batch else {}
    about = {"name": name, "category": "", "submitter": "ann", "submitted_at": 10.0, **more, **of_batch}
    move = {"number": 1, "from": f"limbo/{name}", "moved_at": 10.0, "reason": "submitted", "by": "ann"}
    where = {"to": f"limbo/{name}", "held_reason": "dependent on others", "category": ""} if given else {}
    return [
        {"entry": "submitted", "job": uid, **about},
        {"entry": "moved", "job": uid, **move, "to": f"unclaimed/{name}", **where},
    ]


def ended(uid: str, outcome: str, at: float = 20.0) -> list[Entry]:
    """The entries of a run: claimed, ended, moved to completed/."""
    name = f"20260102T030405Z-{uid}-rain-1-1-ann.0"
    run = {"worker": "rain.7", "worker_uid": "wkr1", "attempt": 1}
    held = f"workers/rain.7/jobs/{name}"
    claim = {"from": f"unclaimed/{name}", "to": held, "reason": "claimed", "by": "rain.7"}
    done = {"from": held, "to": f"completed/{name}", "reason": "completed", "by": "rain.7", "category": ""}
    return [
        {"entry": "moved", "job": uid, "number": 2, "moved_at": at, **claim, **run},
        {"entry": "ended", "job": uid, **run, "ended_at": at + 1, "outcome": outcome, "final": True},
        {"entry": "moved", "job": uid, "number": 3, "moved_at": at + 1, **done},
    ]


def look(connection: Connection) -> dict[str, Judgement]:
    """Judge what is due, as settle_dependents does; what has to wait is not due any more."""
    judged = {}
    for uid in due_dependents(connection, 100):
        found = judge_dependent(connection, uid, {})
        if found is None or found.word == WAIT:
            forget_due(connection, [uid])
        else:
            judged[uid] = found
    return judged


@pytest.mark.parametrize("seed", range(30))
def test_no_end_is_missed_in_any_order_and_with_a_look_at_any_time(seed: int) -> None:
    chance = random.Random(seed)
    entries = [
        *submitted("aaaaaaaaaaaa"),
        *submitted("bbbbbbbbbbbb", batch="many"),
        *submitted("cccccccccccc", batch="many"),
        *ended("aaaaaaaaaaaa", "succeeded"),
        *ended("bbbbbbbbbbbb", "succeeded"),
        *ended("cccccccccccc", chance.choice(["succeeded", "failed"])),
        *submitted("dddddddddddd", {"after": [{"job": "aaaaaaaaaaaa"}, {"batch": "many"}]}),
        *submitted("eeeeeeeeeeee", {"after_failed": [{"job": "cccccccccccc"}], "after_any": [{"job": "aaaaaaaaaaaa"}]}),
        *submitted("ffffffffffff", {"after": [{"job": "eeeeeeeeeeee"}]}),
    ]
    outcome = entries[13]["outcome"]
    in_order = new_ledger()
    assert apply_entries(in_order, entries) == 0
    shuffled = entries[:]
    chance.shuffle(shuffled)
    connection = new_ledger()
    while shuffled:
        taken = chance.randint(1, 6)
        assert apply_entries(connection, shuffled[:taken]) == 0
        shuffled = shuffled[taken:]
        if chance.random() < 0.7:
            look(connection)
    expected = {"dddddddddddd": RELEASE, "eeeeeeeeeeee": CANCEL}
    if outcome == "failed":
        expected = {"dddddddddddd": CANCEL, "eeeeeeeeeeee": RELEASE}
    assert {uid: judged.word for uid, judged in look(connection).items()} == expected
    assert {uid: judged.word for uid, judged in look(in_order).items()} == expected
    assert dump_ledger(connection) == dump_ledger(in_order)


def test_a_dependent_of_many_is_looked_at_once_none_of_them_is_open() -> None:
    connection = new_ledger()
    many = [f"{number:012d}" for number in range(300)]
    apply_entries(connection, [entry for uid in many for entry in submitted(uid)])
    apply_entries(connection, submitted("dddddddddddd", {"after": [{"job": uid} for uid in many]}))
    assert look(connection) == {}
    judged = 0
    for uid in random.Random(1).sample(many, len(many)):
        apply_entries(connection, ended(uid, "succeeded"))
        judged += len(due_dependents(connection, 100))
        if judged:
            break
    assert uid and not has_open(connection, many) and judged == 1
    assert {uid: found.word for uid, found in look(connection).items()} == {"dddddddddddd": RELEASE}
    # One that fails is enough, while others run.
    apply_entries(connection, [*submitted("aaaaaaaaaaaa"), *submitted("bbbbbbbbbbbb")])
    both = {"after": [{"job": "aaaaaaaaaaaa"}, {"job": "bbbbbbbbbbbb"}]}
    apply_entries(connection, submitted("eeeeeeeeeeee", both))
    look(connection)
    apply_entries(connection, ended("bbbbbbbbbbbb", "timed_out"))
    assert look(connection)["eeeeeeeeeeee"].message == "its prerequisite bbbbbbbbbbbb timed out"


def has_open(connection: Connection, uids: list[str]) -> bool:
    marks = ",".join("?" * len(uids))
    query = f"SELECT 1 FROM job WHERE uid IN ({marks}) AND state <> 'completed'"
    return connection.execute(query, uids).fetchone() is not None


def test_a_jar_without_dependents_pays_one_look_for_a_chunk_of_entries() -> None:
    connection = new_ledger()
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    apply_entries(connection, [*submitted("aaaaaaaaaaaa"), *ended("aaaaaaaaaaaa", "succeeded")])
    assert [query for query in asked if "prerequisite" in query or "dependents_due" in query] == [
        "SELECT 1 FROM prerequisite LIMIT 1"
    ]
    assert not has_due(connection)


@pytest.mark.parametrize(
    "given",
    [{"after": "aaaaaaaaaaaa"}, {"after": ["aaaaaaaaaaaa"]}, {"after_any": [{"job": 7}]}, {"after": [{"job": ""}]}],
)
def test_prerequisites_that_are_none_make_an_entry_invalid(given: dict[str, Any]) -> None:
    connection = new_ledger()
    [entry, _] = submitted("aaaaaaaaaaaa", {"after": [{"job": "bbbbbbbbbbbb"}]})
    assert apply_entries(connection, [{**entry, "given": given}]) == 1
    assert connection.execute("SELECT count(*) FROM prerequisite").fetchone() == (0,)
    # What a later version may wait for is kept, and keeps the job waiting.
    apply_entries(connection, submitted("aaaaaaaaaaaa", {"after": [{"array": "x[1-7]"}]}))
    assert look(connection) == {} and connection.execute("SELECT count(*) FROM prerequisite").fetchone() == (1,)


def batch(name: str, changed_at: float, **more: Any) -> Entry:
    about = {"submitter": "ann", "submitted_at": 10.0, "description": "", "jobs": 1, "notes": None, "is_aborted": False}
    return {"entry": "batch", "batch": name, **about, "restarted_until": 0.0, "changed_at": changed_at, **more}


def test_a_batch_that_changes_again_before_anybody_looked_at_its_dependents_is_changed() -> None:
    connection = new_ledger()
    apply_entries(connection, [*submitted("aaaa00000000", batch="b"), batch("b", 11.0)])
    apply_entries(connection, submitted("bbbb00000000", {"after": [{"batch": "b"}]}))
    assert [apply_entries(connection, [batch("b", at)]) for at in (12.0, 13.0)] == [0, 0]
    assert connection.execute("SELECT changed_at FROM batch").fetchall() == [(13.0,)]


def tasks(array: str, chunk: str, *ends: tuple[int, int]) -> Entry:
    run = {"job": chunk, "attempt": 1, "worker": "rain.7", "worker_uid": "wkr1"}
    rows = [[number, status, number, 0, 0, 0, 0, 0] for number, status in ends]
    return {"entry": "tasks", **run, "array": array, "at_ms": 20_000, "offset": 0, "ended": rows}


@pytest.mark.parametrize("seed", range(8))
def test_tasks_follow_their_partners_in_whatever_order_entries_are_folded(seed: int) -> None:
    """Array `a` has four tasks, of which the second and the fourth fail; `b` follows it with three chunks."""
    first, second = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")
    indexes = {"first": 1, "last": 4, "step": 1}
    chunks = {f"bchunk00000{part[0]}": part for part in ((1, 2), (3, 3), (4, 4))}
    entries = [
        *(entry for entry in submitted("achunk000000", batch=first)),
        *ended("achunk000000", "succeeded"),
        batch(first, 11.0, array=indexes),
        batch(second, 11.0, array=indexes, jobs=3),
        tasks(first, "achunk000000", (1, 0), (2, 3)),
        tasks(first, "achunk000000", (3, 0), (4, -9)),
    ]
    for uid, part in chunks.items():
        given = {"after_each": [{"tasks": f"{first}[{part[0]}-{part[1]}]"}]}
        entries += submitted(uid, given, batch=second)
    random.Random(seed).shuffle(entries)
    connection, found = new_ledger(), dict[str, Judgement]()
    cut = random.Random(seed).randrange(len(entries))
    for some in (entries[:cut], entries[cut:]):
        assert apply_entries(connection, some) == 0
        found |= look(connection)
    assert {uid: one.word for uid, one in found.items()} == dict(zip(chunks, (RELEASE, RELEASE, CANCEL), strict=True))
    assert found["bchunk000001"].tasks == {2: f"its prerequisite {first}[2] failed"}
    assert found["bchunk000004"].tasks == {4: f"its prerequisite {first}[4] failed"}
    assert not found["bchunk000003"].tasks
    in_order = new_ledger()
    apply_entries(in_order, sorted(entries, key=lambda entry: str(entry)))
    assert dump_ledger(in_order) == dump_ledger(connection)


def test_tasks_whose_chunk_seems_to_be_removed_are_waited_for() -> None:
    first, second, indexes = "aaaaaaaaaaaa", "bbbbbbbbbbbb", {"first": 1, "last": 2, "step": 1}
    connection = new_ledger()
    apply_entries(connection, [*submitted("achunk000000", batch=first), batch(first, 11.0, array=indexes)])
    given = {"after_each": [{"tasks": f"{first}[1-2]"}]}
    apply_entries(connection, [batch(second, 11.0, array=indexes), *submitted("bchunk000000", given, batch=second)])
    # A claimer did not find its file: another node has just moved it.
    connection.execute("UPDATE job SET state = 'removed' WHERE uid = 'achunk000000'")
    apply_entries(connection, [tasks(first, "achunk000000", (1, 0))])
    assert {uid: one.word for uid, one in look(connection).items()} in ({}, {"bchunk000000": WAIT})
    apply_entries(connection, [tasks(first, "achunk000000", (2, 0))])
    assert {uid: one.word for uid, one in look(connection).items()} == {"bchunk000000": RELEASE}
