"""jobjar output: print what a job wrote to its standard output and error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from jobjar.programs.command import make_parser, named_jar, run, say_source
from jobjar.programs.options import add_job


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar output") -> int:
    parser = make_parser(
        program,
        "Print a job's output (standard output and error, as it came): of the attempt that completed it, or of its newest "
        "one. An attempt that lost its job to another is printed only where it is named.",
    )
    parser.add_argument("--attempt", type=int, metavar="N", help="the attempt whose output is wanted")
    parser.add_argument("--worker", metavar="NAME", help="the worker whose attempt is wanted")
    add_job(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.jobs import find_output, open_output
        from jobjar.reports.refresh import describe_source, refresh_ledger
        from jobjar.selecting.named import find_job

        with named_jar(options, program_path) as jar:
            refresh_ledger(jar)
            path = find_output(jar, find_job(jar, options.job), options.attempt, options.worker)
            say_source(program, describe_source(jar))
        sys.stdout.flush()
        if path is not None:
            with open(open_output(jar, path), "rb") as file:
                while chunk := file.read(1 << 20):
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(1, view) :]
        return 0

    return run(parser, argv, body)
