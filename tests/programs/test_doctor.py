"""`jobjar doctor` on one node: each danger produced for real, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobjar.host import node_name
from tests.programs.spaces import SpaceRig
from tests.rig import BIN, Rig, wait_until

pytestmark = pytest.mark.slow

Findings = dict[str, dict[str, Any]]
# What the disk and the name of the machine that runs the tests may be.
OF_THE_MACHINE = {"file system", "host name", "space", "inodes"}


def examine(rig: Rig, *words: str, **changes: str) -> tuple[int, Findings]:
    """Exit status and, by check, the worst finding of each."""
    result = rig.run("jobjar", "doctor", "--format", "json", *words, check=False, **changes)
    answer = json.loads(result.stdout)
    order = ["fine", "note", "warning", "danger"]
    found: Findings = {}
    for finding in answer["findings"]:
        before = found.get(finding["check"])
        if before is None or order.index(before["verdict"]) < order.index(finding["verdict"]):
            found[finding["check"]] = finding
        if finding["verdict"] in ("warning", "danger"):
            assert finding["meaning"], finding
    assert result.returncode == (1 if answer["worst"] == "danger" or answer["failure"] else 0)
    return result.returncode, found


def dangers(found: Findings) -> set[str]:
    return {check for check, finding in found.items() if finding["verdict"] == "danger"} - OF_THE_MACHINE


def everything(directory: Path) -> list[tuple[str, int, float]]:
    """Every file of a jar but the ledger's: path, mode, when it was changed."""
    found = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.name.startswith("ledger.db"):
            status = path.lstat()
            found.append((str(path), status.st_mode, status.st_ctime))
    return found


@pytest.mark.slow
def test_a_sound_jar_is_fine_and_stays_as_it_is(rig: Rig) -> None:
    rig.submit("true")
    rig.run_until_idle()
    rig.submit("true")
    rig.status()
    before = everything(rig.home)
    names = sorted(os.listdir(rig.home)), sorted(os.listdir(rig.home / "ledger"))
    _, found = examine(rig)
    assert dangers(found) == set()
    assert {"running a job", "moves never overwrite", "fsync", "lock", "SQLite", "ledger", "inotify"} <= set(found)
    assert found["ledger"]["verdict"] == "fine" and "journal mode wal" in found["ledger"]["measured"]
    assert found["waiting jobs"]["measured"].endswith("all 1 that were looked at")
    assert everything(rig.home) == before
    assert (sorted(os.listdir(rig.home)), sorted(os.listdir(rig.home / "ledger"))) == names
    rig.assert_clean()


def test_text_is_for_people_and_quiet_leaves_out_what_is_fine(rig: Rig) -> None:
    text = rig.run("jobjar", "doctor", check=False).stdout
    assert f"Jar {rig.home}, seen from {node_name()}" in text
    assert "\n  fine     running a job: " in text
    quiet = rig.run("jobjar", "doctor", "-q", check=False).stdout
    assert "  fine     " not in quiet and quiet.rstrip().endswith(" fine")


@pytest.mark.parametrize("words", [["--timeout", "soon"], ["--format", "xml"], ["extra"]], ids=" ".join)
def test_wrong_usage_is_2(rig: Rig, words: list[str]) -> None:
    result = rig.run("jobjar", "doctor", *words, check=False)
    assert result.returncode == 2 and result.stdout == ""


def test_a_directory_that_others_can_write_to_is_a_danger_and_the_advice_helps(rig: Rig) -> None:
    def make(names: str) -> str:
        for name in names:
            (rig.home / "unclaimed" / name).mkdir(exist_ok=True)
            (rig.home / "unclaimed" / name).chmod(0o777)
        status, found = examine(rig)
        assert status == 1 and dangers(found) == {"writable by others"}
        return str(found["writable by others"]["advice"])

    advice = make("A")
    assert advice == f"chmod o-w {rig.home}/unclaimed/A"
    rig.shell(advice)
    assert dangers(examine(rig)[1]) == set()
    advice = make("ABCDEFG")
    assert advice.endswith("/unclaimed/E  # then `jobjar doctor` again: there are 2 more")
    rig.shell(advice)
    assert examine(rig)[1]["writable by others"]["measured"].count("unclaimed/") == 2


def test_a_umask_that_lets_others_write_is_a_danger(rig: Rig) -> None:
    status, found = examine(rig, JJ_UMASK="000")
    assert status == 1 and dangers(found) == {"umask"}


@pytest.mark.slow
def test_a_stranded_job_is_a_danger_until_it_is_recovered(rig: Rig) -> None:
    worker = rig.start_worker()
    name = rig.submit("sleep", "300")
    wait_until(lambda: rig.names("claimed") == [name], "the claim")
    assert dangers(examine(rig)[1]) == set()
    worker.kill()
    worker.communicate()
    status, found = examine(rig)
    assert status == 1 and dangers(found) == {"stranded jobs"}
    assert name in found["stranded jobs"]["measured"]
    assert found["stranded jobs"]["advice"] == "recover_jobs"
    assert len(rig.names("unclaimed")) == 0
    rig.run("recover_jobs")
    assert dangers(examine(rig)[1]) == set()


@pytest.mark.slow
def test_a_job_held_with_a_reason_and_control_files_are_said(rig: Rig) -> None:
    rig.drop("wrong.5", "#!/bin/sh\n#JJ retires = 2\ntrue\n")
    worker = rig.start_worker()
    wait_until(lambda: rig.names("limbo"), "the hold")
    rig.stop_worker(worker)
    (rig.home / "workers" / "PAUSE_ALL").touch()
    _, found = examine(rig)
    assert found["held jobs"]["verdict"] == "warning"
    assert "wrong.5: " in found["held jobs"]["measured"] and "retires" in found["held jobs"]["measured"]
    assert found["control files"]["verdict"] == "note"


@pytest.mark.slow
def test_a_damaged_ledger_is_said_and_left_to_rebuild(rig: Rig) -> None:
    rig.submit("true")
    database = rig.home / "ledger" / "ledger.db"
    noise = os.urandom(50_000)
    database.write_bytes(noise)
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    _, found = examine(rig)
    assert found["ledger"]["verdict"] == "warning" and "jobjar rebuild" in found["ledger"]["meaning"]
    assert database.read_bytes() == noise
    rig.run("jobjar", "rebuild")
    assert examine(rig)[1]["ledger"]["verdict"] == "fine"


def test_torn_lines_of_a_journal_are_noted(rig: Rig) -> None:
    rig.submit("true")
    (journal,) = (rig.home / "ledger" / "journals").iterdir()
    with open(journal, "ab") as file:
        file.write(b'\n{"entry":"mo')
    rig.submit("true")
    _, found = examine(rig)
    assert found["journals"]["verdict"] == "note" and "1 torn" in found["journals"]["measured"]


def test_a_crontab_that_keeps_the_jar_is_known(rig: Rig, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    crontab = programs / "crontab"
    path = f"{programs}:{os.environ['PATH']}"
    crontab.write_text("#!/bin/sh\necho no crontab for me >&2\nexit 1\n")
    crontab.chmod(0o755)
    _, found = examine(rig, PATH=path)
    assert found["cron"]["verdict"] == "note" and "crontabs/" in found["cron"]["advice"]
    crontab.write_text(f"#!/bin/sh\ncat {rig.home}/crontabs/worker.cron {rig.home}/crontabs/recovery.cron\n")
    _, found = examine(rig, PATH=path)
    assert found["cron"]["verdict"] == "fine"


def test_what_a_killed_doctor_left_is_removed_and_a_living_one_s_is_kept(rig: Rig) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    left = rig.home / "doctor" / f"{node_name()}.{process.pid}.x"
    old = rig.home / "doctor" / "elsewhere.1.x"
    young = rig.home / "doctor" / "elsewhere.2.x"
    for directory in (left, old, young):
        (directory / "inner").mkdir(parents=True)
    for path in (old / "inner", old):
        os.utime(path, (1e9, 1e9))
    examine(rig)
    assert os.listdir(rig.home / "doctor") == [young.name]


def test_a_doctor_that_is_told_to_end_while_it_waits_leaves_nothing(rig: Rig) -> None:
    process = subprocess.Popen(
        [BIN / "jobjar", "doctor", "--peer"], env=rig.environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    wait_until(lambda: (rig.home / "doctor" / "pair" / "messages").exists(), "the meeting")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not (rig.home / "doctor").exists()


@pytest.mark.root
def test_a_full_disk_is_a_danger(small: SpaceRig) -> None:
    filler = small.fill(small.home)
    status, found = examine(small)
    assert status == 1
    assert found["writing"]["verdict"] == "danger" and "No space left" in found["writing"]["measured"]
    assert found["space"]["verdict"] == "danger" and "0 B free" in found["space"]["measured"]
    assert found["file system"]["verdict"] == "danger"  # it is a tmpfs
    filler.unlink()
    assert "writing" not in dangers(examine(small)[1])
    assert "doctor" not in os.listdir(small.inside)


@pytest.mark.root
def test_a_mount_without_exec_is_a_danger(space: SpaceRig) -> None:
    space.root_shell(f"mount --bind '{space.home}' '{space.home}'; mount -o remount,bind,noexec '{space.home}'")
    status, found = examine(space)
    assert status == 1
    assert dangers(found) == {"mount options", "running a job"}
    assert found["mount options"]["measured"] == f"noexec on {space.home}"
    space.root_shell(found["mount options"]["advice"].replace("remount", "remount,bind"))
    assert dangers(examine(space)[1]) == set()


@pytest.mark.root
def test_a_read_only_mount_is_a_danger(space: SpaceRig) -> None:
    space.submit("true")
    space.mount_read_only(space.home)
    status, found = examine(space)
    assert status == 1
    assert {"mount options", "writing", "access"} <= dangers(found)
    assert "Read-only file system" in found["writing"]["measured"]


@pytest.mark.root
@pytest.mark.slow
def test_workers_on_another_mount_of_the_same_disk_are_a_danger(space: SpaceRig, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    status, found = examine(space, JJ_WORKER_HOME=str(other))
    assert dangers(found) == set()
    space.root_shell(f"mount --bind '{other}' '{other}'")
    status, found = examine(space, JJ_WORKER_HOME=str(other))
    assert status == 1 and dangers(found) == {"one disk"}
    space.unmount(other)
    space.mount_small_disk(other)
    assert dangers(examine(space, JJ_WORKER_HOME=str(other))[1]) == {"one disk"}


@pytest.mark.root
def test_a_name_that_many_nodes_have_is_a_danger(rig: Rig) -> None:
    script = f"hostname localhost; exec '{BIN}/jobjar' doctor"
    result = rig.run("/usr/bin/unshare", "--uts", "sh", "-c", script, check=False)
    assert result.returncode == 1
    assert "danger   host name: localhost" in result.stdout


@pytest.mark.root
@pytest.mark.slow
def test_a_living_worker_of_another_machine_with_this_name_is_a_danger(space: SpaceRig, tmp_path: Path) -> None:
    other_boot = tmp_path / "boot_id"
    other_boot.write_text("11111111-2222-3333-4444-555555555555\n")
    space.root_shell(f"mount --bind '{other_boot}' /proc/sys/kernel/random/boot_id")
    worker = space.start_worker()
    name = space.submit("sleep", "300")
    wait_until(lambda: space.names("claimed") == [name], "the claim")
    here = Rig(space.home, make=False)
    status, found = examine(here)
    assert status == 1
    assert dangers(found) == {"another node of this name"}  # and not: stranded jobs, recover_jobs
    assert dangers(examine(space)[1]) == set()
    worker.kill()
    worker.communicate()
