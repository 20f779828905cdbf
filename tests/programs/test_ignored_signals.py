"""What was ignored when a worker was started stays ignored, by it and by its jobs; everything else is as in any shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.described_jobs import describe, make_package, pack
from tests.rig import PATIENCE_S, Rig, wait_until

LOOK = "grep -E '^Sig(Blk|Ign)' /proc/self/status"
IN_BACKGROUND = {signal.SIGINT, signal.SIGQUIT}  # what a shell without job control ignores in what it starts with &


def read_signals(text: str) -> list[set[int]]:
    """The signals that are blocked, and those that are ignored; without 32 and 33, which belong to the C library."""
    masks = [int(mask, 16) for mask in re.findall(r"^Sig(?:Blk|Ign):\s*(\S+)$", text, re.MULTILINE)]
    assert len(masks) == 2, text
    return [{number for number in signal.valid_signals() if mask >> (number - 1) & 1} for mask in masks]


def signals_here() -> list[set[int]]:
    return read_signals(subprocess.run(["/bin/sh", "-c", LOOK], capture_output=True, text=True, check=True).stdout)


def start_in_background(rig: Rig, log: Path, before: str = "") -> psutil.Process:
    """`start_worker --foreground &`, in a script."""
    out = rig.shell(f"{before} start_worker --foreground >{log} 2>&1 & echo $!").stdout
    worker = psutil.Process(int(out))
    wait_until(lambda: f"{os.uname().nodename}.{worker.pid}\n" in log.read_text(), "the worker's start")
    return worker


@pytest.mark.parametrize("job", [LOOK, f"sleep 0.1; {LOOK}"])
def test_a_job_of_a_background_worker_finds_its_signals_as_in_a_shell(rig: Rig, job: str) -> None:
    name = rig.submit(job)
    worker = rig.run("start_worker").stdout.strip()
    rig.run("jobjar", "wait", "--timeout", "60s", name)
    assert read_signals(rig.run("jobjar", "output", name).stdout) == signals_here()
    rig.run("stop_worker", worker)
    wait_until(lambda: rig.worker_ended(worker), "the worker's end")


def test_so_does_each_command_of_a_described_job_and_the_install_of_its_software(rig: Rig, tmp_path: Path) -> None:
    look = f"{LOOK} >{tmp_path}"
    package = make_package(tmp_path / "tool", package__install=f"#!/bin/sh\n{look}/install\n")
    polling = tmp_path / "poll.sh"
    polling.write_text(f"{look}/poll\necho finished = 1 >jug_polling.vars\n")
    name = describe(
        rig,
        "looks",
        software=pack(package),
        stage_in_command=f"{look}/stage_in",
        run_command=f"{look}/run",
        polling_command=f"sh {polling}",
        stage_out_command=f"{look}/stage_out",
    )
    worker = rig.run("start_worker").stdout.strip()
    rig.run("jobjar", "wait", "--timeout", "60s", name)
    for phase in ("install", "stage_in", "run", "poll", "stage_out"):
        assert read_signals((tmp_path / phase).read_text()) == signals_here(), phase
    rig.run("stop_worker", worker)
    wait_until(lambda: rig.worker_ended(worker), "the worker's end")


def test_a_worker_under_nohup_outlives_its_terminal_and_so_do_its_jobs(rig: Rig, tmp_path: Path) -> None:
    worker = start_in_background(rig, tmp_path / "log", "nohup")
    running = rig.submit(f"echo $$ >{tmp_path}/pid; until test -e {tmp_path}/go; do sleep 0.02; done; {LOOK}")
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the job's start")
    for pid in (int((tmp_path / "pid").read_text()), worker.pid):
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGINT)
    (tmp_path / "go").touch()
    rig.run("jobjar", "wait", "--timeout", "60s", running)
    blocked, ignored = signals_here()
    seen = read_signals(rig.run("jobjar", "output", running).stdout)
    assert seen == [blocked, ignored | IN_BACKGROUND | {signal.SIGHUP}]
    after = rig.submit("true")
    rig.run("jobjar", "wait", "--timeout", "60s", after)
    assert len(rig.show(running)["attempts"]) == 1
    worker.send_signal(signal.SIGTERM)  # that was not ignored
    worker.wait(PATIENCE_S)


def test_a_worker_that_a_script_starts_beside_itself_outlives_the_ctrl_c_of_that(rig: Rig, tmp_path: Path) -> None:
    worker = start_in_background(rig, tmp_path / "log")
    worker.send_signal(signal.SIGINT)
    name = rig.submit(LOOK)
    rig.run("jobjar", "wait", "--timeout", "60s", name)
    blocked, ignored = signals_here()
    assert read_signals(rig.run("jobjar", "output", name).stdout) == [blocked, ignored | IN_BACKGROUND]
    # It ignores SIGHUP where these tests were started with nohup.
    worker.send_signal(signal.SIGTERM if signal.SIGHUP in ignored else signal.SIGHUP)
    worker.wait(PATIENCE_S)
    assert "ended: ended" in (tmp_path / "log").read_text()


def test_a_ctrl_c_at_a_terminal_ends_a_worker_in_the_foreground_as_ever(rig: Rig) -> None:
    worker = rig.start_worker()
    worker.send_signal(signal.SIGINT)
    assert worker.communicate(timeout=PATIENCE_S)[1].rstrip().endswith("ended: ended")
    assert worker.returncode == 0
