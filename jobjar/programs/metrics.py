"""jobjar metrics: print what a jar is doing as numbers for Prometheus."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from jobjar.programs.command import make_parser, named_jar, run

_ABOUT = """Print what the jar is doing in Prometheus's text format: jobs by state, what waits, what ended in the last hour and
day, workers, limits, what stands still. With --textfile, write it for node_exporter's textfile collector."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar metrics") -> int:
    parser = make_parser(program, _ABOUT)
    parser.add_argument(
        "--textfile", metavar="FILE", help="write to this file, whole or not at all, instead of standard output"
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.metrics import format_metrics
        from jobjar.shared_disk.files import replace_file

        with named_jar(options, program_path) as jar:
            text = format_metrics(jar)
        if options.textfile is None:
            print(text, end="")
            return 0
        # node_exporter is another user; the jar's umask is not for a file outside of it.
        os.umask(0o022)
        replace_file(os.path.abspath(options.textfile), text.encode(), 0o644)
        return 0

    return run(parser, argv, body)
