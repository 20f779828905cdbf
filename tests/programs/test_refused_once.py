"""What kept a worker from a job once does not keep it from it for ever."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.described_jobs import describe
from tests.rig import Rig, wait_until


@pytest.mark.root
@pytest.mark.parametrize("what", ["file", "category"])
@pytest.mark.parametrize("is_shared", [True, False], ids=["home in the jar", "home elsewhere"])
def test_a_job_that_may_not_be_moved_is_claimed_when_it_is_freed_and_that_is_said_once(
    rig: Rig, tmp_path: Path, what: str, is_shared: bool
) -> None:
    if not is_shared:
        rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "home")
    name = rig.submit("-c", "C", "true")
    path = rig.home / "unclaimed" / "C" / (name if what == "file" else "")
    if subprocess.run(["chattr", "+i", str(path)], capture_output=True).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        worker = rig.start_worker("C", JJ_PAUSE_TIME="0.2", JJ_POLL_TIME="0.1")
        log = rig.home / "workers" / next((rig.home / "workers").glob("*.*")).name / "worker.log"
        wait_until(lambda: "is passed over" in log.read_text(), "the refusal")
        for _ in range(3):
            other = rig.submit("true")
            wait_until(lambda: other in rig.names("completed"), "another job")  # noqa: B023
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)
    wait_until(lambda: name in rig.names("completed"), "the freed job")
    rig.stop_worker(worker)
    assert log.read_text().count("is passed over") == 1
    rig.assert_clean()


@pytest.mark.parametrize("kind", ["plain", "described"])
@pytest.mark.parametrize("directory", ["scratch", "output"])
@pytest.mark.parametrize("wait", ["", "sleep 0.1; "], ids=["at once", "later"])
def test_a_directory_of_its_worker_that_a_job_removes_is_made_again(
    rig: Rig, directory: str, kind: str, wait: str
) -> None:
    remove = f'{wait}rm -rf "$JJ_WORKER_DIR/{directory}"'
    if kind == "plain":
        first = rig.submit("-p", "9", remove)
    else:
        first = describe(rig, "first.9", run_command=remove)
    others = [rig.submit("echo hello") for _ in range(3)]
    others.append(describe(rig, "other", run_command="echo hello"))
    rig.run_until_idle()
    assert set(rig.names("completed")) == {first, *others}
    for name in others:
        shown = rig.show(name)
        assert (shown["outcome"], len(shown["attempts"])) == ("succeeded", 1)
        assert Path(shown["attempts"][0]["output_path"]).read_text() == "hello\n"
    rig.assert_clean()
