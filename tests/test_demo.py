"""`make demo` as a user runs it, on a small tree: the report is right, failures are said, nothing is left running."""

from __future__ import annotations

import collections
import contextlib
import keyword
import os
import signal
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.rig import Result, wait_until

pytestmark = pytest.mark.slow
DEMO = Path(__file__).parent.parent / "examples" / "sr" / "demo.py"


def processes_of(jar: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("JJ_HOME") == str(jar) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where the demo works, with a space in its name; what a failed test leaves there is ended."""
    made = tmp_path / "the demo"
    yield made
    for process in processes_of(made / "jar"):
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small tree: a dozen files of names, one that is not Python, and what is not to be counted."""
    tree = tmp_path / "the source"
    for number in range(12):
        lines = [f"def name_{number}(value):", *["    value = name_common + value"] * (number + 1), "    return value"]
        path = tree / f"package_{number % 3}" / f"module {number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    (tree / "broken.py").write_text("an_open_bracket = (\n")
    (tree / "not_python.txt").write_text("left_out = 1\n")
    (tree / "site-packages").mkdir()
    (tree / "site-packages" / "other.py").write_text("left_out = 1\n")
    return tree


def run_demo(directory: Path, *options: str) -> Result:
    command = [sys.executable, str(DEMO), *options, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def count_directly(source: Path) -> tuple[collections.Counter[str], int]:
    """The names of the tree's files, counted here, and the number of files that are Python."""
    names: collections.Counter[str] = collections.Counter()
    files = 0
    for path in source.rglob("*.py"):
        if "site-packages" in path.parts:
            continue
        with path.open("rb") as file:
            try:
                tokens = list(tokenize.tokenize(file.readline))
            except tokenize.TokenError:
                continue
        files += 1
        names.update(t.string for t in tokens if t.type == tokenize.NAME and not keyword.iskeyword(t.string))
    return names, files


def test_the_demo_s_report_is_what_one_process_counts_and_nothing_is_left_running(
    directory: Path, source: Path
) -> None:
    result = run_demo(directory, "--source", str(source), "--shares", "5")
    assert result.returncode == 0, result.stdout + result.stderr
    names, files = count_directly(source)
    lines = (directory / "sr" / "report.txt").read_text().splitlines()
    assert lines[0] == f"{names.total()} names in {files} files, {len(names)} different ones; 1 files skipped"
    ranked = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    expected = [[str(rank), str(count), name] for rank, (name, count) in enumerate(ranked, 1)]
    assert [line.split() for line in lines[3:]] == expected
    assert [len(names), lines[3].split()[2]] == [14, "value"]
    assert lines[3] in result.stdout and str(directory / "jar") in result.stdout
    assert processes_of(directory / "jar") == []
    completed = os.listdir(directory / "jar" / "completed")
    assert [sum(what in name for name in completed) for what in ("distribute_sr", "run_sr", "merge_sr")] == [1, 5, 1]
    assert any("monitor_sr" in name for name in completed)


def test_a_second_run_replaces_the_first_and_nothing_that_is_not_the_demo_s(directory: Path, source: Path) -> None:
    options = ("--source", str(source), "--shares", "2")
    assert run_demo(directory, *options).returncode == 0
    old_report = directory / "sr" / "report.txt"
    old_report.write_text("of the first run\n")
    old_jobs = set(os.listdir(directory / "jar" / "completed"))
    assert run_demo(directory, *options).returncode == 0
    assert old_report.read_text() != "of the first run\n"
    assert old_jobs.isdisjoint(os.listdir(directory / "jar" / "completed"))

    (directory / "jar" / "made-by-demo").unlink()
    result = run_demo(directory, *options)
    assert result.returncode == 1 and f"{directory / 'jar'} is not from this demo" in result.stderr
    assert os.listdir(directory / "jar" / "completed")


def test_a_job_that_fails_ends_the_demo_with_its_output_and_no_process(directory: Path, tmp_path: Path) -> None:
    result = run_demo(directory, "--source", str(tmp_path / "nothing here"))
    assert result.returncode == 1
    assert "distribute_sr" in result.stderr and "there is no .py file under" in result.stderr
    assert "bin/jobjar show" in result.stderr and "Traceback" not in result.stderr
    assert processes_of(directory / "jar") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_its_workers_and_their_jobs(directory: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, str(DEMO), str(directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        shares = directory / "sr" / "shares"
        wait_until(lambda: process.poll() is not None or (shares.exists() and any(shares.iterdir())), "the shares")
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Interrupted" in said, said
    assert processes_of(directory / "jar") == []
