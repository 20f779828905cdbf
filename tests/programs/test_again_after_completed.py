"""What a job did before it completed is not held against what is submitted later: retries and crashes are counted anew."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.rig import Rig, wait_until


def failing(log: Path, retries: int) -> str:
    return f"#!/bin/sh\n#JJ retries = {retries}\n#JJ retry_delay = 0\necho $JJ_ATTEMPT >> {log}; exit 1\n"


@pytest.mark.parametrize("is_rebuilt", [False, True])
@pytest.mark.parametrize("is_named", [False, True], ids=["hand-made", "submitted"])
def test_a_job_moved_back_from_completed_has_all_its_retries(
    rig: Rig, tmp_path: Path, is_named: bool, is_rebuilt: bool
) -> None:
    log = tmp_path / "log"
    name = "job"
    if is_named:
        name = rig.submit("--retries", "2", "--retry-delay", "0", f"echo $JJ_ATTEMPT >> {log}; exit 1")
    else:
        rig.drop(name, failing(log, 2))
    rig.run_until_idle()
    uid = rig.show(name)["id"]
    assert log.read_text().split() == ["1", "2", "3"]
    os.rename(rig.home / "completed" / name, rig.home / "unclaimed" / name)
    if is_rebuilt:
        rig.run("jobjar", "rebuild")
    rig.run_until_idle()
    assert log.read_text().split() == ["1", "2", "3", "4", "5", "6"]
    assert rig.show(name)["id"] == uid
    rig.assert_clean()


@pytest.mark.parametrize("is_noticed", ["never", "recovered", "rebuilt"])
def test_a_new_file_under_the_name_of_a_completed_job_is_a_new_job(rig: Rig, tmp_path: Path, is_noticed: str) -> None:
    log = tmp_path / "log"
    rig.drop("job", failing(log, 1))
    rig.run_until_idle()
    uid = rig.show("job")["id"]
    if is_noticed != "never":
        (rig.home / "completed" / "job").unlink()
        rig.run(*(("recover_jobs",) if is_noticed == "recovered" else ("jobjar", "rebuild")))
        rig.drop("job", failing(log, 1))
    else:
        rig.drop("job", failing(log, 1))
        (rig.home / "completed" / "job").unlink()
    rig.run("recover_jobs")
    rig.assert_clean()
    rig.run_until_idle()
    assert log.read_text().split() == ["1", "2", "1", "2"]
    assert rig.show(uid)["state"] == "removed"
    assert len(rig.show(uid)["attempts"]) == 2
    rig.assert_clean()


def test_crashes_are_counted_since_a_job_last_completed(rig: Rig, tmp_path: Path) -> None:
    name = rig.submit(f"echo >> {tmp_path}/log; exec sleep 600")

    def crash(times: int) -> None:
        worker = rig.start_worker()
        wait_until(lambda: (tmp_path / "log").exists() and len((tmp_path / "log").read_text()) == times, "its start")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        rig.run("recover_jobs", JJ_CRASH_LIMIT="2")

    crash(1)
    crash(2)
    assert rig.show(name)["outcome"] == "crashed"
    os.rename(rig.home / "completed" / name, rig.home / "unclaimed" / name)
    crash(3)
    assert rig.names("unclaimed") == [name]
    crash(4)
    assert rig.names("completed") == [name]
    rig.assert_clean()
