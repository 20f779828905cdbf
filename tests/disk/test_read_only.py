"""A jar's disk that is read-only for a while, under a running worker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.spaces import SpaceRig
from tests.rig import PATIENCE_S, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SpaceRig]:
    """A rig whose jar lies on a small disk of its own."""
    made = SpaceRig(tmp_path / "jar", make=False)
    made.mount_small_disk(tmp_path / "jar", "16m")
    made.run("jobjar", "init", str(tmp_path / "jar"))
    yield made
    made.end_everything()


def test_a_worker_outlives_a_disk_that_is_read_only_for_a_while(small: SpaceRig, tmp_path: Path) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log"
    worker = small.start_logged_worker(log, JJ_PAUSE_TIME="1")
    names = [small.submit(f"echo $JJ_JOB >> '{runs}'; sleep 0.2") for _ in range(20)]
    wait_until(runs.exists, "the first job")
    small.mount_read_only(small.home)
    wait_until(lambda: "Read-only file system" in log.read_text(), "the worker's word on the disk")
    assert len(small.names("completed")) < len(names)
    assert worker.poll() is None
    small.unmount(small.home)
    wait_until(lambda: small.names("completed") == sorted(names), "the jobs' end", 2 * PATIENCE_S)
    assert worker.poll() is None
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(timeout=PATIENCE_S) == 0
    assert set(runs.read_text().split()) == set(names)
    assert "Traceback" not in log.read_text()
    small.run("recover_jobs")
    small.assert_clean()


def test_a_worker_can_be_ended_while_its_disk_is_read_only_and_its_job_is_recovered(
    small: SpaceRig, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    name = small.submit("sleep 1000")
    worker = small.start_logged_worker(log)
    wait_until(lambda: any((small.inside / "workers").glob("*/scratch/*")), "the start of the job")
    small.mount_read_only(small.home)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()
    small.unmount(small.home)
    small.run("recover_jobs")
    assert small.names("unclaimed") == [name]
    small.assert_clean()
