"""What nobody can know is dead, and a person says so: recover_jobs --node and --worker."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from jobjar.attempts.limits import CATEGORY, read_limit, set_limit
from jobjar.batches.change import new_change, take_name
from jobjar.liveness import ProcessIdentity, mark
from tests.hosts.nodes import Node, outputs_of, wait_for_lines
from tests.rig import BIN, Rig, stop_at_rest, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
MakeNode = Callable[..., Node]
QUICK = {"JJ_HEARTBEAT_TIME": "0.2"}


def hold_a_job(rig: Rig, node: Node, log: Path) -> tuple[str, str]:
    """A worker of a node that runs a job, which ends by itself only when it is run again; returns both their names."""
    worker = node.start_worker()
    job = rig.submit(f"echo $JJ_WORKER >> {log}; test $JJ_ATTEMPT = 2 || exec sleep 300")
    wait_for_lines(log, 1)
    return worker, job


def is_silent(rig: Rig, worker: str) -> bool:
    states = {row["worker"]: row["state"] for row in rig.status()["workers"]["workers"]}
    return bool(states[worker] == "silent")


def test_a_node_that_is_gone_is_given_up_with_its_jobs_tokens_and_changes_of_batches(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    jar = rig.open()
    set_limit(jar, CATEGORY, "", 1)
    rain = make_node("rain", **QUICK)
    worker, job = hold_a_job(rig, rain, tmp_path / "log")
    # A submission on that node was cut short, and an older one left something half-made.
    process = ProcessIdentity("rain", 5, 1.0, "the boot of rain", "4026531836")
    assert take_name(jar, "wc", new_change(["wc"])._replace(process=process))
    half = rig.home / "batches" / f".rain.{mark()}.abcdefghijkl"
    half.mkdir()
    said = rig.run("recover_jobs", "--node", "rain", "--yes", check=False)
    assert said.returncode == 1 and "nothing was given up: " in said.stderr and f"{worker} was heard of" in said.stderr
    rain.kill()
    wait_until(lambda: is_silent(rig, worker), "its silence")
    assert "0 jobs returned" in rig.run("recover_jobs").stdout

    refused = rig.run("recover_jobs", "--node", "rain", check=False)
    assert refused.returncode == 1 and f"{worker}: silent for " in refused.stderr and "holds 1 job" in refused.stderr
    assert "batch wc" in refused.stderr and "recover_jobs --node rain --yes" in refused.stderr
    piped = rig.shell("echo y | recover_jobs --node rain || test $? = 1").stderr
    assert "an answer that is piped there is not read" in piped
    assert rig.names(f"workers/{worker}/jobs") == [job]
    done = rig.run("recover_jobs", "--node", "rain", "--yes").stdout
    assert "1 jobs returned" in done and "gave back token 1" in done and "batch wc: discarded" in done
    assert not half.exists() and not (rig.home / "batches" / "wc").exists()
    assert rig.names("unclaimed") == [job] and len(read_limit(jar.layout, "category.").taken) == 0
    [attempt] = rig.show(job)["attempts"]
    assert attempt["outcome"] == "stranded" and "was given up, as gone for good" in attempt["message"]
    assert rig.status()["workers"]["workers"] == []
    rig.run_until_idle()
    assert rig.show(job)["outcome"] == "succeeded"
    # Nothing more to do is no error; a name that nobody had is one.
    assert "0 jobs returned" in rig.run("recover_jobs", "--node", "rain").stdout
    assert "snow: no worker, no node" in rig.run("recover_jobs", "--node", "snow", check=False).stderr
    rig.assert_clean()


def test_it_is_asked_on_a_terminal(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    rain = make_node("rain", **QUICK)
    worker, job = hold_a_job(rig, rain, tmp_path / "log")
    rain.kill()
    wait_until(lambda: is_silent(rig, worker), "its silence")
    for answer, status in (("n", 1), ("y", 0)):
        assert rig.names(f"workers/{worker}/jobs") == [job]
        ours, theirs = pty.openpty()
        with contextlib.closing(os.fdopen(ours, "wb", buffering=0)) as terminal:
            terminal.write(f"{answer}\n".encode())
            command = [str(BIN / "recover_jobs"), "--worker", worker]
            result = subprocess.run(
                command, stdin=theirs, env=rig.environment, capture_output=True, text=True, timeout=60, check=False
            )
            os.close(theirs)
        assert result.returncode == status and "gone for good? [y/N]" in result.stderr
    assert rig.names("unclaimed") == [job]


def test_who_lives_here_is_not_given_up(rig: Rig) -> None:
    worker = rig.start_worker()
    name = f"{os.uname().nodename}.{worker.pid}"
    for words in (["--worker", name], ["--node", os.uname().nodename]):
        result = rig.run("recover_jobs", *words, "--yes", check=False)
        assert result.returncode == 1 and f"{name} runs here" in result.stderr
    assert "given_up_at" not in json.loads((rig.home / "workers" / name / "worker.json").read_text())
    rig.stop_worker(worker)


def test_a_container_that_was_started_again_does_not_touch_its_last_one_s_job_until_somebody_says_so(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    first = make_node("rain", has_booted=False, **QUICK)
    descriptor = first.hold_namespace()
    try:
        worker, job = hold_a_job(rig, first, log)
        first.kill()
        second = make_node("rain", has_booted=False, **QUICK)
        new = second.start_worker()
        assert new == f"{worker}-2"
        wait_until(lambda: is_silent(rig, worker), "its silence")
        assert "0 jobs returned" in second.run("recover_jobs").stdout
        both = second.run("recover_jobs", "--node", "rain", "--yes", check=False)
        assert both.returncode == 1 and f"recover_jobs --worker {worker}" in both.stderr
        assert "1 jobs returned" in second.run("recover_jobs", "--worker", worker, "--yes").stdout
        wait_until(lambda: rig.names("completed") == [job], "the job's end")
        second.stop_workers()
        assert outputs_of(log) == [worker, new]
    finally:
        os.close(descriptor)
    rig.assert_clean()


def is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # a job's sleep, say, that is over
        return "start_worker" in " ".join(process.cmdline()[:3])
    return False


def test_a_worker_that_was_given_up_and_lives_completes_nothing_twice_and_leaves(
    rig: Rig, make_node: MakeNode, tmp_path: Path
) -> None:
    log, mark_path = tmp_path / "log", tmp_path / "go on"
    rain = make_node("rain", **QUICK)
    worker = rain.start_worker()
    job = rig.submit(f"echo $JJ_WORKER >> {log}; until test -e '{mark_path}'; do sleep 0.02; done")
    wait_for_lines(log, 1)
    [process] = [found for found in rig.processes() if is_worker(found) and is_in(found.pid, rain)]
    stop_at_rest(process.pid)
    wait_until(lambda: is_silent(rig, worker), "its silence")
    assert "1 jobs returned" in rig.run("recover_jobs", "--worker", worker, "--yes").stdout
    mark_path.touch()
    rig.run_until_idle()
    waiting = rig.submit("true")
    os.kill(process.pid, signal.SIGCONT)
    rain.wake()
    process.wait(60)
    assert rig.names("completed") == [job] and rig.names("unclaimed") == [waiting]
    attempts = [(attempt["worker"], attempt["outcome"]) for attempt in rig.show(job)["attempts"]]
    assert attempts[0] == (worker, "lost") and attempts[1][1] == "succeeded"
    rig.assert_clean()


def is_in(pid: int, node: Node) -> bool:
    return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{node.init}/ns/pid")
