"""What people are told who do what cannot be done: whose it is, what they probably wanted, and what to do."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import jobjar
from jobjar.create import create_jar
from jobjar.version import VERSION
from tests.others import NOBODY, by_user
from tests.rig import BIN, Result, Rig


class AsNobody:
    """Programs run by another user on the jars of this one."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o755)
        self._words = by_user(NOBODY, directory)

    def run(self, *words: str, home: Path) -> Result:
        return subprocess.run(
            [*self._words, str(BIN / words[0]), *words[1:]],
            env={**os.environ, "JJ_HOME": str(home), "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            cwd="/",
        )


@pytest.fixture
def as_nobody(tmp_path: Path) -> AsNobody:
    return AsNobody(tmp_path)


@pytest.mark.root
def test_somebody_else_s_private_jar_says_whose_it_is(rig: Rig, as_nobody: AsNobody) -> None:
    for words in (["system_status"], ["submit_job", "true"], ["jobjar", "show", "x"], ["start_worker"]):
        result = as_nobody.run(*words, home=rig.home)
        assert result.returncode == 1 and "Traceback" not in result.stderr
        assert f"{rig.home} is not open to you: {rig.home} belongs to root (mode 0700)" in result.stderr
        assert "ask root" in result.stderr and "config.ini" not in result.stderr
    # Its files may be closed where the directory is not.
    rig.home.chmod(0o755)
    result = as_nobody.run("system_status", home=rig.home)
    assert f"{rig.home}/config.ini belongs to root (mode 0600)" in result.stderr
    # So may only a part of it be, that seems to be missing.
    (rig.home / "config.ini").chmod(0o644)
    for words in (["system_status"], ["submit_job", "true"]):
        result = as_nobody.run(*words, home=rig.home)
        assert f"{rig.home} is not open to you: {rig.home}/ledger belongs to root (mode 0700)" in result.stderr
        assert result.returncode == 1 and "is not a jar" not in result.stderr


@pytest.mark.root
def test_who_may_only_read_a_jar_is_told_whom_to_ask(rig: Rig, as_nobody: AsNobody) -> None:
    subprocess.run(["chmod", "-R", "go+rX", str(rig.home)], check=True)
    for words in (
        ["submit_job", "true"],
        ["submit_job", "-c", "X", "true"],
        ["start_worker"],
        ["workload_limit", "X", "3"],
        ["jobjar", "rebuild"],
        ["check_workers"],
        ["recover_jobs"],
        ["jobjar", "init", str(rig.home)],
    ):
        result = as_nobody.run(*words, home=rig.home)
        assert result.returncode == 1, words
        assert "belongs to root (mode 0" in result.stderr and "ask root" in result.stderr, result.stderr
        assert "None" not in result.stderr and "jobjar rebuild` makes" not in result.stderr


@pytest.mark.root
def test_a_jar_where_this_user_may_make_none_says_whose_the_directory_is(tmp_path: Path, as_nobody: AsNobody) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    for path in (theirs, theirs / "jar", theirs / "a/b"):
        result = as_nobody.run("jobjar", "init", str(path), home=path)
        assert result.returncode == 1
        assert f"cannot make {theirs}" in result.stderr and f"{theirs} belongs to root (mode 0755)" in result.stderr


def test_to_kill_what_does_not_run_says_what_it_is_and_what_was_perhaps_wanted(rig: Rig) -> None:
    ended = rig.submit("true")
    rig.run_until_idle()
    waiting = rig.submit("-c", "NOBODY", "true")
    gone = rig.submit("true")
    (rig.home / "unclaimed" / gone).unlink()
    held = rig.drop("held", "#!/bin/sh\n").rename(rig.home / "limbo" / "held")
    result = rig.run("jobjar", "kill", ended, waiting, gone, held.name, check=False)
    assert result.returncode == 1 and result.stdout == ""
    said = result.stderr.splitlines()
    assert len(said) == 4
    assert "it is completed, succeeded" in said[0] and "jobjar show" in said[0] and "rm " not in said[0]
    assert "it is waiting" in said[1] and f"rm {rig.home}/unclaimed/NOBODY/{waiting}" in said[1]
    assert "it is removed" in said[2] and "rm " not in said[2]
    assert "it is in limbo" in said[3]


def test_a_name_that_nothing_has_is_answered_with_what_comes_near(rig: Rig) -> None:
    def says(text: str) -> str:
        return rig.run("jobjar", "show", text, check=False).stderr

    assert "no job has been in this jar yet" in says("nothing")
    names = [rig.submit("-i", "twins", "true") for _ in range(12)]
    uid = names[0].split("-")[1]
    assert "4 letters or more (" in says(uid[:3]) and "would fit" in says(uid[:3])
    assert "it is a part of these names" in says("twin") and says("twin").rstrip().endswith("and 2 more")
    assert f"the newest are {names[-1]} (unclaimed)" in says("nothing")
    assert "twins names 12 jobs" in says("twins") and says("twins").rstrip().endswith("and 2 more")
    assert "the newest are" in rig.run("list_outputs", "nothing", check=False).stderr


@pytest.mark.usefixtures("own_library")
def test_a_limit_of_what_there_is_not_is_set_with_a_warning(rig: Rig) -> None:
    rig.submit("-c", "LINUX", "true")
    result = rig.run("workload_limit", "LINX", "3")
    assert "warning: there is no category 'LINX' yet" in result.stderr and "did you mean LINUX?" in result.stderr
    assert rig.run("workload_limit", "LINX").stdout == "3\n"
    for words in (["LINUX", "3"], ["", "3"], [os.uname().nodename, "3"], ["LINX", "none"]):
        assert rig.run("workload_limit", *words).stderr == "", words
    assert "no batch 'wc' yet" in rig.run("workload_limit", "--batch", "wc", "3").stderr
    assert "no storage class 'tape' yet" in rig.run("workload_limit", "--storage", "tape", "3").stderr
    with pytest.warns(UserWarning, match="no category 'LINX' yet"):
        jobjar.workload_limit("LINX", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jobjar.workload_limit("LINUX", 4)


def change_migration(rig: Rig) -> None:
    with sqlite3.connect(rig.home / "ledger" / "ledger.db") as connection:
        connection.execute("UPDATE migration SET sha256 = 'other' WHERE name LIKE '0002%'")
        connection.execute("UPDATE worker SET version = '0.0.7'")
    connection.close()


def pretend_version(rig: Rig, version: str) -> str:
    """A running worker says that it is of this version; returns its name."""
    [identity] = rig.home.glob("workers/*/worker.json")
    said = json.loads(identity.read_text())
    identity.write_text(json.dumps({**said, "version": version}))
    return str(said["worker"])


def test_two_versions_on_one_jar_are_named_and_nobody_is_sent_from_rebuild_to_rebuild(rig: Rig) -> None:
    rig.submit("true")
    worker = rig.start_worker()
    rig.run("jobjar", "wait", "--all", "--timeout", "60s", check=False)
    name = pretend_version(rig, "0.0.7")
    both = f"version {VERSION} (here) and version 0.0.7"
    [warning] = [line for line in rig.status()["warnings"] if "use one jar" in line]
    assert warning.startswith(f"{both} ({name}) of Job Jar use one jar") and "restart" in warning
    for words in (["recover_jobs"], ["start_worker"], ["check_workers"]):
        assert f"{both} ({name}) of Job Jar use one jar" in rig.run(*words).stderr
    rig.run("stop_worker", *[path.name for path in rig.home.glob("workers/*") if path.name not in (name, "STOP_ALL")])
    rig.run("jobjar", "rebuild")  # while both can read the ledger it is nobody's loss
    change_migration(rig)
    for words in (["recover_jobs"], ["jobjar", "check"]):
        result = rig.run(*words, check=False)
        assert result.returncode == 1
        assert f"{both} of Job Jar use one jar" in result.stderr and "JJ_LEDGER_HOME" in result.stderr
    refused = rig.run("jobjar", "rebuild", check=False)
    assert refused.returncode == 1 and refused.stdout == ""
    assert f"{name} would refuse" in refused.stderr and f"stop_worker {name}" in refused.stderr
    rig.stop_worker(worker)
    rebuilt = rig.run("jobjar", "rebuild")
    assert "programs of version 0.0.7 will refuse it" in rebuilt.stderr
    assert rig.run("jobjar", "rebuild").stderr == ""
    rig.run("jobjar", "check")


def test_a_configuration_file_may_have_a_byte_order_mark_and_says_where_it_is_no_text(tmp_path: Path) -> None:
    create_jar(str(tmp_path / "jar"))
    rig = Rig(tmp_path / "jar", make=False)
    file = rig.home / "config.ini"
    file.write_bytes(b"\xef\xbb\xbf[Job Jar]\r\nJJ_RETRIES: 2\r\n")
    assert "JJ_RETRIES" in rig.run("jobjar", "config").stdout
    file.write_bytes(b"[Job Jar]\n# caf\xe9\n")
    result = rig.run("jobjar", "config", check=False)
    assert result.returncode == 1 and f"{file}, line 2: it cannot be read, since it is not UTF-8" in result.stderr


def test_a_jar_whose_virtual_environment_was_moved_is_mended_as_the_guide_says(rig: Rig) -> None:
    # What a move leaves: programs and crontabs that name a Python that is not there.
    here = str(Path(sys.executable).parent)
    for path in (*(rig.home / "bin").iterdir(), *(rig.home / "crontabs").iterdir()):
        path.write_text(path.read_text().replace(here, "/gone/bin"))
    broken = subprocess.run(["/bin/bash", "-c", f"{rig.home}/bin/submit_job true"], capture_output=True, text=True)
    assert broken.returncode in (126, 127), broken.stderr  # each shell has its own words for it
    rig.shell(f"rm {rig.home}/crontabs/*; jobjar init {rig.home}")
    subprocess.run([f"{rig.home}/bin/submit_job", "true"], env=rig.environment, check=True)
    assert "/gone/bin" not in "".join(path.read_text() for path in (rig.home / "crontabs").iterdir())
