"""Named setups of workers, and workers made of them that run where nothing is installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.programs import test_self_contained
from tests.rig import Rig, wait_until


def worker_file(rig: Rig, name: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((rig.home / "workers" / name / "worker.json").read_text())
    return said


def setup(rig: Rig, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return rig.run("jobjar", "worker_setup", *words, check=check)


def test_a_setup_is_kept_in_the_jar_and_gives_workers_their_options_and_settings(rig: Rig) -> None:
    words = ("JJ_MAX_WORKERS=2", 'JJ_ON_END=echo "it\'s" >/dev/null', "--idle-exit", "1h", "--for", "2h", "SMALL")
    setup(rig, "add", "small", *words)
    assert setup(rig, "list").stdout == "small\n"
    shown = setup(rig, "show", "small").stdout
    assert shown == (
        "jobjar worker_setup add small JJ_MAX_WORKERS=2 'JJ_ON_END=echo \"it'\"'\"'s\" >/dev/null' "
        "--idle-exit 1h --for 2h SMALL\n"
    )
    for wrong, why in (
        (["add", "bad", "--idle-exit", "soon"], "is not a time"),
        (["add", "bad", "JJ_MAX_WORKERS=many"], "setup bad: JJ_MAX_WORKERS: "),
        (["add", "bad", "JJ_HOME=/other"], "JJ_HOME is no setting that a setup may have"),
        (["add", "bad", "--on", "rain"], "a setup has no --setup, --home, --on or --foreground"),
        (["add", "../bad"], "setup '../bad'"),
        (["show", "none"], "setup none: there is none"),
    ):
        result = setup(rig, *wrong, check=False)
        assert result.returncode == 2 and why in result.stderr, result.stderr
    rig.submit("-c", "SMALL", "true")
    plain = rig.run("start_worker", "OTHER").stdout.strip()
    # Two of the setup are missing, whatever else runs.
    names = rig.run("check_workers", "--setup", "small").stdout.split()
    assert len(names) == 2 and rig.run("check_workers", "--setup", "small").stdout == ""
    for name in names:
        said = worker_file(rig, name)
        assert (
            said["setup"] == "small"
            and said["categories"] == ["SMALL"]
            and 7000 < said["ends_at"] - said["started_at"] < 7300
        )
    typed = rig.run("start_worker", "--setup", "small", "--for", "1h", "OTHER").stdout.strip()
    said = worker_file(rig, typed)
    assert said["categories"] == ["OTHER"] and said["ends_at"] - said["started_at"] < 3700
    wait_until(lambda: len(rig.names("completed")) == 1, "the job")
    setup(rig, "remove", "small")
    result = rig.run("start_worker", "--setup", "small", check=False)
    assert result.returncode == 2 and "`jobjar worker_setup list` names" in result.stderr
    rig.run("stop_worker", "all")
    wait_until(lambda: all(rig.worker_ended(name) for name in (plain, typed, *names)), "the end of all")
    rig.assert_clean()


@pytest.mark.root
@pytest.mark.skipif(not test_self_contained._HAS_PYTHON, reason="needs a Python of this system that is 3.11 or later")
def test_a_made_worker_runs_where_nothing_is_installed(rig: Rig, tmp_path: Path) -> None:
    setup(rig, "add", "node", "JJ_EXIT_ON_FAILURE=restart", "JJ_FAILURE_PAUSE=0", "--max-jobs", "2", "SMALL")
    file = tmp_path / "node.worker"
    assert rig.run("jobjar", "make_worker", "node", "-o", str(file)).stdout == f"{file}\n"
    jobs = [rig.submit("-c", "SMALL", command) for command in ("exit 3", "echo done")]
    home = tmp_path / "user"
    home.mkdir()
    said = test_self_contained.run(home, f"{file} --foreground; {file} --version; ls .cache")
    assert said.stdout.splitlines()[0].startswith("rain.") and "Job Jar" in said.stdout
    assert [rig.show(job)["outcome"] for job in jobs] == ["failed", "succeeded"]
    assert [path.name.startswith("jobjar-0-") for path in (home / ".cache").iterdir()] == [True]
    lacking = test_self_contained.run(home, f"PATH=/nonexistent /bin/sh {file}", check=False)
    assert lacking.returncode == 1 and "there is no Python 3.11 or later in PATH" in lacking.stderr
    rig.assert_clean()
