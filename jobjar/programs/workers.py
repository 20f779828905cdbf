"""jobjar workers: print the workers, one line each."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

from jobjar.programs.command import complain, make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_table_format
from jobjar.programs.terminal import painter, print_paged

_COLOURS = {"busy": "cyan", "paused": "yellow", "silent": "red", "unknown": "red", "dead": "red"}


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar workers") -> int:
    parser = make_parser(
        program,
        "Print the workers that have not ended: node, state, what each runs and since when, its heartbeat's age.",
    )
    add_table_format(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.refresh import describe_source, refresh_ledger
        from jobjar.reports.tables import check_format
        from jobjar.reports.working import describe_for_programs, format_workers, list_working

        check_format(options.format)
        with named_jar(options, program_path) as jar:
            refresh_ledger(jar)
            now = time.time()
            workers = list_working(jar, now)
            source = describe_source(jar)
        if options.format == "json":
            print(json.dumps({"workers": list(map(describe_for_programs, workers)), **source}, indent=1))
            return 0
        if not workers:
            complain(program, "no worker is running; `start_worker` starts one")
            return 0
        print_paged(format_workers(workers, now, options.format, painter(_COLOURS)))
        warn_of_source(program, source)
        return 0

    return run(parser, argv, body)
