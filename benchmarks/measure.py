"""Shared parts of the benchmarks: alternating rounds, medians, tables, and a jar on the measured disk.

No benchmark asserts a time. Each prints its figures, the wanted figures, and the command that produced them.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from jobjar.create import create_jar

# The smallest job: what submit_job makes of the command /bin/true.
COMMAND = "/bin/true"
SCRIPT = f"#!/bin/sh -f\n{COMMAND}\n"
READY_PATIENCE_S = 30.0
LOOK_INTERVAL_S = 0.1
PROJECT = Path(__file__).resolve().parent.parent

made: list[Path] = []


def make_parser(description: str | None, rounds: int, on_disk: bool = True) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has. `on_disk` says whether it makes a jar."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds, taken in turn (default: {rounds})")
    if on_disk:
        place = str(PROJECT / "build" / "bench")
        parser.add_argument("--directory", default=place, help="where to make jars: the disk to measure (build/bench)")
    parser.add_argument(
        "--keep", action="store_true", help="leave the jars there (removing them slows ext4 for minutes)"
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the options. Prints the command that repeats the measurement, with every option in it."""
    options = parser.parse_args()
    if not options.keep:
        atexit.register(remove_directories)
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in vars(options).items() if name != "keep"]
    script = os.path.relpath(sys.argv[0])
    print(f"\n{os.path.basename(sys.executable)} {script} {' '.join(words)}   ({os.cpu_count()} cores)", flush=True)
    for name in [name for name in os.environ if name.startswith("JJ_")]:
        del os.environ[name]
    os.environ["JJ_CONFIG_FILE"] = os.devnull
    # Let installed programs keep their byte code, so that they are compiled only once.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return options


def make_directory(directory: str) -> Path:
    """An empty directory on the measured disk. It stays until the benchmark ends: ext4 does not reuse an inode that was just
    freed, and its search for another one slows the next measurement several times."""
    os.makedirs(directory, exist_ok=True)
    made.append(Path(tempfile.mkdtemp(prefix="bench-", dir=directory)))
    return made[-1]


def remove_directories() -> None:
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def temporary_jar(directory: str) -> Iterator[Path]:
    """A new jar on the measured disk. JJ_HOME names it meanwhile."""
    before = os.environ.get("JJ_HOME")
    home = make_directory(directory) / "jar"
    create_jar(str(home))
    os.environ["JJ_HOME"] = str(home)
    try:
        yield home
    finally:
        del os.environ["JJ_HOME"]
        if before is not None:
            os.environ["JJ_HOME"] = before


@contextlib.contextmanager
def running_workers(home: Path, count: int, words: Sequence[str] = ()) -> Iterator[list[subprocess.Popen[str]]]:
    """Workers of a jar, in the foreground of processes of their own. Each has made its directory. They are ended afterwards."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            process = subprocess.Popen(
                [f"{home}/bin/start_worker", "--foreground", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit(f"a worker of {home} did not start; {home}/bin/start_worker --foreground says why")
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate(timeout=READY_PATIENCE_S)


def let_go(home: Path, workers: int, jobs: int) -> float:
    """Seconds from the release of `workers` waiting workers until `jobs` jobs are in completed/."""
    return release(home, workers, lambda: wait_for_jobs(home / "completed", jobs))


def release(home: Path, workers: int, wait: Callable[[], float]) -> float:
    """Seconds from the release of `workers` waiting workers until the time that `wait()` returns."""
    pause_file = home / "workers" / "PAUSE_ALL"
    pause_file.touch()
    with running_workers(home, workers):
        started_at = time.time()
        pause_file.unlink()
        # A new file in the directory wakes its watchers. A removed file is only noticed within JJ_POLL_TIME.
        (home / "workers" / ".go").touch()
        return wait() - started_at


def wait_for_jobs(completed: Path, jobs: int) -> float:
    """Wait until all jobs are there, without using much of a core; returns the time when the last one came."""
    while len(os.listdir(completed)) < jobs:
        time.sleep(LOOK_INTERVAL_S)
    return last_arrival(completed)


def last_arrival(completed: Path) -> float:
    """The time when the last job came there."""
    with os.scandir(completed) as entries:
        return max(entry.stat().st_ctime for entry in entries)


def alternate(rounds: int, measures: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run each measure once a round, in alternating order, so that changes on the machine affect all alike."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        order = list(measures) if number % 2 == 0 else list(reversed(measures))
        for name in order:
            values[name].append(measures[name]())
    return values


def median_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """The median of the ratios of the rounds, since the two figures of a round were measured side by side."""
    return statistics.median(value / base for value, base in zip(values, baseline, strict=True))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print(tabulate(rows, headers, disable_numparse=True), flush=True)


def shown(value: float, unit: str = "") -> str:
    """A figure with three significant digits."""
    digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}{' ' + unit if unit else ''}"


def spread(values: Sequence[float], unit: str = "") -> str:
    """The median, the least and the greatest value."""
    return f"{shown(statistics.median(values), unit)} ({shown(min(values))} to {shown(max(values))})"


def verdict(value: float, wanted: float, at_least: bool) -> str:
    """Whether a figure meets the wanted one, in words."""
    met = value >= wanted if at_least else value <= wanted
    return f"{'at least' if at_least else 'at most'} {wanted:g}: {'met' if met else 'MISSED'}"


def put_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace the text between two marks in a file, each on a line of its own. Raises ValueError if the marks are missing."""
    before, found_begin, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{path} has no lines\n{begin}\n{end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
