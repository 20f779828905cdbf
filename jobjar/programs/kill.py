"""jobjar kill: kill running jobs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.errors import JarError
from jobjar.programs.command import complain, make_parser, named_jar, run
from jobjar.programs.options import add_jobs


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar kill") -> int:
    parser = make_parser(
        program,
        "Have the workers that run these jobs kill them: SIGTERM, and SIGKILL after JJ_GRACE_TIME. Each completes with "
        "outcome killed. Prints the workers' names.",
    )
    add_jobs(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.hearing import name_workers
        from jobjar.reports.jobs import request_kill
        from jobjar.reports.refresh import refresh_ledger
        from jobjar.selecting.arrays import find_tasks
        from jobjar.selecting.named import find_job
        from jobjar.steering.tasks import kill_tasks

        with named_jar(options, program_path) as jar:
            refresh_ledger(jar)
            failed = False
            for name in options.job:
                # If one job cannot be killed, kill the others all the same.
                try:
                    tasks = find_tasks(jar, name)
                    names = [request_kill(jar, find_job(jar, name))] if tasks is None else kill_tasks(jar, tasks)
                    workers = name_workers(jar.layout, names)
                except JarError as error:
                    complain(program, error)
                    failed = True
                    continue
                for worker in workers:
                    print(worker)
                    if worker.silence:
                        complain(program, worker.silence)
        return 1 if failed else 0

    return run(parser, argv, body)
