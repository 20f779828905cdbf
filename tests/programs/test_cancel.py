"""jobjar cancel, by the real program: jobs that wait, are held, or run; and what ends before it is cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from jobjar.control import request_cancel, request_kill
from jobjar.host import login
from jobjar.layout import worker_of_place
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.selection import make_selection
from jobjar.steering.cancel import Cancel
from jobjar.steering.steer import steer as do
from tests.described_jobs import describe
from tests.programs.test_steering import steer, submit
from tests.rig import BIN, Rig, stop_at_rest, wait_until


def test_jobs_are_cancelled_where_they_are(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    runs = submit(rig, "runs", command=f"echo runs >> {log}; exec sleep 600")
    worker = rig.start_worker()
    wait_until(log.exists, "the job to run")
    waiting = [submit(rig, f"waits-{number}", "-c", "LATER", command=f"echo ran >> {log}") for number in range(2)]
    held = submit(rig, "held", "-c", "LATER", command=f"echo ran >> {log}")
    steer(rig, "hold", held)
    rig.drop("by-hand", f"#!/bin/sh\necho ran >> {log}\n", "LATER")
    assert steer(rig, "cancel", "--dry-run", "--all").stdout == "would cancel 3 waiting, 1 held and 1 running jobs\n"
    said = steer(rig, "cancel", "--all", "--reason", "not needed").stdout
    assert said == "cancelled 3 waiting, 1 held and 1 running jobs\n"
    for job in (runs, *waiting, held, "by-hand"):
        shown = rig.show(job)
        assert (shown["state"], shown["outcome"]) == ("completed", "cancelled")
        assert shown["attempts"][-1]["message"] == f"cancelled by {login()}: not needed"
    assert rig.show("by-hand")["category"] == "LATER" and len(rig.show(runs)["attempts"]) == 1
    assert rig.show(runs)["attempts"][0]["signal"] == signal.SIGTERM
    after = submit(rig, "after", command=f"echo after >> {log}")
    rig.run("jobjar", "wait", "--timeout", "60s", after)
    rig.stop_worker(worker)
    rig.run("jobjar", "wait", "--all", check=False)
    assert log.read_text().split() == ["runs", "after"]
    assert [name for name in os.listdir(rig.home / "limbo") if name.startswith(".")] == []
    result = steer(rig, "cancel", after, runs, fails=True)
    assert [line.partition(": ")[2] for line in result.stderr.splitlines()] == [
        f"{after} was not cancelled: it has ended (succeeded)",
        f"{runs} was not cancelled: it has ended (cancelled)",
    ]
    before = [rig.show(job) for job in (runs, *waiting, held, "by-hand")]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert [rig.show(job) for job in (runs, *waiting, held, "by-hand")] == before


@pytest.mark.parametrize("ends", ["exit 0", "exit 1"], ids=["succeeds", "fails and comes back"])
def test_a_job_that_ends_before_it_is_told_is_left_alone_or_cancelled_where_it_waits(
    rig: Rig, tmp_path: Path, ends: str
) -> None:
    go = tmp_path / "go"
    job = submit(
        rig, "it", "--retries", "3", command=f"touch {tmp_path}/on; until [ -e {go} ]; do sleep 0.02; done; {ends}"
    )
    worker = rig.start_worker()
    wait_until((tmp_path / "on").exists, "the job to run")
    (process,) = psutil.Process(worker.pid).children()
    stop_at_rest(worker.pid)
    jar = rig.open()

    class CancelLate(Cancel):
        def finish(self, jar):  # type: ignore[no-untyped-def]
            go.touch()
            wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE, "the job's end")
            (rig.home / "workers/PAUSE_ALL").touch()
            worker.send_signal(signal.SIGCONT)
            return super().finish(jar)

    refresh_ledger(jar)
    steered = do(jar, make_selection([job]), CancelLate(login()))
    place = next((rig.home / "workers").glob("*.*"))
    assert list(place.glob("KILL.*")) == []
    if ends == "exit 0":
        assert [str(error) for error in steered.errors] == [f"{job} was not cancelled: it has ended (succeeded)"]
        assert steered.jobs == [] and rig.show(job)["outcome"] == "succeeded"
    else:
        assert (steered.errors, [one.was for one in steered.jobs]) == ([], ["running"])
        assert [attempt["outcome"] for attempt in rig.show(job)["attempts"]] == ["failed", "cancelled"]
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_request_about_another_attempt_is_passed_over_and_an_empty_one_kills(rig: Rig, tmp_path: Path) -> None:
    job = submit(rig, "it", command=f"touch {tmp_path}/on; exec sleep 600")
    worker = rig.start_worker()
    wait_until((tmp_path / "on").exists, "the job to run")
    jar = rig.open()
    name = worker_of_place(rig.show(job)["place"])
    assert name is not None
    file = rig.home / "workers" / name / f"KILL.{job}"
    request_cancel(jar.layout, name, job, 7, "cancelled by somebody")
    wait_until(lambda: not file.exists(), "the worker to read the request")
    assert rig.show(job)["state"] == "claimed"
    request_kill(jar.layout, name, job)
    rig.run("jobjar", "wait", "--timeout", "60s", job, check=False)
    assert rig.show(job)["outcome"] == "killed"
    rig.stop_worker(worker)
    rig.assert_clean()


def run_alone(
    rig: Rig, tmp_path: Path, command: str, **changes: str
) -> tuple[str, subprocess.Popen[str], psutil.Process]:
    """A job that runs: its id, its worker, and its process."""
    job = submit(rig, "it", "--retries", "3", command=f"{command}; touch {tmp_path}/on; while :; do sleep 0.1; done")
    worker = rig.start_worker(**changes)
    wait_until((tmp_path / "on").exists, "the job to run")
    (process,) = psutil.Process(worker.pid).children()
    return job, worker, process


def assert_cancelled_once(rig: Rig, job: str, process: psutil.Process, message: str) -> None:
    """It has ended as cancelled, no process is left of it, and a worker does not run it again."""
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    shown = rig.show(job)
    assert (shown["state"], shown["outcome"]) == ("completed", "cancelled")
    assert [(attempt["outcome"], attempt["message"]) for attempt in shown["attempts"]] == [("cancelled", message)]
    assert list((rig.home / "workers").glob("*/KILL.*")) == []
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert rig.show(job) == shown


def test_a_running_job_whose_worker_is_dead_ends_as_cancelled(rig: Rig, tmp_path: Path) -> None:
    job, worker, process = run_alone(rig, tmp_path, "true")
    worker.kill()
    worker.wait()
    assert steer(rig, "cancel", job, "--reason", "wrong data").stdout == "cancelled 1 running job\n"
    assert_cancelled_once(rig, job, process, f"cancelled by {login()}: wrong data")


def test_a_job_stays_cancelled_whose_worker_and_canceller_are_killed_while_it_is_being_ended(
    rig: Rig, tmp_path: Path
) -> None:
    job, worker, process = run_alone(rig, tmp_path, f"trap 'touch {tmp_path}/told' TERM", JJ_GRACE_TIME="300")
    canceller = subprocess.Popen(
        [BIN / "jobjar", "cancel", job], env=rig.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until((tmp_path / "told").exists, "the job to be told to end")
    for killed in (canceller, worker):
        killed.kill()
        killed.wait()
    assert "0 jobs returned, 1 completed" in rig.run("recover_jobs").stdout
    assert_cancelled_once(rig, job, process, f"cancelled by {login()}")


def test_a_described_job_that_is_polled_and_whose_worker_is_dead_ends_as_cancelled(rig: Rig, tmp_path: Path) -> None:
    name = describe(rig, "polled", run_command="true", polling_command=f"touch {tmp_path}/polled; exit 1")
    worker = rig.start_worker()
    wait_until((tmp_path / "polled").exists, "the first poll")
    worker.kill()
    worker.wait()
    assert steer(rig, "cancel", name).stdout == "cancelled 1 running job\n"
    rig.run("recover_jobs")
    shown = rig.show(name)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == [shown["outcome"]] == ["cancelled"]
    assert list((rig.home / "underway").iterdir()) == []
    rig.assert_clean()
