"""Which batches stop for a failure, and which jobs that stops: in whatever order, and in whatever pieces, entries are folded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import pytest

from jobjar.jar import Jar
from jobjar.journal.entries import LIFE
from jobjar.journal.read import Entry
from jobjar.ledger.apply import apply_entries
from jobjar.ledger.ask_steered import SteeredJob
from jobjar.ledger.dependents import due_dependents
from jobjar.ledger.driver import Connection
from jobjar.ledger.due import has_due
from jobjar.ledger.fail_fast import batches_to_stop, due_batches, last_failure, rest_of_batch
from jobjar.steering.fail_fast import stop_failed_batches
from tests.ledger.test_dependents import ended, new_ledger, submitted

JOBS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd")
FAILED, WAITING, DONE, RUNNING = JOBS


def batch(description: str) -> Entry:
    about = {"submitter": "ann", "submitted_at": 9.0, "changed_at": 9.0, "jobs": 4, "notes": None, "is_aborted": False}
    return {"entry": "batch", "batch": "b", "description": description, "restarted_until": 0.0, **about}


def history(description: str = "fail_fast = yes\nname = b") -> list[Entry]:
    """A job that failed at 21, one that waits, one that succeeded, one that runs; a job of no batch failed too."""
    entries = [batch(description), *submitted("eeeeeeeeeeee"), *ended("eeeeeeeeeeee", "failed")]
    for uid in JOBS:
        entries += submitted(uid, batch="b")
    return [*entries, *ended(FAILED, "failed"), *ended(DONE, "succeeded"), *ended(RUNNING, "succeeded")[:1]]


def rest(connection: Connection) -> list[tuple[str, str]]:
    failure = last_failure(connection, "b")
    if failure is None:
        return []
    uids = dict(connection.execute("SELECT id, uid FROM job").fetchall())
    return [(uids[row], state) for row, state in rest_of_batch(connection, "b", failure)]


@pytest.mark.parametrize("seed", range(12))
def test_in_any_order_a_failure_stops_what_is_open_of_its_batch(seed: int) -> None:
    entries = history()
    chance = random.Random(seed)
    chance.shuffle(entries)
    connection, at = new_ledger(), 0
    while at < len(entries):
        size = chance.randint(1, 6)
        apply_entries(connection, entries[at : at + size])
        at += size
    assert has_due(connection) and due_batches(connection) == ["b"]
    assert due_dependents(connection, 10) == [] and due_batches(connection) == ["b"]
    assert rest(connection) == [(WAITING, "unclaimed"), (RUNNING, "claimed")]
    failure = last_failure(connection, "b")
    assert failure is not None and (failure.what, failure.ended_at) == (f"{FAILED} failed", 21.0)
    assert set(batches_to_stop(connection)) == {"b"}


def test_a_batch_stays_due_while_its_failed_job_has_not_completed() -> None:
    """Somebody may settle between the two entries of an end: `ended`, and the move to completed/."""
    entries = history()
    cut = next(
        at
        for at, entry in enumerate(entries)
        if entry.get("job") == FAILED and entry.get("to", "").startswith("completed/")
    )
    connection, asked = new_ledger(), list[str]()

    def cancel(why: str, jobs: Sequence[SteeredJob]) -> int:
        asked.append(why)
        return len(jobs)

    def settle() -> tuple[int, bool]:
        jar = cast(Jar, None)  # it is asked for the workers of running jobs alone
        return stop_failed_batches(jar, connection, 10, cancel, [])

    apply_entries(connection, [entry for at, entry in enumerate(entries) if at != cut and entry.get("job") != RUNNING])
    assert settle() == (0, True) and due_batches(connection) == ["b"] and asked == []
    apply_entries(connection, entries[cut : cut + 1])
    assert settle() == (1, True) and asked == [f"b stops at its first failure: {FAILED} failed"]


@pytest.mark.parametrize("description", ["name = b", "name = b\nnotes = fail_fast = yes", "fail_fast = yesterday"])
def test_another_batch_goes_on(description: str) -> None:
    connection = new_ledger()
    apply_entries(connection, history(description))
    assert not has_due(connection)


def test_what_was_submitted_or_retried_after_the_failure_goes_on_and_so_does_all_once_it_succeeds() -> None:
    connection = new_ledger()
    apply_entries(connection, history())
    name = f"20260102T030405Z-{DONE}-rain-1-1-ann.0"
    again = {"entry": "moved", "job": DONE, "from": f"completed/{name}", "to": f"unclaimed/{name}", "by": "ann"}
    apply_entries(connection, [{**again, "number": LIFE + 4, "moved_at": 30.0, "reason": "again"}])
    late = submitted("ffffffffffff", batch="b")
    apply_entries(connection, [{**late[0], "submitted_at": 22.0}, {**late[1], "moved_at": 22.0}])
    assert rest(connection) == [(WAITING, "unclaimed"), (RUNNING, "claimed")]
    failed = f"20260102T030405Z-{FAILED}-rain-1-1-ann.0"
    again = {**again, "job": FAILED, "from": f"completed/{failed}", "to": f"unclaimed/{failed}"}
    apply_entries(connection, [{**again, "number": LIFE + 4, "moved_at": 31.0, "reason": "again"}])
    assert last_failure(connection, "b") is None and set(batches_to_stop(connection)) == frozenset()
    second = [{**entry, "attempt": 2} if "attempt" in entry else entry for entry in ended(FAILED, "succeeded", 40.0)]
    numbered = [{**entry, "number": entry["number"] + LIFE + 4} if "number" in entry else entry for entry in second]
    apply_entries(connection, numbered)
    assert last_failure(connection, "b") is None


def test_cancelled_jobs_are_no_failures() -> None:
    connection = new_ledger()
    entries = [batch("fail_fast = yes"), *submitted(WAITING, batch="b"), *submitted(FAILED, batch="b")]
    apply_entries(connection, [*entries, *ended(FAILED, "cancelled")])
    assert last_failure(connection, "b") is None
