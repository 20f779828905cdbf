"""Arrays over nodes that are real: leases lost in the middle of a chunk, and parts that a node which is gone was giving away."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobjar.arrays.indexes import with_range
from jobjar.job_file.names import id_in_name
from tests.hosts.nodes import Node
from tests.hosts.test_leases import find_worker, nodes as nodes, silent_for, stopped
from tests.rig import Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
LEASE_S = 3.0


def show(node: Node, array: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(node.run("jobjar", "show", "--format", "json", array).stdout)
    return said


def assert_each_ended_once(nodes: tuple[Node, ...], array: str, tasks: int) -> None:
    """All nodes say that each task has succeeded, with the same end; `jobjar check` is clean on each."""
    ends = []
    for node in nodes:
        said = show(node, array)
        assert (said["succeeded"], said["failed"], said["not_run"]) == (tasks, 0, 0)
        ends.append(
            [
                json.loads(node.run("jobjar", "show", "--format", "json", f"{array}[{index}]").stdout)
                for index in (1, tasks // 2, tasks)
            ]
        )
        result = node.run("jobjar", "check", check=False)
        assert result.returncode == 0, f"{node.name}: {result.stdout}"
    assert all(each == ends[0] for each in ends)


def test_a_lease_that_is_lost_in_the_middle_of_a_chunk_leaves_each_task_with_one_end(
    rig: Rig, nodes: Callable[..., Node], tmp_path: Path
) -> None:
    rain, snow = nodes("rain"), nodes("snow")
    # Task 4 waits for its gate; each says where it ran.
    gate = f"[ $1 != 4 ] || until test -e {tmp_path}/$JJ_NODE; do sleep 0.05; done"
    array = rig.run(
        *("jobjar", "submit", "--array", "1-8", "--chunk", "8"), f"echo $JJ_NODE $1 >> {tmp_path}/log; {gate}"
    ).stdout.strip()
    first = rain.start_worker()
    wait_until(lambda: show(snow, array)["succeeded"] == 3, "the ends of three tasks")
    silent = find_worker(rig, "rain")
    with stopped(silent):
        silent_for(rig, first, LEASE_S)
        second = snow.start_worker()
        wait_until(lambda: "snow 4" in (tmp_path / "log").read_text(), "task 4 on the other node")
        (tmp_path / "rain").touch()
    wait_until(lambda: not list((rig.home / "workers" / first / "scratch").iterdir()), "the loss to be noticed")
    (tmp_path / "snow").touch()
    wait_until(lambda: show(snow, array)["succeeded"] == 8, "all ends")
    snow.stop_workers()
    rain.stop_workers()
    ran = Counter(line for line in (tmp_path / "log").read_text().splitlines())
    # What had been journaled counts, and the rest does not: the tasks 1 to 3 ran once.
    assert ran == Counter([*(f"rain {index}" for index in range(1, 5)), *(f"snow {index}" for index in range(4, 9))])
    assert_each_ended_once((rain, snow), array, 8)
    [chunk] = rig.names("completed")
    attempts = [(one["worker"], one["outcome"]) for one in show(rain, chunk)["attempts"]]
    assert attempts == [(first, "lost"), (second, "succeeded")]


def test_a_part_that_a_node_which_is_gone_was_giving_away_is_taken_over_with_its_lease(
    rig: Rig, nodes: Callable[..., Node], tmp_path: Path
) -> None:
    rain, snow = nodes("rain"), nodes("snow")
    array = rig.run(
        *("jobjar", "submit", "--array", "1-9", "--chunk", "9"),
        f"echo $JJ_NODE $1 >> {tmp_path}/log; [ $JJ_NODE = snow ] || exec sleep 600",
    ).stdout.strip()
    first = rain.start_worker()
    wait_until(lambda: (tmp_path / "log").exists(), "the first task")
    # What a worker does that shares its chunk, up to its commit (arrays/sharing.py). Then the power fails.
    paths = rig.home / "workers" / first
    [held] = [path for path in (paths / "jobs").iterdir() if path.is_file()]
    uid = id_in_name(held.name)
    assert uid is not None
    sharing = paths / "sharing" / uid
    sharing.mkdir(parents=True)
    for number, part in enumerate(((6, 7), (8, 9))):
        shutil.copy(held, sharing / with_range(held.name, *part).replace(uid, f"{uid[:-2]}x{number}"))
    held.rename(held.parent / with_range(held.name, 1, 5))
    rain.kill()
    # It holds no job any more, as if another node had been killed just after it took the job back.
    held.parent.joinpath(with_range(held.name, 1, 5)).rename(rig.home / "unclaimed" / with_range(held.name, 1, 5))
    snow.start_worker()
    wait_until(lambda: show(snow, array)["succeeded"] == 9, "all ends")
    snow.stop_workers()
    assert not (paths / "sharing").exists()
    ran = re.findall("snow ([0-9])", (tmp_path / "log").read_text())
    assert sorted(ran) == [str(index) for index in range(1, 10)]
    assert_each_ended_once((snow,), array, 9)


def test_tasks_that_run_on_another_node_are_cancelled_and_killed_there(
    rig: Rig, nodes: Callable[..., Node], tmp_path: Path
) -> None:
    rain, snow = nodes("rain"), nodes("snow")
    script = f"echo $JJ_NODE $1 >> {tmp_path}/log; case $1 in 2|4) exec sleep 600;; esac"
    array = rig.run("jobjar", "submit", "--array", "1-8", "--chunk", "6", script).stdout.strip()
    first = rain.start_worker(JJ_POLL_TIME="0.1")

    def runs(index: int) -> bool:
        shown = json.loads(snow.run("jobjar", "show", "--format", "json", f"{array}[{index}]").stdout)
        return bool(shown["state"] == "running")

    wait_until(lambda: runs(2), "task 2 to run, as the other node sees it")
    # One that runs, one that waits in its chunk, and the whole of a chunk that nobody holds.
    cancelled = snow.run("jobjar", "cancel", f"{array}[2,5,7-8]").stdout
    assert cancelled == f"cancelled 3 waiting and 1 running tasks of {array}\n"
    wait_until(lambda: runs(4), "task 4")
    assert snow.run("jobjar", "kill", f"{array}[4]").stdout.strip() == first
    wait_until(lambda: show(snow, array)["left"] == 0, "all ends")
    rain.stop_workers()
    assert (tmp_path / "log").read_text().split() == [
        word for index in (1, 2, 3, 4, 6) for word in ("rain", str(index))
    ]
    for node in (rain, snow):
        ends = [
            json.loads(node.run("jobjar", "show", "--format", "json", f"{array}[{index}]").stdout)["outcome"]
            for index in range(1, 9)
        ]
        good, gone = "succeeded", "cancelled"
        assert ends == [good, gone, good, "killed", gone, good, gone, gone]
        assert node.run("jobjar", "check", check=False).returncode == 0
