"""The three-stage SR computation of the user guide, on this machine's own Python standard library.

Makes a jar in DIRECTORY/jar, starts two workers, submits the seed job, and watches: `distribute_sr` submits a `run_sr`
for each share of the files and a `monitor_sr`, which submits `merge_sr` when all shares are counted. Results are in
DIRECTORY/sr. Nothing is left running, however it ends; what it made stays until the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import sysconfig
import time
from functools import partial
from pathlib import Path

import jobjar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo_jar import (
    LOOK_INTERVAL_S,
    WORKERS,
    DemoFailed,
    Progress,
    ending_workers,
    finish,
    look_at_jobs,
    make_room,
    run,
    run_demo,
    start_workers,
)

PROGRAMS = Path(__file__).resolve().parent
REPORT_LINES = 18


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", default="build/demo", help="where to work (default: build/demo)")
    parser.add_argument("--source", default=sysconfig.get_path("stdlib"), help="the tree whose .py files are counted")
    parser.add_argument("--shares", type=int, default=20, help="how many shares to split it into (default: 20)")
    options = parser.parse_args()
    return run_demo(partial(count_names, Path(options.directory).absolute(), options.source, options.shares))


def count_names(directory: Path, source: str, shares: int, progress: Progress) -> None:
    home, results = directory / "jar", directory / "sr"
    make_room(home, results, PROGRAMS)
    print(f"Counting the names in the .py files under {source}, {shares} shares, {WORKERS} workers")
    with ending_workers(progress):
        start_workers()
        submit_seed(["distribute_sr", source, str(results), str(shares)])
        watch(results, progress)
        took_s = finish(progress, "system_status")
    print_results(home, results, took_s)


def submit_seed(words: list[str]) -> None:
    run("submit_job", "-i", words[0], words[0], *map(shlex.quote, words[1:]))


def watch(results: Path, progress: Progress) -> None:
    """Say how far the computation is until it is done. Raises DemoFailed, Interrupted."""
    idle_looks = 0
    while True:
        waiting, running, completed = look_at_jobs(progress)
        shares, counted = count_files(results / "shares"), count_files(results / "counts")
        has_report = (results / "report.txt").exists()
        if has_report:
            stage = "the report is written"
        elif shares and counted == shares:
            stage = f"all {shares} shares are counted"
        elif any("run_sr" in job.name for job in (*waiting, *running, *completed)):
            stage = f"{counted} of {shares} shares are counted"
        else:
            stage = "splitting the files into shares"
        progress.log(stage, f"jobs: {len(waiting)} waiting, {len(running)} running, {len(completed)} completed")
        if has_report and not waiting and not running:
            return
        # Once is no proof: a job can be claimed, submit another and complete between the looks at two jars.
        idle_looks = 0 if waiting or running else idle_looks + 1
        if idle_looks > 3:
            raise DemoFailed(f"all jobs have ended and there is no {results / 'report.txt'}")
        time.sleep(LOOK_INTERVAL_S)


def count_files(directory: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(not name.startswith(".") for name in os.listdir(directory))
    return 0


def print_results(home: Path, results: Path, took_s: float) -> None:
    report = (results / "report.txt").read_text().splitlines()
    merge = next(job.name for job in jobjar.completed_jobs() if "merge_sr" in job.name)
    print("\n".join(report[:REPORT_LINES]))
    print(f"… {max(0, len(report) - REPORT_LINES)} more lines\n")
    print(f"It took {took_s:.1f} s. No worker runs any more. What there is:")
    rows = [
        ("the report", results / "report.txt"),
        ("lists and counts", results),
        ("the jar", home),
        ("its completed jobs", home / "completed"),
        ("what they printed", home / "workers/*/output"),
        ("look further", f"{shlex.quote(str(home))}/bin/system_status"),
        ("", f"{shlex.quote(str(home))}/bin/jobjar show {merge}"),
        ("", f"{shlex.quote(str(home))}/bin/jobjar output {merge}"),
    ]
    for label, value in rows:
        print(f"  {label:18}  {value}")


if __name__ == "__main__":
    sys.exit(main())
