"""Arrays go to the archive whole and are removed whole, in one night, when all of their tasks ended long ago."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.nightly.test_archive import AT_ONCE, Night, archived, assert_rebuild_changes_nothing, night as night
from tests.rig import Rig

pytestmark = pytest.mark.slow


def test_an_array_is_archived_and_removed_whole_and_its_history_stays(rig: Rig, night: Night, tmp_path: Path) -> None:
    words = ["submit", "--array", "1-6", "--chunk", "2", f"echo $1; [ $1 != 3 ] || test -e {tmp_path}/mended"]
    array = rig.run("jobjar", *words).stdout.strip()
    waiting = sorted(rig.names("unclaimed"))[-1]
    rig.run("jobjar", "hold", waiting)
    rig.run_until_idle()
    # One chunk is held: the others wait for it.
    assert night(JJ_ARCHIVE_AFTER=AT_ONCE).archived_jobs == 0 and len(rig.names("completed")) == 2
    rig.run("jobjar", "release", waiting)
    rig.run_until_idle()
    assert night(JJ_ARCHIVE_AFTER=AT_ONCE).archived_jobs == 3
    assert len(archived(rig, "completed")) == 3 and rig.names("completed") == []
    assert rig.run_forked("jobjar", "output", f"{array}[3]").stdout == "3\n"
    # What is tried again comes back, and again none of it goes while a part is young.
    rig.run("jobjar", "hold", rig.submit("true"))
    (tmp_path / "mended").touch()
    rig.run("jobjar", "retry", "--failed", array)
    assert night(JJ_KEEP_COMPLETED=AT_ONCE).deleted_jobs == 0 and len(archived(rig, "completed")) == 3
    rig.run_until_idle()
    assert night(JJ_KEEP_COMPLETED="1").deleted_jobs == 0
    assert (rig.home / "batches" / array / "array" / "script").exists()
    assert_rebuild_changes_nothing(rig, array)
    assert night(JJ_KEEP_COMPLETED=AT_ONCE).deleted_jobs == 4
    assert archived(rig, "completed") == [] and list((rig.home / "batches").iterdir()) == []
    shown = rig.show(array)
    assert (shown["succeeded"], shown["failed"], shown["not_run"]) == (6, 0, 0)
    again = rig.run("jobjar", "retry", array, check=False)
    assert again.returncode != 0 and array in again.stderr
    assert rig.run_forked("jobjar", "output", f"{array}[3]").stdout == "3\n"
    assert rig.run("recover_jobs").stderr == ""
    assert_rebuild_changes_nothing(rig, array)


def grow_old(worker: Path) -> None:
    """As if the worker had been quiet for ten days."""
    then = time.time() - 10 * 86400
    for path in worker.rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)


def test_the_outputs_of_an_array_are_deleted_in_one_night(rig: Rig, night: Night) -> None:
    def workers() -> list[Path]:
        return sorted((rig.home / "workers").iterdir(), key=lambda path: path.stat().st_ctime_ns)

    def run_two() -> str:
        """An array whose chunks two workers run, the second of which also has what comes next."""
        before = rig.names("unclaimed")
        submitted = rig.run_forked("jobjar", "submit", "--array", "1-2", "--chunk", "1", "echo $1").stdout.strip()
        last = max(set(rig.names("unclaimed")) - set(before))
        rig.run_forked("jobjar", "hold", last)
        rig.run_until_idle()
        rig.run_forked("jobjar", "release", last)
        return str(submitted)

    def written(array: str) -> list[str]:
        shown = [rig.run_forked("jobjar", "output", f"{array}[{index}]", check=False).stdout for index in (1, 2)]
        return [text.strip() for text in shown]

    first = run_two()  # its second task waits, and is run by the worker that runs the first of the next array
    second = run_two()
    rig.run_until_idle()
    one, two, _ = workers()
    assert [written(array) for array in (first, second)] == [["1", "2"]] * 2
    keep = {"JJ_KEEP_WORKERS": "5"}
    grow_old(one)
    assert night(**keep).deleted_workers == 0 and len(archived(rig, "workers")) == 1
    grow_old(two)
    # Both workers of the first array are old; the second of them holds output of an array that has a young one, too.
    assert night(**keep).deleted_workers == 1 and len(archived(rig, "workers")) == 1
    assert [written(array) for array in (first, second)] == [["", ""], ["1", "2"]]
    grow_old(workers()[0])
    assert night(**keep).deleted_workers == 2 and archived(rig, "workers") == []
    assert [written(array) for array in (first, second)] == [["", ""]] * 2
    assert_rebuild_changes_nothing(rig, first, second)
