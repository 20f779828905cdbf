"""A disk of 3 MiB: what a ledger takes of it is bounded, and what makes room, or tells what is wrong, needs none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.programs.spaces import SpaceRig

pytestmark = pytest.mark.root
SUBMIT = """
import sys, jobjar
try:
    for _ in range(int(sys.argv[1])):
        jobjar.submit_jobs("true" for _ in range(30))
        jobjar.unclaimed_jobs()
except jobjar.JarError as error:
    print(error)
"""
# The same until nothing more fits, while somebody reads: that keeps the log from being written back. It is killed then.
FILL_THE_LOG = """
import os, sys, jobjar
from jobjar.ledger.store import driver
jobjar.submit_jobs(["true"])
reader = driver.connect(sys.argv[1], isolation_level=None)
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM job").fetchone()
try:
    while True:
        jobjar.submit_jobs("true" for _ in range(10))
        jobjar.unclaimed_jobs()
except jobjar.JarError:
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def tiny(space: SpaceRig, tmp_path: Path) -> SpaceRig:
    """A jar on a disk of 3 MiB, without the documents, which would take a part of it."""
    home = tmp_path / "tiny"
    space.mount_small_disk(home, "3m")
    space.run("jobjar", "init", str(home))
    space.root_shell(f"rm -r '{home}/documents'")
    space.environment["JJ_HOME"] = str(home)
    space.home, space.inside = home, space.seen(home)
    return space


def sizes(rig: SpaceRig) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (rig.inside / "ledger").iterdir() if path.is_file()}


def submit(rig: SpaceRig, rounds: int) -> str:
    """Submit 30 jobs at a time, in one process that keeps the ledger open; what it could not."""
    return rig.run("/usr/bin/env", sys.executable, "-c", SUBMIT, str(rounds)).stdout


def test_the_write_ahead_log_leaves_room_on_a_small_disk(tiny: SpaceRig, tmp_path: Path) -> None:
    worker = tiny.start_logged_worker(tmp_path / "log", JJ_PAUSE_TIME="0.1")
    assert submit(tiny, 4) == ""
    tiny.run("jobjar", "wait", "--all", "--timeout", "60s")
    assert 0 < sizes(tiny)["ledger.db-wal"] < 600_000
    worker.terminate()
    worker.communicate()
    tiny.run("recover_jobs")
    tiny.run("jobjar", "check")


def test_when_a_little_room_was_made_on_a_full_disk_all_that_repairs_goes_on(tiny: SpaceRig) -> None:
    assert "the disk is full" in submit(tiny, 100)
    jobs = sorted((tiny.inside / "unclaimed").iterdir())
    for path in jobs[:30]:
        path.unlink()
    tiny.run("recover_jobs")
    tiny.run("jobjar", "check")
    tiny.run("jobjar", "rebuild")
    tiny.run("jobjar", "check")
    assert f"{len(jobs) - 30}" in tiny.run("system_status").stdout
    assert sorted(path.name for path in (tiny.inside / "unclaimed").iterdir()) == [path.name for path in jobs[30:]]


def test_recovery_gives_back_what_only_the_write_ahead_log_takes_of_a_full_disk(tiny: SpaceRig) -> None:
    ledger = tiny.home / "ledger/ledger.db"
    tiny.run("/usr/bin/env", sys.executable, "-c", FILL_THE_LOG, str(ledger), check=False)
    tiny.fill(tiny.home)
    log = sizes(tiny)["ledger.db-wal"]
    assert log > 1_000_000
    jobs = list((tiny.inside / "unclaimed").iterdir())
    for path in jobs[:100]:  # so that there is something to be written
        path.rename(tiny.inside / "limbo" / path.name)
    assert "of which the ledger's write-ahead log takes " in tiny.run("recover_jobs").stderr
    assert sum(size for name, size in sizes(tiny).items() if name.startswith("ledger.db")) < log
    tiny.run("jobjar", "check")
    assert f"{len(jobs) - 100}" in tiny.run("system_status").stdout


def remove_ledger(rig: SpaceRig) -> int:
    """Remove the ledger, as a person may. Returns its size in bytes."""
    files = list((rig.inside / "ledger").glob("ledger.db*"))
    size = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink()
    return size


def test_a_rebuild_without_any_room_takes_that_of_the_old_ledger_or_says_that_the_disk_is_full(tiny: SpaceRig) -> None:
    submit(tiny, 10)
    filler = tiny.fill(tiny.home)
    tiny.run("jobjar", "rebuild")
    looked = tiny.run("jobjar", "check", check=False)
    assert looked.returncode == 0 or "full" in looked.stderr, looked.stderr
    filler.unlink()
    tiny.run("jobjar", "check")
    remove_ledger(tiny)
    filler = tiny.fill(tiny.home)
    result = tiny.run("jobjar", "rebuild", check=False)
    assert result.returncode == 1
    assert "full" in result.stderr or "No space" in result.stderr, result.stderr
    filler.unlink()
    tiny.run("jobjar", "rebuild")
    tiny.run("jobjar", "check")
    assert len(list((tiny.inside / "unclaimed").iterdir())) == 300


@pytest.mark.parametrize("program", ["recover_jobs", "jobjar rebuild"])
def test_a_removed_ledger_is_made_anew_in_the_room_that_it_takes(tiny: SpaceRig, program: str) -> None:
    submit(tiny, 10)
    size = remove_ledger(tiny)
    filler = tiny.fill(tiny.home)
    os.truncate(filler, filler.stat().st_size - size - (64 << 10))
    tiny.run(*program.split())
    assert "300" in tiny.run("system_status").stdout
    tiny.run("jobjar", "check")
