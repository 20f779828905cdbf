"""One worker of several slots, compared with as many workers of one: jobs a second, and memory (the sum of their PSS).

All jobs are queued first, and each sleeps for the same time. A round counts from the release until the last job is in completed/.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from measure import (
    alternate,
    make_parser,
    median_ratio,
    parse,
    print_table,
    running_workers,
    spread,
    temporary_jar,
    verdict,
    wait_for_jobs,
)

import jobjar

WANTED_RATE, WANTED_MEMORY = 0.9, 0.25
memory: dict[str, list[float]] = {"workers": [], "slots": []}


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--slots", type=int, default=8, help="slots, and workers (default: 8)")
    parser.add_argument("--jobs", type=int, default=400, help="jobs in each round (default: 400)")
    parser.add_argument("--seconds", type=float, default=0.1, help="how long each job sleeps (default: 0.1)")
    options = parse(parser)

    def run(kind: str) -> float:
        workers, words = (options.slots, []) if kind == "workers" else (1, ["--slots", str(options.slots)])
        with temporary_jar(options.directory) as home:
            jobjar.submit_jobs([f"sleep {options.seconds:g}"] * options.jobs)
            pause_file = home / "workers" / "PAUSE_ALL"
            pause_file.touch()
            with running_workers(home, workers, words) as processes:
                started_at = time.time()
                pause_file.unlink()
                (home / "workers" / ".go").touch()
                while len(list((home / "completed").iterdir())) < options.jobs / 2:
                    time.sleep(0.1)
                memory[kind].append(sum(map(proportional_mib, processes)))
                seconds = wait_for_jobs(home / "completed", options.jobs) - started_at
            if any(job.outcome != "succeeded" for job in jobjar.completed_jobs()):
                raise SystemExit("not all jobs succeeded")
            return float(options.jobs / seconds)

    values = alternate(options.rounds, {"workers": lambda: run("workers"), "slots": lambda: run("slots")})
    rate = median_ratio(values["slots"], values["workers"])
    share = median_ratio(memory["slots"], memory["workers"])
    print_table(
        ("", "jobs a second", "MiB", "rate", "wanted", "memory", "wanted"),
        [
            (f"{options.slots} workers", spread(values["workers"]), spread(memory["workers"]), "1", "", "1", ""),
            (
                f"1 worker, {options.slots} slots",
                spread(values["slots"]),
                spread(memory["slots"]),
                f"{rate:.3f}",
                verdict(rate, WANTED_RATE, True),
                f"{share:.3f}",
                verdict(share, WANTED_MEMORY, False),
            ),
        ],
    )


def proportional_mib(process: subprocess.Popen[str]) -> float:
    """The PSS of a worker, without its jobs."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    main()
