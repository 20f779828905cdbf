"""Arrays go to the archive whole and are removed whole, in one night, when all of their tasks ended long ago."""

from __future__ import annotations

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
