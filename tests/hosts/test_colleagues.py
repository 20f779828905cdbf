"""A group's jar: a file or a directory of a colleague that a worker's user may not use keeps that worker from nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobjar.create import create_jar
from tests.hosts.test_readers import NOBODY, PROJECT, show_to_others
from tests.rig import BIN, Result, Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
# The colleague, who is in the jar's group as `nobody` is.
DAEMON = 1
WHOSE = "it belongs to daemon, mode {}"


class GroupRig(Rig):
    """A jar of a group. Its programs are run by the user `nobody`, and the colleague `daemon` puts files there."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, make=False)
        create_jar(str(home), for_group=True)
        subprocess.run(["chgrp", "-R", str(NOBODY), str(home)], check=True)
        subprocess.run(["chmod", "-R", "g+rwX", str(home)], check=True)
        keep = home.parent / "keep"
        keep.mkdir()
        views = show_to_others([Path(sys.base_prefix).resolve(), PROJECT], keep)
        drop = f'exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --bounding-set -all -- "$@"'
        self._as_nobody = ["unshare", "--mount", "sh", "-ec", f"{views} && rm -rf '{keep}'/* && {drop}", "sh"]
        self.environment.update(JJ_POLL_TIME="0.1", JJ_PAUSE_TIME="1", HOME="/nonexistent", TMPDIR="/tmp")

    def run(self, program: str, *words: str, check: bool = True, **changes: str) -> Result:
        result = subprocess.run(
            [*self._as_nobody, str(BIN / program), *words],
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            cwd="/",
        )
        assert not check or result.returncode == 0, f"{program} {words}: {result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def start_worker(self, *words: str, **changes: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self._as_nobody, str(BIN / "start_worker"), "--foreground", *words],
            env={**self.environment, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd="/",
        )
        self._started.append(process)
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline(), process.stderr.read()
        return process

    def drop_by_colleague(self, name: str, mode: int, category: str = "", directory_mode: int = 0o2775) -> Path:
        """A job that the colleague puts there by hand, in a category that the colleague makes."""
        directory = self.home / "unclaimed" / category
        if not directory.exists():
            directory.mkdir()
            os.chown(directory, DAEMON, NOBODY)
            directory.chmod(directory_mode)
        written = self.home / "limbo" / name
        written.write_text("#!/bin/sh\n")
        os.chown(written, DAEMON, NOBODY)
        written.chmod(mode)
        return written.rename(directory / name)


@pytest.fixture
def group() -> Iterator[GroupRig]:
    top = Path(tempfile.mkdtemp(prefix="jobjar-test-", dir="/tmp"))
    top.chmod(0o755)
    made = GroupRig(top / "jar")
    yield made
    made.end_everything()
    shutil.rmtree(top)


def told(rig: GroupRig, place: str, mode: str) -> None:
    """The status, `jobjar show` and `jobjar check` say that what is at a place is passed over, and whose it is."""
    [line] = [line for line in rig.status()["warnings"] if line.startswith(f"{place} is passed over: ")]
    assert WHOSE.format(mode) in line or f"that belongs to daemon, mode {mode}" in line
    checked = rig.run("jobjar", "check", check=False)
    assert f"{place} is passed over: nobody may not " in checked.stderr
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("mode", ["0700", "0711", "0750"])
def test_a_file_that_the_worker_s_user_may_not_run_is_passed_over_until_it_is_mended(
    group: GroupRig, mode: str
) -> None:
    path = group.drop_by_colleague("theirs.9", int(mode, 8))
    worker = group.start_worker()
    others = [group.submit("true") for _ in range(3)]
    group.drop("by hand", "#!/bin/sh\n")
    expected = {*others, "by hand", *(["theirs.9"] if mode == "0750" else [])}
    wait_until(lambda: set(group.names("completed")) == expected, "the others")
    if mode != "0750":
        told(group, "unclaimed/theirs.9", mode)
        [reason, *_] = group.show("theirs.9")["waits_because"]
        assert reason.startswith("nobody may not read and run it") and WHOSE.format(mode) in reason
        assert "chmod a+rx" in reason
        path.chmod(0o755)
        wait_until(lambda: "theirs.9" in group.names("completed"), "the mended one")
    said = group.stop_worker(worker)
    assert said.count("theirs.9 is passed over") == (mode != "0750")
    group.assert_clean()


@pytest.mark.parametrize("mode", ["02700", "02711", "02755"])
def test_a_category_s_directory_made_with_a_narrow_umask_is_passed_over_until_it_is_mended(
    group: GroupRig, mode: str
) -> None:
    path = group.drop_by_colleague("theirs", 0o755, "LINUX", int(mode, 8))
    worker = group.start_worker("LINUX")
    others = [group.submit("true") for _ in range(3)]
    wait_until(lambda: set(group.names("completed")) == set(others), "the others")
    told(group, "unclaimed/LINUX/", mode[1:])
    path.parent.chmod(0o2775)
    wait_until(lambda: "theirs" in group.names("completed"), "what is in the mended one")
    said = group.stop_worker(worker)
    assert 1 <= said.count("is passed over") <= 2
    group.assert_clean()


def test_what_is_known_in_a_directory_is_not_gone_when_it_cannot_be_listed_any_more(group: GroupRig) -> None:
    path = group.drop_by_colleague("theirs", 0o755, "LINUX")
    group.run("jobjar", "rebuild")
    assert group.status()["jobs"]["unclaimed"] == 1
    path.parent.chmod(0o700)
    assert group.status()["jobs"]["unclaimed"] == 1
    assert group.show("theirs")["state"] == "unclaimed"


def test_a_submitted_job_that_its_worker_may_not_run_goes_back_unrun(group: GroupRig) -> None:
    name = group.submit("-c", "A", "true")
    path = group.home / "unclaimed/A" / name
    os.chown(path, DAEMON, NOBODY)
    path.chmod(0o700)
    worker = group.start_worker("A")
    other = group.submit("true")
    wait_until(lambda: group.names("completed") == [other], "the other")
    shown: dict[str, Any] = group.show(name)
    assert (shown["state"], shown["attempts"]) == ("unclaimed", [])
    assert shown["waits_because"] and WHOSE.format("0700") in shown["waits_because"][0]
    path.chmod(0o750)
    wait_until(lambda: name in group.names("completed"), "the mended one")
    group.stop_worker(worker)
    assert json.loads(group.run("jobjar", "show", "--format", "json", name).stdout)["outcome"] == "succeeded"
