"""Processes that are nobody's child any more become their worker's: it reaps them when they end, whatever it does just then."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.described_jobs import describe, said
from tests.rig import BIN, PATIENCE_S, Rig, wait_until

# Starts a process that is not the job's child, and waits for its end as people do who cannot wait(2) for it.
WAIT_FOR_A_STRANGER = """
(setsid sh -c 'echo $$ > stranger; exec sleep 0.3' &)
until test -s stranger; do sleep 0.01; done
while kill -0 $(cat stranger) 2>/dev/null; do sleep 0.05; done
echo it is gone
"""
# The look at the clock is not what reaps: the end of the process is.
SELDOM = {"JJ_POLL_TIME": "50"}


def test_a_job_that_waits_for_a_process_that_is_not_its_child_sees_its_end(rig: Rig) -> None:
    job = rig.submit("--time-limit", "20", WAIT_FOR_A_STRANGER)
    rig.run_until_idle(**SELDOM)
    assert rig.show(job)["outcome"] == "succeeded"
    assert rig.run("jobjar", "output", job).stdout == "it is gone\n"


@pytest.mark.parametrize("command", ["stage_in_command", "run_command", "stage_out_command"])
def test_so_does_each_command_of_a_described_job(rig: Rig, tmp_path: Path, command: str) -> None:
    (tmp_path / "wait.sh").write_text(WAIT_FOR_A_STRANGER)
    commands = {"run_command": "true", command: f"sh {tmp_path}/wait.sh"}
    name = describe(rig, "waits", time_limit="20", retries="0", **commands)
    rig.run_until_idle(**SELDOM)
    assert rig.show(name)["outcome"] == "succeeded"
    assert said(rig, name) == "it is gone\n"


def test_a_job_that_tidies_up_at_its_time_limit_sees_it_too(rig: Rig) -> None:
    tidy = f"tidy() {{ {WAIT_FOR_A_STRANGER} exit 7; }}"
    job = rig.submit("--time-limit", "2", f"{tidy}\ntrap tidy TERM; sleep 600 & wait")
    rig.run_until_idle(JJ_GRACE_TIME="25")
    shown = rig.show(job)
    assert (shown["outcome"], shown["exit_status"]) == ("timed_out", 7)


def test_a_sleeping_worker_reaps_what_its_jobs_left(rig: Rig, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    job = rig.submit(f"(setsid sh -c 'echo $$ > {pid}; exec sleep 600' &); until test -s {pid}; do sleep 0.01; done")
    worker = rig.start_worker(**SELDOM)
    rig.run("jobjar", "wait", "--timeout", "60s", job)
    process = psutil.Process(worker.pid)
    assert [child.pid for child in process.children()] == [int(pid.read_text())]
    wait_until(lambda: process.status() == psutil.STATUS_SLEEPING, "the worker's sleep")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    wait_until(lambda: not process.children(), "its reaping")
    rig.stop_worker(worker)


def test_jobs_end_as_ever_where_the_worker_was_started_with_ignored_ends_of_children(rig: Rig) -> None:
    start = f"trap '' CHLD; exec {BIN}/python -c 'import os, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    start += f'os.execv("{BIN}/start_worker", ["start_worker"])' + "'"
    names = [rig.submit("exit 3"), rig.submit("sleep 0.1; exit 4")]
    worker = rig.shell(start).stdout.strip()
    rig.run("jobjar", "wait", "--timeout", "60s", *names, check=False)
    assert [rig.show(name)["exit_status"] for name in names] == [3, 4]
    rig.run("stop_worker", worker)
    wait_until(lambda: rig.worker_ended(worker), "the worker's end")


@pytest.mark.root
def test_as_the_first_process_of_a_container_it_reaps_whatever_ends_there(rig: Rig, tmp_path: Path) -> None:
    job = rig.submit("--time-limit", "20", WAIT_FOR_A_STRANGER)
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", str(BIN / "start_worker"), "--foreground"]
    container = subprocess.Popen(
        words, env={**rig.environment, **SELDOM}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert container.stdout is not None
        name = container.stdout.readline().strip()
        assert name == f"{os.uname().nodename}.1"
        rig.run("jobjar", "wait", "--timeout", "60s", job)
        assert rig.run("jobjar", "output", job).stdout == "it is gone\n"
        [worker] = psutil.Process(container.pid).children()
        # Somebody else's, whose parent ends: as with `docker exec`.
        enter = ["nsenter", "--pid", "--target", str(worker.pid), "sh", "-c", "sleep 600 & true"]
        subprocess.run(enter, check=True, timeout=PATIENCE_S)
        [stranger] = wait_until(worker.children, "the stranger's adoption")
        stranger.kill()
        wait_until(lambda: not worker.children(), "its reaping")
        worker.send_signal(signal.SIGUSR1)
        assert container.wait(PATIENCE_S) == 0
    finally:
        container.kill()
        container.communicate()
