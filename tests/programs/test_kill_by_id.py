"""An order to kill a job ends that job, and none of the same name that its worker holds."""

from __future__ import annotations

from pathlib import Path

from tests.described_jobs import describe
from tests.rig import Rig, wait_until


def test_of_two_running_jobs_of_one_name_the_one_that_was_named_is_killed(rig: Rig, tmp_path: Path) -> None:
    def command(mark: str) -> str:
        return f"touch {tmp_path}/{mark}; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"

    describe(rig, "same", run_command=command("none"), retries=0)
    describe(rig, "same", "A", run_command=command("a"), retries=0)
    worker = rig.start_worker("A", JJ_RUN_SLOTS="2", JJ_STAGED_AHEAD="2", JJ_PAUSE_TIME="0.2", JJ_POLL_TIME="0.1")
    wait_until(lambda: (tmp_path / "none").exists() and (tmp_path / "a").exists(), "both to run")
    rig.run("recover_jobs")
    uid = rig.show(f"workers/{next(rig.home.glob('workers/*')).name}/jobs/A/same")["id"]
    rig.run("jobjar", "kill", uid)
    wait_until(lambda: rig.names("completed"), "one to be killed")
    assert len(list(rig.home.glob("workers/*/jobs/same"))) == 1
    assert rig.show(uid)["outcome"] == "killed"
    (tmp_path / "go").touch()
    rig.stop_worker(worker)
    assert rig.names("completed") == ["same", "same~2"]
    assert sorted(rig.show(f"completed/{name}")["outcome"] for name in rig.names("completed")) == [
        "killed",
        "succeeded",
    ]
    assert list(rig.home.glob("workers/*/KILL.*")) == []
