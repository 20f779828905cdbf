"""What dies and what is in the way: workers, runners, clients, calls that wait for each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.executor import frames
from tests.executor.test_executor import workers as workers
from tests.rig import Rig, wait_until

pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")


def step(log: str, number: int, awaited: str = "", made: str = "") -> int:
    """Write down that it runs, wait for a file, make one."""
    with open(log, "a") as file:
        file.write(f"{number}\n")
    deadline = time.monotonic() + 60
    while awaited and not os.path.exists(awaited) and time.monotonic() < deadline:
        time.sleep(0.01)
    if made:
        Path(made).touch()
    return number


@pytest.mark.slow
def test_calls_behind_a_long_one_are_run_by_others(workers: Rig, own_library: Any, tmp_path: Path) -> None:
    log, mark = str(tmp_path / "log"), str(tmp_path / "mark")
    with jobjar.Executor(1) as executor:
        assert list(executor.map(step, [log] * 20, range(20))) == [*range(20)]
        # One group: the first call waits for what the last one makes.
        calls = list(executor.map(step, [log] * 9, range(9), [mark, *[""] * 8], [*[""] * 8, mark], timeout=60))
    assert calls == [*range(9)]
    assert len(Path(log).read_text().split()) == 29, "a call ran twice"


@pytest.mark.slow
def test_a_killed_worker_s_calls_go_on_after_the_last_result(rig: Rig, own_library: Any, tmp_path: Path) -> None:
    log, mark = tmp_path / "log", tmp_path / "mark"
    first = rig.start_worker()
    with jobjar.Executor(1) as executor:
        for number in range(3):
            executor.submit(step, str(log), number).result()
        log.unlink()
        given = [(str(log), number, str(mark) if number == 3 else "") for number in range(5)]
        results = executor.map(step, *zip(*given, strict=True))
        wait_until(lambda: log.exists() and "3\n" in log.read_text(), "the call that waits")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        rig.run("recover_jobs")
        mark.touch()
        second = rig.start_worker()
        assert list(results) == [*range(5)]
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "3", "4"]
    rig.stop_worker(second)
    rig.assert_clean()


@pytest.mark.slow
def test_what_a_killed_client_leaves_is_removed_at_night(rig: Rig, own_library: Any) -> None:
    program = "import jobjar, time; e = jobjar.Executor(1); e.submit(abs, 1); e.submit(abs, 2); time.sleep(60)"
    client = subprocess.Popen([sys.executable, "-c", program], env=rig.environment)
    try:
        wait_until(lambda: len(rig.names("unclaimed")) == 2, "the calls to be sent")
    finally:
        client.kill()
        client.wait()
    (directory,) = (rig.home / "executors").iterdir()
    assert directory.stat().st_mode & 0o7777 == 0o700
    rig.run("recover_jobs", "--nightly")
    assert directory.exists()
    a_day_ago = time.time() - 86500
    os.utime(directory, (a_day_ago, a_day_ago))
    rig.run("recover_jobs", "--nightly")
    assert not directory.exists()
    rig.run_until_idle()
    jobs = jobjar.list_jobs()
    assert {job.outcome for job in jobs} == {"succeeded"} and len(jobs) == 2
    assert b"there is nothing to run" in jobjar.output(jobs[0].name)
    # A program that only forgets to end its executor waits for its calls.
    worker = rig.start_worker()
    forgets = "import jobjar; jobjar.Executor(1).submit(print, 1).add_done_callback(lambda f: print(f.result()))"
    said = subprocess.run(
        [sys.executable, "-c", forgets], env=rig.environment, capture_output=True, text=True, timeout=60
    )
    assert (said.stdout, said.stderr) == ("None\n", "")
    assert os.listdir(rig.home / "executors") == []
    rig.stop_worker(worker)


def test_a_record_that_is_not_whole_does_not_count(tmp_path: Path) -> None:
    whole = frames.encode(frames.RETURNED, 1, b"one")
    path = tmp_path / "results"
    for data, numbers in (
        (whole + whole, [1, 1]),
        (whole + whole[:-1], [1]),
        (whole + whole[:10], [1]),
        (whole[:-1] + b"x" + whole, []),
        (b"", []),
    ):
        path.write_bytes(data)
        with path.open("rb") as file:
            assert [record.number for record, _ in frames.read_records(file, len(data))] == numbers
