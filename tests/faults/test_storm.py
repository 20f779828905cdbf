"""A short storm for every run of the tests, and the table that is made of a long one."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import everything, table, verdict
from tests.faults.faults import FAULTS, make_plan
from tests.faults.storm import CANNOT_RUN, Storm

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.timeout(700)  # half a minute where nothing else runs; its own deadlines come first
@pytest.mark.parametrize("homes", ["own", "jar"])
def test_a_short_storm_loses_nothing(homes: str, tmp_path: Path) -> None:
    result, log = tmp_path / "result.json", tmp_path / "said"
    words = ["--jobs", "150", "--faults", "15", "--gap", "0.4", "--lock-time", "12", "--homes", homes]
    words += ["--deadline", "240", "--result", str(result)]
    try:
        with open(log, "w", encoding="utf-8") as said:
            command = [sys.executable, "-m", "tests.faults.storm", *words]
            status = subprocess.run(command, cwd=ROOT, stdout=said, stderr=said, check=False).returncode
    finally:
        print(log.read_text(encoding="utf-8")[-20000:])  # its seed, and how far it came
    if status == CANNOT_RUN:
        pytest.skip(log.read_text(encoding="utf-8").strip())
    assert status == 0
    found = json.loads(result.read_text())
    assert found["completed"] >= 140 and sum(found["faults"].values()) == 15
    assert found["dependents"] > 0
    assert (found["jobs_lost"], found["completed_twice"], found["history_lost"]) == (0, 0, 0)
    assert (found["tasks_lost"], found["tasks_ended_twice"]) == (0, 0)


def test_a_seed_repeats_a_plan_and_a_long_plan_has_every_kind_of_fault() -> None:
    plan = make_plan(random.Random(7), 100)
    assert plan == make_plan(random.Random(7), 100) != make_plan(random.Random(8), 100)
    assert set(plan) == set(FAULTS)
    assert len(make_plan(random.Random(7), 5)) == 5


def make_storm(tmp_path: Path) -> Storm:
    options = argparse.Namespace(seed=1, jobs=3, tasks=0, faults=0, gap=1.0, lock_time=1.0, homes="own")
    storm = Storm(tmp_path, options)
    storm.submitter.submitted.update({"a.1": "succeeded", "b": "failed", "c": ""})
    storm.log.write_text("u1 1 w1 a.1\nu2 1 w2 b\nu2 2 w1 b\n")
    return storm


def test_the_verdict_sees_a_lost_job_and_one_in_two_places(tmp_path: Path) -> None:
    storm = make_storm(tmp_path)
    places = {"completed/a.1", "completed/b", "unclaimed/b", "unclaimed/c", "completed/d~2"}
    lost, twice = verdict.judge_places(storm, places)
    assert lost == ["b", "c"]
    assert sorted(twice) == ["b", "d~2"]


def test_the_verdict_sees_two_outcomes_a_wrong_one_and_attempts_without_a_row(tmp_path: Path) -> None:
    storm = make_storm(tmp_path)

    def attempt(uid: str, number: int, worker_uid: str, outcome: str | None, final: int) -> tuple[object, ...]:
        return (uid, number, "w", worker_uid, 1.5, None, None, None, outcome, final)

    ledger: verdict.Dump = {
        "job": [("u1", "a.1", "completed"), ("u2", "b", "completed")],
        "attempt": [
            attempt("u1", 1, "w1", "failed", 1),
            attempt("u2", 1, "w2", "failed", 1),
            attempt("u2", 3, "w3", "failed", 1),
        ],
    }
    twice, wrong = verdict.judge_finals(ledger, storm)
    assert twice == ["b"] and wrong == {"a.1": "a.1: ['failed'] instead of succeeded"}
    [missing] = verdict.judge_history(ledger, verdict.read_runs(storm), {"completed/a.1", "completed/b"})
    assert (missing.name, missing.attempt, missing.worker_uid) == ("b", 2, "w1")


def test_the_verdict_sees_a_dependent_that_ran_too_early_and_one_that_was_cancelled_for_nothing(tmp_path: Path) -> None:
    storm = make_storm(tmp_path)

    def attempt(uid: str, outcome: str, message: str | None = None) -> tuple[object, ...]:
        return (uid, 1, "w", "w1", 1.5, None, None, None, outcome, 1, message)

    ledger: verdict.Dump = {
        "job": [("u1", "a.1", "completed"), ("u2", "b", "completed"), ("u3", "c", "completed")],
        "attempt": [
            *(attempt("u0", "failed"), attempt("u1", "succeeded"), attempt("u2", "failed")),
            attempt("u3", "cancelled", "its prerequisite u1 failed"),
        ],
    }
    runs = verdict.read_runs(storm)  # a.1 and b
    storm.submitter.prerequisites = {"a.1": {"after": ["u0"]}, "b": {"after_any": ["u0"]}, "c": {"after": ["u1"]}}
    assert verdict.judge_dependents(ledger, storm, runs) == (["a.1"], ["c"])
    storm.submitter.prerequisites["c"] = {"after": ["u1", "u2"]}
    storm.steerer.let_go.add("a.1")
    assert verdict.judge_dependents(ledger, storm, runs) == ([], [])


def test_the_verdict_tells_leases_that_ran_out_from_workers_that_died(tmp_path: Path) -> None:
    def row(outcome: str | None, message: str | None) -> tuple[object, ...]:
        return ("u1", 1, "w", "w1", 1.5, None, None, None, outcome, 0, message)

    silent = (
        "the heartbeat of its worker rain.7 stood still for 2 s (JJ_LEASE_TIME 2); taken back by snow.8; stranded for …"
    )
    assert verdict.kind_of_end(row("stranded", silent)) == "stranded by lease"
    assert verdict.kind_of_end(row("stranded", "its worker rain.7 died; stranded for the 1st time")) == "stranded"
    assert verdict.kind_of_end(row("lost", None)) == "lost"
    assert verdict.kind_of_end(row(None, None)) == "None"


def test_the_table_is_put_between_its_marks_and_says_how_small_it_was(tmp_path: Path) -> None:
    storm = {
        "command": "x --homes own",
        "seed": 5,
        "jobs": 300,
        "workers": 8,
        "nodes": 3,
        "faults": {"worker killed (SIGKILL)": 20, "ledger deleted": 10},
        "jobs_lost": 0,
        "completed_twice": 0,
        "history_lost": 0,
        "arrays": 2,
        "tasks": 1600,
        "tasks_lost": 0,
        "tasks_ended_twice": 0,
        "tasks_run_more_than_once": 17,
        "run_more_than_once": 4,
        "attempts": {"stranded": 4, "stranded by lease": 3, "lost": 2},
        "submissions_refused": 2,
        "duration_s": 40,
    }
    crash = everything._add_up(
        [{"scenario": "work: a", "killed": 90, "failed": 0}, {"scenario": "work: b", "killed": 10, "failed": 0}]
    )
    result = {
        "command": "make faults",
        "date": "2026-01-01",
        "duration_s": 61,
        "versions": {"jobjar": "1"},
        "crash": crash,
        "storms": [storm],
    }
    made = table.make_table(result)
    assert "**storm: 300 jobs, 8 workers on 3 nodes, a ledger home each, seed 5** | **30** | 0 | 0 | 0 |" in made
    assert "| **the tasks in it: 1,600 of 2 arrays** | | 0 | 0 | |" in made and "17 tasks ran more than once" in made
    assert "| work | 100 | | | |" in made and "| ledger deleted | 10 | | | |" in made
    assert "4 stranded by a death, 3 by a lease that ran out, 2 lost by a worker that came back" in made
    path = tmp_path / "faults.md"
    path.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.put_into(path, made)
    table.put_into(path, made)
    assert path.read_text() == f"before\n{table.BEGIN}\n{made}\n{table.END}\nafter\n"
    with pytest.raises(ValueError, match="has no lines"):
        table.put_into(ROOT / "LICENSE", made)
