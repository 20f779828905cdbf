"""jobjar stats: print what jobs take: waiting and run time, processor time, memory, and how they end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from jobjar.errors import UsageError
from jobjar.programs.command import make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_selection, add_table_format, read_selection
from jobjar.programs.terminal import print_paged
from jobjar.reports.grouping import GROUPINGS, NEWEST

_ABOUT = """Print what jobs take: how many there are, how they ended, and the median, the 95th percentile and the maximum of how
long they waited and ran, of their processor time, and of their memory; and what those said that failed."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar stats") -> int:
    parser = make_parser(program, _ABOUT)
    add_table_format(parser)
    parser.add_argument("--by", default="category", metavar="WHAT", help=f"{', '.join(GROUPINGS)} (default: category)")
    parser.add_argument(
        "--limit",
        type=int,
        default=NEWEST,
        metavar="N",
        help=f"look at the N jobs that ended last; 0: at all, which takes seconds for a million (default: {NEWEST})",
    )
    add_selection(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.refresh import describe_source, refresh_ledger
        from jobjar.reports.stats import check_grouping, describe_for_programs, format_stats
        from jobjar.reports.stats_tasks import gather_selected
        from jobjar.reports.tables import check_format

        check_format(options.format)
        check_grouping(options.by)
        if options.limit < 0:
            raise UsageError(reason=f"--limit: {options.limit} is no number of jobs; 0 is for all")
        selection = read_selection(options)
        with named_jar(options, program_path) as jar:
            refresh_ledger(jar)
            stats = gather_selected(jar, selection, options.by, options.limit or None)
            source = describe_source(jar)
        if options.format == "json":
            print(json.dumps({**describe_for_programs(stats), **source}, indent=1))
            return 0
        print_paged(format_stats(stats, options.format))
        warn_of_source(program, source)
        return 0

    return run(parser, argv, body)
