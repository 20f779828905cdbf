"""jobjar wait: wait until jobs have ended."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.errors import UsageError
from jobjar.programs.command import make_parser, open_named_jar, run, say_source
from jobjar.units import parse_seconds


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar wait") -> int:
    parser = make_parser(
        program,
        "Wait until jobs have ended. Exit status: 0 all succeeded, 1 some did not, 124 the time was over before.",
    )
    parser.add_argument("--all", action="store_true", help="wait for all jobs that are unclaimed or claimed now")
    parser.add_argument("--timeout", metavar="TIME", help="wait at most so long (seconds, or 30s, 5m, 2h)")
    parser.add_argument("job", nargs="*", metavar="JOB", help="names, ids (or their first letters), or paths")

    def body(options: argparse.Namespace) -> int:
        from jobjar.lookup import all_succeeded, describe_source, wait_for_jobs

        if bool(options.job) == options.all:
            raise UsageError(reason="name the jobs to wait for, or use --all")
        try:
            timeout_s = None if options.timeout is None else parse_seconds(options.timeout)
        except ValueError as error:
            raise UsageError(reason=f"--timeout: {error}") from error
        jar = open_named_jar(options, program_path)
        outcomes = wait_for_jobs(jar, None if options.all else options.job, timeout_s)
        say_source(program, describe_source(jar))
        jar.close()
        return 0 if all_succeeded(outcomes) else 1

    return run(parser, argv, body)
