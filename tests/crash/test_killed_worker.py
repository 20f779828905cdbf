"""A worker that is killed before and after each of its writes loses no job, and none completes twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.case import Case, Step, kill_everywhere
from tests.crash.killer import AFTER, BEFORE, Plan
from tests.crash.nursery import Nursery
from tests.rig import wait_until


def a_job_that_succeeds(case: Case) -> None:
    case.submit("echo done")
    case.do("recover")


def a_job_that_fails_once(case: Case) -> None:
    mark = case.directory / "failed"
    case.submit(f"test -e {mark} || {{ touch {mark}; exit 3; }}", category="SOME", attributes={"retries": 9})
    case.do("recover")


def a_dropped_job(case: Case) -> None:
    case.drop("by hand.3", "#JJ retries = 1")
    case.dropped.append("by hand.3")


def a_job_to_hold(case: Case) -> None:
    case.drop("odd", "#JJ no_such_attribute = 1")
    case.drop("later", "#JJ hold = yes\n#JJ tag = x")
    case.held += ["odd", "later"]


def all_kinds(case: Case) -> None:
    a_job_that_fails_once(case)
    a_dropped_job(case)
    a_job_to_hold(case)


def test_a_killed_worker_s_jobs_are_run_again_or_completed(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    kill_everywhere(nursery, template, tmp_path, all_kinds, "work", 13)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "step"),
    [(a_job_that_succeeds, 1), (a_job_that_fails_once, 2), (a_dropped_job, 2), (a_job_to_hold, 2)],
)
def test_a_worker_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path, prepare: Step, step: int
) -> None:
    killed = kill_everywhere(nursery, template, tmp_path, prepare, "work", step)
    assert killed > 10


def assert_no_name_is_held(case: Case) -> None:
    places = [path for jar in ("limbo", "unclaimed", "workers", "completed") for path in (case.home / jar).rglob("*")]
    assert [path for path in places if path.is_symlink()] == []


@pytest.mark.parametrize(("step"), [13, pytest.param(1, marks=pytest.mark.slow)])
def test_what_holds_a_name_for_the_move_of_a_killed_worker_is_removed(
    nursery: Nursery, template: Path, tmp_path: Path, step: int
) -> None:
    kill_everywhere(nursery, template, tmp_path, all_kinds, "work_without_renameat2", step, then=assert_no_name_is_held)


@pytest.mark.parametrize("jar", ["completed", "jobs"])
def test_a_name_held_by_a_killed_worker_is_free_again(
    nursery: Nursery, template: Path, tmp_path: Path, jar: str
) -> None:
    case = Case(nursery, template, tmp_path / "case")
    a_job_that_succeeds(case)
    assert case.do("work_without_renameat2", Plan(match=rf"^symlink \.moving:.*/{jar}/", when=AFTER)).killed
    held = [path for path in case.home.rglob("*") if path.is_symlink() and path.parent.name == jar]
    assert [path.name for path in held] == case.submitted
    case.assert_recovered_and_done()
    assert not held[0].is_symlink()
    assert sorted(case.do("look").result["places"]) == [f"completed/{case.submitted[0]}"]


def test_what_a_short_job_wrote_is_found_though_its_worker_was_killed_before_it_named_it(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    case = Case(nursery, template, tmp_path / "case")
    a_job_that_succeeds(case)
    assert case.do("work", Plan(match=r"^rename .*/output/\.next ")).killed
    case.do("recover")
    stranded = [entry for entry in case.do("look").result["entries"] if entry["entry"] == "ended"]
    assert [entry["outcome"] for entry in stranded] == ["stranded"]
    assert [path.read_text() for path in case.home.glob(f"workers/*/output/{stranded[0]['output_file']}")] == ["done\n"]
    assert [path.name for path in case.home.glob("workers/*/output/.next")] == []
    case.assert_recovered_and_done()


def test_a_process_that_was_started_and_not_journaled_is_ended_before_its_job_goes_back(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    case = Case(nursery, template, tmp_path / "case")
    case.submit("sleep 60 & sleep 60")
    assert case.do("work", Plan(match="^posix_spawn", when=AFTER)).killed
    wait_until(lambda: case.runs() and len(case.do("processes").result) == 3, "the job and its two children")
    assert not [entry for entry in case.do("look").result["entries"] if entry["entry"] == "started"]
    said = case.do("recover").result
    assert case.do("processes").result == []
    assert any("orphaned" in line for line in said) and any("returned" in line for line in said)
    assert case.do("look").result["places"] == [f"unclaimed/{name}" for name in case.submitted]
    assert case.do("check").result == []


@pytest.mark.parametrize(
    ("match", "when"),
    [("^mkdir .*workers/[^/]*$", AFTER), ("^mkdir .*/spent$", AFTER), (r"^rename .*worker\.json", BEFORE)],
)
def test_a_worker_that_was_killed_before_it_had_said_who_it_is_leaves_nothing_behind(
    nursery: Nursery, template: Path, tmp_path: Path, match: str, when: str
) -> None:
    case = Case(nursery, template, tmp_path / "case")
    case.submit()
    assert case.do("work", Plan(match=match, when=when)).killed
    workers = case.home / "workers"
    [left] = workers.iterdir()
    assert not (left / "worker.json").exists()
    # What somebody lost there is not ours to remove; nor is what a worker of another node may be about to use.
    (left / "jobs").mkdir(exist_ok=True)
    (left / "jobs" / "precious").write_text("by hand")
    other = workers / "another-node.1"
    (other / "jobs").mkdir(parents=True)
    assert not any("removed" in line for line in case.do("recover").result)
    assert (left / "jobs" / "precious").exists()
    (left / "jobs" / "precious").unlink()
    [said] = [line for line in case.do("recover").result if "removed" in line]
    assert left.name in said
    assert [path.name for path in workers.iterdir()] == [other.name]
    entries = [entry for entry in case.do("look").result["entries"] if entry["entry"] == "worker"]
    assert {entry["worker_uid"] for entry in entries} == {e["worker_uid"] for e in entries if e.get("ended_at")}
    case.assert_recovered_and_done()
