"""batch_status: print how far batches are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from jobjar.programs.command import complain, make_parser, named_jar, print_tables, run, warn_of_source
from jobjar.programs.options import add_table_format


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "batch_status") -> int:
    parser = make_parser(
        program,
        "Print of each batch how many of its jobs are in which phase and how they ended, how fast it goes, and what it has "
        "done and stored; of the batch NAME also which jobs failed, and why.",
    )
    parser.add_argument(
        "--work_done", action="store_true", help="print the sums of the monitored variable work_done alone"
    )
    add_table_format(parser)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a batch (default: all)")

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports import batches as batch_report
        from jobjar.reports.refresh import describe_source
        from jobjar.reports.tables import check_format

        check_format(options.format)
        with named_jar(options, program_path) as jar:
            gather = batch_report.gather_work if options.work_done else batch_report.gather_batches
            batches = gather(jar, options.name)
            source = describe_source(jar)
        if options.format == "json":
            print(json.dumps({"batches": batches, **source}, indent=1))
            return 0
        if options.work_done:
            text = batch_report.format_work(batches, options.format)
        elif options.name is not None:
            text = batch_report.format_batch(batches[0], options.format)
        else:
            text = batch_report.format_batches(batches, options.format)
        print_tables(text)
        if not batches:
            complain(program, f"no batch has been submitted to {jar.layout.home} yet (`submit_batch` does that)")
        warn_of_source(program, source)
        return 0

    return run(parser, argv, body)
