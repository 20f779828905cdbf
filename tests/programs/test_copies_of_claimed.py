"""Copies of jobs' files that come while the jobs are held or waiting: nothing is overwritten, and nothing stands still."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.described_jobs import describe, script
from tests.rig import Rig, wait_until


@pytest.mark.parametrize("is_shared", [False, True], ids=["home elsewhere", "home in the jar"])
@pytest.mark.parametrize("has_id", [True, False], ids=["made name", "other name"])
def test_a_copy_of_a_running_job_is_never_claimed_over_it(
    rig: Rig, tmp_path: Path, is_shared: bool, has_id: bool
) -> None:
    if not is_shared:
        rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "home")
    command = f"echo ran >> {tmp_path}/log; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    (tmp_path / "file").write_text(script(run_command=command))
    (tmp_path / "file").chmod(0o755)
    name = (
        rig.submit("-f", str(tmp_path / "file"))
        if has_id
        else describe(rig, "job", run_command=command, retry_delay="1")
    )
    worker = rig.start_worker(JJ_RUN_SLOTS="2", JJ_PAUSE_TIME="0.2", JJ_POLL_TIME="0.1")
    wait_until((tmp_path / "log").exists, "its start")
    [held] = rig.home.glob(f"workers/*/jobs/{name}")
    inode = held.stat().st_ino
    shutil.copy2(held, rig.home / "limbo" / name)
    (rig.home / "limbo" / name).rename(rig.home / "unclaimed" / name)
    if has_id:
        wait_until(lambda: rig.names("limbo") == [name], "the copy to be held")
    else:
        wait_until(lambda: (tmp_path / "log").read_text().split() == ["ran"] * 2, "the copy to run, as another job")
    assert held.stat().st_ino == inode
    (tmp_path / "go").touch()
    wait_until(lambda: len(rig.names("completed")) == (1 if has_id else 2), "the end")
    rig.stop_worker(worker)
    assert len((tmp_path / "log").read_text().split()) == (1 if has_id else 2)
    rig.assert_clean()


@pytest.mark.parametrize("first", [".0", ".5", "both"], ids=["the first is seen first", "the second is", "both are"])
def test_of_two_files_with_one_id_that_no_ledger_knew_one_runs_and_the_other_is_held(
    rig: Rig, tmp_path: Path, first: str
) -> None:
    stem = Path(rig.run("unique_job_name").stdout.strip()).name.removesuffix(".0")
    others = [tmp_path / "other", tmp_path / "third"]
    text = f"#!/bin/sh\necho ran >> {tmp_path}/log\n"
    for extension in (".0", ".5"):
        (rig.home / "limbo" / f"{stem}{extension}").write_text(text)
        (rig.home / "limbo" / f"{stem}{extension}").chmod(0o755)
    for extension in (".0", ".5") if first != ".5" else (".5", ".0"):
        name = f"{stem}{extension}"
        (rig.home / "limbo" / name).rename(rig.home / "unclaimed" / name)
        if first != "both":
            rig.run("recover_jobs")
    for home in others:
        rig.run("recover_jobs", JJ_LEDGER_HOME=str(home))
    rig.run("recover_jobs")
    assert "the same job name is also at" in rig.run("jobjar", "check", check=False).stdout
    rig.run("jobjar", "rebuild")
    rig.status()
    rig.run_until_idle(JJ_LEDGER_HOME=str(others[0]))
    rig.run_until_idle()
    assert rig.names("completed") == [f"{stem}.0"] and rig.names("limbo") == [f"{stem}.5"]
    assert (tmp_path / "log").read_text() == "ran\n"
    assert "a copy or a backup of job" in rig.show(f"limbo/{stem}.5")["held_reason"]
    rig.assert_clean()
    for home in others:
        rig.assert_clean(JJ_LEDGER_HOME=str(home))
    rig.run("jobjar", "rebuild")
    rig.assert_clean()
    os.rename(rig.home / "limbo" / f"{stem}.5", rig.home / "unclaimed" / "own")
    rig.run_until_idle()
    assert (tmp_path / "log").read_text() == "ran\nran\n"
