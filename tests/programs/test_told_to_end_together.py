"""A job and its worker are told to end at one moment, as systemd, scancel and a shutdown do: the job goes back, and its retries
are not spent, whichever of the two hears it first."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.described_jobs import describe, make_package, pack, underway
from tests.rig import PATIENCE_S, Rig, wait_until

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def start_and_wait(rig: Rig, pid_file: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A worker, and the process of its job that wrote its id to `pid_file`."""
    worker = rig.start_worker(JJ_POLL_TIME="50", JJ_GRACE_TIME="20")
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "the job's start")
    return worker, psutil.Process(int(pid_file.read_text()))


def tell(job: psutil.Process, worker: subprocess.Popen[str], number: signal.Signals) -> None:
    """The job first, and it is gone before the worker hears anything."""
    job.send_signal(number)
    job.wait(PATIENCE_S)
    worker.send_signal(number)
    assert worker.wait(PATIENCE_S) == 0


def assert_went_back(rig: Rig, name: str) -> None:
    shown = rig.show(name)
    assert (shown["state"], shown["outcome"]) == ("unclaimed", None)
    assert [(attempt["outcome"], attempt["message"]) for attempt in shown["attempts"]] == [
        ("interrupted", "its worker was told to end")
    ]
    assert rig.names("unclaimed") == [name]
    rig.assert_clean()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "ending",
    ["exec sleep 600", "trap 'exit {status}' {signal}; sleep 600 & wait"],
    ids=["of the signal", "with a status"],
)
def test_a_job_that_hears_it_first_goes_back(rig: Rig, tmp_path: Path, number: signal.Signals, ending: str) -> None:
    text = ending.format(status=128 + number, signal=number.name.removeprefix("SIG"))
    name = rig.submit("--retries", "0", f"echo $$ >{tmp_path}/pid; {text}")
    worker, job = start_and_wait(rig, tmp_path / "pid")
    tell(job, worker, number)
    assert_went_back(rig, name)


@pytest.mark.parametrize("number", SIGNALS)
def test_so_does_one_that_hears_it_later(rig: Rig, tmp_path: Path, number: signal.Signals) -> None:
    name = rig.submit("--retries", "0", f"echo $$ >{tmp_path}/pid; exec sleep 600")
    worker, job = start_and_wait(rig, tmp_path / "pid")
    worker.send_signal(number)
    with contextlib.suppress(psutil.NoSuchProcess):  # the worker was quicker and has ended it
        job.send_signal(number)
    assert worker.wait(PATIENCE_S) == 0
    assert_went_back(rig, name)


def test_a_job_that_goes_back_has_its_retries_left(rig: Rig, tmp_path: Path) -> None:
    name = rig.submit("--retries", "1", f"test $JJ_ATTEMPT -lt 3 || exit 0; echo $$ >{tmp_path}/pid$JJ_ATTEMPT; "
                      "test $JJ_ATTEMPT -lt 2 || exit 9; exec sleep 600")  # fmt: skip
    worker, job = start_and_wait(rig, tmp_path / "pid1")
    tell(job, worker, signal.SIGTERM)
    rig.run_until_idle()
    assert [attempt["outcome"] for attempt in rig.show(name)["attempts"]] == ["interrupted", "failed", "succeeded"]


@pytest.mark.parametrize("command", ["stage_in_command", "run_command", "stage_out_command"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_described_job_goes_back_at_each_of_its_commands(
    rig: Rig, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    commands = {"run_command": "true", command: f"echo $$ >{tmp_path}/pid; exec sleep 600"}
    name = describe(rig, "told", retries="0", **commands)
    worker, job = start_and_wait(rig, tmp_path / "pid")
    tell(job, worker, number)
    assert_went_back(rig, name)


def test_a_polled_job_is_polled_on(rig: Rig, tmp_path: Path) -> None:
    polling = tmp_path / "poll.sh"
    polling.write_text(
        f"if test -e {tmp_path}/pid; then echo finished = 1 >jug_polling.vars; exit; fi\n"
        f"echo $$ >{tmp_path}/pid; exec sleep 600\n"
    )
    run = f"echo x >>{tmp_path}/runs"
    name = describe(
        rig, "polled", retries="0", run_command=run, polling_command=f"exec sh {polling}", polling_time="0.1"
    )
    worker, job = start_and_wait(rig, tmp_path / "pid")
    tell(job, worker, signal.SIGTERM)
    assert_went_back(rig, name)
    rig.run_until_idle()
    assert (rig.show(name)["outcome"], (tmp_path / "runs").read_text()) == ("succeeded", "x\n")


def test_an_install_that_hears_it_first_fails_nothing(rig: Rig, tmp_path: Path) -> None:
    install = f"#!/bin/sh\ntest ! -e {tmp_path}/pid || exit 0\necho $$ >{tmp_path}/pid; exec sleep 600\n"
    package = pack(make_package(tmp_path / "tool", package__install=install))
    name = describe(rig, "installs", retries="0", software=package, run_command="true")
    worker, job = start_and_wait(rig, tmp_path / "pid")
    tell(job, worker, signal.SIGTERM)
    assert_went_back(rig, name)
    rig.run_until_idle()
    assert rig.show(name)["outcome"] == "succeeded"


def test_a_storing_that_hears_it_first_waits_for_no_second_try(rig: Rig, tmp_path: Path) -> None:
    store = f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 600\n"
    package = pack(
        make_package(tmp_path / "store", bin__store=store, package__commands="storage_command = $1/bin/store\n")
    )
    name = describe(rig, "stores", retries="0", run_command="mkdir output; echo 1 >output/file")
    rig.environment["JJ_STORAGE_SOFTWARE"] = str(package)
    worker, job = start_and_wait(rig, tmp_path / "pid")
    tell(job, worker, signal.SIGTERM)
    assert_went_back(rig, name)
    assert any(path.endswith("state.json") for path in underway(rig))


@pytest.mark.parametrize("kind", ["plain", "described"])
def test_a_job_that_ends_of_such_a_signal_alone_fails_as_ever(rig: Rig, kind: str) -> None:
    command = "kill -TERM $$"
    if kind == "plain":
        name = rig.submit(command)
    else:
        name = describe(rig, "alone", retries="0", run_command=command)
    rig.run_until_idle()
    shown = rig.show(name)
    assert (shown["state"], shown["outcome"], shown["signal"]) == ("completed", "failed", signal.SIGTERM)
    assert len(shown["attempts"]) == 1


def test_a_job_is_killed_on_request_though_it_died_of_a_signal_at_that_moment(rig: Rig, tmp_path: Path) -> None:
    name = rig.submit(f"echo $$ >{tmp_path}/pid; exec sleep 600")
    worker, job = start_and_wait(rig, tmp_path / "pid")
    job.send_signal(signal.SIGTERM)
    job.wait(PATIENCE_S)
    (rig.home / "workers" / f"{os.uname().nodename}.{worker.pid}" / f"KILL.{name}").touch()
    wait_until(lambda: rig.show(name)["state"] == "completed", "the job's end")
    assert rig.show(name)["outcome"] == "killed"
    rig.stop_worker(worker)
