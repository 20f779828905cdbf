"""How long one worker takes for described jobs of 0.5 s stage-in, 0.5 s run and 0.5 s stage-out, compared with the same worker
when nothing overlaps (JJ_STAGED_AHEAD and JJ_STAGE_OUT_QUEUE 0).

Counts from the release of the worker until the last job is in completed/.
"""

from __future__ import annotations

import os
from pathlib import Path

from measure import alternate, let_go, make_parser, median_ratio, parse, print_table, spread, temporary_jar, verdict

WANTED = 0.45
NOT_OVERLAPPING = {"JJ_STAGED_AHEAD": "0", "JJ_STAGE_OUT_QUEUE": "0"}


def submit(home: Path, jobs: int, seconds: float) -> None:
    """Submit the jobs as a person would: as scripts that describe themselves."""
    for number in range(jobs):
        lines = [f"#JJ {stage}_command = sleep {seconds:g}" for stage in ("stage_in", "run", "stage_out")]
        job = home / "limbo" / f"job-{number}"
        job.write_text("\n".join(("#!/bin/sh", "#JJ described = yes", *lines, "exit 2", "")))
        job.chmod(0o700)
        job.rename(home / "unclaimed" / job.name)


def measure_worker(directory: str, jobs: int, seconds: float, settings: dict[str, str]) -> float:
    """Seconds that one worker takes for all jobs."""
    os.environ.update(settings)
    try:
        with temporary_jar(directory) as home:
            submit(home, jobs, seconds)
            return let_go(home, 1, jobs)
    finally:
        for name in settings:
            del os.environ[name]


def main() -> None:
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--jobs", type=int, default=20, help="jobs in each round (default: 20)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each stage takes (default: 0.5)")
    options = parse(parser)
    values = alternate(
        options.rounds,
        {
            "overlapped": lambda: measure_worker(options.directory, options.jobs, options.seconds, {}),
            "in turn": lambda: measure_worker(options.directory, options.jobs, options.seconds, NOT_OVERLAPPING),
        },
    )
    ratio = median_ratio(values["overlapped"], values["in turn"])
    print_table(
        (f"{options.jobs} jobs", "seconds", "of in turn", "wanted"),
        [
            ("one stage after the other", spread(values["in turn"], "s"), "1", ""),
            ("overlapped", spread(values["overlapped"], "s"), f"{ratio:.3f}", verdict(ratio, WANTED, False)),
        ],
    )


if __name__ == "__main__":
    main()
