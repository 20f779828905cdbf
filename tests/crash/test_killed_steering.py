"""A verb that steers jobs and is killed before and after each of its writes leaves each job as it was, or as it was to become."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from jobjar.journal.entries import LIFE
from tests.crash.case import Case, Step, kill_everywhere, plan_deaths
from tests.crash.killer import Plan
from tests.crash.nursery import Nursery


def jobs_that_wait(case: Case) -> None:
    """A submitted job, one in a category, and one that a hand put there."""
    case.submit()
    case.submit(category="SOME", attributes={"retries": 2})
    case.drop("by-hand.0")
    case.do("recover")


def jobs_that_are_held(case: Case) -> None:
    """The same, held."""
    jobs_that_wait(case)
    assert case.do("steer", verb="hold").result == []


def release_what_lies_in_limbo(case: Case) -> None:
    """A person sees jobs in limbo, and lets them go on, whoever put them there."""
    if names := [path.name for path in (case.home / "limbo").iterdir() if path.is_file()]:
        assert case.do("steer", verb="release", words=names).result == []


def give_priority_0(case: Case) -> None:
    """The jobs have their first names again."""
    case.do("steer", verb="priority", values=[0])


def test_a_killed_hold_leaves_jobs_that_can_be_released(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    killed = kill_everywhere(
        nursery, template, tmp_path, jobs_that_wait, "steer", 3, heal=release_what_lies_in_limbo, verb="hold"
    )
    assert killed > 5


def test_a_killed_release_leaves_jobs_that_can_be_released(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    killed = kill_everywhere(
        nursery, template, tmp_path, jobs_that_are_held, "steer", 3, heal=release_what_lies_in_limbo, verb="release"
    )
    assert killed > 5


@pytest.mark.parametrize("verb", ["move", "priority"])
def test_a_killed_change_of_category_or_priority_leaves_jobs_that_run(
    nursery: Nursery, template: Path, tmp_path: Path, verb: str
) -> None:
    killed = kill_everywhere(
        *(nursery, template, tmp_path, jobs_that_wait, "steer", 3),
        heal=give_priority_0 if verb == "priority" else None,
        verb=verb,
        values=[{"move": "MANY", "priority": 5}[verb]],
    )
    assert killed > 5


def jobs_to_cancel(case: Case) -> None:
    """The same, and one that is held."""
    case.submit()
    assert case.do("steer", verb="hold").result == []
    jobs_that_wait(case)
    case.may_cancel = True


def a_held_job_is_released(case: Case) -> None:
    """A killed cancellation leaves some as they were."""
    case.do("recover")
    release_what_lies_in_limbo(case)


def test_a_killed_cancellation_leaves_jobs_that_run_or_are_cancelled(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def nothing_is_left_of_it(case: Case) -> None:
        files = [path for path in (case.home / "limbo").rglob("*") if path.is_file()]
        assert [path for path in files if not path.name.startswith("order.json")] == []

    killed = kill_everywhere(
        *(nursery, template, tmp_path, jobs_to_cancel, "steer", 2),
        heal=a_held_job_is_released,
        then=nothing_is_left_of_it,
        verb="cancel",
    )
    assert killed > 10


def jobs_that_failed(case: Case) -> None:
    """The same, run: they fail until a file is there."""
    case.submit(then=f"test -e {case.directory}/mended")
    case.submit(category="SOME", then=f"test -e {case.directory}/mended")
    case.do("work")
    (case.directory / "mended").touch()


def kill_at_each_write(case: Case, verb: str, then: Step) -> int:
    """Kill a verb about all jobs at its writes, each time in the same jar, and look at what `then` asserts."""
    saved = case.directory.parent / "saved"
    shutil.copytree(case.directory, saved, symlinks=True)
    points = case.do("steer", Plan(), verb=verb).points
    then(case)
    plans = plan_deaths(len(points), 3)
    killed = 0
    for plan in plans:
        shutil.rmtree(case.directory)
        shutil.copytree(saved, case.directory, symlinks=True)
        killed += case.do("steer", plan, verb=verb).killed
        case.do("recover")
        assert case.do("check").result == []
        then(case)
        assert case.do("check").result == []
        assert case.do("recover").result == []
    assert killed >= len(plans) * 0.8
    return killed


def test_a_killed_retry_leaves_jobs_that_have_ended_or_wait(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    def each_has_run_twice(case: Case) -> None:
        if names := [name for name in case.submitted if (case.home / "completed" / name).exists()]:
            assert case.do("steer", verb="retry", words=names).result == []
        case.do("work")
        assert sorted(case.runs().values()) == [2, 2]
        seen = case.do("look").result["entries"]
        again = [entry for entry in seen if entry["entry"] == "moved" and entry["from"].startswith("completed/")]
        assert {entry["number"] // LIFE for entry in again} == {1}
        final = Counter(entry["job"] for entry in seen if entry["entry"] == "ended" and entry["final"])
        assert sorted(final.values()) == [2, 2]

    case = Case(nursery, template, tmp_path / "case")
    jobs_that_failed(case)
    assert kill_at_each_write(case, "retry", each_has_run_twice) > 3


def test_a_killed_removal_leaves_jobs_that_have_ended_or_are_removed(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def can_be_removed(case: Case) -> None:
        case.do("steer", verb="remove")
        assert list((case.home / "completed").iterdir()) == []
        case.do("work")
        assert sorted(case.runs().values()) == [1, 1]

    case = Case(nursery, template, tmp_path / "case")
    jobs_that_failed(case)
    assert kill_at_each_write(case, "remove", can_be_removed) > 3
