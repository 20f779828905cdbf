"""Races that one side loses, forced by acting between the other side's look and its act."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobjar.attempts.attempt import FAILED, INTERRUPTED, LOST, SUCCEEDED, AttemptEnd, ClaimedJob, Claimer
from jobjar.attempts.claimed_links import take_link_away
from jobjar.attempts.verdict import Verdict, decide
from jobjar.errors import CannotUseJar
from jobjar.jar import Jar
from jobjar.job_file.names import id_in_name, new_id
from jobjar.journal.read import read_journal
from jobjar.ledger import reconcile_file, reconcile_jar
from jobjar.ledger.ask_claiming import last_attempt_number
from jobjar.ledger.fold import fold_journals, others_are_due
from jobjar.ledger.rebuild import fill_ledger
from jobjar.recovery.recover import recover_node
from jobjar.shared_disk import clock
from jobjar.stages import claim, complete
from jobjar.stages.complete import Ending, WhileRefused
from jobjar.stages.submit import describe_command, submit
from tests.claiming import claim_in_turns
from tests.rig import Rig

NOW = 4e9


def make_claimer(rig: Rig, name: str) -> Claimer:
    """Somebody who claims: with a directory, and without the process of a worker."""
    jar = rig.open()
    paths = jar.layout.worker(name)
    for path in (paths.path, paths.jobs, paths.scratch, paths.output):
        Path(path).mkdir()
    return Claimer(jar, new_id(), paths, ("",))


def claim_next(claimer: Claimer) -> ClaimedJob | None:
    warnings: list[str] = []
    job = claim_in_turns(claimer, NOW, warnings.append)
    assert not warnings
    return job


def entries(jar: Jar) -> list[dict[str, Any]]:
    descriptor = os.open(jar.journal.path, os.O_RDONLY)
    found = [line.entry for line in read_journal(descriptor, 0) if line.entry is not None]
    os.close(descriptor)
    return found


def success() -> AttemptEnd:
    return AttemptEnd(SUCCEEDED, 0, None, 0.1, 0.1, 0.1, 1000)


def finish(claimer: Claimer, job: ClaimedJob) -> tuple[bool, list[str]]:
    """Complete a job as succeeded; returns whether it was still held, and what was said."""
    said: list[str] = []
    end = success()
    verdict = decide(job, end, 0, NOW)
    held = complete.complete(claimer, Ending(job, end, verdict, NOW), WhileRefused(lambda: False, said.append))
    return held, said


def take_away(claimer: Claimer, job: ClaimedJob) -> None:
    """Return a job that another holds, as a recovery does."""
    verdict = Verdict.give_back()
    claimer.jar.journal.append([complete.move_ended_job(claimer.jar.layout, job, verdict, claimer.paths.name)])
    take_link_away(claimer, job.link)


def before(module: Any, name: str, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `act` happen once, right before the next call of `module.name`."""
    call = getattr(module, name)

    def acting(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(module, name, call)
        act()
        return call(*arguments, **options)

    monkeypatch.setattr(module, name, acting)


def test_of_two_claimers_of_one_candidate_the_second_gets_the_next_job(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_claimer(rig, "a.1"), make_claimer(rig, "b.1")
    names = [submit(first.jar, describe_command("true")) for _ in range(2)]
    stolen: list[str] = []

    def steal() -> None:
        # What another host does, which has another lock: it renames the file that was just chosen here.
        os.rename(f"{first.jar.layout.unclaimed}/{names[0]}", f"{second.paths.jobs}/{names[0]}")
        stolen.append(names[0])

    fill_ledger(first.jar.ledger)
    before(claim, "_move_to_worker", steal, monkeypatch)
    got = claim_next(first)
    assert stolen == [names[0]] and got is not None and got.name == names[1]
    assert rig.names("workers/a.1/jobs") == [names[1]]
    assert rig.names("workers/b.1/jobs") == [names[0]]
    assert claim_next(first) is None


def test_two_claimers_of_one_home_never_get_the_same_job(rig: Rig) -> None:
    first, second = make_claimer(rig, "a.1"), make_claimer(rig, "b.1")
    names = [submit(first.jar, describe_command("true")) for _ in range(4)]
    fill_ledger(first.jar.ledger)
    got = [claim_next(claimer) for claimer in (first, second, first, second)]
    assert [job.name for job in got if job] == names
    assert claim_next(first) is None and claim_next(second) is None


def test_a_worker_whose_job_was_taken_back_claims_no_credit(rig: Rig) -> None:
    slow, quick = make_claimer(rig, "a.1"), make_claimer(rig, "b.1")
    name = submit(slow.jar, describe_command("true"))
    fill_ledger(slow.jar.ledger)
    job = claim_next(slow)
    assert job is not None
    take_away(quick, job)
    again = claim_next(quick)
    assert again is not None and again.uid == job.uid
    held, said = finish(slow, job)
    assert not held and "taken back" in said[0]
    assert finish(quick, again)[0]
    ended = [entry for entry in entries(slow.jar) if entry["entry"] == "ended"]
    assert ended[-2]["worker"] == "a.1" and ended[-2]["outcome"] == LOST and not ended[-2]["final"]
    assert rig.names("completed") == [name]
    shown = rig.show(name)
    assert shown["outcome"] == SUCCEEDED
    assert [attempt["outcome"] for attempt in shown["attempts"]] == [LOST, SUCCEEDED]
    rig.assert_clean()


def test_a_job_taken_back_between_outcome_and_move_is_the_other_worker_s(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = make_claimer(rig, "a.1"), make_claimer(rig, "b.1")
    name = submit(slow.jar, describe_command("true"))
    fill_ledger(slow.jar.ledger)
    job = claim_next(slow)
    assert job is not None
    taken: list[ClaimedJob | None] = []

    def take_over() -> None:
        take_away(quick, job)
        taken.append(claim_next(quick))

    before(complete, "move_ended_job", take_over, monkeypatch)
    held, _ = finish(slow, job)
    assert not held and taken[0] is not None
    assert finish(quick, taken[0])[0]
    attempts = rig.show(name)["attempts"]
    assert [(attempt["worker"], attempt["outcome"]) for attempt in attempts] == [("a.1", LOST), ("b.1", SUCCEEDED)]
    rig.assert_clean()


@pytest.mark.parametrize("category", ["", "LINUX"])
def test_who_has_lost_its_directory_does_not_try_to_claim_what_waits_for_ever(rig: Rig, category: str) -> None:
    claimer = make_claimer(rig, "a.1")
    claimer.categories = (category,)
    names = [rig.submit("-c", category, "true") if category else rig.submit("true") for _ in range(2)]
    os.rmdir(claimer.paths.jobs)
    with pytest.raises(CannotUseJar, match=r"a\.1/jobs: it was moved or removed"):
        claim_next(claimer)
    assert rig.names(f"unclaimed/{category}") == sorted(names)


def test_a_job_that_vanishes_between_choice_and_rename_is_passed_over(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer = make_claimer(rig, "a.1")
    name = submit(claimer.jar, describe_command("true"))
    fill_ledger(claimer.jar.ledger)
    before(claim, "_move_to_worker", lambda: os.unlink(f"{claimer.jar.layout.unclaimed}/{name}"), monkeypatch)
    assert claim_next(claimer) is None
    assert rig.names("workers/a.1/jobs") == []
    recover_node(claimer.jar)
    rig.assert_clean()


def test_a_second_claim_counts_on_from_the_first(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1")
    submit(claimer.jar, describe_command("true"))
    fill_ledger(claimer.jar.ledger)
    uids = set()
    for number in (1, 2, 3):
        job = claim_next(claimer)
        assert job is not None and job.attempt == number
        uids.add(job.uid)
        complete.give_back(claimer, job, "for a test")
    [uid] = uids
    with claimer.jar.ledger.writing() as connection:
        fold_journals(connection, claimer.jar.layout)
        assert last_attempt_number(connection, uid) == 3


def test_a_submission_between_fold_and_scan_keeps_its_id_and_its_attributes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer = make_claimer(rig, "a.1")
    names: list[str] = []
    described = describe_command("true", attributes={"retries": "2"})
    before(reconcile_file, "list_everything", lambda: names.append(submit(rig.open(), described)), monkeypatch)
    with claimer.jar.ledger.writing() as connection:
        fold_journals(connection, claimer.jar.layout)
        reconcile_file.scan_category(connection, claimer.jar.layout, "")
    job = claim_next(claimer)
    assert job is not None and job.name == names[0]
    assert job.uid == id_in_name(names[0]) and job.retries == 2
    assert finish(claimer, job)[0]
    rig.assert_clean()


def test_a_submission_between_fold_and_reconciliation_keeps_its_id_and_its_attributes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer = make_claimer(rig, "a.1")
    names: list[str] = []
    described = describe_command("true", attributes={"retries": "2"})
    before(reconcile_jar, "list_jars", lambda: names.append(submit(rig.open(), described)), monkeypatch)
    fill_ledger(claimer.jar.ledger)
    job = claim_next(claimer)
    assert job is not None and job.name == names[0]
    assert job.uid == id_in_name(names[0]) and job.retries == 2
    assert finish(claimer, job)[0]
    rig.assert_clean()


def test_a_job_that_another_home_put_back_for_later_is_not_claimed_before(rig: Rig, tmp_path: Path) -> None:
    rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "one home")
    one = make_claimer(rig, "a.1")
    rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "other home")
    other = make_claimer(rig, "b.1")
    rig.environment["JJ_POLL_TIME"] = "1h"
    submit(one.jar, describe_command("true", attributes={"retries": "2", "retry_delay": "1h"}))
    for claimer in (one, other):
        fill_ledger(claimer.jar.ledger)
        assert others_are_due(claimer.jar.ledger_home.polled_file, 3600)
    job = claim_next(one)
    assert job is not None
    end = success()._replace(outcome=FAILED, exit_status=1)
    later = clock.read_disk_clock(one.jar.layout.clock_file("here"))
    verdict = decide(job, end, 0, later)
    assert not verdict.final and verdict.not_before > later
    assert complete.complete(one, Ending(job, end, verdict, later), WhileRefused(lambda: False, print))
    # The other home has not looked at this one's journal since; the file itself says that it was moved meanwhile.
    assert claim.claim_next(other, later, print) is None
    again = claim.claim_next(other, verdict.not_before + 1, print)
    assert again is not None and again.attempt == 2 and again.uid == job.uid


def test_an_attempt_that_was_given_back_before_it_ran_has_an_end_and_counts_as_no_failure(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1")
    name = submit(claimer.jar, describe_command("true", attributes={"retries": 1}))
    job = claim_next(claimer)
    assert job is not None
    complete.give_back(claimer, job, "for a test")
    [attempt] = rig.show(name)["attempts"]
    assert attempt["outcome"] == INTERRUPTED and attempt["ended_at"] is not None and attempt["output_path"] is None
    again = claim_next(claimer)
    assert again is not None and again.attempt == 2
    assert finish(claimer, again)[0]
    assert [attempt["outcome"] for attempt in rig.show(name)["attempts"]] == [INTERRUPTED, SUCCEEDED]
    rig.assert_clean()
