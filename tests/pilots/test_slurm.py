"""Pilots on a real Slurm: they come where jobs wait, and go by themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from typing import Any

import psutil
import pytest

from tests.hosts.rigs.slurm import Slurm, open_slurm
from tests.pilots.conftest import prepare
from tests.rig import Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]


def check(rig: Rig) -> str:
    result = rig.run_forked("check_pilots")
    return result.stdout + result.stderr


def states(slurm: Slurm) -> list[str]:
    """The states of all pilots that Slurm knows."""
    return slurm.run("squeue", "-h", "-t", "all", "-o", "%T").split()


def add(rig: Rig, name: str, *words: str) -> None:
    rig.run_forked("jobjar", "pilots", "add", name, "--slurm", *words)


def shown(rig: Rig, name: str = "night") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rig.run_forked("jobjar", "pilots", "show", name, "--format", "json").stdout)
    return found


def ends(rig: Rig) -> Counter[str]:
    """How the pilots of the queue ended."""
    return Counter(pilot["end_reason"] for pilot in shown(rig)["pilots"])


def outcomes(rig: Rig, most: int = 50) -> Counter[str]:
    listed = rig.run("jobjar", "list", "--limit", str(most), "--format", "json").stdout
    return Counter(job["outcome"] for job in json.loads(listed)["jobs"])


def turn_until(rig: Rig, condition: Any, what: str, timeout_s: float = 120) -> None:
    """Take turns, as cron does, until something holds."""

    def turn() -> bool:
        check(rig)
        return bool(condition())

    wait_until(turn, what, timeout_s)


def test_pilots_come_where_jobs_wait_and_go_by_themselves(cluster: Rig, slurm: Slurm) -> None:
    add(cluster, "night", "--time", "2m", "--max", "2", "--idle-exit", "1s", "--", "-p", "all")
    assert check(cluster) == "" and states(slurm) == [], "no pilot without a job"
    array = cluster.run("jobjar", "submit", "--array", "1-50", "true").stdout.strip()
    cluster.submit("-c", "OTHER", "true")
    for _ in range(10):
        cluster.submit("true")
    # Two hosts at once: one need is one pilot.
    both = [
        subprocess.Popen(
            [f"{cluster.home}/bin/check_pilots"], env=cluster.environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = "".join(process.communicate(timeout=60)[0] for process in both)
    assert said.count("submitted") == 2 == len(states(slurm))
    turn_until(cluster, lambda: ends(cluster)["finished"] == 2, "the pilots to have gone")
    assert outcomes(cluster)["succeeded"] == 10
    cluster.run("jobjar", "wait", array)
    found = shown(cluster)
    assert (found["waiting"], found["running"], found["failures_in_a_row"]) == (0, 0, 0)
    assert {pilot["on_node"] for pilot in found["pilots"]} <= {"n1", "n2"}
    log = cluster.run("jobjar", "pilots", "log", "night", "1").stdout
    assert "succeeded" in log and "idle-exit" in log
    # The job of another category fits no pilot, and is told so; nothing is submitted for it.
    assert check(cluster) == "" and len(states(slurm)) == 2
    explained = json.loads(cluster.run_forked("jobjar", "explain", "--category", "OTHER", "--format", "json").stdout)
    assert "no_pilot_fits" in json.dumps(explained)
    assert "fit no pilot" in cluster.run_forked("system_status").stdout
    cluster.run("jobjar", "pilots", "remove", "night")
    assert json.loads(cluster.run_forked("jobjar", "pilots", "list", "--format", "json").stdout) == []
    cluster.assert_clean()


def test_what_slurm_refuses_or_never_runs_pauses_the_pilots_and_is_quoted(cluster: Rig, slurm: Slurm) -> None:
    job = cluster.submit("true")
    add(cluster, "night", "--failures", "2", "--", "-p", "nowhere")
    assert "invalid partition" in check(cluster)
    assert shown(cluster)["state"] == "active"
    said = check(cluster)
    assert "night is paused" in said and check(cluster) == ""
    found = shown(cluster)
    assert found["state"] == "paused" and found["failures_in_a_row"] == 2
    assert "sbatch: error: invalid partition specified: nowhere" in found["paused_why"]
    assert "invalid partition specified: nowhere" in cluster.run_forked("system_status").stdout
    explained = cluster.run_forked("jobjar", "explain", job, "--format", "json").stdout
    assert "pilots_paused" in explained and "invalid partition" in explained
    cluster.run("jobjar", "pilots", "resume", "night")
    found = shown(cluster)
    assert found["state"] == "active" and found["failures_in_a_row"] == 0
    # Slurm takes what it will never run, and a person pauses the others meanwhile.
    cluster.run("jobjar", "pilots", "pause", "night")
    add(cluster, "long", "--failures", "1", "--time", "10m", "--", "-p", "short")
    assert "submitted" in check(cluster)
    wait_until(lambda: "PartitionTimeLimit" in slurm.run("squeue", "-h", "-o", "%r"), "Slurm to say why it waits")
    check(cluster)
    found = shown(cluster, "long")
    assert found["state"] == "paused" and "PartitionTimeLimit" in found["paused_why"]
    wait_until(lambda: "PENDING" not in states(slurm), "the pilot to be cancelled")
    cluster.assert_clean()


def test_a_pilot_that_slurm_ends_gives_its_job_back(cluster: Rig, slurm: Slurm) -> None:
    """It reaches its time limit, is cancelled, or its node fails. Meanwhile the controller is away."""
    end_pilots(cluster, slurm)


@pytest.mark.faults
def test_it_does_so_too_where_slurm_tracks_processes_by_cgroups(rig: Rig) -> None:
    with open_slurm(PROCTRACK="cgroup") as slurm:
        end_pilots(prepare(rig, slurm), slurm)


def end_pilots(cluster: Rig, slurm: Slurm) -> None:
    go_on = cluster.home.parent / "go"
    for category in ("NIGHT", "NIGHT", "BRIEF"):
        cluster.submit("-c", category, f"until test -e {go_on}; do sleep 0.1; done")
    add(cluster, "night", "--time", "5m", "--max", "2", "--idle-exit", "1s", "--category", "NIGHT")
    add(cluster, "brief", "--time", "1m", "--max", "1", "--idle-exit", "1s", "--category", "BRIEF")
    check(cluster)
    explained = cluster.run_forked("jobjar", "explain", "--state", "waiting", "--format", "json").stdout
    assert "pilots_wait" in explained or "no_worker" not in explained  # the first pilot may have begun
    turn_until(cluster, lambda: sum(bool(one["worker"]) for one in shown(cluster)["pilots"]) == 2, "two workers")
    wait_until(lambda: len(os.listdir(cluster.home / "claimed")) >= 2, "the jobs to run")
    first, second = shown(cluster)["pilots"]
    controller = slurm.pid_of("slurmctld")
    os.kill(controller, signal.SIGTERM)
    wait_until(lambda: not psutil.pid_exists(controller), "the controller to be away")
    assert "cannot be asked now" in check(cluster)
    assert [one["state"] for one in shown(cluster)["pilots"]] == ["running", "running"]
    slurm.up()
    slurm.run("scancel", first["system_id"])
    slurm.run("scontrol", "update", f"nodename={second['on_node']}", "state=down", "reason=test")
    for name in ("night", "brief"):
        cluster.run_forked("jobjar", "pilots", "pause", name)
    turn_until(cluster, lambda: not shown(cluster)["running"] and not shown(cluster, "brief")["running"], "the ends")
    reasons = [one["end_reason"] for name in ("night", "brief") for one in shown(cluster, name)["pilots"]]
    assert reasons[0] == "cancelled" and reasons[1] in ("cancelled", "node_failed"), reasons
    assert reasons[2] in ("finished", "timed_out")
    assert all(shown(cluster, name)["failures_in_a_row"] == 0 for name in ("night", "brief"))
    slurm.run("scontrol", "update", f"nodename={second['on_node']}", "state=resume")
    go_on.touch()
    for name in ("night", "brief"):
        cluster.run_forked("jobjar", "pilots", "resume", name)
    turn_until(cluster, lambda: outcomes(cluster)["succeeded"] == 3, "the jobs to be done")
    # They are not retried after failures: one that had counted as a failure would not have succeeded.
    cluster.assert_clean()


@pytest.mark.faults
def test_200_jobs_and_an_array_of_20_000_tasks_are_drained(cluster: Rig, slurm: Slurm) -> None:
    """The pilots come and go by themselves, some end by their time in the midst of work; each job and each task ends once."""
    for number in range(200):
        cluster.submit(f"sleep 0.{number % 3}")
    array = cluster.run("jobjar", "submit", "--array", "1-20000", "true").stdout.strip()
    add(cluster, "night", "--time", "1m", "--max", "4", "--idle-exit", "2s")
    turn_until(cluster, lambda: outcomes(cluster, 1000)["succeeded"] == 200, "the jobs to be done", 300)
    turn_until(
        cluster, lambda: cluster.run("jobjar", "wait", "--timeout", "0", array, check=False).returncode == 0, array, 300
    )
    turn_until(cluster, lambda: not set(states(slurm)) & {"PENDING", "RUNNING"}, "the pilots to have gone", 120)
    check(cluster)
    found = shown(cluster)
    assert found["failures_in_a_row"] == found["running"] == found["waiting"] == 0
    assert len(states(slurm)) >= 4
    cluster.assert_clean()
