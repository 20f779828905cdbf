"""Disks that are full or read-only: a clear word, nothing lost, and all goes on when the disk is good again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.others import BY_PERMISSION_BITS
from tests.programs.spaces import SpaceRig
from tests.rig import BIN, Rig, wait_until

pytestmark = pytest.mark.root
FULL = "No space left on device"


def test_submitting_to_a_full_disk_is_refused_and_leaves_nothing(small: SpaceRig) -> None:
    small.submit("true")
    filler = small.fill(small.home)
    result = small.run("submit_job", "echo", "hello", check=False)
    assert result.returncode == 1
    assert "the disk is full" in result.stderr
    assert "echo hello" in result.stderr
    assert result.stdout == ""
    assert small.names("limbo") == []
    filler.unlink()
    small.submit("echo", "hello")
    small.run_until_idle()
    assert len(small.names("completed")) == 2
    small.run("recover_jobs")
    small.assert_clean()


def test_a_file_that_does_not_fit_leaves_no_half_copy(small: SpaceRig, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"#!/bin/sh\nexit 0\n" + os.urandom(5 << 20))
    big.chmod(0o755)
    result = small.run("submit_job", "-f", str(big), check=False)
    assert result.returncode == 1
    assert str(big) in result.stderr
    assert "the disk is full" in result.stderr
    assert small.names("limbo") == small.names("unclaimed") == []
    name = small.submit("true")
    small.run_until_idle()
    assert small.names("completed") == [name]
    small.run("recover_jobs")
    small.assert_clean()


def test_a_submission_that_cannot_be_journaled_leaves_nothing(small: SpaceRig) -> None:
    for _ in range(4):
        small.submit("true")
    before = small.names("unclaimed")
    # A limit on the size of a file that the journal has reached already: a job's script still fits.
    result = small.run("/usr/bin/prlimit", "--fsize=1024", f"{small.home}/bin/submit_job", "true", check=False)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert small.names("unclaimed") == before
    assert small.names("limbo") == []
    small.run_until_idle()
    assert small.names("completed") == before
    small.run("recover_jobs")
    small.assert_clean()


@pytest.mark.slow
def test_a_disk_that_fills_up_under_a_worker_delays_its_jobs_and_loses_none(small: SpaceRig, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for number in range(100):
        job = small.inside / "limbo" / f"job{number:03}"
        job.write_text(f"#!/bin/sh\necho {number:03} >> '{runs}'\n")
        job.chmod(0o755)
    log = tmp_path / "log"
    worker = small.start_logged_worker(log, JJ_PAUSE_TIME="1")
    filler = small.fill(small.home)
    for name in small.names("limbo"):
        (small.inside / "limbo" / name).rename(small.inside / "unclaimed" / name)
    # The journal, or what is written before it, is refused.
    wait_until(
        lambda: FULL in log.read_text() or "the disk is full" in log.read_text(), "the worker's word on the disk"
    )
    assert len(small.names("completed")) < 100
    filler.unlink()
    small.run("jobjar", "wait", "--all", "--timeout", "60s")
    small.stop_worker(worker)
    assert len(small.names("completed")) == 100
    assert sorted(runs.read_text().split()) == [f"{number:03}" for number in range(100)]
    small.run("recover_jobs")
    small.assert_clean()


@pytest.mark.slow
def test_a_job_that_ends_while_the_disk_is_full_is_completed_later(small: SpaceRig, tmp_path: Path) -> None:
    gate, runs = tmp_path / "gate", tmp_path / "runs"
    os.mkfifo(gate)
    name = small.submit(f"echo run >> '{runs}'; read line < '{gate}'")
    log = tmp_path / "log"
    worker = small.start_logged_worker(log)
    wait_until(runs.exists, "the job's start")
    filler = small.fill(small.home)
    # The journal's last page may have room left for some lines: take it.
    journal = next((small.inside / "ledger" / "journals").iterdir())
    room = -journal.stat().st_size % 4096
    with open(journal, "ab") as file:
        file.write(b"\n" * room)
    gate.write_text("on\n")
    wait_until(lambda: "cannot be written" in log.read_text(), "the worker's word on the journal")
    assert small.names("completed") == []
    filler.unlink()
    wait_until(lambda: small.names("completed") == [name], "the job's completion")
    small.stop_worker(worker)
    assert runs.read_text() == "run\n"
    assert small.show(name)["outcome"] == "succeeded"
    small.run("recover_jobs")
    small.assert_clean()


@pytest.mark.slow
def test_a_worker_whose_ledger_disk_is_full_goes_on_with_a_private_ledger(space: SpaceRig, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    space.mount_small_disk(disk, "1m")
    space.environment["JJ_LEDGER_HOME"] = str(disk)
    names = [space.submit("true")]
    space.run_until_idle()
    filler = space.fill(disk)
    log = tmp_path / "log"
    names += [space.submit("echo", str(number)) for number in range(5)]
    worker = space.start_logged_worker(log)
    wait_until(lambda: space.names("completed") == sorted(names), "the jobs' end")
    space.stop_worker(worker)
    filler.unlink()
    space.run("recover_jobs")
    space.assert_clean()
    assert space.show(names[-1])["outcome"] == "succeeded"


def test_a_ledger_home_on_a_full_disk_is_named_and_nothing_is_submitted(space: SpaceRig, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    space.mount_small_disk(disk, "1m")
    space.fill(disk)
    result = space.run("submit_job", "true", check=False, JJ_LEDGER_HOME=str(disk))
    assert result.returncode == 1
    assert str(disk) in result.stderr
    assert "the disk is full" in result.stderr
    assert space.names("limbo") == space.names("unclaimed") == []


def test_a_read_only_jar_refuses_to_submit_and_to_work_and_still_tells_its_status(space: SpaceRig) -> None:
    name = space.submit("true")
    space.mount_read_only(space.home)
    for words in (["submit_job", "true"], ["start_worker"], ["start_worker", "--foreground"], ["check_workers"]):
        result = space.run(*words, check=False)
        assert result.returncode == 1, words
        assert str(space.home) in result.stderr
        assert "ead-only" in result.stderr
    assert space.run("recover_jobs", check=False).returncode == 1
    status = space.status()
    assert status["jobs"]["unclaimed"] == 1
    assert status["source"] == "journals"  # nobody had made a ledger yet
    assert space.show(name)["state"] == "unclaimed"
    space.unmount(space.home)
    space.run_until_idle()
    assert space.names("completed") == [name]
    space.assert_clean()


def test_directories_without_write_permission_are_named(rig: Rig) -> None:
    words = BY_PERMISSION_BITS
    (rig.home / "unclaimed").chmod(0o500)
    result = rig.run(*words, f"{rig.home}/bin/submit_job", "true", check=False)
    assert result.returncode == 1
    assert "unclaimed is yours" in result.stderr or "may not" in result.stderr
    assert "true" in result.stderr
    assert rig.names("limbo") == []
    result = rig.run(*words, f"{rig.home}/bin/start_worker", check=False)
    assert result.returncode == 1
    assert f"{rig.home}/unclaimed" in result.stderr
    assert "permission" in result.stderr
    (rig.home / "unclaimed").chmod(0o700)
    (rig.home / "limbo").chmod(0o500)
    result = rig.run(*words, f"{rig.home}/bin/submit_job", "true", check=False)
    assert result.returncode == 1
    assert f"{rig.home}/limbo" in result.stderr
    (rig.home / "limbo").chmod(0o700)
    rig.home.chmod(0)
    result = rig.run(*words, str(BIN / "submit_job"), "true", check=False)
    assert result.returncode == 1
    assert str(rig.home) in result.stderr
    rig.home.chmod(0o700)
    rig.submit("true")


@pytest.mark.slow
def test_a_read_only_ledger_stops_no_worker_and_no_report(space: SpaceRig, tmp_path: Path) -> None:
    names = [space.submit("true")]
    space.run_until_idle()
    ledger = space.home / "ledger" / "ledger.db"
    space.mount_read_only(ledger)
    names.append(space.submit("echo", "there"))
    log = tmp_path / "log"
    worker = space.start_logged_worker(log)
    wait_until(lambda: space.names("completed") == sorted(names), "the jobs' end")
    assert "private ledger" in log.read_text()
    assert str(ledger) in log.read_text()
    status = space.status()
    assert status["jobs"]["completed"] == 2
    assert str(ledger) in status["warnings"][0]
    assert space.show(names[1])["outcome"] == "succeeded"
    space.stop_worker(worker)
    space.unmount(ledger)
    space.run("recover_jobs")
    space.assert_clean()


def test_a_ledger_home_on_a_read_only_disk_is_named(space: SpaceRig, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    space.environment["JJ_LEDGER_HOME"] = str(elsewhere)
    name = space.submit("true")
    space.run_until_idle()
    space.mount_read_only(elsewhere)
    result = space.run("jobjar", "check", check=False)
    assert result.returncode == 1
    assert str(elsewhere) in result.stderr
    assert space.show(name)["outcome"] == "succeeded"
    second = space.submit("true")
    space.run_until_idle()
    space.unmount(elsewhere)
    assert space.names("completed") == sorted([name, second])
    space.run("recover_jobs")
    space.assert_clean()


@pytest.mark.slow
def test_a_jar_that_is_read_only_for_a_while_ends_no_worker_and_costs_no_job(space: SpaceRig, tmp_path: Path) -> None:
    gate, runs = tmp_path / "gate", tmp_path / "runs"
    os.mkfifo(gate)
    first = space.submit(f"echo run >> '{runs}'; read line < '{gate}'")
    log = tmp_path / "log"
    worker = space.start_logged_worker(log, JJ_HEARTBEAT_TIME="0.1", JJ_POLL_TIME="0.1")
    wait_until(runs.exists, "the job's start")
    space.mount_read_only(space.home)
    result = space.run("submit_job", "true", check=False)
    assert result.returncode == 1 and "the disk is read-only" in result.stderr
    gate.write_text("on\n")
    wait_until(lambda: "cannot be written" in log.read_text(), "the worker's word on the end of the job")
    assert worker.poll() is None
    space.unmount(space.home)
    second = space.submit("true")
    wait_until(lambda: len(space.names("completed")) == 2, "both jobs' completion")
    space.stop_worker(worker)
    assert "Traceback" not in log.read_text()
    assert runs.read_text() == "run\n"
    assert space.names("completed") == sorted([first, second])
    assert space.show(first)["outcome"] == space.show(second)["outcome"] == "succeeded"
    assert [attempt["outcome"] for attempt in space.show(second)["attempts"]] == ["succeeded"]
    space.run("recover_jobs")
    space.assert_clean()
