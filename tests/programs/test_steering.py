"""The verbs that steer jobs, by the real programs: hold, release, priority, move."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.host import login
from tests.rig import Result, Rig


def steer(rig: Rig, verb: str, *words: str, fails: bool = False) -> Result:
    """Run a verb, which has to exit 0, or 1 if it `fails`."""
    result = rig.run("jobjar", verb, *words, check=False)
    assert result.returncode == int(fails), (result.stdout, result.stderr)
    return result


def submit(rig: Rig, word: str, *options: str, command: str = "true") -> str:
    """Submit a job; returns its id."""
    return str(rig.show(rig.submit("--id", word, *options, command))["id"])


def test_held_jobs_wait_in_limbo_until_they_are_released(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = submit(rig, "first", "-p", "3", "-c", "RUN", command=f"echo first >> {log}")
    second = submit(rig, "second", "-p", "5", "-c", "RUN", command=f"echo second >> {log}")
    rig.drop("by-hand", f"#!/bin/sh\necho by-hand >> {log}\n", "RUN")
    assert steer(rig, "hold", "--dry-run", "--all").stdout == "would hold 3 waiting jobs\n"
    assert len(rig.names("unclaimed/RUN")) == 3
    assert steer(rig, "hold", first, "*second*", "by-hand").stdout == "held 3 waiting jobs\n"
    assert rig.names("unclaimed/RUN") == [] and len(rig.names("limbo")) == 3
    for job in (first, second, "by-hand"):
        shown = rig.show(job)
        assert (shown["state"], shown["category"]) == ("limbo", "RUN")
        assert shown["held_reason"] == f"held by {login()}"
    assert [rig.show(job)["priority"] for job in (first, second)] == [3, 5]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    rig.run_until_idle("RUN")
    assert not log.exists()
    # A job that is named and held already is an error; one that a filter selects is not meant.
    result = steer(rig, "hold", first, fails=True)
    assert result.stdout == "held no job\n"
    assert result.stderr == f"jobjar hold: {first} was not held: it is held\n"
    assert "no job fits" in steer(rig, "hold", "--category", "RUN", fails=True).stderr
    assert steer(rig, "release", "--state", "held").stdout == "released 3 held jobs\n"
    rig.run_until_idle("RUN")
    assert log.read_text().split() == ["second", "first", "by-hand"]
    moves = [move["reason"] for move in rig.show(first)["moves"]]
    assert moves == ["submitted", "held", "released", "claimed", "completed"]
    assert [move["reason"] for move in rig.show("by-hand")["moves"]] == ["found", *moves[1:]]
    result = steer(rig, "release", first, "by-hand", fails=True)
    assert [line.partition(": ")[2] for line in result.stderr.splitlines()] == [
        f"{first} was not released: it has ended (succeeded)",
        f"{rig.show('by-hand')['id']} was not released: it has ended (succeeded)",
    ]
    rig.assert_clean()


def test_jobs_get_another_priority_and_another_category(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ids = {word: submit(rig, word, command=f"echo {word} >> {log}") for word in ("a", "b", "c")}
    rig.drop("by-hand.txt", f"#!/bin/sh\necho by-hand >> {log}\n")
    steer(rig, "hold", ids["c"])
    assert steer(rig, "priority", ids["b"], "by-hand.txt", ids["c"], "7").stdout == (
        "gave priority 7 to 2 waiting and 1 held jobs\n"
    )
    assert steer(rig, "priority", ids["b"], "-2").stdout == "gave priority -2 to 1 waiting job\n"
    assert steer(rig, "move", "--all", "OTHER").stdout == "moved 3 waiting and 1 held jobs to category OTHER\n"
    assert len(rig.names("unclaimed/OTHER")) == 3 and rig.names("unclaimed") == []
    expected = {ids["a"]: 0, ids["b"]: -2, ids["c"]: 7, "by-hand.txt.7": 7}
    for job, priority in expected.items():
        shown = rig.show(job)
        assert (shown["priority"], shown["category"]) == (priority, "OTHER")
    assert rig.show(ids["c"])["held_reason"] == f"held by {login()}"
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert {job: rig.show(job)["priority"] for job in expected} == expected
    assert steer(rig, "move", ids["a"], "").stdout == "moved 1 waiting job out of any category\n"
    steer(rig, "release", ids["c"])
    rig.run_until_idle("OTHER")
    order = log.read_text().split()
    assert sorted(order[:2]) == ["by-hand", "c"] and order[2:] == ["b", "a"]
    assert rig.run("jobjar", "priority", ids["a"], "high", check=False).returncode == 2
    assert rig.run("jobjar", "move", ids["a"], ".hidden", check=False).returncode == 2
    assert rig.run("jobjar", "priority", "5", check=False).returncode == 2
    rig.assert_clean()


def test_the_library_steers_as_the_programs_do(rig: Rig) -> None:
    ids = [submit(rig, word) for word in ("a", "b")]
    jobjar.set_home(str(rig.home))
    assert jobjar.hold(["a", "nobody"]).jobs == [(ids[0], rig.show("a")["name"], "waiting", None)]
    assert jobjar.set_priority("*-a.*", 3).describe_jobs() == "1 held job"
    assert jobjar.move(all=True, to="X", jobs=(), dry_run=True).describe_jobs() == "1 waiting and 1 held jobs"
    assert len(jobjar.move((), "X", state="waiting").jobs) == 1
    assert [str(error) for error in jobjar.release(ids).errors] == [
        f"{ids[1]} was not released: it waits, and is not held"
    ]
    assert [(job.priority, job.category) for job in jobjar.unclaimed_jobs()] == [(3, None), (0, "X")]
    with pytest.raises(jobjar.JarError, match="name jobs or filters"):
        jobjar.hold()
    rig.assert_clean()


def test_a_delay_goes_with_the_job_that_is_moved(rig: Rig) -> None:
    rig.run("jobjar", "submit", "--name", "later", "--begin", "+1h", "true")
    begin = rig.show("@1")["not_before"]
    uid = rig.show("@1")["id"]
    for verb, *words in (("hold",), ("priority", "4"), ("move", "A"), ("release",), ("priority", "5"), ("move", "B")):
        steer(rig, verb, uid, *words)
        assert rig.show(uid)["not_before"] == begin, verb
    # A worker that has run a later job of the category has passed this one over.
    other = rig.submit("-c", "B", "true")
    worker = rig.start_worker("B")
    rig.run("jobjar", "wait", "--timeout", "60s", other)
    rig.stop_worker(worker)
    assert rig.show(uid)["attempts"] == []
    rig.assert_clean()


def test_what_is_said_to_let_several_held_jobs_go_on_does_that(rig: Rig, tmp_path: Path) -> None:
    described = tmp_path / "wc.jug"
    described.write_text('batch\nname = "wc"\nseeds = "1-2"\nrun_command = "true"\n')
    rig.run("submit_batch", str(described))
    submit(rig, "alone")
    steer(rig, "hold", "--all")
    [in_batch] = json.loads(rig.run_forked("batch_status", "--format", "json", "wc").stdout)["batches"]
    for standing, count in (rig.status()["standing"], 3), (in_batch["standing"], 2):
        [held] = [counted for counted in standing if counted["cause"] == "held"]
        assert held["jobs"] == count
        command = shlex.split(held["do"].split("`")[1])
        assert rig.run(*command, "--dry-run").stdout == f"would release {count} held jobs\n"


@pytest.mark.parametrize("verb", ["hold", "release", "priority", "move"])
def test_what_a_verb_is_not_for_is_named(rig: Rig, verb: str) -> None:
    more = {"priority": ["1"], "move": ["X"]}.get(verb, [])
    ended = submit(rig, "ended")
    rig.run_until_idle()
    waits = submit(rig, "waits")
    held = submit(rig, "held")
    steer(rig, "hold", held)
    result = steer(rig, verb, "--format", "json", ended, held, waits, "nobody", *more, fails=True)
    said: dict[str, Any] = json.loads(result.stdout)
    done = {job["id"]: job["was"] for job in said["jobs"]}
    assert done == {
        "hold": {waits: "waiting"},
        "release": {held: "held"},
    }.get(verb, {held: "held", waits: "waiting"})
    reasons = {error["job"]: error["reason"] for error in said["errors"]}
    assert set(reasons) == {ended, held, waits, "nobody"} - set(done)
    assert len(result.stderr.splitlines()) == len(reasons)
    assert rig.run("jobjar", verb, *more, check=False).returncode == 2
    assert rig.run("jobjar", verb, "--state", "ended", *more, check=False).returncode == 2
    rig.assert_clean()
