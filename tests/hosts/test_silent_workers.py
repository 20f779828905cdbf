"""What is said of the workers of other nodes: they run, or they have been silent, and for how long."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.nodes import Node, wait_for_lines
from tests.rig import Rig, stop_at_rest, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
MakeNode = Callable[..., Node]


def status_on(node: Node) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(node.run("system_status", "--format", "json").stdout)
    return status


def row_of(status: dict[str, Any], node: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in status["workers"]["nodes"] if row["node"] == node)
    return found


def test_a_node_sees_what_runs_on_another_and_that_it_has_been_silent_since_its_power_failed(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    rain, snow = make_node("rain", JJ_HEARTBEAT_TIME="0.2"), make_node("snow")
    log = tmp_path / "log"
    busy = rain.start_worker()
    job = rig.submit(f"echo $JJ_WORKER >> {log}; exec sleep 300")
    wait_for_lines(log, 1)
    idle = rain.start_worker()
    rain.run("pause_worker", idle)
    status = status_on(snow)
    row = row_of(status, "rain")
    assert row == {"node": "rain", "running": 2, "busy": 1, "paused": 1, "dead": 0, "silent": 0, "unknown": 0}
    states = {worker["worker"]: (worker["state"], worker["job"]) for worker in status["workers"]["workers"]}
    assert states == {busy: ("busy", job), idle: ("paused", None)}
    assert not any("silent" in line for line in status["warnings"])

    rain.kill()
    wait_until(lambda: row_of(status_on(snow), "rain")["silent"] == 2, "the silence of both")
    status = status_on(snow)
    row = row_of(status, "rain")
    assert row == {"node": "rain", "running": 0, "busy": 0, "paused": 0, "dead": 0, "silent": 2, "unknown": 0}
    assert all(worker["silent_s"] > 0 for worker in status["workers"]["workers"])
    [of_busy] = [line for line in status["warnings"] if line.startswith(f"{busy} has been silent for ")]
    assert "holds 1 job" in of_busy and f"recover_jobs --worker {busy}" in of_busy
    assert "silent" in snow.run("system_status").stdout

    # Whoever asks them for something is told.
    stopped = snow.run("stop_worker", "rain")
    assert sorted(stopped.stdout.split()) == sorted([busy, idle])
    assert f"stop_worker: {busy} has been silent for " in stopped.stderr and idle in stopped.stderr
    killed = snow.run("jobjar", "kill", job)
    assert killed.stdout == f"{busy}\n" and f"jobjar kill: {busy} has been silent for " in killed.stderr
    code = "import jobjar\nfor name in jobjar.running_workers(): print(name, name.silent_s > 0, name.silence)"
    told = snow.run("python", "-c", code).stdout.splitlines()
    assert len(told) == 2 and all(" True " in line and "has been silent for" in line for line in told)
    # Nobody waits for what is dead to claim something.
    waiting = rig.submit("true")
    shown = snow.run("jobjar", "show", waiting).stdout
    assert "is running; `start_worker` starts one" in shown


def test_only_a_worker_without_a_heartbeat_is_unknown(rig: Rig, make_node: MakeNode) -> None:
    rain, snow = make_node("rain"), make_node("snow")
    worker = rain.start_worker()
    rain.kill()
    os.unlink(rig.home / "workers" / worker / "heartbeat")
    row = row_of(status_on(snow), "rain")
    assert row == {"node": "rain", "running": 0, "busy": 0, "paused": 0, "dead": 0, "silent": 0, "unknown": 1}
    assert f"{worker} has never been heard of" in snow.run("stop_worker", worker).stderr


def test_a_worker_here_that_was_stopped_is_said_to_be_silent(rig: Rig) -> None:
    import signal

    worker = rig.start_worker(JJ_HEARTBEAT_TIME="0.1")
    name = f"{os.uname().nodename}.{worker.pid}"
    assert rig.run("pause_worker", name).stderr == ""
    stop_at_rest(worker.pid)
    said = wait_until(lambda: rig.run("stop_worker", name).stderr, "its silence")
    assert f"{name} has been silent for" in said and "though its process is there" in said
    [warned] = [line for line in rig.status()["warnings"] if "silent" in line]
    assert warned.startswith(f"{name} has been silent for ") and f"its process {worker.pid} is there" in warned
    worker.send_signal(signal.SIGCONT)
    assert worker.wait(30) == 0
