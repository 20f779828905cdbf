"""list_outputs: print where output files are stored."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobjar.programs.command import make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_table_format
from jobjar.text import printable

if TYPE_CHECKING:
    from jobjar.ledger.ask_stored_files import StoredOutput


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "list_outputs") -> int:
    parser = make_parser(
        program, "Print the stored output files of a batch, of a job, or of all jobs: name, size, md5, where."
    )
    add_table_format(parser)
    parser.add_argument("name", metavar="BATCH|JOB", nargs="?", help="a batch's name, or a job's name, id, or path")

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.refresh import describe_source
        from jobjar.reports.stored_files import list_outputs
        from jobjar.reports.tables import check_format, format_table

        check_format(options.format)
        with named_jar(options, program_path) as jar:
            outputs = list_outputs(jar, options.name)
            source = describe_source(jar)
        if options.format == "json":
            print(json.dumps({"outputs": [output._asdict() for output in outputs], **source}, indent=1))
            return 0
        rows = [
            [printable(str(cell)) if cell is not None else "" for cell in _cells(output)] for output in outputs
        ]  # do this before the table is made, since some formats contain tabs
        print(format_table(rows, ("job", "name", "size", "md5", "where"), options.format))
        warn_of_source(program, source)
        return 0

    return run(parser, argv, body)


def _cells(output: StoredOutput) -> tuple[object, ...]:
    where = output.storage_hfn or output.storage_url
    return output.job, output.name, output.storage_size, output.storage_md5, where
