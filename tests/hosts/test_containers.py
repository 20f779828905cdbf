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


def test_no_worker_starts_where_proc_shows_other_processes(rig: Rig) -> None:
    rig.before = ["unshare", "--pid", "--fork"]
    for words in (["start_worker"], ["start_worker", "--foreground"], ["check_workers"]):
        refused = rig.run(*words, check=False)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.count("did not start") == 1 and "`mount -t proc proc /proc`" in refused.stderr
    assert rig.names("workers") == []


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


def test_a_host_that_was_renamed_knows_its_own_dead(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    laptop = make_node("laptop", has_booted=False)
    log = tmp_path / "log"
    worker, living = laptop.start_worker(), laptop.start_worker("OTHER")
    jobs = [rig.submit(f"echo $JJ_WORKER >> {log}; test $JJ_ATTEMPT = 2 || exec sleep 300") for _ in range(2)]
    wait_for_lines(log, 2)
    laptop.rename("laptop.fritz.box")
    # Both are known by their process ids, whatever the host is called.
    assert "0 jobs returned" in laptop.run("recover_jobs").stdout
    assert laptop.run("check_workers", JJ_MAX_WORKERS="2").stdout == ""
    laptop.shell(f"kill -9 {worker.split('.')[-1]}")
    status = json.loads(laptop.run("system_status", "--format", "json").stdout)
    assert {row["worker"]: row["state"] for row in status["workers"]["workers"]} == {worker: "dead", living: "busy"}
    [held] = rig.names(f"workers/{worker}/jobs")
    stranded = f"is stranded with the dead worker {worker}"
    here = "`recover_jobs` on node laptop.fritz.box"
    assert f"it {stranded}; run {here}" in laptop.run("jobjar", "show", held).stdout
    assert f"{held} {stranded}; run {here}" in status["warnings"]
    [new] = laptop.run("check_workers", JJ_MAX_WORKERS="2").stdout.split()
    assert new.startswith("laptop.fritz.box.")
    assert "1 jobs returned, 0 completed" in laptop.run("recover_jobs").stdout
    wait_until(lambda: rig.names("completed") == [held], "the job's end")
    assert set(jobs) - {held} == set(rig.names(f"workers/{living}/jobs"))
    laptop.kill()


def test_jj_node_names_a_node(rig: Rig, make_node: MakeNode) -> None:
    first, second = (make_node("rain", has_booted=False, JJ_NODE=name) for name in ("rain-a", "rain-b"))
    assert first.start("start_worker").communicate()[0].startswith("rain-a.")
    assert second.start("start_worker").communicate()[0].startswith("rain-b.")
    job = rig.submit("-c", "rain-b", "echo $JJ_NODE")
    completed(rig, 1)
    assert rig.run("jobjar", "output", job).stdout == "rain-b\n"
    # The name says who is meant. What is dead the process ids say, as ever.
    told = first.run("recover_jobs", JJ_NODE="rain-b").stdout
    assert "0 jobs returned" in told and "died" not in told
    refused = first.run("start_worker", JJ_NODE="a/b", check=False)
    assert refused.returncode == 1 and "JJ_NODE: 'a/b' is not a name" in refused.stderr
    for node in (first, second):
        node.stop_workers()
