"""People who may read a jar and not write to it: they get answers, are told how old these are, and leave no trace."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobjar.jar import Jar, open_jar
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.snapshot import publish_snapshot
from jobjar.ledger.store import driver
from tests.others import NOBODY, by_user, open_place
from tests.rig import BIN, Result, Rig
from tests.web.viewing import viewed

pytestmark = [pytest.mark.root, pytest.mark.slow]
# A program as it runs where the jar is on a network disk, and homes are made below a directory of the test.
_ON_NETWORK_DISK = """
import sys
import jobjar.ledger.home as home, jobjar.ledger.private as private
home.is_local = private.is_local = lambda path: path.startswith(sys.argv[1])
home.HOMES = sys.argv[1]
from jobjar.programs.{module} import main
sys.exit(main(sys.argv[2:]))
"""


class ReadableRig(Rig):
    """A rig whose jar everybody may read, and the programs as nobody runs them."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        subprocess.run(["chmod", "-R", "go+rX", str(home)], check=True)
        self.temporary = home.parent / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o777)
        self._as_nobody = by_user(NOBODY)

    def read(self, *words: str, check: bool = True, user: int = NOBODY, **changes: str) -> Result:
        """Run a program as somebody else, who changes nothing in the jar by it."""
        before = tree_of(self.home)
        result = subprocess.run(
            [*(self._as_nobody if user else []), *(words if words[0][0] == "/" else [str(BIN / words[0]), *words[1:]])],
            env={**self.environment, "TMPDIR": str(self.temporary), "HOME": "/nonexistent", **changes},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            cwd="/",
        )
        assert "Traceback" not in result.stderr, result.stderr
        assert not check or result.returncode == 0, f"{words}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        assert tree_of(self.home) == before
        assert os.listdir(self.temporary) == []
        return result

    def read_status(self, **changes: str) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(
            self.read("system_status", "--format", "json", check=True, user=NOBODY, **changes).stdout
        )
        return described

    def open_at(self, home: Path) -> Jar:
        jar = open_jar(environment={**self.environment, "JJ_LEDGER_HOME": str(home)})
        self._jars.append(jar)
        return jar


def tree_of(top: Path) -> dict[str, tuple[int, ...]]:
    """Every file and directory, and what changes of them when somebody writes."""
    found: dict[str, tuple[int, ...]] = {}
    for directory, directories, files in os.walk(top):
        for name in (".", *directories, *files):
            status = os.lstat(f"{directory}/{name}")
            found[f"{directory}/{name}"] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


@pytest.fixture
def readable() -> Iterator[ReadableRig]:
    with open_place() as place:
        made = ReadableRig(place / "jar")
        yield made
        made.end_everything()


def run_three_jobs(rig: Rig, **changes: str) -> list[str]:
    names = [rig.submit("-c", "LINUX", "echo one", **changes), rig.submit("exit 3", **changes)]
    rig.run_until_idle("LINUX", **changes)
    return [*names, rig.submit("-i", "waits", "echo three", **changes)]


@pytest.mark.parametrize("ledger", ["open", "left by a submission", "closed"])
def test_a_local_jar_answers_its_readers_whether_or_not_somebody_has_its_ledger_open(
    readable: ReadableRig, ledger: str
) -> None:
    names = run_three_jobs(readable)
    if ledger == "open":
        readable.open().ledger.open()
    elif ledger == "closed":
        readable.run("jobjar", "show", names[0])
    assert os.path.exists(readable.home / "ledger" / "ledger.db-shm") == (ledger != "closed")
    status = readable.read_status()
    assert (status["source"], status["snapshot_age_s"]) == ("ledger", None)
    assert (status["jobs"]["completed"], status["jobs"]["unclaimed"]) == (2, 1)
    assert {row["outcome"]: row["last_hour"] for row in status["outcomes"]} == {"succeeded": 1, "failed": 1}
    assert not [line for line in status["warnings"] if "directories alone" in line]
    shown = json.loads(readable.read("jobjar", "show", "--format", "json", names[1]).stdout)
    assert (shown["exit_status"], shown["source"]) == (3, "ledger")
    assert readable.read("jobjar", "list", "--columns", "id", "--exit-status", "3").stdout.split()[2:] == [shown["id"]]
    assert "exit status 3" in readable.read("jobjar", "history", names[1]).stdout
    assert "no worker is running" in readable.read("jobjar", "workers").stderr
    assert shown["id"] in readable.read("jobjar", "top").stdout
    assert readable.read("jobjar", "output", names[0]).stdout == "one\n"
    assert readable.read("jobjar", "wait", *names[:2], check=False).returncode == 1
    assert readable.read("jobjar", "check").stdout == ""


def test_a_reader_of_a_jar_whose_ledger_is_in_use_sees_what_is_not_checkpointed_yet(readable: ReadableRig) -> None:
    readable.submit("true")
    jar = readable.open()
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        connection.execute("UPDATE job SET submitter = 'in the WAL alone'")
    shown = readable.read("jobjar", "show", readable.names("unclaimed")[0]).stdout
    assert "in the WAL alone" in shown


def test_without_a_home_the_answer_comes_from_the_snapshot_and_the_tails_and_says_so(readable: ReadableRig) -> None:
    home = readable.home.parent / "home"
    names = run_three_jobs(readable, JJ_LEDGER_HOME=str(home))
    jar = readable.open_at(home)
    with jar.ledger.writing() as folded:
        fold_journals(folded, jar.layout)
    publish_snapshot(jar.ledger, older_than_s=0)
    snapshot = Path(jar.layout.snapshot)
    with driver.connect(jar.layout.snapshot) as connection:
        connection.execute("UPDATE job SET submitter = 'of the snapshot' WHERE name = ?", (names[2],))
    connection.close()
    os.utime(snapshot, (snapshot.stat().st_mtime - 200,) * 2)
    names.append(readable.submit("-i", "later", "true", JJ_LEDGER_HOME=str(home)))
    status = readable.read_status()
    assert status["source"] == "snapshot"
    assert 100 < status["snapshot_age_s"] < 2000
    assert (status["jobs"]["completed"], status["jobs"]["unclaimed"]) == (2, 2)
    first = readable.read("system_status").stdout.splitlines()[0]
    assert "from the snapshot of " in first and first.endswith(" ago and the journals since")
    for name, submitter in zip(names[2:], ("of the snapshot", "root"), strict=True):
        result = readable.read("jobjar", "show", name)
        assert submitter in result.stdout
        assert result.stderr.startswith("jobjar show: from the snapshot of ")
    shown = json.loads(readable.read("jobjar", "show", "--format", "json", names[3]).stdout)
    assert (shown["state"], shown["source"]) == ("unclaimed", "snapshot")
    assert readable.read("jobjar", "output", names[0]).stdout == "one\n"


@pytest.mark.parametrize("how", ["none", "newer", "half copied", "unreadable"])
def test_without_a_usable_snapshot_the_journals_answer_and_that_is_said(readable: ReadableRig, how: str) -> None:
    home = readable.home.parent / "home"
    names = run_three_jobs(readable, JJ_LEDGER_HOME=str(home))
    jar = readable.open_at(home)
    if how == "none":
        Path(jar.layout.snapshot).unlink(missing_ok=True)
    else:
        publish_snapshot(jar.ledger, older_than_s=0)
    if how == "newer":
        with driver.connect(jar.layout.snapshot) as connection:
            connection.execute("INSERT INTO migration VALUES ('0099_future', 'x', 0)")
        connection.close()
    elif how == "half copied":
        os.truncate(jar.layout.snapshot, 20_000)
    elif how == "unreadable":
        os.chmod(jar.layout.snapshot, 0o600)
    result = readable.read("jobjar", "show", names[1])
    assert "exit status" in result.stdout
    assert "from the journals alone" in result.stderr
    assert ("the snapshot is not used" in result.stderr) == (how != "none")
    assert ("0099_future" in result.stderr) == (how == "newer")
    assert readable.read_status()["source"] == "journals"


def test_on_a_network_disk_a_mere_reader_gets_no_home_and_may_not_submit(readable: ReadableRig) -> None:
    homes = readable.home.parent / "homes"
    homes.mkdir()
    homes.chmod(0o1777)
    readable.run(sys.executable, "-c", _ON_NETWORK_DISK.format(module="submit_job"), str(homes), "echo", "one")
    [own] = homes.iterdir()
    assert own.name == "jobjar-0" and own.stat().st_mode & 0o777 == 0o700
    for module, words in (("system_status", ()), ("wait", ("--all", "--timeout", "0"))):
        result = readable.read(
            sys.executable, "-c", _ON_NETWORK_DISK.format(module=module), str(homes), *words, check=False
        )
        assert "from the journals alone" in result.stdout + result.stderr or result.returncode == 124
    refused = readable.read(
        sys.executable, "-c", _ON_NETWORK_DISK.format(module="submit_job"), str(homes), "true", check=False
    )
    assert refused.returncode == 1
    assert "may not write to it" in refused.stderr and str(readable.home) in refused.stderr
    assert list(homes.iterdir()) == [own]


def test_a_home_that_the_reader_names_is_used_and_kept(readable: ReadableRig) -> None:
    names = run_three_jobs(readable)
    own = readable.home.parent / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    for _ in range(2):
        assert readable.read_status(JJ_LEDGER_HOME=str(own))["source"] == "ledger"
    assert (own / "ledger.db").exists()
    assert not (own / "writer").exists()
    assert "failed" in readable.read("jobjar", "show", names[1], JJ_LEDGER_HOME=str(own)).stdout


def test_a_home_that_is_the_workers_and_not_the_reader_s_is_passed_over(readable: ReadableRig) -> None:
    home = readable.home.parent / "home"
    names = run_three_jobs(readable, JJ_LEDGER_HOME=str(home))
    result = readable.read("jobjar", "show", names[1], JJ_LEDGER_HOME=str(home))
    assert "failed" in result.stdout
    assert readable.read_status(JJ_LEDGER_HOME=str(home))["jobs"]["completed"] == 2


def test_a_jar_on_a_read_only_mount_answers_and_is_not_written_to(readable: ReadableRig) -> None:
    names = run_three_jobs(readable)
    mount = f"mount --bind '{readable.home}' '{readable.home}'; mount -o remount,ro,bind '{readable.home}'; exec \"$@\""
    inside = ("/usr/bin/unshare", "--mount", "/bin/sh", "-ec", mount, "sh")
    status = json.loads(readable.read(*inside, str(BIN / "system_status"), "--format", "json", user=0).stdout)
    assert (status["source"], status["jobs"]["completed"]) == ("ledger", 2)
    assert readable.read(*inside, str(BIN / "jobjar"), "output", names[0], user=0).stdout == "one\n"
    assert readable.read(*inside, str(BIN / "submit_job"), "true", user=0, check=False).returncode == 1


def test_the_library_s_lists_work_for_a_reader(readable: ReadableRig) -> None:
    names = run_three_jobs(readable)
    code = "import jobjar; print(*[job.name for job in jobjar.completed_jobs() + jobjar.unclaimed_jobs()])"
    for _ in range(2):
        assert sorted(readable.read(sys.executable, "-c", code).stdout.split()) == sorted(names)


def test_a_mere_reader_can_look_at_a_jar_in_a_browser(readable: ReadableRig) -> None:
    names = run_three_jobs(readable)
    before = tree_of(readable.home)
    readable.before = readable._as_nobody
    with viewed(readable, TMPDIR=str(readable.temporary), HOME="/nonexistent") as view:
        assert 'data-count="ended">2<' in view.ask("/").text
        (uid,) = re.findall(r"/job\?id=(\w{12})\"", view.ask("/jobs?outcome=succeeded").text)
        assert view.ask(f"/output?id={uid}").text == "one\n"
        assert view.ask("/metrics").status == 200
    readable.before = []
    assert tree_of(readable.home) == before and len(names) == 3
    assert os.listdir(readable.temporary) == []


def test_who_may_read_a_jar_may_read_what_is_made_in_it_later(readable: ReadableRig) -> None:
    run_three_jobs(readable)
    closed = [path for path, mode in modes_of(readable.home).items() if not mode & 0o004 and "/jobs/" not in path]
    # Jobs themselves stay their submitters': who looks need not read them.
    assert [path for path in closed if path.split("/")[0] not in ("limbo", "unclaimed", "completed")] == []


def modes_of(home: Path) -> dict[str, int]:
    return {str(path.relative_to(home)): path.lstat().st_mode for path in home.rglob("*") if not path.is_symlink()}


def test_a_reader_sees_what_a_hand_moved_and_tells_nobody(readable: ReadableRig) -> None:
    name = readable.submit("true")
    readable.status()
    (readable.home / "unclaimed" / name).rename(readable.home / "limbo" / name)
    shown = json.loads(readable.read("jobjar", "show", "--format", "json", name).stdout)
    assert shown["place"] == f"limbo/{name}" and len(shown["moves"]) == 1
    assert [move["reason"] for move in readable.show(name)["moves"]] == ["submitted", "found"]
