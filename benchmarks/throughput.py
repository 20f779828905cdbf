"""How many of the smallest jobs two workers run in a second, compared with the floor: as many processes that do nothing but
posix_spawn and waitpid the same script.

All jobs are queued first. A round counts from the release of both workers until the last job is in completed/.
"""

from __future__ import annotations

import os
import time

from measure import (
    COMMAND,
    SCRIPT,
    alternate,
    let_go,
    make_directory,
    make_parser,
    median_ratio,
    parse,
    print_table,
    spread,
    temporary_jar,
    verdict,
)

import jobjar

WANTED = 0.55


def measure_floor(directory: str, jobs: int, processes: int) -> float:
    """Scripts a second that `processes` loops run."""
    script = make_directory(directory) / "script"
    script.write_text(SCRIPT)
    script.chmod(0o700)
    started = time.perf_counter()
    children = [fork_loop(str(script), jobs // processes) for _ in range(processes)]
    for child in children:
        os.waitpid(child, 0)
    return jobs // processes * processes / (time.perf_counter() - started)


def fork_loop(script: str, jobs: int) -> int:
    child = os.fork()
    if child == 0:
        for _ in range(jobs):
            os.waitpid(os.posix_spawn(script, [script], os.environ), 0)
        os._exit(0)
    return child


def measure_workers(directory: str, jobs: int, workers: int) -> float:
    """Jobs a second that `workers` workers run."""
    with temporary_jar(directory) as home:
        jobjar.submit_jobs([COMMAND] * jobs)
        seconds = let_go(home, workers, jobs)
        failed = [job.name for job in jobjar.completed_jobs() if job.outcome != "succeeded"]
        if failed:
            raise SystemExit(f"{len(failed)} jobs did not succeed, among them {failed[0]}")
        return jobs / seconds


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--jobs", type=int, default=2000, help="jobs in each round (default: 2000)")
    parser.add_argument("--workers", type=int, default=2, help="workers, and processes of the floor (default: 2)")
    options = parse(parser)
    values = alternate(
        options.rounds,
        {
            "floor": lambda: measure_floor(options.directory, options.jobs, options.workers),
            "workers": lambda: measure_workers(options.directory, options.jobs, options.workers),
        },
    )
    ratio = median_ratio(values["workers"], values["floor"])
    print_table(
        ("", "jobs a second", "of the floor", "wanted"),
        [
            (f"posix_spawn + waitpid, {options.workers} processes", spread(values["floor"]), "1", ""),
            (f"{options.workers} workers", spread(values["workers"]), f"{ratio:.3f}", verdict(ratio, WANTED, True)),
        ],
    )


if __name__ == "__main__":
    main()
