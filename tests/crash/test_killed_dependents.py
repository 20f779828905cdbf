"""Whoever submits, releases or cancels dependents is killed at each write: none waits for ever, and none runs too early."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.crash.case import Case, kill_everywhere, plan_deaths
from tests.crash.killer import Plan
from tests.crash.nursery import Nursery


def a_job(case: Case) -> None:
    case.submit()


def nothing_waits(case: Case) -> None:
    """What the journals say was submitted has left limbo, and no job ran before what it waits for."""
    submitted = {entry["name"] for entry in case.do("look").result["entries"] if entry["entry"] == "submitted"}
    limbo = {path.name for path in (case.home / "limbo").iterdir() if path.is_file()}
    assert not submitted & limbo
    ran = case.log.read_text().split()
    assert ran[:1] == case.submitted[:1]


def first_of(case: Case) -> str:
    return case.submitted[0]


def test_a_killed_submission_leaves_a_dependent_that_runs_or_none(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def attributes(case: Case) -> dict[str, list[str]]:
        return {"after": [first_of(case)]}

    killed = kill_everywhere(
        *(nursery, template, tmp_path, a_job, "submit_command", 5),
        command=lambda case: case.command(),
        attributes=attributes,
        then=nothing_waits,
    )
    assert killed > 5


def a_job_and_dependents(case: Case) -> None:
    """One that succeeds, one that fails; what waits for either, and what waits for that."""
    case.submit()
    case.submit(then="false")
    first, failing = case.submitted
    case.submit(category="SOME", attributes={"after": [first]})
    case.submit(attributes={"after": [first, failing]})
    case.submit(attributes={"after": [case.submitted[3]]})
    case.submit(attributes={"after_failed": [case.submitted[4]], "after_any": [case.submitted[2]]})
    case.may_cancel = True


def each_has_the_end_that_it_should(case: Case) -> None:
    nothing_waits(case)
    ran = set(case.runs())
    assert ran == {case.submitted[number] for number in (0, 1, 2, 5)}


def test_a_worker_that_is_killed_at_any_write_leaves_dependents_to_the_next(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    killed = kill_everywhere(
        *(nursery, template, tmp_path, a_job_and_dependents, "work", 9), then=each_has_the_end_that_it_should
    )
    assert killed > 10


def test_a_killed_cancellation_takes_dependents_along_or_leaves_both(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def prepare(case: Case) -> None:
        case.submit()
        case.submit(attributes={"after": case.submitted[:1]})
        case.submit(attributes={"after": case.submitted[1:2]})
        case.may_cancel = True

    def all_or_none(case: Case) -> None:
        assert len(case.runs()) in (0, 3)
        assert [path for path in (case.home / "limbo").rglob("*") if path.is_file() and "order" not in path.name] == []

    killed = kill_everywhere(
        *(nursery, template, tmp_path, prepare, "steer", 7),
        then=all_or_none,
        verb="cancel",
        words=lambda case: [first_of(case)],
    )
    assert killed > 10


def test_a_killed_retry_leaves_dependents_that_can_be_retried(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    case = Case(nursery, template, tmp_path / "case")
    case.submit(then=f"test -e {case.directory}/mended")
    case.submit(attributes={"after": case.submitted[:1]})
    case.submit(attributes={"after": case.submitted[1:2]})
    case.do("work")
    assert list(case.runs()) == case.submitted[:1]
    (case.directory / "mended").touch()
    retry: dict[str, Any] = {"verb": "retry", "values": [True], "words": case.submitted[:1]}
    saved = tmp_path / "saved"
    shutil.copytree(case.directory, saved, symlinks=True)

    def all_run(is_killed: bool) -> None:
        case.do("work")
        if case.runs()[case.submitted[0]] == 1:
            case.do("steer", **retry)
            case.do("work")
        limbo = [path.name for path in (case.home / "limbo").iterdir() if path.is_file()]
        if limbo:  # it was killed between a rename and the entry that says on what the job depends
            assert is_killed and len(limbo) == 1
            case.do("steer", verb="release", words=limbo)
        case.do("work")
        left = [name for name in case.submitted[1:] if not case.runs()[name]]
        if left:  # it was killed before it had come to these
            assert is_killed
            case.do("steer", verb="retry", words=left)
            case.do("work")
        assert set(case.runs()) == set(case.submitted)
        assert case.do("check").result == []

    points = case.do("steer", Plan(), **retry).points
    all_run(False)
    plans = plan_deaths(len(points), 5)
    killed = 0
    for plan in plans:
        shutil.rmtree(case.directory)
        shutil.copytree(saved, case.directory, symlinks=True)
        killed += case.do("steer", plan, **retry).killed
        case.do("recover")
        assert case.do("check").result == []
        all_run(True)
        assert case.do("recover").result == []
    assert killed >= len(plans) * 0.8


def test_a_worker_that_is_killed_at_any_write_leaves_the_rest_of_a_failed_batch_to_the_next(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    """The second of its jobs fails; two wait behind it, one is held in limbo."""

    def a_batch(case: Case) -> None:
        command = f"echo $JJ_JOB >> {case.log}; test $JUG_SEED != 2"
        text = f'batch\nname = "b"\nfail_fast = yes\nretries = 0\nseeds = "1-5"\nrun_command = "{command}"\n'
        case.do("submit_batch", text=text)
        case.submitted = sorted(path.name for path in (case.home / "unclaimed").iterdir())
        case.do("steer", verb="hold", words=case.submitted[-1:])
        case.may_cancel = True

    def the_rest_did_not_run(case: Case) -> None:
        nothing_waits(case)
        assert set(case.runs()) == set(case.submitted[:2])

    killed = kill_everywhere(*(nursery, template, tmp_path, a_batch, "work", 9), then=the_rest_did_not_run)
    assert killed > 10
