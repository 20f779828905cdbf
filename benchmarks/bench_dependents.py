"""How soon the dependents of one job may be claimed after its end, with one worker; beside it the bare renames of as many files.

All settings are at their defaults. The worker goes on to run them; the time is until the last of them has left limbo.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from measure import make_parser, parse, print_table, running_workers, spread, temporary_jar, verdict

import jobjar

WANTED_S = 5.0
LOOK_INTERVAL_S = 0.02


def measure_release(home: Path, dependents: int) -> float:
    """Seconds from the end of the job that they wait for until none of them is in limbo."""
    gate = home.parent / "gate"
    first = jobjar.submit_job(f"until test -e {gate}; do sleep 0.05; done")
    for start in range(0, dependents, 1000):
        count = min(1000, dependents - start)
        jobjar.submit_jobs([{"command": "true", "after": first} for _ in range(count)])
    while len(os.listdir(home / "limbo")) < dependents:
        time.sleep(LOOK_INTERVAL_S)
    gate.touch()
    while not (home / "completed" / first).exists():
        time.sleep(LOOK_INTERVAL_S)
    ended_at = time.monotonic()
    while os.listdir(home / "limbo"):
        time.sleep(LOOK_INTERVAL_S)
    gate.unlink()
    return time.monotonic() - ended_at


def measure_renames(home: Path, files: int) -> float:
    """Seconds that so many bare renames from one directory to another take."""
    here, there = home.parent / "here", home.parent / "there"
    for directory in (here, there):
        directory.mkdir()
    for number in range(files):
        (here / str(number)).touch()
    began_at = time.monotonic()
    for number in range(files):
        os.rename(here / str(number), there / str(number))
    return time.monotonic() - began_at


def main() -> None:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--jobs", type=int, default=10_000, help="dependents of one job (default: 10,000)")
    options = parse(parser)
    released: list[float] = []
    renamed: list[float] = []
    for _ in range(options.rounds):
        with temporary_jar(options.directory) as home, running_workers(home, 1):
            released.append(measure_release(home, options.jobs))
            renamed.append(measure_renames(home, options.jobs))
    wanted = verdict(sorted(released)[len(released) // 2], WANTED_S, False)
    rows = [
        (f"{options.jobs:,} dependents of one job released", spread(released, "s"), wanted),
        (f"{options.jobs:,} bare renames", spread(renamed, "s"), ""),
    ]
    print_table(("", "median (least to most)", "wanted"), rows)


if __name__ == "__main__":
    main()
