"""A retry of tasks (arrays/retry.py) runs those that failed, and none that another chunk has."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobjar.arrays import retry
from tests.arrays.test_run_chunk import counts, submit
from tests.rig import Rig

pytestmark = pytest.mark.timeout(120)


def test_a_retry_leaves_the_tasks_of_chunks_that_wait_alone(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = tmp_path / "mended"
    task = f"echo $1 >> {tmp_path}/ran; case $1 in 1|6|7) test -e {mended};; esac"
    array = submit(rig, "--array", "1-8", "--chunk", "2", task)
    waiting = sorted(rig.names("unclaimed"))[1]
    rig.run("jobjar", "hold", waiting)
    rig.run_until_idle()
    assert counts(rig, array)[:2] == (3, 3)
    mended.touch()
    monkeypatch.setattr(retry, "choose_size", lambda tasks: 8)  # as of thousands of tasks
    assert len(retry.retry_tasks(rig.open(), array)) == 3
    rig.run_until_idle()
    assert counts(rig, array)[:2] == (6, 0)
    assert sorted((tmp_path / "ran").read_text().split()) == [*"112566778"]
    rig.run("jobjar", "release", waiting)
    rig.run_until_idle()
    assert counts(rig, array) == (8, 0, 0)
    assert sorted((tmp_path / "ran").read_text().split()) == [*"11234566778"]
    rig.assert_clean()
