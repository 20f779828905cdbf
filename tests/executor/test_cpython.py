"""CPython's own tests of executors pass, as far as they apply (tests/executor/cpython.py lists which do not, and why)."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.executor.test_executor import workers as workers
from tests.rig import Rig

ROOT = Path(__file__).parents[2]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


def find_tests() -> Path | None:
    """The directory with CPython's tests: those of this Python, or Debian's of the same version (`make packages`)."""
    for directory in (Path(sysconfig.get_path("stdlib")) / "test", Path("/usr/lib") / VERSION / "test"):
        if list(directory.glob("test_concurrent_futures*")):
            return directory
    return None


@pytest.mark.slow
def test_the_tests_of_cpython_pass(workers: Rig, tmp_path: Path) -> None:
    directory = find_tests()
    if directory is None:
        pytest.skip(f"{VERSION} has no test.test_concurrent_futures here; `make packages` brings it")
    result = subprocess.run(
        [sys.executable, "-m", "tests.executor.cpython", str(directory)],
        env=workers.environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ok\n") > 25, result.stdout
