"""The benchmark of sizes, at a tiny one: it measures all that it says it does, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "scale.py"


@pytest.mark.slow
def test_what_grows_with_a_jar_is_measured_drawn_and_put_into_a_page(tmp_path: Path) -> None:
    page, result, drawing = (tmp_path / name for name in ("page.md", "scale.json", "scale.svg"))
    page.write_text("before\n<!-- sizes: begin (made by python benchmarks/scale.py --into README.md) -->\n")
    with page.open("a") as file:
        file.write("old\n<!-- sizes: end -->\nafter\n")
    jars = tmp_path / "jars"
    words = ["--sizes", "20", "--rounds", "1", "--idle", "0.3", "--directory", str(jars)]
    words += ["--result", str(result), "--draw", str(drawing), "--into", str(page)]
    done = subprocess.run([sys.executable, str(BENCHMARK), *words], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    columns = json.loads(result.read_text())["columns"]
    assert list(columns) == ["empty", "waiting 20", "completed 20"]
    expected = 15 if shutil.which("strace") else 14
    if "an idle worker" not in columns["empty"]:
        expected = 14  # strace may not look here
    assert all(len(column) == expected and min(column.values()) >= 0 for column in columns.values()), columns
    table = page.read_text()
    assert table.startswith("before\n") and table.endswith("after\n") and "old" not in table
    assert table.count("\n| `system_status` |") == 2 and "| none | 20 |" in table
    names = {element.text for element in ElementTree.parse(drawing).iter() if element.tag.endswith("text")}
    assert {"jobjar check (waiting)", "jobjar check (completed)"} <= names
    assert not list(jars.iterdir())
