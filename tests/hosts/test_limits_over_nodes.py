"""A limit over several nodes: never more run, whatever is killed, and all is done in the end."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from jobjar.attempts.limits import BATCH, CATEGORY, find_faults, read_limit, set_limit
from jobjar.stages.submit import describe_file, submit_all
from tests.hosts.nodes import Node, outputs_of, wait_for_lines
from tests.rig import BIN, Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
MakeNode = Callable[..., Node]
LIMIT, WORKERS = 3, 8


def write_job(directory: Path, seconds: str) -> Path:
    """A job that takes one of LIMIT locks while it runs, which the kernel frees when its last process is gone, and says in the
    log `begin` and `end`, or `exceeded` where there is none."""
    (directory / "slots").mkdir()
    path = directory / "job"
    path.write_text(
        "#!/bin/sh\n#JJ retries = 0\n"
        f"for slot in {' '.join(map(str, range(LIMIT)))}; do\n"
        f'  exec 9> "{directory}/slots/$slot"\n'
        "  if flock --nonblock 9; then\n"
        f'    echo "begin $JJ_JOB" >> "{directory}/log"; sleep {seconds}; echo "end $JJ_JOB" >> "{directory}/log"; exit 0\n'
        "  fi\n"
        f'done\necho "exceeded $JJ_JOB" >> "{directory}/log"\n'
    )
    path.chmod(0o755)
    return path


def most_at_once(lines: list[str]) -> int:
    """How many jobs ran at once, at most, by a log without killed ones."""
    running = most = 0
    for line in lines:
        running += 1 if line.startswith("begin") else -1
        most = max(most, running)
    return most


def worker_processes(rig: Rig) -> list[psutil.Process]:
    found = {}
    for process in rig.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # a job's, which has ended since
            if process.cmdline()[1:2] == [f"{BIN}/start_worker"]:
                found[process.pid] = (process, process.ppid())
    # A job looks like its worker until its process runs the job's file.
    return [process for process, parent in found.values() if parent not in found]


def assert_all_done(rig: Rig, names: list[str]) -> None:
    jar = rig.open()
    wait_until(lambda: len(rig.names("completed")) == len(names), f"{len(names)} completed jobs", 150)
    assert sorted(rig.names("completed")) == sorted(names)
    wait_until(lambda: not read_limit(jar.layout, "category.A").taken, "the return of all tokens")
    assert find_faults(jar.layout) == []
    rig.assert_clean()


def test_eight_workers_on_three_nodes_never_run_more_than_the_limit(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", LIMIT)
    nodes = [make_node(name, JJ_POLL_TIME="0.05") for name in ("rain", "snow", "hail")]
    names = submit_all(jar, [describe_file(str(write_job(tmp_path, "0.02")), category="A")] * 120)
    for number in range(WORKERS):
        nodes[number % len(nodes)].start_worker("A")
    assert_all_done(rig, names)
    for node in nodes:
        node.stop_workers()
    lines = outputs_of(tmp_path / "log")
    assert Counter(lines) == Counter([f"{word} {name}" for name in names for word in ("begin", "end")])
    assert most_at_once(lines) <= LIMIT


def test_a_limit_holds_while_workers_are_killed_and_recovered(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", LIMIT)
    nodes = [make_node(name, JJ_POLL_TIME="0.05", JJ_CRASH_LIMIT="0") for name in ("rain", "snow", "hail")]
    for number in range(WORKERS):
        nodes[number % len(nodes)].start_worker("A")
    log = tmp_path / "log"
    job = describe_file(str(write_job(tmp_path, "0.2")), category="A")
    names: list[str] = []
    killed_at_work = 0
    for _ in range(4):
        seen = len(outputs_of(log))
        names += submit_all(jar, [job] * 30)
        wait_for_lines(log, seen + 10)
        # Half of all workers: some hold a token and a job, some nothing, one perhaps a token alone.
        victims = worker_processes(rig)[::2]
        for victim in victims:
            victim.kill()
        assert len(victims) == WORKERS // 2
        # On a busy machine the jobs of a round may be over before its workers have been found.
        killed_at_work += len(rig.names("completed")) < len(names)
        for node in nodes:
            node.run("recover_jobs", "--quiet")
        for number in range(len(victims)):
            nodes[number % len(nodes)].start_worker("A")
    assert killed_at_work
    assert_all_done(rig, names)
    for node in nodes:
        node.stop_workers()
    lines = outputs_of(log)
    assert not [line for line in lines if line.startswith("exceeded")]
    assert {line.partition(" ")[2] for line in lines if line.startswith("end")} == set(names)


def test_a_node_that_died_keeps_its_tokens_until_it_is_recovered(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 2)
    rain, snow = make_node("rain"), make_node("snow", JJ_POLL_TIME="0.05")
    mark, log = tmp_path / "mark", tmp_path / "log"
    path = tmp_path / "job"
    path.write_text(f'#!/bin/sh\necho $JJ_NODE >> "{log}"; test -e "{mark}" || sleep 300\n')
    path.chmod(0o755)
    names = submit_all(jar, [describe_file(str(path), category="A")] * 6)
    held = rain.start_worker("A")
    wait_for_lines(log, 1)
    rain.kill()
    mark.touch()
    snow.start_worker("A")
    # One token is left, and does for all the others.
    wait_until(lambda: len(rig.names("completed")) == 5, "what can be done without the dead node")
    snow.run("recover_jobs")
    assert [token.worker for token in read_limit(jar.layout, "category.A").taken] == [held]
    again = make_node("rain")
    assert "gave back token" in again.run("recover_jobs").stdout
    assert_all_done(rig, names)
    snow.stop_workers()


def test_a_batch_s_limit_and_a_category_s_hold_together(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "A", 6)
    set_limit(jar, BATCH, "wc", LIMIT)
    nodes = [make_node(name, JJ_POLL_TIME="0.05") for name in ("rain", "snow")]
    job = write_job(tmp_path, "0.05")
    text = job.read_text()
    # Run as a described job, or as the plain one that it is too.
    plain = tmp_path / "plain"
    job.rename(plain)
    job.write_text(f"#!/bin/sh\n#JJ batch = wc\n#JJ run_command = {plain}\n{text.partition(chr(10))[2]}")
    job.chmod(0o755)
    names = submit_all(jar, [describe_file(str(job), category="A")] * 40)
    for number in range(6):
        nodes[number % 2].start_worker("A")
    assert_all_done(rig, names)
    for node in nodes:
        node.stop_workers()
    lines = outputs_of(tmp_path / "log")
    assert not [line for line in lines if line.startswith("exceeded")] and most_at_once(lines) <= LIMIT
    assert os.listdir(rig.home / "limits/batch.wc/taken") == []
