"""What a worker does after a job that failed: it goes on, leaves, or a fresh worker takes its place after a pause."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import venv
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.described_jobs import describe, outcome
from tests.rig import Rig, wait_until

# An empty setting is none: what is tested here is what is so where nobody says anything.
DEFAULT = {"JJ_EXIT_ON_FAILURE": ""}


def worker_file(rig: Rig, name: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((rig.home / "workers" / name / "worker.json").read_text())
    return said


def pausing(rig: Rig, name: str) -> dict[str, Any]:
    """What the worker says of its pause, once it pauses."""
    found: dict[str, Any] = wait_until(
        lambda: said if (said := worker_file(rig, name)).get("pauses_until") else None, "the pause"
    )
    return found


def environ_of_programs(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline())


def test_after_a_failed_described_job_a_fresh_worker_goes_on_in_the_same_process(rig: Rig, tmp_path: Path) -> None:
    worker = rig.start_worker(**DEFAULT, JJ_FAILURE_PAUSE="0.1")
    before = environ_of_programs(worker.pid)
    failing = describe(rig, "a.2", run_command="[ $JJ_ATTEMPT -gt 1 ]", retry_delay="0s")
    rig.run("jobjar", "wait", "--timeout", "60s", failing)
    assert outcome(rig, failing) == ("completed", "succeeded", 0, 2)
    assert worker.poll() is None and environ_of_programs(worker.pid) != before
    name = f"{os.uname().nodename}.{worker.pid}"
    # It is one worker to everybody: one directory, one name, orders reach it.
    assert [path.name for path in (rig.home / "workers").iterdir()] == [name]
    assert [row["worker"] for row in rig.status()["workers"]["workers"]] == [name]
    rig.run("stop_worker", name)
    assert worker.wait(30) == 0
    assert rig.worker_ended(name)
    rig.assert_clean()


def test_a_worker_in_the_background_is_taken_over_too_and_keeps_its_log_and_options(rig: Rig) -> None:
    failing = describe(rig, "a", run_command="[ $JJ_ATTEMPT -gt 1 ]", retry_delay="0s", category="SMALL")
    name = rig.run("start_worker", "SMALL", check=True, **DEFAULT, JJ_FAILURE_PAUSE="0.1").stdout.strip()
    rig.run("jobjar", "wait", "--timeout", "60s", failing)
    log = (rig.home / "workers" / name / "worker.log").read_text()
    assert "after a failure a fresh worker takes this one's place in 0.1 s" in log
    assert log.count("categories: SMALL") == 2
    assert [row["categories"] for row in rig.status()["workers"]["workers"]] == [["SMALL"]]
    rig.run("stop_worker", "all")
    wait_until(lambda: rig.worker_ended(name), "the end of the worker")


def test_what_is_under_way_is_ended_and_nothing_else_is_claimed_before_the_pause_is_over(
    rig: Rig, tmp_path: Path
) -> None:
    begun, go, wait = tmp_path / "begun", tmp_path / "go", "while [ ! -e {} ]; do sleep 0.01; done"
    failing = describe(rig, "a.3", run_command=f"{wait.format(begun)}; exit 1", retries=0)
    under_way = describe(rig, "b.2", stage_in_command=f"touch {begun}; {wait.format(go)}", run_command="true")
    later = rig.submit("true")
    worker = rig.start_worker(**DEFAULT, JJ_FAILURE_PAUSE="60")
    wait_until(lambda: failing in rig.names("completed"), "the failure")
    assert rig.names("unclaimed") == [later]
    go.touch()
    name = f"{os.uname().nodename}.{worker.pid}"
    pausing(rig, name)
    assert outcome(rig, under_way)[:2] == ("completed", "succeeded")
    assert rig.names("unclaimed") == [later]


def test_the_pause_doubles_with_each_failure_in_a_row_and_a_success_ends_the_row(rig: Rig, tmp_path: Path) -> None:
    job = describe(rig, "a", run_command="[ $JJ_ATTEMPT -gt 3 ]", retry_delay="0s", retries="5")
    worker = rig.start_worker(**DEFAULT, JJ_FAILURE_PAUSE="0.2", JJ_LONGEST_FAILURE_PAUSE="0.4")
    rig.run("jobjar", "wait", "--timeout", "60s", job)
    name = f"{os.uname().nodename}.{worker.pid}"
    log = (rig.home / "workers" / name / "worker.log").read_text()
    pauses = [line.partition(" after ")[2] for line in log.splitlines() if "takes this one's place" in line]
    assert pauses == [
        "a failure a fresh worker takes this one's place in 0.2 s",
        "2 failures in a row a fresh worker takes this one's place in 0.4 s",
        "3 failures in a row a fresh worker takes this one's place in 0.4 s",
    ]
    again = describe(rig, "b", run_command="exit 1", retries=0)
    rig.run("jobjar", "wait", "--timeout", "60s", again, check=False)
    wait_until(
        lambda: (rig.home / "workers" / name / "worker.log").read_text().count("after a failure a fresh") == 2,
        "a row that begins anew",
    )


@pytest.mark.parametrize("order", ["STOP", "STOP_ALL", "SIGTERM", "SIGUSR1"])
def test_orders_are_obeyed_and_the_heart_beats_while_a_worker_pauses(rig: Rig, order: str) -> None:
    describe(rig, "a", run_command="exit 1", retries=0)
    worker = rig.start_worker(**DEFAULT, JJ_FAILURE_PAUSE="600", JJ_HEARTBEAT_TIME="0.2")
    name = f"{os.uname().nodename}.{worker.pid}"
    pausing(rig, name)
    heartbeat = rig.home / "workers" / name / "heartbeat"
    seen = heartbeat.stat().st_mtime_ns
    wait_until(lambda: heartbeat.stat().st_mtime_ns > seen, "a heartbeat in the pause")
    if order == "STOP_ALL":
        (rig.home / "workers" / "STOP_ALL").touch()
    elif order == "STOP":
        rig.run("stop_worker", name)
    else:
        worker.send_signal(getattr(signal, order))
    assert worker.wait(30) == 0
    assert rig.worker_ended(name)


def test_the_status_says_until_when_a_worker_pauses_and_after_what_and_show_says_it_of_a_job(rig: Rig) -> None:
    describe(rig, "a", run_command="exit 1", retries=0)
    worker = rig.start_worker(**DEFAULT, JJ_FAILURE_PAUSE="600")
    name = f"{os.uname().nodename}.{worker.pid}"
    said = pausing(rig, name)
    status = rig.status()
    row = status["workers"]["workers"][0]
    assert (row["state"], row["failures_in_a_row"], row["pauses_until"]) == ("paused", 1, said["pauses_until"])
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(said["pauses_until"]))
    why = f"pauses until {until} after a failure; `jobjar show {rig.show('a')['id']}` says why"
    assert f"worker {name} {why}" in status["warnings"]
    waiting = rig.submit("true")
    reasons = rig.show(waiting)["waits_because"]
    assert any(f"{name}, which asks for it, {why}" in reason for reason in reasons)
    [one] = rig.explain(waiting)
    assert [standing["cause"] for standing in one["causes"]] == ["failure_pause"]
    assert "failure_pause" in [row["cause"] for row in status["standing"]]
    # It counts as one.
    assert rig.run("check_workers", JJ_MAX_WORKERS="1").stdout == ""


def test_plain_jobs_leave_a_worker_as_it_is_unless_the_setting_says_otherwise(rig: Rig) -> None:
    failing = rig.submit("exit 1")
    said = rig.run_until_idle(**DEFAULT)
    assert outcome(rig, failing)[:2] == ("completed", "failed")
    assert "fresh worker" not in said
    rig.submit("exit 1")
    worker = rig.start_worker(JJ_EXIT_ON_FAILURE="restart", JJ_FAILURE_PAUSE="600")
    pausing(rig, f"{os.uname().nodename}.{worker.pid}")


def test_an_order_that_comes_while_a_fresh_worker_begins_is_obeyed(rig: Rig, tmp_path: Path) -> None:
    """A signal has no handler in a program that has just been started; it waits until there is one."""
    job = describe(rig, "a", run_command="exit 1", retries="unlimited", retry_delay="0s")
    worker = rig.start_worker(**DEFAULT, JJ_FAILURE_PAUSE="0")
    before = environ_of_programs(worker.pid)
    wait_until(lambda: environ_of_programs(worker.pid) != before, "a fresh worker")
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(30) == 0
    assert outcome(rig, job)[0] == "unclaimed"
    assert rig.worker_ended(f"{os.uname().nodename}.{worker.pid}")
    rig.assert_clean()


def test_a_worker_whose_python_is_gone_leaves_in_place_of_beginning_afresh(rig: Rig, tmp_path: Path) -> None:
    """As when a virtual environment was moved away under it."""
    made = tmp_path / "venv"
    venv.create(made, symlinks=True)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    here = Path(__file__).resolve().parents[2]
    rig.environment["PYTHONPATH"] = f"{here}:{packages}"
    name = rig.run(
        str(made / "bin" / "python"), "-m", "jobjar.programs.start_worker", check=True, **DEFAULT, JJ_FAILURE_PAUSE="2"
    ).stdout.strip()
    describe(rig, "a", run_command="exit 1", retries=0)
    pausing(rig, name)
    (made / "bin").rename(made / "elsewhere")
    wait_until(lambda: rig.worker_ended(name), "the end of the worker")
    assert "no fresh worker could be started" in (rig.home / "workers" / name / "worker.log").read_text()


@pytest.mark.parametrize("where", ["option", "line", "described", "library", "setting"])
def test_retries_may_be_unlimited_wherever_they_are_said(rig: Rig, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = "[ $JJ_ATTEMPT -gt 7 ]"
    settings: dict[str, str] = {}
    if where == "option":
        job = rig.submit("--retries", "unlimited", count)
    elif where == "line":
        job = rig.drop("byhand", f"#!/bin/sh\n#JJ retries = unlimited\n{count}\n").name
    elif where == "described":
        job = describe(rig, "a", run_command=count, retries="unlimited", retry_delay="0s")
    elif where == "library":
        import jobjar

        monkeypatch.setenv("JJ_HOME", str(rig.home))
        job = jobjar.submit_job(count, retries="unlimited")
    else:
        job, settings = rig.submit(count), {"JJ_RETRIES": "unlimited"}
    rig.run_until_idle(**settings)
    assert outcome(rig, job) == ("completed", "succeeded", 0, 8)
    assert rig.show(job)["retries"] == (None if where == "setting" else "unlimited")
    rig.assert_clean()


def test_a_batch_may_have_unlimited_retries_and_its_waits_stay_below_a_day(rig: Rig, tmp_path: Path) -> None:
    submit_file = tmp_path / "b.jug"
    submit_file.write_text(
        "batch {\n  name = b\n  seeds = 1\n  retries = unlimited\n  retry_delay = 0s\n"
        '  run_command = "[ $JJ_ATTEMPT -gt 5 ]"\n}\n'
    )
    rig.run("submit_batch", str(submit_file))
    rig.run_until_idle()
    assert [job["outcome"] for job in map(rig.show, rig.names("completed"))] == ["succeeded"]
    from jobjar.attempts.retry_delay import LONGEST_RETRY_DELAY_S, retry_time

    assert retry_time(10.0, 100_000, 1e6) == 1e6 + LONGEST_RETRY_DELAY_S
    assert retry_time(0.0, 5, 1e6) == 0
    assert retry_time(200_000.0, 5, 1e6) == 1.2e6
