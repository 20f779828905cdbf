"""Containers of one machine on one jar: they may have one host name and the same process ids, and see nothing of each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from jobjar.stages.submit import describe_command, submit
from tests.hosts.nodes import Node, outputs_of, wait_for_lines
from tests.rig import Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
MakeNode = Callable[..., Node]


def completed(rig: Rig, count: int) -> None:
    wait_until(lambda: len(rig.names("completed")) == count, f"{count} completed jobs", 90)


def test_a_container_takes_nothing_of_another_of_its_name(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    first, second = make_node("rain", has_booted=False), make_node("rain", has_booted=False)
    log, mark = tmp_path / "log", tmp_path / "go on"
    holder = first.start_worker()
    job = submit(rig.open(), describe_command(f"echo $JJ_WORKER >> {log}; until test -e '{mark}'; do sleep 0.02; done"))
    wait_for_lines(log, 1)

    other = second.start_worker()
    assert other == f"{holder}-2"
    assert "0 jobs returned, 0 completed" in second.run("recover_jobs").stdout
    second.run("recover_jobs", "--nightly")
    # The four workers that check_workers starts are beside those of the other container, which are not counted.
    started = second.run("check_workers", JJ_MAX_WORKERS="3").stdout.split()
    assert len(started) == 2 and holder not in started
    status = json.loads(second.run("system_status", "--format", "json").stdout)
    assert [worker["state"] for worker in status["workers"]["workers"] if worker["worker"] == holder] != ["dead"]
    assert [claimed["stranded"] for claimed in status["jobs"]["claimed_jobs"]] == [False]
    assert rig.names(f"workers/{holder}/jobs") == [job]

    mark.touch()
    completed(rig, 1)
    assert outputs_of(log) == [holder]
    assert [attempt["outcome"] for attempt in rig.show(job)["attempts"]] == ["succeeded"]
    first.stop_workers()
    second.stop_workers()
    rig.assert_clean()


def test_two_containers_of_one_name_share_the_jobs_and_none_runs_twice(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    containers = [make_node("rain", has_booted=False) for _ in range(2)]
    log = tmp_path / "log"
    names = [rig.submit(f"echo $JJ_JOB >> {log}; sleep 0.02") for _ in range(12)]
    workers = [container.start_worker() for container in containers * 2]
    assert len(set(workers)) == 4
    completed(rig, 12)
    for container in containers:
        assert "0 jobs returned, 0 completed" in container.run("recover_jobs").stdout
        container.stop_workers()
    assert Counter(outputs_of(log)) == Counter(names)
    rig.assert_clean()
