"""Whatever is killed at whichever write, a change of a batch was made wholly or not at all, and each job is there once."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobjar.job_file.attributes import read_description
from jobjar.layout import name_in_place
from tests.crash.case import Case, _tally, plan_deaths
from tests.crash.killer import AFTER, Plan
from tests.crash.nursery import Nursery

SEEDS = 'batch\nname = "wc"\nseeds = "1-3"\nexecution_class = "SOME"\nrun_command = "true"\n'
BLOCKS = 'batch\nname = "two"\njob\nname = "a"\npriority = 4\njob\nseeds = "5,7"\n'
Jobs = Counter[tuple[str | None, str | None, int | None]]
ALL_OF_BOTH: Jobs = Counter(
    [("wc", None, 1), ("wc", None, 2), ("wc", None, 3), ("two", "a", None), ("two", "2", 5), ("two", "2", 7)]
)


def jobs_in(case: Case, jar: str) -> Jobs:
    """What the files of a jar, unclaimed or completed, say that they are: batch, name, seed."""
    found: Jobs = Counter()
    for path in (case.home / jar).rglob("*"):
        if path.is_file():
            said = read_description(path.read_bytes(), path.name)
            assert os.access(path, os.X_OK)
            if said.batch is not None:
                found[(said.batch, said.name, said.seed)] += 1
    return found


def seeds_in(case: Case, jar: str) -> list[int]:
    return sorted((seed or 0 for (_, _, seed), count in jobs_in(case, jar).items() for _ in range(count)))


def state(case: Case, name: str) -> dict[str, Any] | None:
    path = case.home / "batches" / name / "batch.json"
    data: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return data


def assert_recovered(case: Case) -> None:
    """Recovered, nothing is between two states, the ledger agrees, and there is nothing left to recover."""
    _, different = case.do_each("recover", "check")
    assert different == []
    again, seen = case.do_each("recover", "look")
    assert again == []
    assert os.listdir(case.home / "limbo") == []
    for batch in os.listdir(case.home / "batches"):
        assert os.listdir(case.home / "batches" / batch) == ["batch.json"], batch
    names = Counter(name_in_place(place) for place in seen["places"])
    assert [name for name, count in names.items() if count > 1] == []
    # What was never submitted is in no journal.
    ids = {name.split("-")[1] for name in names}
    assert {entry["job"] for entry in seen["entries"] if "job" in entry} <= ids


def kill_at_each_write(
    case: Case, step: int, scenario: str, arguments: dict[str, Any], then: Callable[[Case], None]
) -> int:
    """As `kill_everywhere`, with a look of `then` at each case after its recovery."""
    saved = case.directory.parent / "saved"
    shutil.copytree(case.directory, saved, symlinks=True)
    points = case.do(scenario, Plan(), **arguments).points
    assert_recovered(case)
    then(case)
    plans = plan_deaths(len(points), step)
    killed, failures = 0, []
    for plan in plans:
        shutil.rmtree(case.directory)
        shutil.copytree(saved, case.directory, symlinks=True)
        answer = case.do(scenario, plan, **arguments)
        killed += answer.killed
        try:
            assert_recovered(case)
            then(case)
        except AssertionError as error:
            label = answer.points[-1].replace(str(case.directory), "…")
            failures.append(f"killed {plan.when} point {plan.number}, {label}: {error}")
    _tally(f"{scenario}: {then.__name__}", killed, len(failures))
    assert not failures, f"{len(failures)} of {killed} cases:\n" + "\n".join(failures[:5])
    assert killed >= len(plans) * 0.8
    return killed


@pytest.fixture
def case(nursery: Nursery, template: Path, tmp_path: Path) -> Case:
    made = Case(nursery, template, tmp_path / "case")
    made.do("submit_command", command="true")
    made.do("work")
    return made


@pytest.mark.slow
def test_a_killed_submission_of_two_batches_leaves_both_or_neither(case: Case) -> None:
    outcomes: Counter[str] = Counter()

    def both_or_neither(case: Case) -> None:
        found = jobs_in(case, "unclaimed")
        is_there = state(case, "wc") is not None
        assert is_there == (state(case, "two") is not None)
        assert found == (ALL_OF_BOTH if is_there else Counter())
        outcomes["both" if is_there else "neither"] += 1
        if not is_there:
            assert case.do("submit_batch", text=SEEDS + BLOCKS).result == ["wc", "two"]
            assert_recovered(case)
            assert jobs_in(case, "unclaimed") == ALL_OF_BOTH

    assert kill_at_each_write(case, 1, "submit_batch", {"text": SEEDS + BLOCKS}, both_or_neither) > 10
    assert outcomes["both"] > 4 and outcomes["neither"] > 4


@pytest.mark.slow
def test_a_killed_submission_can_be_repeated_at_once_without_a_recovery(case: Case) -> None:
    saved = case.directory.parent / "other"
    shutil.copytree(case.directory, saved, symlinks=True)
    points = case.do("submit_batch", Plan(), text=SEEDS).points
    for number in range(1, len(points) + 1, 2):
        shutil.rmtree(case.directory)
        shutil.copytree(saved, case.directory, symlinks=True)
        case.do("submit_batch", Plan(number, AFTER), text=SEEDS)
        if state(case, "wc") is None:
            assert case.do("submit_batch", text=SEEDS).result == ["wc"]
        else:
            assert case.do("edit_batch", name="wc", notes="settled").result == 0
        assert seeds_in(case, "unclaimed") == [1, 2, 3]
        assert_recovered(case)


@pytest.mark.slow
def test_a_killed_widening_submits_the_new_seeds_once_or_not_at_all(case: Case) -> None:
    case.do("submit_batch", text=SEEDS)

    def old_or_new(case: Case) -> None:
        said = state(case, "wc")
        assert said is not None
        assert (said["seeds"], seeds_in(case, "unclaimed")) in (("1-3", [1, 2, 3]), ("1-5", [1, 2, 3, 4, 5]))
        case.do("edit_batch", name="wc", seeds="1-5")
        assert seeds_in(case, "unclaimed") == [1, 2, 3, 4, 5]

    arguments = {"name": "wc", "seeds": "1-5", "priority": "7"}
    assert kill_at_each_write(case, 2, "edit_batch", arguments, old_or_new) > 10


@pytest.mark.slow
def test_a_killed_abortion_cancels_all_that_wait_or_none(case: Case) -> None:
    case.do("submit_batch", text=SEEDS)

    def all_or_none(case: Case) -> None:
        said = state(case, "wc")
        assert said is not None
        waiting, ended = seeds_in(case, "unclaimed"), seeds_in(case, "completed")
        assert (waiting, ended) == (([], [1, 2, 3]) if said["is_aborted"] else ([1, 2, 3], []))
        case.do("abort_batch", name="wc")
        assert (seeds_in(case, "unclaimed"), seeds_in(case, "completed")) == ([], [1, 2, 3])
        seen = case.do("look").result["entries"]
        ends = (entry for entry in seen if entry["entry"] == "ended" and entry["final"])
        final = {(entry["job"], entry["attempt"], entry["outcome"]) for entry in ends}
        assert Counter(outcome for *_, outcome in final) == {"cancelled": 3, "succeeded": 1}

    assert kill_at_each_write(case, 1, "abort_batch", {"name": "wc"}, all_or_none) > 10


@pytest.mark.slow
def test_a_killed_restart_submits_each_job_again_once_or_not_at_all(case: Case) -> None:
    case.do("submit_batch", text=SEEDS)
    case.do("abort_batch", name="wc")

    def again_or_not(case: Case) -> None:
        said = state(case, "wc")
        assert said is not None
        assert seeds_in(case, "unclaimed") == ([] if said["is_aborted"] else [1, 2, 3])
        case.do("abort_batch", name="wc", restart=True)
        assert seeds_in(case, "unclaimed") == [1, 2, 3]

    assert kill_at_each_write(case, 2, "abort_batch", {"name": "wc", "restart": True}, again_or_not) > 10


@pytest.mark.slow
@pytest.mark.parametrize("match", [r"renameat2 .*/00000000\.leaving/SOME/", r"rename .*state .*batch\.json"])
def test_a_recovery_of_a_killed_submission_may_be_killed_too(case: Case, match: str) -> None:
    answer = case.do("submit_batch", Plan(match=match, when=AFTER), text=SEEDS + BLOCKS)
    assert answer.killed

    def both(case: Case) -> None:
        assert jobs_in(case, "unclaimed") == ALL_OF_BOTH

    assert kill_at_each_write(case, 1, "recover", {}, both) > 10
