"""jobjar report: write a report of the jar, or of a batch, as one file."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

from jobjar.errors import JarError, UsageError
from jobjar.programs.command import make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import A_TIME, take_times_with_minus
from jobjar.units import parse_moment

_ABOUT = """Write a report of the jar, or of a batch, as one HTML file: what waited, ended and failed over time, what jobs
took, what stands still, the variables of a batch. It opens from a disk, asks for nothing, and prints."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar report") -> int:
    parser = make_parser(program, _ABOUT)
    parser.add_argument("--html", required=True, metavar="FILE", help="the file to write, whole or not at all")
    parser.add_argument("--since", default="7d", metavar="TIME", help=f"when it begins: {A_TIME} (default: 7d)")
    parser.add_argument("--batch", metavar="NAME", help="of this batch")
    take_times_with_minus(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.refresh import describe_source
        from jobjar.shared_disk.files import replace_file

        try:
            since = parse_moment(options.since)
        except ValueError as error:
            raise UsageError(reason=f"--since: {error}") from error
        if since >= time.time():
            raise UsageError(reason=f"--since: {options.since!r} is not in the past")
        try:
            from jobjar.web.report import make_report
        except ImportError as error:
            raise JarError(reason=f"a report cannot be drawn: {error}; install jobjar[web]") from error
        own_umask = os.umask(0o077)
        os.umask(own_umask)
        with named_jar(options, program_path) as jar:
            text = make_report(jar, since, options.batch)
            source = describe_source(jar)
        os.umask(own_umask)  # the file is the user's, not the jar's
        replace_file(os.path.abspath(options.html), text.encode("utf-8", "backslashreplace"), 0o666)
        warn_of_source(program, source)
        return 0

    return run(parser, argv, body)
