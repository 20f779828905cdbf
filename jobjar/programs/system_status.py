"""system_status: print what the jar is doing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from jobjar.programs.command import make_parser, named_jar, print_tables, run
from jobjar.programs.options import add_table_format


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "system_status") -> int:
    parser = make_parser(
        program, "Print workers, waiting and claimed jobs, outcomes, throughput, and what needs a look."
    )
    add_table_format(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.status import format_status, gather_status
        from jobjar.reports.tables import check_format

        check_format(options.format)
        with named_jar(options, program_path) as jar:
            status = gather_status(jar)
        if options.format == "json":
            print(json.dumps(status, indent=1))
        else:
            print_tables(format_status(jar, status, options.format))
        return 0

    return run(parser, argv, body)
