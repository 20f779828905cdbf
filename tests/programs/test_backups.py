"""Backups and copies of a waiting job are held and not run; a job whose file was renamed by hand is still that job."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.rig import Rig, wait_until


def waits(rig: Rig, job: str) -> Path:
    return rig.home / "unclaimed" / job


@pytest.mark.parametrize(
    "pattern",
    ["{}.bak", "{}~", "{}.orig", "{}.rpmsave", "#{}#", "{}.15", "{}.~1~", "bak_{}", "{} (copy)"],
)
def test_a_copy_of_a_waiting_job_is_held_with_the_reason_and_the_job_runs_once(
    rig: Rig, tmp_path: Path, pattern: str
) -> None:
    log = tmp_path / "log"
    job = rig.submit(f"echo ran >> {log}")
    copy = pattern.format(job.removesuffix(".0") if pattern == "{}.15" else job)
    if pattern in ("{}.bak", "#{}#"):
        rig.status()  # the ledger knows the job before there is a copy
    rig.shell(f"cp -p '{job}' '{copy}'", rig.home / "unclaimed")
    rig.run_until_idle()
    assert log.read_text() == "ran\n"
    assert rig.names("completed") == [job] and rig.names("limbo") == [copy]
    shown = rig.show(f"limbo/{copy}")
    assert f"a copy or a backup of job {job}" in shown["held_reason"]
    assert any(f"{copy} is held in limbo: its name makes it a copy" in line for line in rig.status()["warnings"])
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    rig.assert_clean()
    # With a name of its own it is another job.
    rig.shell(f"mv 'limbo/{copy}' unclaimed/another")
    rig.run_until_idle()
    assert log.read_text() == "ran\nran\n"
    rig.assert_clean()


@pytest.mark.parametrize("name", ["{}~", "{}.bak", "{}.orig", "{}.rpmsave", "#{}#", "{}.swp"])
def test_a_backup_of_a_job_that_was_dropped_by_hand_is_held_too(rig: Rig, tmp_path: Path, name: str) -> None:
    log = tmp_path / "log"
    job = rig.drop("work.5", f"#!/bin/sh\necho ran >> {log}\n")
    rig.shell(f"cp -p work.5 '{name.format('work.5')}'", job.parent)
    rig.run_until_idle()
    assert log.read_text() == "ran\n"
    assert rig.names("limbo") == [name.format("work.5")]
    rig.assert_clean()


def test_a_file_whose_name_only_looks_like_a_backup_is_a_job(rig: Rig, tmp_path: Path) -> None:
    rig.drop("alone.bak", f"#!/bin/sh\necho ran >> {tmp_path}/log\n")
    rig.run_until_idle()
    assert rig.names("completed") == ["alone.bak"]


@pytest.mark.parametrize("suffix", [".bak", "", "~"])
def test_a_job_that_is_edited_in_place_while_workers_look_is_one_job(rig: Rig, tmp_path: Path, suffix: str) -> None:
    """As the guide invites: a new inode under the same name."""
    log = tmp_path / "log"
    # A worker looks, and takes nothing before all are edited.
    rig.run("workload_limit", "E", "0")
    worker = rig.start_worker("E", JJ_PAUSE_TIME="0.2", JJ_POLL_TIME="0.1")
    for number in range(5):
        job = rig.submit("-c", "E", f"echo {number} wrong")
        rig.shell(f"sed -i{suffix} 's|echo {number} wrong|echo {number} >> {log}|' {job}", rig.home / "unclaimed" / "E")
    rig.run("workload_limit", "E", "none")
    rig.run("jobjar", "wait", "--all", "--timeout", "60s", check=False)
    wait_until(lambda: len(rig.names("limbo")) == (5 if suffix else 0), "the backups to be held")
    wait_until(lambda: not rig.names("unclaimed/E"), "all to be claimed")
    rig.stop_worker(worker)
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "4"]
    assert len(rig.names("completed")) == 5
    rig.assert_clean()


@pytest.mark.parametrize("is_seen_by", ["worker", "another node", "status", "rebuilt"])
@pytest.mark.parametrize("new_name", ["NEWCAT", "LINUX/again", "other.99"])
def test_a_job_whose_file_was_renamed_is_that_job_with_its_history_and_priority(
    rig: Rig, tmp_path: Path, new_name: str, is_seen_by: str
) -> None:
    log = tmp_path / "log"
    job = rig.submit("-p", "7", "--retries", "5", f"echo $JJ_PRIORITY >> {log}; [ $JJ_ATTEMPT -gt 1 ]")
    assert rig.start_worker(JJ_EXIT_ON_FAILURE="yes").wait(60) == 0
    uid = rig.show(job)["id"]
    (rig.home / "unclaimed" / "LINUX").mkdir()
    waits(rig, job).rename(waits(rig, new_name))
    if is_seen_by == "another node":
        rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "home")
    if is_seen_by != "worker":
        if is_seen_by == "rebuilt":
            rig.run("jobjar", "rebuild")
        [warning] = [line for line in rig.status()["warnings"] if "somebody renamed" in line]
        assert warning.startswith(f"unclaimed/{new_name} is job {job}, which somebody renamed")
        shown = rig.show(uid)
        assert (shown["state"], shown["place"], len(shown["attempts"])) == ("unclaimed", f"unclaimed/{new_name}", 1)
        assert shown["priority"] == (99 if new_name == "other.99" else 7) and shown["retries"] == 5
        rig.assert_clean()
    rig.run_until_idle("LINUX")
    shown = rig.show(uid)
    own = job if new_name != "other.99" else job.removesuffix(".7") + ".99"
    assert (shown["state"], shown["name"], shown["outcome"]) == ("completed", own, "succeeded")
    assert [attempt["number"] for attempt in shown["attempts"]] == [1, 2]
    assert rig.names("completed") == [own]
    assert log.read_text().split() == ["7", "99" if new_name == "other.99" else "7"]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert rig.show(job if own == job else own)["id"] == uid


def test_another_file_is_not_taken_for_a_job_that_vanished(rig: Rig, tmp_path: Path) -> None:
    job = rig.submit("-p", "7", "true")
    uid = rig.show(job)["id"]
    # The same content and times, but another file; and the same file, but other content.
    rig.shell(f"cp -p unclaimed/{job} unclaimed/copied; rm unclaimed/{job}")
    other = rig.submit("-p", "8", "true")
    rig.shell(f"mv unclaimed/{other} unclaimed/changed; echo true >> unclaimed/changed")
    rig.run_until_idle()
    assert [rig.show(name)["id"] in (uid, rig.show(other)["id"]) for name in ("copied", "changed")] == [False, False]
    assert [rig.show(name)["priority"] for name in ("copied", "changed")] == [0, 0]
    assert rig.show(job)["state"] == rig.show(other)["state"] == "removed"
    rig.assert_clean()


def test_a_completed_job_that_is_put_there_again_under_another_name_is_another_job(rig: Rig) -> None:
    job = rig.submit("true")
    rig.run_until_idle()
    uid = rig.show(job)["id"]
    rig.shell(f"mv completed/{job} unclaimed/again")
    rig.run_until_idle()
    assert rig.show("again")["id"] != uid
    assert len(rig.show(uid)["attempts"]) == 1


def test_a_job_of_a_batch_that_was_renamed_stays_one_of_it(rig: Rig, tmp_path: Path) -> None:
    submit_file = tmp_path / "b.jug"
    submit_file.write_text('batch {\n  name = b\n  seeds = 4-5\n  run_command = "echo $JUG_SEED"\n}\n')
    rig.run("submit_batch", str(submit_file))
    first, second = rig.names("unclaimed")
    waits(rig, first).rename(waits(rig, "NEWCAT"))
    rig.run_until_idle()
    assert rig.names("completed") == [first, second]
    assert sorted(rig.show(job)["seed"] for job in (first, second)) == [4, 5]
    rig.assert_clean()


def test_a_job_renamed_to_a_backup_s_name_is_that_job_once_nobody_may_be_editing_it(rig: Rig) -> None:
    job = rig.submit("-p", "3", "true")
    uid = rig.show(job)["id"]
    odd = waits(rig, f"{job}.bak")
    waits(rig, job).rename(odd)
    wait_until(lambda: time.time() - os.lstat(odd).st_ctime > 2.5, "the time in which an editor would have been done")
    shown = rig.show(uid)
    assert (shown["state"], shown["place"], shown["priority"]) == ("unclaimed", f"unclaimed/{job}.bak", 3)
    rig.run_until_idle()
    assert rig.names("completed") == [job] and rig.names("limbo") == []
    rig.assert_clean()


def test_a_job_that_was_renamed_and_then_removed_has_its_recorded_name_in_every_ledger(rig: Rig) -> None:
    name = rig.submit("true")
    (rig.home / "unclaimed" / name).rename(rig.home / "limbo" / "x")
    rig.status()
    (rig.home / "limbo" / "x").unlink()
    assert rig.show(name)["state"] == "removed"
    rig.assert_clean()
