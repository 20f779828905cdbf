"""submit_job: put a command, or a copy of an executable file, into the unclaimed jar; print the job's name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.job_file.attributes import ATTRIBUTES
from jobjar.job_file.names import parse_priority
from jobjar.programs.command import make_parser, named_jar, run_and_exit_at_once


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "submit_job") -> int:
    parser = make_parser(
        program,
        "Submit a job: a COMMAND, whose words are joined by single spaces into a script for /bin/sh -f, or with -f a copy "
        "of an executable file. Prints the job's name.",
    )
    parser.usage = f"{program} [OPTION…] COMMAND [WORD…]\n       {program} [OPTION…] -f FILE"
    parser.add_argument("-p", "--priority", metavar="N", help="an integer; higher is claimed first (default 0)")
    parser.add_argument("-c", "--category", metavar="CATEGORY", help="the category, made where missing (default: none)")
    parser.add_argument("-i", "--id", metavar="IDENTIFIER", help="a string to find the job by, put into its name")
    parser.add_argument("-f", "--file", metavar="FILE", help="submit a copy of this executable file")
    parser.add_argument("--retries", metavar="N", help="run it again up to N times when it fails; or unlimited")
    parser.add_argument(
        "--retry-delay", metavar="TIME", help="wait before the first retry (30s, 5m); doubled each time"
    )
    parser.add_argument("--time-limit", metavar="TIME", help="end it when it runs longer (90, 30m, 2h)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="options after it belong to it")

    def body(options: argparse.Namespace) -> int:
        from jobjar.stages.submit import describe_command, describe_file, submit

        words = options.command[1:] if options.command[:1] == ["--"] else options.command
        if bool(options.file) == bool(words):
            parser.error("give either a COMMAND or -f FILE")
        attributes = {name: getattr(options, name) for name in ATTRIBUTES}
        priority = None if options.priority is None else parse_priority(options.priority)
        if options.file:
            submission = describe_file(options.file, priority, options.category, options.id, attributes)
        else:
            submission = describe_command(words, priority, options.category, options.id, attributes)
        with named_jar(options, program_path) as jar:
            print(submit(jar, submission), flush=True)
            if jar.has_new_dependents:
                from jobjar.steering.dependents import fold_and_settle

                fold_and_settle(jar)
        return 0

    return run_and_exit_at_once(parser, argv, body)
