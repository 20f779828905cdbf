"""Limits: tokens that are taken before a claim and given back after it, never doubled and never lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobjar.attempts import limits, tokens
from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.attempts.limits import BATCH, CATEGORY, STORAGE, find_faults, list_free, read_limit, set_limit
from jobjar.attempts.tokens_left import recover_tokens
from jobjar.errors import BadCategory, BadLimit, CannotUseJar
from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.ledger.rebuild import fill_ledger
from jobjar.recovery.lease import find_holders
from jobjar.recovery.recover import recover_node
from jobjar.stages import claim, complete
from jobjar.stages.submit import describe_command, describe_file, submit_all
from tests.attempts.test_candidates import count_calls
from tests.claiming import claim_in_turns
from tests.described_jobs import describe
from tests.race.test_lost_races import before, finish
from tests.recovery.test_lease import make_worker, take_back
from tests.rig import BIN, Rig, wait_until

NOW = 4e9


def make_claimer(rig: Rig, name: str, *categories: str) -> Claimer:
    """Somebody who claims, with a directory and without the process of a worker; sees limits at once."""
    rig.environment["JJ_POLL_TIME"] = "0.01"
    jar = rig.open()
    paths = jar.layout.worker(name)
    for path in (paths.path, paths.jobs, paths.scratch, paths.output):
        Path(path).mkdir()
    return Claimer(jar, new_id(), paths, (*categories, ""))


def claim_next(claimer: Claimer) -> ClaimedJob | None:
    """The next job, by somebody who looks for limits and tokens now, and not in a moment."""
    claimer.tokens._next_look = 0.0
    claimer.tokens._used_up.clear()
    claimer.proposals.stale_at = 0.0
    return claim_in_turns(claimer, NOW, print)


def claimed(claimer: Claimer) -> ClaimedJob:
    job = claim_next(claimer)
    assert job is not None
    return job


def submit_in(claimer: Claimer, category: str, count: int = 1) -> list[str]:
    names = submit_all(claimer.jar, [describe_command("true", category=category)] * count)
    fill_ledger(claimer.jar.ledger)
    return names


def submit_described(claimer: Claimer, directory: Path, batch: str, category: str = "", count: int = 1) -> list[str]:
    path = directory / f"of {batch}"
    path.write_text(f"#!/bin/sh\n#JJ described = yes\n#JJ batch = {batch}\n#JJ run_command = true\nexit 2\n")
    path.chmod(0o755)
    names = submit_all(claimer.jar, [describe_file(str(path), category=category or None)] * count)
    fill_ledger(claimer.jar.ledger)
    return names


def state_of(jar: Jar, key: str) -> tuple[int | None, int, list[str]]:
    """The limit, how many tokens are free, and who holds the others."""
    state = read_limit(jar.layout, key)
    return state.most, len(state.free), sorted(token.worker for token in state.taken)


def test_a_job_holds_a_token_of_its_category_from_before_its_claim_to_its_end(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 3)
    submit_in(claimer, "A")
    assert state_of(claimer.jar, "category.A") == (3, 3, [])
    job = claimed(claimer)
    assert state_of(claimer.jar, "category.A") == (3, 2, ["a.1"])
    [token] = job.tokens
    assert os.listdir(rig.home / "limits/category.A/taken") == [f"{token.number}.1.a.1.{claimer.worker_id}"]
    assert finish(claimer, job)[0]
    assert state_of(claimer.jar, "category.A") == (3, 3, [])
    assert find_faults(claimer.jar.layout) == []


def test_no_more_than_the_limit_are_claimed_and_other_jobs_go_on(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1", "A", "B")
    set_limit(claimer.jar, CATEGORY, "A", 2)
    of_a, of_b = submit_in(claimer, "A", 300), submit_in(claimer, "B", 2)
    got = [claim_next(claimer) for _ in range(5)]
    assert [job and job.name for job in got] == [*of_a[:2], *of_b, None]
    assert got[1] is not None and finish(claimer, got[1])[0]
    assert claimed(claimer).name == of_a[2]
    assert claim_next(claimer) is None


def test_a_job_needs_a_token_of_its_batch_too_and_takes_none_where_one_is_missing(rig: Rig, tmp_path: Path) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 5)
    set_limit(claimer.jar, BATCH, "wc", 1)
    of_wc, others = submit_described(claimer, tmp_path, "wc", "A", 300), submit_in(claimer, "A", 2)
    first = claimed(claimer)
    assert first.name == of_wc[0] and [token.limit for token in first.tokens] == ["category.A", "batch.wc"]
    # The three hundred of the batch that wait are not in the way of those behind them.
    assert [claimed(claimer).name for _ in others] == others
    assert claim_next(claimer) is None
    assert state_of(claimer.jar, "category.A") == (5, 2, ["a.1"] * 3)
    assert finish(claimer, first)[0]
    assert state_of(claimer.jar, "batch.wc") == (1, 1, [])
    assert claimed(claimer).name == of_wc[1]


def test_the_batch_of_a_job_put_there_by_hand_is_read_from_its_file_before_it_is_claimed(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1")
    set_limit(claimer.jar, BATCH, "wc", 1)
    for number in range(300):
        rig.drop(f"by hand {number:03}", "#!/bin/sh\n#JJ batch = wc\n#JJ run_command = true\nexit 2\n")
    rig.drop("other.-1", "#!/bin/sh\n")
    fill_ledger(claimer.jar.ledger)
    first = claimed(claimer)
    assert [token.limit for token in first.tokens] == ["batch.wc"] and first.batch == "wc"
    assert claimed(claimer).name == "other.-1"
    assert claim_next(claimer) is None
    assert state_of(claimer.jar, "batch.wc") == (1, 0, ["a.1"])


def test_a_job_that_waits_to_be_stored_needs_a_token_of_its_storage_class_and_none_of_its_batch(
    rig: Rig, tmp_path: Path
) -> None:
    claimer = make_claimer(rig, "a.1", "STORAGE-tape")
    set_limit(claimer.jar, STORAGE, "tape", 1)
    set_limit(claimer.jar, BATCH, "wc", 0)
    names = submit_described(claimer, tmp_path, "wc", "STORAGE-tape", 2)
    job = claimed(claimer)
    assert job.name == names[0] and [token.limit for token in job.tokens] == ["category.STORAGE-tape"]
    assert claim_next(claimer) is None


def test_when_a_limit_is_lowered_a_new_job_begins_only_when_fewer_run(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 4)
    submit_in(claimer, "A", 9)
    running = [claimed(claimer) for _ in range(4)]
    set_limit(claimer.jar, CATEGORY, "A", 2)
    for left in (3, 2):
        # Whichever token comes back: first the jobs whose tokens are the lowest end.
        running.sort(key=lambda job: job.tokens[0].number, reverse=True)
        assert finish(claimer, running.pop())[0]
        assert len(running) == left and claim_next(claimer) is None
    assert finish(claimer, running.pop())[0]
    running.append(claimed(claimer))
    assert claim_next(claimer) is None and len(running) == 2
    assert find_faults(claimer.jar.layout) == []


def test_a_limit_that_is_raised_lets_more_run_at_once_and_one_that_is_removed_all(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 1)
    submit_in(claimer, "A", 120)
    running = [claimed(claimer)]
    assert claim_next(claimer) is None
    set_limit(claimer.jar, CATEGORY, "A", 100)
    running += [claimed(claimer) for _ in range(99)]
    assert claim_next(claimer) is None
    assert sorted(job.tokens[0].number for job in running) == list(range(1, 101))
    set_limit(claimer.jar, CATEGORY, "A", None)
    free = [claimed(claimer) for _ in range(20)]
    assert not any(job.tokens for job in free)
    for job in running:
        assert finish(claimer, job)[0]
    assert find_faults(claimer.jar.layout) == []
    assert os.listdir(rig.home / "limits/category.A/taken") == []


def test_a_limit_lowered_between_a_worker_s_look_and_its_taking_is_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 1)
    submit_in(claimer, "A")
    before(tokens, "rename", lambda: set_limit(claimer.jar, CATEGORY, "A", 0), monkeypatch)
    assert claim_next(claimer) is None
    assert os.listdir(rig.home / "limits/category.A/taken") == []


def test_of_two_who_make_the_same_tokens_at_once_one_does(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = rig.open()
    taken: list[str] = []

    def be_quicker() -> None:
        set_limit(jar, CATEGORY, "A", 2)
        # And they are in use already: a block without any of its tokens is not made anew either.
        for number in range(1, 65):
            os.rename(
                rig.home / f"limits/category.A/free/0/{number}",
                f"{jar.layout.limits}/category.A/taken/{number}.1.w.1.x",
            )
            taken.append(str(number))

    before(os, "rename", be_quicker, monkeypatch)
    set_limit(jar, CATEGORY, "A", 3)
    assert len(taken) == 64
    assert os.listdir(rig.home / "limits/category.A/free/0") == ["made"]
    assert read_limit(jar.layout, "category.A").most == 3
    assert sorted(os.listdir(rig.home / "limits/category.A")) == ["count", "free", "taken"]


def test_a_candidate_that_is_gone_costs_no_token(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 1)
    names = submit_in(claimer, "A", 3)
    for name in names:
        (rig.home / "unclaimed/A" / name).unlink()
    assert claim_next(claimer) is None
    assert state_of(claimer.jar, "category.A") == (1, 1, [])


def test_a_job_that_is_given_back_or_whose_file_is_gone_gives_its_token_back(rig: Rig) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 1)
    submit_in(claimer, "A")
    complete.give_back(claimer, claimed(claimer), "for a test")
    assert state_of(claimer.jar, "category.A") == (1, 1, [])
    job = claimed(claimer)
    os.rename(job.path, rig.home / "unclaimed/A/elsewhere")
    assert finish(claimer, job)[0]
    assert state_of(claimer.jar, "category.A") == (1, 1, [])


def test_a_token_that_the_disk_did_not_take_back_goes_back_at_the_next_look(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 2)
    submit_in(claimer, "A", 3)
    ended, running = claimed(claimer), claimed(claimer)

    def refuse(source: str, destination: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), source)

    with monkeypatch.context() as patch:
        patch.setattr(limits, "rename", refuse)
        assert finish(claimer, ended)[0]
    assert state_of(claimer.jar, "category.A") == (2, 0, ["a.1", "a.1"])
    # Those of a job that runs are none of it.
    third = claimed(claimer)
    assert third.tokens[0].number == ended.tokens[0].number
    assert claimer.tokens.still_holds(running.tokens)
    assert state_of(claimer.jar, "category.A") == (2, 0, ["a.1", "a.1"])


def test_a_token_that_cannot_be_taken_for_the_disk_is_an_error_and_stays_free(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 1)
    [name] = submit_in(claimer, "A")

    def take_and_fail(source: str, destination: str) -> None:
        os.rename(source, destination)
        raise OSError(errno.EIO, os.strerror(errno.EIO), source)

    with monkeypatch.context() as patch, pytest.raises(CannotUseJar, match=r"take a token of .*category\.A"):
        patch.setattr(tokens, "rename", take_and_fail)
        claim_next(claimer)
    assert claimed(claimer).name == name


def test_a_jar_without_limits_costs_a_claim_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    claimer = make_claimer(rig, "a.1")
    submit_all(claimer.jar, [describe_command("true")] * 200)
    looked = count_calls(tokens, "list_keys", monkeypatch)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for _ in range(200):
        assert claim_in_turns(claimer, NOW, print) is not None
    assert len(looked) == 1


def test_what_is_no_limit_is_refused(rig: Rig) -> None:
    jar = rig.open()
    for count in (-1, 10_000):
        with pytest.raises(BadLimit, match="whole number from 0 to 9999"):
            set_limit(jar, CATEGORY, "A", count)
    with pytest.raises(BadCategory):
        set_limit(jar, CATEGORY, "../A", 1)
    assert os.listdir(rig.home / "limits") == []


def test_a_jar_of_an_earlier_version_gets_its_directory_with_its_first_limit(rig: Rig) -> None:
    (rig.home / "limits").rmdir()
    claimer = make_claimer(rig, "a.1")
    submit_in(claimer, "", 2)
    assert claimed(claimer).tokens == ()
    set_limit(claimer.jar, CATEGORY, "", 0)
    assert claim_next(claimer) is None


def test_check_tells_of_tokens_that_are_gone_or_in_two_places_and_of_a_count_that_is_none(rig: Rig) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 5)
    fill_ledger(jar.ledger)
    directory = rig.home / "limits/category.A"
    (directory / "free/0/2").unlink()
    (directory / "taken/3.1.rain.7.x").touch()
    (directory / "count").write_text("many\n")
    result = rig.run("jobjar", "check", check=False)
    assert result.returncode == 1
    assert "category.A/count: 'many' is not a number" in result.stdout
    assert "category.A: token 2 is gone; set the limit to none" in result.stdout
    assert "category.A: token 3 is in two places" in result.stdout


# Those of the dead


def hold_one(rig: Rig, name: str, **said: Any) -> Claimer:
    """A worker of which worker.json says that it is one of another node, unless told otherwise, and that holds a token."""
    claimer = make_worker(rig, name)
    path = Path(claimer.paths.identity_file)
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    assert claimer.tokens.take("A", None)
    return claimer


def recovered(jar: Jar) -> tuple[list[str], list[str]]:
    """What a recovery of tokens says, and who holds tokens after it."""
    said: list[str] = []
    recover_tokens(jar, said.append)
    assert find_faults(jar.layout) == []
    return said, state_of(jar, "category.A")[2]


def test_recovery_gives_back_the_tokens_of_dead_workers_of_its_own_node_alone(rig: Rig) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 5)
    dead = hold_one(rig, f"{node_name()}.7")
    hold_one(rig, "rain.8")
    said, holders = recovered(jar)
    assert [line.partition(": gave back token")[0] for line in said] == [dead.paths.name]
    assert holders == ["rain.8"]


def test_recovery_gives_back_the_tokens_of_workers_that_left_or_were_archived_wherever_they_were(rig: Rig) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 5)
    hold_one(rig, "rain.8", ended_at=1.0)
    archived = hold_one(rig, "rain.9")
    aside = hold_one(rig, "rain.10")
    (rig.home / "archive").mkdir()
    os.rename(archived.paths.path, rig.home / "archive/rain.9")
    os.rename(aside.paths.path, f"{aside.paths.path}~{aside.worker_id}")
    unreadable = hold_one(rig, "rain.11")
    os.unlink(unreadable.paths.identity_file)
    said, holders = recovered(jar)
    assert sorted(line.partition(":")[0] for line in said) == ["rain.8", "rain.9"]
    assert holders == ["rain.10", "rain.11"]


def test_what_is_no_limit_or_a_broken_one_keeps_no_token_of_the_others_from_being_given_back(rig: Rig) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 5)
    dead = hold_one(rig, f"{node_name()}.7")
    (rig.home / "limits/category.0").write_text("put here by hand")
    (rig.home / "limits/category.1").mkdir()
    (rig.home / "limits/category.1/taken").write_text("put here by hand")
    said: list[str] = []
    recover_tokens(jar, said.append)
    assert [line.partition(": ")[0] for line in said] == ["limits/category.1", dead.paths.name]
    assert state_of(jar, "category.A")[2] == []


@pytest.mark.parametrize(
    "name",
    ["1.1.nobody.7.0123456789ab", "1", "1.nobody", "99.1.nobody.7.0123456789ab", "99999999999", "nobody", "DIRECTORY"],
)
def test_what_no_worker_took_uses_no_limit_up(rig: Rig, name: str) -> None:
    """Whatever is put into taken/ under whatever name, recovery makes the limit whole again."""
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 1)
    paths = jar.layout.limit("category.A")
    if name == "DIRECTORY":
        os.mkdir(f"{paths.taken}/1.1.nobody.7.0123456789ab")
    elif name.startswith("1"):
        os.rename(paths.free_token(1), f"{paths.taken}/{name}")
    else:
        Path(f"{paths.taken}/{name}").touch()
    said: list[str] = []
    recover_tokens(jar, said.append)
    assert len(said) == 1, said
    assert os.listdir(paths.taken) == []
    assert state_of(jar, "category.A") == (1, 1, [])
    assert find_faults(jar.layout) == []
    submitted = rig.submit("-c", "A", "true")
    rig.run_until_idle("A")
    assert rig.show(submitted)["outcome"] == "succeeded"
    assert recovered(jar) == ([], [])


def test_a_token_that_a_living_worker_holds_is_none_that_nobody_took(rig: Rig) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 2)
    hold_one(rig, "rain.8")
    assert recovered(jar) == ([], ["rain.8"])


def test_a_dead_worker_s_token_is_given_back_after_its_job(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 1)
    claimer = make_worker(rig, f"{node_name()}.7")
    claimer.categories = ("A", "")
    [name] = submit_in(claimer, "A")
    claimed(claimer)
    assert recovered(jar) == ([], [claimer.paths.name])
    said = recover_node(jar).lines
    assert next(n for n, line in enumerate(said) if "returned" in line) < next(
        n for n, line in enumerate(said) if "gave back token 1" in line
    )
    assert rig.names("unclaimed/A") == [name] and state_of(jar, "category.A") == (1, 1, [])
    rig.assert_clean()


def test_a_worker_that_takes_a_dead_one_s_directory_gives_its_tokens_back(rig: Rig) -> None:
    from jobjar.recovery.recover import set_aside
    from jobjar.roster import read_worker

    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 1)
    claimer = hold_one(rig, f"{node_name()}.7")
    worker = read_worker(jar.layout, claimer.paths.name)
    assert worker is not None
    set_aside(jar, worker)
    assert state_of(jar, "category.A") == (1, 1, [])


@pytest.fixture
def leased(rig: Rig) -> Rig:
    rig.environment["JJ_LEASE_TIME"] = "1"
    return rig


def test_with_a_job_whose_lease_is_over_its_token_goes_back(leased: Rig) -> None:
    silent, idle = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    silent.categories = ("A", "")
    set_limit(silent.jar, CATEGORY, "A", 1)
    submit_in(silent, "A")
    job = claimed(silent)
    assert take_back(idle, silent).returned == 1
    assert state_of(silent.jar, "category.A") == (1, 1, [])
    idle.categories = ("A", "")
    other = claimed(idle)
    # The worker comes back, and gives back what is not its own any more.
    assert not finish(silent, job)[0]
    assert state_of(silent.jar, "category.A") == (1, 0, ["snow.8"])
    assert finish(idle, other)[0]


def test_a_silent_worker_that_holds_a_token_and_no_job_yet_loses_it_and_then_does_not_keep_the_job(
    leased: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, idle = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    silent.categories = ("A", "")
    set_limit(silent.jar, CATEGORY, "A", 1)
    [name] = submit_in(silent, "A")
    said: list[str] = []

    def expire() -> None:
        assert [holder.worker.name for holder in find_holders(idle.jar)] == ["rain.7"]
        said.extend(take_back(idle, silent).lines)
        assert state_of(silent.jar, "category.A") == (1, 1, [])

    before(claim, "_move_to_worker", expire, monkeypatch)
    job = claimed(silent)
    assert "rain.7: gave back token 1 of the limit category.A" in said
    # It tried again, with a token of its own.
    assert job.name == name and job.attempt == 1 and job.tokens[0].take == 2
    assert state_of(silent.jar, "category.A") == (1, 0, ["rain.7"])


def test_a_silent_worker_s_job_in_a_category_is_taken_back(leased: Rig) -> None:
    silent, idle = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    silent.categories = ("A", "")
    [name] = submit_in(silent, "A")
    claimed(silent)
    assert take_back(idle, silent).returned == 1
    assert leased.names("unclaimed/A") == [name]


# Seeing it


def test_show_and_the_status_say_what_is_limited_and_why_a_job_waits(rig: Rig) -> None:
    claimer = make_claimer(rig, f"{node_name()}.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 1)
    set_limit(claimer.jar, STORAGE, "tape", 7)
    names = submit_in(claimer, "A", 2)
    nobody = "no worker that asks for category A is running; `start_worker A` starts one"
    assert rig.show(names[1])["waits_because"] == [nobody]
    claimed(claimer)
    assert rig.show(names[0])["waits_because"] is None
    dead = f"{node_name()}.1, which holds a token of it, is dead: `recover_jobs` gives that back"
    assert rig.show(names[1])["waits_because"] == [f"the limit of category A (1) is used up; {dead}", nobody]
    assert "waits because  the limit of category A (1) is used up" in rig.run("jobjar", "show", names[1]).stdout
    holder = claimer.paths.name
    assert rig.status()["limits"] == [
        {"kind": "category", "name": "A", "limit": 1, "free": 0, "taken": [holder]},
        {"kind": "storage", "name": "tape", "limit": 7, "free": 7, "taken": []},
    ]
    lines = [" ".join(line.split()) for line in rig.run("system_status").stdout.splitlines()]
    assert f"category A 1 0 1 {holder}" in lines and "storage tape 7 7 0" in lines


def test_the_library_sets_and_tells_limits(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    import jobjar
    from jobjar.errors import UsageError

    monkeypatch.setenv("JJ_HOME", str(rig.home))
    assert jobjar.workload_limit("A") is None
    assert jobjar.workload_limit("A", 3) == jobjar.workload_limit("A") == 3
    assert jobjar.workload_limit(storage="tape", limit=0) == 0
    assert jobjar.workload_limit(batch="wc", limit=2) == 2
    assert jobjar.workload_limit(batch="wc", limit=None) is None
    assert [(row["kind"], row["name"], row["limit"]) for row in jobjar.workload_limits()] == [
        ("category", "A", 3),
        ("storage", "tape", 0),
    ]
    with pytest.raises(UsageError):
        jobjar.workload_limit("A", 3, batch="wc")


def test_the_program_prints_and_sets_limits(rig: Rig) -> None:
    assert rig.run("workload_limit", "A").stdout == "none\n"
    assert rig.run("workload_limit", "A", "3").stdout == ""
    rig.run("jobjar", "workload-limit", "--storage", "tape", "2")
    rig.run("workload_limit", "--batch", "wc", "1")
    assert rig.run("workload_limit", "A").stdout == "3\n"
    listed = json.loads(rig.run("workload_limit", "--format", "json").stdout)
    assert [(row["kind"], row["name"], row["limit"], row["free"]) for row in listed] == [
        ("batch", "wc", 1, 1),
        ("category", "A", 3, 3),
        ("storage", "tape", 2, 2),
    ]
    rig.run("workload_limit", "A", "none")
    assert rig.run("workload_limit", "A").stdout == "none\n"
    assert "category" not in rig.run("workload_limit").stdout
    for words in (("A", "many"), ("A", "-1"), ("--batch", "a/b", "1"), ("A", "3", "4")):
        assert rig.run("workload_limit", *words, check=False).returncode == 2


def test_what_a_killed_setting_left_is_removed_by_the_next(rig: Rig) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 1)
    left = rig.home / f"limits/category.A/new.{node_name()}.{2**22 + 7}.x"
    shutil.copytree(rig.home / "limits/category.A/free", left)
    other = rig.home / "limits/category.A/new.elsewhere.7.x"
    other.mkdir()
    recover_tokens(jar, print)
    assert not left.exists() and other.exists()
    assert Counter(os.listdir(rig.home / "limits/category.A")) == Counter(["count", "free", "taken", other.name])


def test_of_three_hundred_jobs_whose_limit_is_used_up_one_is_tried(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    claimer = make_claimer(rig, "a.1", "A")
    set_limit(claimer.jar, CATEGORY, "A", 0)
    submit_in(claimer, "A", 300)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    tried = count_calls(tokens, "list_free", monkeypatch)
    for _ in range(5):
        assert claim_in_turns(claimer, NOW, print) is None
    assert len(tried) == 1
    assert not claimer.tokens.may_go_on()


@pytest.mark.slow
def test_a_worker_that_sleeps_is_woken_by_a_token_that_comes_back(rig: Rig) -> None:
    rig.environment.update(JJ_PAUSE_TIME="1h", JJ_POLL_TIME="0.1")
    set_limit(rig.open(), CATEGORY, "A", 1)
    holder = make_worker(rig, "rain.7")
    held = holder.tokens.take("A", None)
    assert held
    submit_in(holder, "A")
    worker = rig.start_worker("A")
    # It has run what came after, and so has passed the other over.
    rig.submit("true")
    wait_until(lambda: len(rig.names("completed")) == 1, "the job that nothing limits")
    assert len(rig.names("unclaimed/A")) == 1
    holder.tokens.give_back(held)
    wait_until(lambda: len(rig.names("completed")) == 2, "the job whose token came back")
    rig.stop_worker(worker)


@pytest.mark.slow
def test_a_polled_job_without_a_worker_runs_beside_the_limit_and_waits_for_a_token_to_be_asked_for(
    rig: Rig, tmp_path: Path
) -> None:
    """The one exception that workload_limit(1) names, and no more than that: nothing is stuck."""
    rig.environment["JJ_POLL_TIME"] = "0.1"
    rig.run("workload_limit", "L", "1")
    ask = f"touch {tmp_path}/asked; test -e {tmp_path}/finished && echo finished = 1 > jug_polling.vars; true"
    polled = describe(rig, "polled.1", "L", run_command="true", polling_command=ask, polling_time="0.05")
    worker = rig.start_worker("L")
    wait_until((tmp_path / "asked").exists, "the first poll")
    other = describe(rig, "other.2", "L", run_command=f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    wait_until(lambda: rig.show(other)["waits_because"] is not None, "the limit to hold it back")
    worker.terminate()
    assert worker.wait(30) == 0
    (tmp_path / "asked").unlink()
    rig.start_worker("L")
    wait_until(lambda: rig.show(other)["state"] == "claimed", "the other to be claimed")
    [limit] = json.loads(rig.run("workload_limit", "--format", "json").stdout)
    assert (limit["free"], len(limit["taken"])) == (0, 1)
    limit, went_back = rig.show(polled)["waits_because"]
    goes_on = "it goes on when one of them ends; `workload_limit L N` sets another"
    assert limit == f"the limit of category L (1) is used up; {goes_on}"
    assert went_back == "its attempt 1 was interrupted: its worker was told to end"
    assert not (tmp_path / "asked").exists()
    (tmp_path / "go").touch()
    wait_until((tmp_path / "asked").exists, "the polling to go on")
    (tmp_path / "finished").touch()
    wait_until(lambda: set(rig.names("completed")) == {polled, other}, "the end of both")
    assert len(rig.show(polled)["attempts"]) == 2
    rig.assert_clean()


def test_ten_people_who_set_a_limit_at_once_make_each_token_once(rig: Rig) -> None:
    numbers = [1, 70, 3, 200, 64, 65, 0, 130, 129, 128]
    starting = [subprocess.Popen([BIN / "workload_limit", "A", str(number)], env=rig.environment) for number in numbers]
    assert [process.wait(60) for process in starting] == [0] * len(numbers)
    layout = rig.open().layout
    assert find_faults(layout) == []
    state = read_limit(layout, "category.A")
    assert state.most in numbers and state.free == list(range(1, state.most + 1))
    assert len(list_free(layout.limit("category.A"), 9999)) == 256
    assert sorted(os.listdir(rig.home / "limits/category.A")) == ["count", "free", "taken"]
