"""workload_limit: print or set how many jobs of a category, a storage class or a batch may run at once."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from jobjar.programs.command import complain, make_parser, named_jar, run
from jobjar.programs.options import add_table_format

DESCRIPTION = """Set how many jobs of a category may run at once, over all nodes: never more do. Without N the limit is printed,
and without anything all limits, and who holds their tokens."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "workload_limit") -> int:
    parser = make_parser(program, DESCRIPTION)
    add_table_format(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--storage", action="store_true", help="NAME is a storage class: the limit is for storing its outputs"
    )
    what.add_argument("--batch", action="store_true", help="NAME is a batch")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a category ('': the uncategorized jobs)")
    parser.add_argument("limit", nargs="?", metavar="N", help="a number, or none for as many as there are")

    def body(options: argparse.Namespace) -> int:
        from jobjar.attempts import limits
        from jobjar.reports.hints import explain_unknown_limit
        from jobjar.reports.refresh import refresh_ledger
        from jobjar.reports.status import format_limits
        from jobjar.reports.tables import check_format

        check_format(options.format)
        with named_jar(options, program_path) as jar:
            if options.name is None:
                described = limits.describe_limits(jar.layout)
                print(
                    json.dumps(described, indent=1)
                    if options.format == "json"
                    else format_limits(described, options.format)
                )
                return 0
            kind = limits.STORAGE if options.storage else limits.BATCH if options.batch else limits.CATEGORY
            if options.limit is not None:
                count = limits.parse_count(options.limit)
                if count is not None:
                    refresh_ledger(jar)  # first: where the ledger's home is refused, no limit is set
                limits.set_limit(jar, kind, options.name, count)
                if count is not None:
                    unknown = explain_unknown_limit(jar, kind, options.name)
                    if unknown is not None:
                        complain(program, f"warning: {unknown}")
                return 0
            most = limits.read_limit(jar.layout, limits.limit_key(kind, options.name)).most
            print("none" if most is None else most)
        return 0

    return run(parser, argv, body)
