"""Leases between nodes that are real (uts and pid namespaces, a ledger home each), with workers that are really stopped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.hosts.nodes import Node, outputs_of, wait_for_lines
from tests.rig import Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
MakeNode = Callable[..., Node]
LEASE_S = 3.0


@pytest.fixture
def nodes(rig: Rig, make_node: MakeNode, tmp_path: Path) -> Callable[..., Node]:
    """Makes nodes with leases, by name."""

    def make(name: str, **changes: str) -> Node:
        home = str(tmp_path / f"home of {name}")
        settings = {"JJ_LEASE_TIME": f"{LEASE_S:g}", "JJ_POLL_TIME": "0.2", "JJ_PAUSE_TIME": "60", **changes}
        return make_node(name, JJ_LEDGER_HOME=home, TEST_NODE=name, **settings)

    return make


def find_worker(rig: Rig, node: str) -> psutil.Process:
    """The only worker of a node."""
    [found] = [process for process in rig.processes() if _is_worker_of(process, node)]
    return found


def _is_worker_of(process: psutil.Process, node: str) -> bool:
    try:
        environment, words = process.environ(), process.cmdline()
    except psutil.NoSuchProcess:  # a program that has ended since it was listed
        return False
    is_worker = any(word.endswith("start_worker") for word in words) and "nsenter" not in words[0]
    return is_worker and environment.get("TEST_NODE") == node and "JJ_JOB" not in environment


@contextlib.contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """A process that is stopped (SIGSTOP), and goes on afterwards."""
    process.suspend()
    try:
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "the stop")
        yield
    finally:
        resume(process)


def resume(process: psutil.Process) -> None:
    """Have a worker of a node go on, and its nsenter, which stops with it."""
    parent = process.parent()
    process.resume()
    assert parent is not None and "nsenter" in parent.cmdline()[0]
    parent.resume()


def silent_for(rig: Rig, worker: str, seconds: float) -> None:
    """Wait until a worker's heartbeat is so old."""
    path = rig.home / "workers" / worker / "heartbeat"
    clock = rig.home.parent / "clock"

    def age_s() -> float:
        clock.touch()
        return clock.stat().st_mtime - path.stat().st_mtime

    wait_until(lambda: age_s() > seconds, f"{seconds} s without a heartbeat of {worker}")


def beats_on(rig: Rig, worker: str, seconds: float) -> None:
    """Wait until a worker's heartbeat is so much later than now."""
    path = rig.home / "workers" / worker / "heartbeat"
    until = path.stat().st_mtime + seconds
    wait_until(lambda: path.stat().st_mtime > until, f"{seconds} s of heartbeats of {worker}")


def log_of(rig: Rig, worker: str) -> str:
    return (rig.home / "workers" / worker / "worker.log").read_text()


class Gated:
    """Jobs that say where they run, and go on there when the gate of their node is open."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self._rig = rig
        self._gates = directory / "gates"
        self._gates.mkdir()
        self.log = directory / "log"

    def submit(self, *options: str) -> str:
        wait = f"until test -e {self._gates}/$JJ_NODE; do sleep 0.05; done"
        return self._rig.submit(*options, f"echo $JJ_NODE $JJ_ATTEMPT >> {self.log}; echo out of $JJ_NODE; {wait}")

    def open(self, node: str) -> None:
        (self._gates / node).touch()


@pytest.fixture
def gated(rig: Rig, tmp_path: Path) -> Gated:
    return Gated(rig, tmp_path)


def describe(node: Node, name: str) -> dict[str, Any]:
    import json

    described: dict[str, Any] = json.loads(node.run("jobjar", "show", "--format", "json", name).stdout)
    return described


def undecided(node: Node) -> dict[str, int]:
    import json

    status = json.loads(node.run("system_status", "--format", "json").stdout)
    return {row["outcome"]: row["last_hour"] for row in status["undecided_attempts"]}


def assert_ran_twice_and_completed_once(rig: Rig, nodes: tuple[Node, Node], name: str, lost: str, won: str) -> None:
    assert rig.names("completed") == [name] and rig.names("unclaimed") == []
    for node in nodes:
        shown = describe(node, name)
        assert (shown["state"], shown["outcome"]) == ("completed", "succeeded")
        assert [(attempt["worker"], attempt["outcome"]) for attempt in shown["attempts"]] == [
            (lost, "lost"),
            (won, "succeeded"),
        ]
        assert node.run("jobjar", "output", name).stdout == f"out of {won.partition('.')[0]}\n"
        assert node.run("jobjar", "output", "--attempt", "1", name).stdout == f"out of {lost.partition('.')[0]}\n"
        assert undecided(node) == {"lost": 1}
        result = node.run("jobjar", "check", check=False)
        assert result.returncode == 0, f"{node.name}: {result.stdout}"


@pytest.mark.parametrize("while_stopped", ["the job ends", "the job goes on"])
def test_a_worker_stopped_for_longer_than_its_lease_loses_its_job_and_says_so(
    rig: Rig, nodes: Callable[..., Node], gated: Gated, while_stopped: str
) -> None:
    rain, snow = nodes("rain"), nodes("snow")
    loser = rain.start_worker()
    name = gated.submit()
    wait_for_lines(gated.log, 1)
    with stopped(find_worker(rig, "rain")):
        silent_for(rig, loser, LEASE_S)
        recovered = snow.run("recover_jobs")
        assert f"watching {loser} for" in recovered.stderr and "1 jobs returned" in recovered.stdout
        winner = snow.start_worker()
        assert wait_for_lines(gated.log, 2) == ["rain 1", "snow 2"]
        if while_stopped == "the job ends":
            gated.open("rain")
    # The zombie is back while the winner runs, and takes nothing from it.
    wait_until(lambda: "the lease is lost, and this attempt does not count" in log_of(rig, loser), "its word")
    assert [os.readlink(rig.home / "claimed" / name)] == [f".{winner}/{name}"]
    assert rig.names(f"workers/{winner}/jobs") == [name]
    gated.open("snow")
    wait_until(lambda: rig.names("completed") == [name], "the end of the job")
    assert outputs_of(gated.log) == ["rain 1", "snow 2"]
    # It goes on with the next job.
    snow.stop_workers()
    assert_ran_twice_and_completed_once(rig, (rain, snow), name, loser, winner)
    gated.open("rain")
    gated.submit()
    assert wait_for_lines(gated.log, 3)[2] == "rain 1"
    wait_until(lambda: len(rig.names("completed")) == 2, "the end of the next job")
    rain.stop_workers()


def test_the_job_of_a_node_killed_whole_is_taken_over_by_another_s_idle_worker(
    rig: Rig, nodes: Callable[..., Node], gated: Gated
) -> None:
    rain, snow = nodes("rain"), nodes("snow")
    dead = rain.start_worker()
    name = gated.submit()
    wait_for_lines(gated.log, 1)
    idle = snow.start_worker()
    rain.kill()
    gated.open("snow")
    wait_until(lambda: rig.names("completed") == [name], "the job's end on the other node", 60)
    assert outputs_of(gated.log) == ["rain 1", "snow 2"]
    assert f"{dead}: returned {name} to unclaimed" in log_of(rig, idle)
    shown = describe(snow, name)
    assert [(attempt["worker"], attempt["outcome"]) for attempt in shown["attempts"]] == [
        (dead, "stranded"),
        (idle, "succeeded"),
    ]
    assert undecided(snow) == {"stranded": 1}
    snow.stop_workers()
    assert snow.run("jobjar", "check", check=False).returncode == 0


def test_a_worker_that_beats_is_never_robbed_however_long_its_job_runs_and_whatever_keeps_it_busy(
    rig: Rig, nodes: Callable[..., Node], gated: Gated
) -> None:
    rain, snow = nodes("rain"), nodes("snow")
    runs, watches = rain.start_worker(), snow.start_worker()
    # Its worker ends the background process of this job at the end: for as long as JJ_GRACE_TIME it does nothing else.
    stubborn = nodes("hail", JJ_GRACE_TIME=f"{LEASE_S * 2:g}")
    clings = stubborn.start_worker("CLING")
    first = gated.submit("-c", "rain")
    rig.submit(
        "-c",
        "CLING",
        f"(trap '' TERM; echo hail 1 >> {gated.log}; exec sleep 300) & until grep -q hail {gated.log}; do sleep 0.1; done",
    )
    wait_for_lines(gated.log, 2)
    beats_on(rig, runs, LEASE_S * 1.5)
    assert "0 jobs returned" in snow.run("recover_jobs").stdout
    gated.open("rain")
    wait_until(lambda: len(rig.names("completed")) == 2, "the end of both jobs")
    assert sorted(outputs_of(gated.log)) == ["hail 1", "rain 1"]
    for worker in (runs, watches, clings):
        assert "lease" not in log_of(rig, worker) and "returned" not in log_of(rig, worker)
    assert describe(snow, first)["outcome"] == "succeeded" and undecided(snow) == {}
    for node in (rain, snow, stubborn):
        node.stop_workers()


def test_an_observer_stopped_for_longer_than_a_lease_robs_nobody_when_it_goes_on(
    rig: Rig, nodes: Callable[..., Node], gated: Gated
) -> None:
    rain, snow = nodes("rain"), nodes("snow")
    runs, watches = rain.start_worker(), snow.start_worker()
    name = gated.submit("-c", "rain")
    wait_for_lines(gated.log, 1)
    beats_on(rig, watches, LEASE_S / 2)
    with stopped(find_worker(rig, "snow")):
        beats_on(rig, runs, LEASE_S * 1.5)
        # Both are stopped now, as when the file server is away; the observer goes on first.
        held = find_worker(rig, "rain")
        held.suspend()
    resume(held)
    beats_on(rig, watches, LEASE_S / 2)
    gated.open("rain")
    wait_until(lambda: rig.names("completed") == [name], "the end of the job")
    assert outputs_of(gated.log) == ["rain 1"]
    assert "returned" not in log_of(rig, watches) and undecided(snow) == {}
    rain.stop_workers()
    snow.stop_workers()


def test_two_recoveries_at_once_return_each_job_once(rig: Rig, nodes: Callable[..., Node], gated: Gated) -> None:
    rain, snow, hail = nodes("rain"), nodes("snow"), nodes("hail")
    dead = [rain.start_worker() for _ in range(3)]
    names = [gated.submit() for _ in range(3)]
    wait_for_lines(gated.log, 3)
    rain.kill()
    for worker in dead:
        silent_for(rig, worker, LEASE_S)
    programs = [node.start("recover_jobs") for node in (snow, hail, snow, hail)]
    said = [program.communicate(timeout=120) for program in programs]
    assert [program.returncode for program in programs] == [0] * 4, said
    returned = [line for output, _ in said for line in output.splitlines() if ": returned " in line]
    assert len(returned) == 3 and sorted(rig.names("unclaimed")) == sorted(names)
    for node in (snow, hail):
        assert undecided(node) == {"stranded": 3}
        checked = node.run("jobjar", "check", check=False)
        assert checked.returncode == 0, checked.stdout


def test_without_leases_a_stopped_worker_s_job_is_left_alone(
    rig: Rig, nodes: Callable[..., Node], gated: Gated
) -> None:
    rain, snow = nodes("rain", JJ_LEASE_TIME="0", JJ_HEARTBEAT_TIME="0.2"), nodes("snow", JJ_LEASE_TIME="0")
    holds, idle = rain.start_worker(), snow.start_worker()
    name = gated.submit("-c", "rain")
    wait_for_lines(gated.log, 1)
    with stopped(find_worker(rig, "rain")):
        silent_for(rig, holds, LEASE_S)
        result = snow.run("recover_jobs")
        assert "0 jobs returned, 0 completed" in result.stdout and result.stderr == ""
        assert rig.names(f"workers/{holds}/jobs/rain") == [name]
    gated.open("rain")
    wait_until(lambda: rig.names("completed") == [name], "the end of the job")
    assert "returned" not in log_of(rig, idle) and undecided(snow) == {}
    rain.stop_workers()
    snow.stop_workers()
