"""Several nodes on one jar, in namespaces of their own: one may die whole, and its process ids come round again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from jobjar.stages.submit import describe_command, submit, submit_all
from tests.hosts.nodes import Node, outputs_of, wait_for_lines
from tests.rig import Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
MakeNode = Callable[..., Node]


def all_completed(rig: Rig, count: int) -> None:
    wait_until(lambda: len(os.listdir(rig.home / "completed")) == count, f"{count} completed jobs", 90)


def node_row(rig: Rig, seen_from: Node, name: str) -> dict[str, int]:
    """What system_status on a node says of the workers of another."""
    import json

    status = json.loads(seen_from.run("system_status", "--format", "json").stdout)
    return next(row for row in status["workers"]["nodes"] if row["node"] == name)


def test_workers_of_two_nodes_share_the_jobs_and_keep_those_for_their_node(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    rain, snow = make_node("rain"), make_node("snow")
    log = tmp_path / "log"
    command = f"echo $JJ_JOB $JJ_NODE $(hostname) >> {log}; sleep 0.02"
    workers = [node.start_worker() for node in (rain, snow, rain, snow)]
    assert len(set(workers)) == 4
    names = submit_all(rig.open(), [describe_command(command)] * 60)
    own = submit_all(rig.open(), [describe_command(command, category="snow")] * 5)
    all_completed(rig, 65)
    rain.stop_workers()
    snow.stop_workers()
    ran = [line.split() for line in outputs_of(log)]
    assert Counter(words[0] for words in ran) == Counter(names + own)
    assert {words[1] for words in ran if words[0] in own} == {"snow"}
    assert {words[1] for words in ran} == {"rain", "snow"}
    assert all(words[1] == words[2] for words in ran)
    rig.assert_clean()


def test_the_jobs_of_a_node_killed_whole_wait_for_its_next_start(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    rain, snow = make_node("rain"), make_node("snow")
    log = tmp_path / "log"
    mark = tmp_path / "second time"
    command = f"echo $JJ_JOB >> {log}; test -e '{mark}' || sleep 300"
    dead = [rain.start_worker(), rain.start_worker()]
    names = submit_all(rig.open(), [describe_command(command)] * 2)
    wait_for_lines(log, 2)
    rain.kill()
    mark.touch()
    snow.start_worker()
    assert "0 jobs returned, 0 completed" in snow.run("recover_jobs").stdout
    row = node_row(rig, snow, "rain")
    assert (row["running"], row["busy"], row["unknown"]) == (2, 2, 0)  # their hearts beat a moment ago
    assert node_row(rig, snow, "snow")["running"] == 1
    assert sorted(name for worker in dead for name in rig.names(f"workers/{worker}/jobs")) == sorted(names)

    rain_again = make_node("rain")
    assert "2 jobs returned" in rain_again.run("recover_jobs").stdout
    all_completed(rig, 2)
    snow.stop_workers()
    assert Counter(outputs_of(log)) == Counter(names * 2)
    for name in names:
        assert [attempt["outcome"] for attempt in rig.show(name)["attempts"]] == ["stranded", "succeeded"]
    rig.assert_clean()


def test_a_worker_that_gets_a_dead_one_s_process_id_recovers_its_jobs_and_sets_its_directory_aside(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    rain = make_node("rain")
    log = tmp_path / "log"
    mark = tmp_path / "second time"
    old = rain.start_worker()
    jar = rig.open()
    name = submit(jar, describe_command(f"echo early; echo $JJ_WORKER >> {log}; test -e '{mark}' || sleep 300"))
    wait_for_lines(log, 1)
    rain.kill()
    mark.touch()

    rain = make_node("rain")
    new = rain.start_worker()
    assert new == old
    all_completed(rig, 1)
    rain.stop_workers()
    assert outputs_of(log) == [old, old]
    directories = [entry for entry in os.listdir(rig.home / "workers") if entry.startswith(old)]
    assert len(directories) == 2
    shown = rig.show(name)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["stranded", "succeeded"]
    # The history of the one that was set aside can still be read.
    assert [Path(attempt["output_path"]).read_text() for attempt in shown["attempts"]] == ["early\n", "early\n"]
    assert "0 jobs returned, 0 completed" in rain.run("recover_jobs").stdout
    rig.assert_clean()


def test_a_worker_of_another_node_with_the_same_process_id_is_another_worker(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    rain, snow = make_node("rain"), make_node("snow")
    log = tmp_path / "log"
    held = rain.start_worker()
    submit(rig.open(), describe_command(f"echo $JJ_WORKER >> {log}; sleep 300"))
    wait_for_lines(log, 1)
    other = snow.start_worker()
    assert held.split(".")[1] == other.split(".")[1]
    snow.run("recover_jobs")
    assert len(rig.names(f"workers/{held}/jobs")) == 1
    snow.stop_workers()
