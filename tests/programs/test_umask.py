"""Jobs, and results that leave the jar, have the permissions that their user is used to, and the jar keeps its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.described_jobs import describe
from tests.rig import BIN, Rig, wait_until

START = "umask {umask}; exec start_worker {words}"


def run_with_umask(rig: Rig, umask: str, words: str = "", **changes: str) -> str:
    """Start a worker in the background by a shell with that umask, wait for all jobs, end it; returns its name."""
    name = rig.shell(START.format(umask=umask, words=words), None, **changes).stdout.strip()
    rig.run("jobjar", "wait", "--all", "--timeout", "60s", check=False)
    rig.run("stop_worker", name)
    wait_until(lambda: rig.worker_ended(name), "the end of the worker")
    return name


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", ["022", "002", "027", "077"])
@pytest.mark.parametrize("kind", ["plain", "described"])
def test_a_job_has_the_umask_that_its_worker_was_started_with(rig: Rig, tmp_path: Path, umask: str, kind: str) -> None:
    command = f"umask; echo text > {tmp_path}/result; mkdir {tmp_path}/directory"
    name = rig.submit(command) if kind == "plain" else describe(rig, "job", run_command=command)
    worker = run_with_umask(rig, umask)
    assert rig.run("jobjar", "output", name).stdout.strip() == f"0{umask}"
    assert mode(tmp_path / "result") == 0o666 & ~int(umask, 8)
    assert mode(tmp_path / "directory") == 0o777 & ~int(umask, 8)
    private = rig.home / "workers" / worker
    assert [mode(path) for path in (private, private / "scratch", private / "output")] == [0o700] * 3
    assert mode(private / "worker.log") & 0o077 == 0 and mode(next((private / "output").iterdir())) == 0o600


def test_a_plain_job_beside_described_ones_has_that_umask_too(rig: Rig) -> None:
    describe(rig, "described", run_command="while ! test -e $JJ_HOME/seen; do sleep 0.05; done")
    name = rig.submit("umask; touch $JJ_HOME/seen")
    run_with_umask(rig, "022", JJ_RUN_SLOTS="2")
    assert rig.run("jobjar", "output", name).stdout.strip() == "0022"


def test_a_job_has_the_umask_that_is_configured(rig: Rig) -> None:
    name = rig.submit("umask")
    run_with_umask(rig, "022", JJ_UMASK="027")
    assert rig.run("jobjar", "output", name).stdout.strip() == "0027"


def test_a_worker_in_the_foreground_gives_its_umask_to_jobs_of_a_group_s_jar(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "group", make=False)
    rig.run("jobjar", "init", "--group", str(tmp_path / "group"))
    name = rig.submit("umask")
    before = os.umask(0o027)
    try:
        rig.run_until_idle("--as-root-for-group")
    finally:
        os.umask(before)
    assert rig.run("jobjar", "output", name).stdout.strip() == "0027"
    rig.end_everything()


def test_a_stored_file_and_its_copy_have_the_permissions_that_their_user_is_used_to(rig: Rig, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    name = describe(
        rig, "job", run_command="mkdir output; echo text > output/a; cp /bin/true output/t", output_path="p"
    )
    run_with_umask(rig, "022", JJ_STORAGE_PATH=str(store))
    assert rig.show(name)["outcome"] == "succeeded"
    assert [mode(store / "p"), mode(store / "p" / "a"), mode(store / "p" / "t")] == [0o755, 0o644, 0o755]
    rig.shell(f"umask 022; cd {tmp_path}; {BIN}/get_output a")
    assert mode(tmp_path / "a") == 0o644
