"""Software that is half of one version and half of another: a line that says so, and no traceback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import jobjar
from tests.rig import Rig


def test_a_worker_of_half_upgraded_software_says_in_a_line_what_is_to_be_done(rig: Rig, tmp_path: Path) -> None:
    copy = tmp_path / "library" / "jobjar"
    shutil.copytree(Path(jobjar.__file__).parent, copy)
    shutil.copytree(Path(jobjar.__file__).parent.parent / "schema", copy.parent / "schema")
    loop = copy / "worker" / "loop.py"
    loop.write_text(loop.read_text() + "from jobjar.units import of_the_next_version\n")
    for words in (["--foreground"], []):
        result = subprocess.run(
            [sys.executable, "-P", "-m", "jobjar.programs.start_worker", *words],
            env={**rig.environment, "PYTHONPATH": str(copy.parent)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
        [line] = result.stderr.splitlines()
        assert "of_the_next_version" in line and "install it again whole" in line
