"""What comes between a worker's last look and its sleep wakes it: JJ_PAUSE_TIME, a minute, is longer than these tests."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from jobjar.processes.wake import SignalFlags
from tests.rig import Rig, wait_until

# A worker to which something happens at a chosen call of one of its steps: the race, forced.
WORKER = """
import os, sys
import jobjar, jobjar.worker.next_job
from jobjar.worker.daemon import run_in_foreground
from jobjar.jar import open_jar

step, number, moment, event = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
real = getattr(jobjar.worker.next_job, step)
calls = 0

def happen():
    if event == "submission":
        jobjar.submit_job("true")
    else:
        home = os.environ["JJ_HOME"]
        open(f"{home}/workers/{os.uname().nodename}.{os.getpid()}/{event}", "w").close()

def patched(*args, **named):
    global calls
    calls += 1
    if (calls, moment) == (number, "before"):
        happen()
    result = real(*args, **named)
    if (calls, moment) == (number, "after"):
        happen()
    return result

setattr(jobjar.worker.next_job, step, patched)
run_in_foreground(open_jar(), ())
"""


def start(rig: Rig, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, *words]
    return subprocess.Popen(command, env=rig.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("step", "number", "moment"),
    [
        ("fold_journals", 1, "before"),
        ("fold_journals", 2, "before"),
        ("fold_journals", 2, "after"),
        ("claim_next", 1, "after"),
        ("claim_next", 2, "before"),
        ("claim_next", 2, "after"),
    ],
)
def test_a_job_submitted_while_a_worker_looks_for_the_last_time_is_run_at_once(
    rig: Rig, step: str, number: int, moment: str
) -> None:
    process = start(rig, step, str(number), moment, "submission")
    try:
        wait_until(lambda: rig.names("completed"), "the job's end", timeout_s=20)
    finally:
        process.terminate()
        process.wait()


def test_a_worker_told_to_stop_while_it_looks_for_the_last_time_leaves_at_once(rig: Rig) -> None:
    process = start(rig, "claim_next", "2", "after", "STOP")
    try:
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()


def test_the_end_of_a_child_that_nobody_waits_for_any_more_does_not_wake_and_other_signals_do() -> None:
    flags = SignalFlags()
    try:
        flags.take([signal.SIGUSR1])
        for others in (False, True):
            flags.hear_children(True)
            with subprocess.Popen(["/bin/true"]):
                assert select.select(flags.descriptors(), [], [], 30)[0]
            if others:
                os.kill(os.getpid(), signal.SIGUSR1)
            flags.hear_children(False)
            assert bool(select.select(flags.descriptors(), [], [], 0)[0]) == others
        assert flags.drain()
    finally:
        flags.close()
