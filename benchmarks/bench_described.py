"""The cost for one worker of a batch of described jobs that do nothing, compared with as many plain jobs that do nothing.

All jobs are queued first. A round counts from the release of the worker until the last job is in completed/. The table also has
the processor time of the worker and its jobs, which other load on the machine affects less.
"""

from __future__ import annotations

import resource

from measure import (
    COMMAND,
    alternate,
    let_go,
    make_parser,
    median_ratio,
    parse,
    print_table,
    spread,
    temporary_jar,
    verdict,
)

import jobjar

WANTED = 3.0
DESCRIBED = (
    f"#!/bin/sh\n#JJ described = yes\n#JJ batch = nothing\n#JJ seed = {{}}\n#JJ run_command = {COMMAND}\nexit 2\n"
)


def measure_jobs(directory: str, jobs: int, described: bool, processor_s: list[float]) -> float:
    """Seconds for all jobs. Their processor time is appended to `processor_s`."""
    with temporary_jar(directory) as home:
        if described:
            script = home / "limbo" / "described"
            for number in range(jobs):
                script.write_text(DESCRIBED.format(number))
                script.chmod(0o700)
                jobjar.submit_job_file(str(script))
            script.unlink()
        else:
            jobjar.submit_jobs([COMMAND] * jobs)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = let_go(home, 1, jobs)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        failed = [job.name for job in jobjar.completed_jobs() if job.outcome != "succeeded"]
        if failed:
            raise SystemExit(f"{len(failed)} jobs did not succeed, among them {failed[0]}")
        return seconds


def main() -> None:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs in each round (default: 1000)")
    options = parse(parser)
    processor: dict[str, list[float]] = {"plain": [], "described": []}
    values = alternate(
        options.rounds,
        {
            "plain": lambda: measure_jobs(options.directory, options.jobs, False, processor["plain"]),
            "described": lambda: measure_jobs(options.directory, options.jobs, True, processor["described"]),
        },
    )
    ratio = median_ratio(values["described"], values["plain"])
    processor_ratio = median_ratio(processor["described"], processor["plain"])
    print_table(
        (f"{options.jobs} jobs", "seconds", "of plain", "wanted", "processor", "of plain"),
        [
            ("plain", spread(values["plain"], "s"), "1", "", spread(processor["plain"], "s"), "1"),
            (
                "described",
                spread(values["described"], "s"),
                f"{ratio:.3f}",
                verdict(ratio, WANTED, False),
                spread(processor["described"], "s"),
                f"{processor_ratio:.3f}",
            ),
        ],
    )


if __name__ == "__main__":
    main()
