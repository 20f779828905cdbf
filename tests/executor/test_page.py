"""docs/python.md: its examples are one program, which prints what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.executor.test_executor import workers as workers
from tests.rig import Rig

pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
PAGE = Path(__file__).parents[2] / "docs/python.md"


@pytest.mark.slow
def test_the_examples_of_the_page_print_what_it_shows(workers: Rig, tmp_path: Path) -> None:
    pytest.importorskip("joblib", reason="joblib is not installed")
    text = PAGE.read_text(encoding="utf-8").replace("/shared/jar", str(workers.home))
    blocks = re.findall(r"(?ms)^```(python|text)\n(.*?)^```$", text)
    script = tmp_path / "page.py"
    script.write_text("\n".join(code for language, code in blocks if language == "python"))
    result = subprocess.run(
        [sys.executable, str(script)],
        env=workers.environment,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert (result.stdout, result.stderr) == ("".join(code for language, code in blocks if language == "text"), "")
