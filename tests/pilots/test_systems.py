"""Pilots on each batch system, by programs that stand in for its own: submitted, found by name, refused, cancelled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from jobjar.pilots.all_systems import SYSTEMS
from tests.pilots.stand_in import PROGRAMS, make_programs
from tests.rig import Rig, wait_until

# What each says if it takes nothing.
REFUSALS = {
    "slurm": "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    "pbs": "qsub: Unknown queue",
    "sge": 'Unable to run job: Job was rejected because job requests unknown queue "nowhere".',
    "htcondor": "ERROR: Failed to connect to queue manager",
    "lsf": "nowhere: No such queue. Job not submitted.",
}


def use(rig: Rig, system: str) -> Path:
    """Have the rig's programs find those of a system; returns the directory with its jobs."""
    home = rig.home.parent / "system"
    make_programs(home, system)
    rig.environment |= {"STAND_IN": str(home), "PATH": f"{home}:{rig.home}/bin:{os.environ['PATH']}"}
    return home


def turn(rig: Rig) -> str:
    result = rig.run_forked("check_pilots")
    return result.stdout + result.stderr


def show(rig: Rig) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(rig.run_forked("jobjar", "pilots", "show", "night", "--format", "json").stdout)
    return shown


def ends(rig: Rig) -> list[str]:
    return [pilot["end_reason"] for pilot in show(rig)["pilots"] if pilot["state"] == "ended"]


def turn_until(rig: Rig, condition: Any, what: str) -> None:
    wait_until(lambda: turn(rig) is not None and condition(), what)


def test_every_system_has_a_stand_in() -> None:
    assert set(SYSTEMS) == set(PROGRAMS) == set(REFUSALS)
    assert all(system.submits_with in PROGRAMS[name] for name, system in SYSTEMS.items())


@pytest.mark.parametrize("system", sorted(PROGRAMS))
def test_pilots_run_what_waits_on_each_system(rig: Rig, system: str) -> None:
    home = use(rig, system)
    more = ("--cores", "2", "--memory", "1G", "--gpus", "1") if system != "slurm" else ()
    rig.run_forked(
        *("jobjar", "pilots", "add", "night", f"--{system}", "--time", "2m", "--failures", "1", "--idle-exit", "100ms"),
        *more,
    )
    (home / "full").touch()
    rig.submit("true")
    assert "submitted" in turn(rig) and turn(rig) == ""
    [pilot] = show(rig)["pilots"]
    assert pilot["state"] == "waiting" and pilot["system_id"]
    # The answer to the submission is lost: the pilot is found by its name.
    path = rig.home / "pilots/night/open/1/pilot.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "state": "intended", "system_id": None, "revision": said["revision"] + 1}))
    assert turn(rig) == ""
    assert show(rig)["pilots"][0]["system_id"] == pilot["system_id"] and len(list(home.glob("*/name"))) == 1
    (home / "full").unlink()
    turn_until(rig, lambda: ends(rig) == ["finished"], "the pilot to have ended")
    assert not list((rig.home / "unclaimed").iterdir())
    # Refused: the queue pauses, and quotes the system.
    (home / "refuse").write_text(REFUSALS[system])
    rig.submit("true")
    assert "is paused" in turn(rig)
    assert " ".join(REFUSALS[system].split()) in show(rig)["paused_why"]
    (home / "refuse").unlink()
    rig.run_forked("jobjar", "pilots", "resume", "night")
    # Nothing waits any more: a pilot that still waits is not needed.
    (home / "full").touch()
    assert "submitted" in turn(rig)
    rig.run_forked("jobjar", "cancel", "--state", "waiting")
    turn_until(rig, lambda: ends(rig) == ["finished", "refused", "cancelled"], "the pilot to be cancelled")
    assert show(rig)["state"] == "active"
    rig.assert_clean()


def test_a_job_says_why_no_pilot_begins_for_it(rig: Rig) -> None:
    home = use(rig, "slurm")
    (home / "full").touch()

    def explain(job: str) -> list[str]:
        [said] = json.loads(rig.run_forked("jobjar", "explain", job, "--format", "json").stdout)["jobs"]
        return [cause["cause"] for cause in said["causes"]]

    def counted() -> dict[str, str]:
        status = json.loads(rig.run_forked("system_status", "--format", "json").stdout)
        return {one["cause"]: one["why"] for one in status["standing"]}

    job = rig.submit("true")
    assert explain(job) == ["no_worker"] and "pilots_paused" not in counted()
    rig.run_forked("jobjar", "pilots", "add", "night", "--slurm", "--time", "1h", "--category", "SOME")
    other = rig.submit("-c", "OTHER", "true")
    long = rig.submit("-c", "SOME", "--time-limit", "2h", "true")
    assert explain(other) == explain(long) == ["no_worker", "no_pilot_fits"]
    assert "fit no pilot" in counted()["no_pilot_fits"]
    turn(rig)
    turn(rig)
    assert show(rig)["waiting"] == 1, "one pilot for the one job that fits"
    assert explain(job) == ["no_worker", "pilots_wait"]
    assert "1 pilot of night has waited in the queue of slurm" in counted()["pilots_wait"]
    assert "Resources" in counted()["pilots_wait"]
    rig.run_forked("jobjar", "pilots", "pause", "night")
    assert explain(job) == ["no_worker", "pilots_paused"]
    assert "the pilots night are paused" in counted()["pilots_paused"]
    for verb in ("resume", "remove"):
        rig.run_forked("jobjar", "pilots", verb, "night")
    turn(rig)
    assert explain(job) == ["no_worker"] and not (rig.home / "pilots/night").exists()


def test_options_that_pilots_need_themselves_are_refused(rig: Rig) -> None:
    for words in (("--slurm", "--", "--job-name=x"), ("--slurm", "--", "-J", "x"), ("--pbs", "--", "-N", "x"), ()):
        assert rig.run_forked("jobjar", "pilots", "add", "night", *words, check=False).returncode == 2
    assert not (rig.home / "pilots").exists()
    rig.run_forked("jobjar", "pilots", "add", "night", "--slurm", "--", "-p", "all")
    assert rig.run_forked("jobjar", "pilots", "add", "night", "--slurm", check=False).returncode == 2
    assert rig.run_forked("jobjar", "pilots", "pause", "day", check=False).returncode == 1
