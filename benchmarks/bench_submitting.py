"""The cost of submitting: from Python, compared with creating, syncing and renaming a file on the same disk; from the shell,
compared with an interpreter that does nothing."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from measure import (
    COMMAND,
    SCRIPT,
    alternate,
    make_directory,
    make_parser,
    median_ratio,
    parse,
    print_table,
    shown,
    spread,
    temporary_jar,
    verdict,
)

import jobjar

WANTED_ONE, WANTED_MANY, WANTED_SHELL = 0.3, 0.6, 4.5


def measure_bare(directory: str, jobs: int) -> float:
    """Files a second that are created, synced and renamed."""
    path = make_directory(directory)
    (path / "from").mkdir()
    (path / "to").mkdir()
    started = time.perf_counter()
    for number in range(jobs):
        name = f"{path}/from/{number}"
        descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o700)
        os.write(descriptor, SCRIPT.encode())
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(name, f"{path}/to/{number}")
    return jobs / (time.perf_counter() - started)


def measure_one_at_a_time(directory: str, jobs: int) -> float:
    with temporary_jar(directory):
        jobjar.submit_job(COMMAND)  # opens the jar before the clock starts
        started = time.perf_counter()
        for _ in range(jobs):
            jobjar.submit_job(COMMAND)
        return jobs / (time.perf_counter() - started)


def measure_many(directory: str, jobs: int) -> float:
    with temporary_jar(directory):
        jobjar.submit_job(COMMAND)
        started = time.perf_counter()
        jobjar.submit_jobs([COMMAND] * jobs)
        return jobs / (time.perf_counter() - started)


def measure_command(command: Sequence[str | Path]) -> float:
    """Milliseconds that a program takes."""
    started = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--jobs", type=int, default=300, help="jobs in each round (default: 300)")
    parser.add_argument("--runs", type=int, default=20, help="runs of submit_job from the shell (default: 20)")
    options = parse(parser)
    directory, jobs = options.directory, options.jobs
    values = alternate(
        options.rounds,
        {
            "bare": lambda: measure_bare(directory, jobs),
            "one": lambda: measure_one_at_a_time(directory, jobs),
            "many": lambda: measure_many(directory, jobs),
        },
    )
    one, many = (median_ratio(values[name], values["bare"]) for name in ("one", "many"))
    print_table(
        ("", "a second", "of the bare rate", "wanted"),
        [
            ("create + fsync + rename", spread(values["bare"]), "1", ""),
            ("submit_job, one at a time", spread(values["one"]), f"{one:.3f}", verdict(one, WANTED_ONE, True)),
            ("submit_jobs", spread(values["many"]), f"{many:.3f}", verdict(many, WANTED_MANY, True)),
        ],
    )
    with temporary_jar(directory) as home:
        programs = alternate(
            options.runs,
            {
                "python": lambda: measure_command([sys.executable, "-c", "pass"]),
                "submit_job": lambda: measure_command([home / "bin" / "submit_job", COMMAND]),
                "submit": lambda: measure_command([home / "bin" / "jobjar", "submit", *COMMAND.split()]),
            },
        )
    bare = statistics.median(programs["python"])
    times, typed = (statistics.median(programs[name]) / bare for name in ("submit_job", "submit"))
    print()
    print_table(
        ("", "time", "times python -c pass", "wanted"),
        [
            ("python -c pass", spread(programs["python"], "ms"), "1", ""),
            ("submit_job", spread(programs["submit_job"], "ms"), shown(times), verdict(times, WANTED_SHELL, False)),
            ("jobjar submit", spread(programs["submit"], "ms"), shown(typed), verdict(typed, WANTED_SHELL, False)),
        ],
    )


if __name__ == "__main__":
    main()
