"""Every test has a time-out, which names the test that hangs and leaves no process of it behind."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent

HANGING = """
import threading
import pytest
from tests.rig import Rig

def test_that_passes(rig: Rig) -> None:
    rig.run_until_idle()

@pytest.mark.timeout(8)
def test_that_hangs_beside_its_worker_and_its_job(rig: Rig) -> None:
    rig.start_worker()
    rig.submit("sleep 1000")
    threading.Thread(target=threading.Event().wait, name="another thread", daemon=True).start()
    threading.Event().wait()

@pytest.mark.timeout(8)
def test_that_hangs_in_a_program(rig: Rig) -> None:
    rig.submit("true")
    rig.run("jobjar", "wait", "--all")
"""


@pytest.mark.slow
def test_a_test_that_hangs_fails_by_its_name_with_all_stacks_and_leaves_no_process(tmp_path: Path) -> None:
    written = tmp_path / "test_hanging_ones.py"
    written.write_text(HANGING)
    options = ["-c", str(ROOT / "setup.cfg"), "-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "2"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--basetemp={tmp_path}/made", str(written)],
        cwd=ROOT,
        # This test's own TMPDIR is too deep for a socket.
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TMPDIR": "/tmp"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 1, said
    assert "2 failed, 1 passed" in said
    for name in ("test_that_hangs_beside_its_worker_and_its_job", "test_that_hangs_in_a_program"):
        assert f"{name} - Failed: Timeout (>8.0s) from pytest-timeout" in said
    assert "another thread" in said and "threading.Event().wait()" in said
    left = [process for process in psutil.process_iter() if str(tmp_path) in _environment(process)]
    assert left == []


def _environment(process: psutil.Process) -> str:
    try:
        return process.environ().get("JJ_HOME", "")
    except (psutil.Error, OSError):
        return ""


def test_every_test_has_a_time_out() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    assert 60 <= config.getint("tool:pytest", "timeout") <= 600
