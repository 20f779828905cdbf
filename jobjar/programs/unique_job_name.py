"""unique_job_name: print a new job's name, as an absolute path in limbo."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.job_file.names import make_name, parse_priority
from jobjar.programs.command import make_parser, named_jar, run


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "unique_job_name") -> int:
    parser = make_parser(
        program, "Print a new, unique job name: an absolute path in limbo, to copy a job to and move it on from."
    )
    parser.add_argument(
        "-p", "--priority", metavar="N", default="0", help="the priority that the name gives (default 0)"
    )
    parser.add_argument("-i", "--id", metavar="IDENTIFIER", help="a string to find the job by, put into its name")

    def body(options: argparse.Namespace) -> int:
        name = make_name(parse_priority(options.priority), options.id)
        with named_jar(options, program_path) as jar:
            print(f"{jar.layout.limbo}/{name}")
        return 0

    return run(parser, argv, body)
