"""What is proposed for a claim: exact within a home, however little the ledger is asked."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from jobjar.attempts import candidates as module, claim_undone
from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.errors import CannotUseJar
from jobjar.job_file.names import new_id
from jobjar.ledger.ask_jobs import list_jobs
from jobjar.ledger.rebuild import fill_ledger
from jobjar.shared_disk.moves import move_to_free_name
from jobjar.stages import claim
from jobjar.stages.complete import give_back
from jobjar.stages.submit import describe_command, submit, submit_all
from tests.claiming import claim_in_turns
from tests.rig import Rig

NOW = 4e9


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a ledger said is believed for as long as a test runs, so that only the journal can say otherwise."""
    monkeypatch.setattr(module, "_MAX_AGE_S", 3600.0)


def make_claimer(rig: Rig, name: str, *categories: str) -> Claimer:
    jar = rig.open()
    paths = jar.layout.worker(name)
    for path in (paths.path, paths.jobs):
        Path(path).mkdir()
    return Claimer(jar, new_id(), paths, (*categories, ""))


def claim_next(claimer: Claimer) -> ClaimedJob | None:
    return claim_in_turns(claimer, NOW, print)


def count_calls(target: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    call = getattr(target, name)

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return call(*arguments, **options)

    monkeypatch.setattr(target, name, counting)
    return calls


def test_a_job_submitted_meanwhile_is_claimed_in_its_turn(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1", "FIRST")
    names = submit_all(claimer.jar, [describe_command("true", priority=1)] * 3)
    got = [claim_next(claimer)]
    urgent = submit(rig.open(), describe_command("true", priority=9))
    got.append(claim_next(claimer))
    first = submit(rig.open(), describe_command("true", category="FIRST"))
    got += [claim_next(claimer) for _ in range(4)]
    assert [job and job.name for job in got] == [names[0], urgent, first, names[1], names[2], None]


def test_what_another_worker_of_the_home_claimed_is_not_tried(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make_claimer(rig, "a.1"), make_claimer(rig, "b.1")
    submit_all(one.jar, [describe_command("true")] * 6)
    rig.drop('a "job" of Ångström\\', "#!/bin/sh\n")
    fill_ledger(one.jar.ledger)
    tried = count_calls(claim, "_move_to_worker", monkeypatch)
    got = [claim_next(claimer) for claimer in (one, other, other, one, other, one, one, other)]
    assert len({job.uid for job in got if job}) == 7 and got[-1] is None
    assert len(tried) == 7


def test_the_ledger_is_asked_seldom_while_there_is_enough_to_do(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    claimer = make_claimer(rig, "a.1")
    submit_all(claimer.jar, [describe_command("true")] * 200)
    asked = count_calls(module, "renew", monkeypatch)
    assert all(claim_next(claimer) for _ in range(200))
    assert len(asked) < 10
    assert claim_next(claimer) is None


def test_jobs_are_claimed_while_somebody_holds_the_ledger_s_lock(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1")
    names = submit_all(claimer.jar, [describe_command("true")] * 3)
    first = claim_next(claimer)
    with open(claimer.jar.ledger_home.lock_file, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = claim_next(claimer)
    assert [job and job.name for job in (first, second)] == names[:2]


def test_a_job_that_came_back_counts_its_attempts_on(rig: Rig) -> None:
    one, other = make_claimer(rig, "a.1"), make_claimer(rig, "b.1")
    submit_all(one.jar, [describe_command("true")] * 2)
    first = claim_next(one)
    assert first is not None
    give_back(other, first, "for a test")
    again = claim_next(one)
    assert again is not None and (again.uid, again.attempt) == (first.uid, 2)


def test_a_candidate_that_is_no_job_any_more_is_passed_over_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    claimer = make_claimer(rig, "a.1")
    names = submit_all(claimer.jar, [describe_command("true")] * 3)
    fill_ledger(claimer.jar.ledger)
    (rig.home / "unclaimed" / names[0]).chmod(0o600)
    (rig.home / "unclaimed" / names[1]).unlink()
    got = claim_next(claimer)
    assert got is not None and got.name == names[2]
    assert claim_next(claimer) is None
    assert rig.names("unclaimed") == [names[0]]
    assert list_jobs(claimer.jar.ledger, "unclaimed") == []
    tried = count_calls(claim, "_move_to_worker", monkeypatch)
    assert claim_next(claimer) is None and not tried


def test_a_held_job_is_out_of_the_way_of_the_next(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1")
    rig.drop("odd.9", "#!/bin/sh\n#JJ no_such = 1\n")
    name = submit(claimer.jar, describe_command("true"))
    fill_ledger(claimer.jar.ledger)
    got = claim_next(claimer)
    assert got is not None and got.name == name
    assert rig.names("limbo") == ["odd.9"]
    fill_ledger(claimer.jar.ledger)
    [held] = list_jobs(claimer.jar.ledger, "limbo")
    assert held.held_reason is not None and "no_such" in held.held_reason


def test_a_job_that_cannot_be_held_goes_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    claimer = make_claimer(rig, "a.1")
    rig.drop("odd", "#!/bin/sh\n#JJ no_such = 1\n")
    fill_ledger(claimer.jar.ledger)

    def refuse(source: str, directory: str, name: str) -> str:
        if directory == claimer.jar.layout.limbo:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), directory)
        return move_to_free_name(source, directory, name)

    monkeypatch.setattr(claim_undone, "move_to_free_name", refuse)
    with pytest.raises(CannotUseJar, match="No space left"):
        claim_next(claimer)
    assert rig.names("unclaimed") == ["odd"] and rig.names("workers/a.1/jobs") == []
