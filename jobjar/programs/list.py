"""jobjar list: print a jar's jobs, those that are named or all that fit filters."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobjar.errors import NothingSelected, UsageError
from jobjar.programs.command import complain, make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_selection, add_table_format, read_selection
from jobjar.programs.terminal import painter, print_paged, terminal_width

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jobjar.jar import Jar
    from jobjar.reports.listing import ListedJob
    from jobjar.selecting.selection import Selection

_ABOUT = """Print jobs: those that run, are held, wait for others, wait for a worker (in the order in which they will be
claimed), and have ended (the latest first). The columns are those that fit the terminal; `job` is what a job was named, or else
its command. On a terminal a long list is shown by a pager (PAGER, or less)."""
# As many as a person looks through. Programs get all.
_PAGE = 100
_COLOURS = {
    "running": "cyan",
    "held": "yellow",
    "dependent": "yellow",
    "limbo": "yellow",
    "succeeded": "green",
    "cancelled": "grey",
    "removed": "grey",
    **dict.fromkeys(("failed", "timed_out", "killed", "crashed", "ended"), "red"),
}


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar list") -> int:
    parser = make_parser(program, _ABOUT)
    add_table_format(parser, others="json, csv")
    parser.add_argument(
        "--columns", metavar="NAMES", help="these columns of a table or of csv, in this order, with commas between"
    )
    parser.add_argument("--sort", metavar="COLUMN", help="sort by a column (default: by state)")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--limit", type=int, metavar="N", help=f"print at most N jobs; 0: all (default: {_PAGE}; json and csv: all)"
    )
    parser.add_argument(
        "--chunks", action="store_true", help="list the chunks of arrays too, as the jobs that they are"
    )
    add_selection(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.listed_arrays import take_arrays
        from jobjar.reports.listing import check_columns, list_selected
        from jobjar.reports.other_files import explain_unseen
        from jobjar.reports.refresh import describe_source, refresh_ledger
        from jobjar.reports.tables import check_format

        is_table = options.format not in ("json", "csv")
        if is_table:
            check_format(options.format)
        if options.limit is not None and options.limit < 0:
            raise UsageError(reason=f"--limit: {options.limit} is no number of jobs; 0 is for all")
        if options.columns is not None and options.format == "json":
            raise UsageError(reason="--columns is for tables and csv; json has every field")
        columns = None if options.columns is None else check_columns(options.columns.split(","))
        selection = read_selection(options)
        limit = (_PAGE if is_table else 0) if options.limit is None else options.limit
        with named_jar(options, program_path) as jar:
            unseen = refresh_ledger(jar)
            missing: NothingSelected | None = None
            left, arrays, tasks = take_arrays(jar, selection, options.chunks)
            try:
                # One more tells whether there are more.
                most = limit + 1 if limit else None
                jobs = []
                if left is not None:
                    jobs = list_selected(jar, left, time.time(), most, options.sort, options.reverse)
            except NothingSelected as error:
                jobs, missing = [], error
            if left is None or arrays or tasks:
                missing = None
            source = describe_source(jar)
            shown = jobs[:limit] if limit else jobs
            if options.format == "json":
                _print_json(shown, {**source, "arrays": arrays, "tasks": tasks})
            elif options.format == "csv":
                _print_csv(shown, columns)
            elif shown or arrays or tasks:
                _print_tables(arrays, tasks, shown, columns, options.format)
            if left is not None and len(jobs) > len(shown):
                complain(program, _explain_more(jar, left, limit))
        for directory in unseen:
            if directory.is_by_hand:  # what a hand did there is not in the list
                complain(program, explain_unseen(directory))
        if missing is not None:
            complain(program, missing)
            # A jar without jobs is no failure; a question about some that are not there is.
            return 0 if selection.is_everything else missing.exit_status
        if is_table:
            warn_of_source(program, source)
        return 0

    return run(parser, argv, body)


def _print_json(jobs: Sequence[ListedJob], source: Mapping[str, Any]) -> None:
    """Print one object, a job a line: a million of them are not held as text."""
    from jobjar.reports.listing import describe_for_programs

    print('{"jobs": [', end="")
    for number, job in enumerate(jobs):
        print(f"{',' if number else ''}\n {json.dumps(describe_for_programs(job))}", end="")
    rest = json.dumps(dict(source)).removeprefix("{")
    print(f"\n], {rest}")


def _print_csv(jobs: Sequence[ListedJob], columns: Sequence[str] | None) -> None:
    from jobjar.reports.listing import COLUMNS
    from jobjar.reports.listing_table import cell_for_programs

    names = columns or [name for name in COLUMNS if name not in ("command", "job")]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([cell_for_programs(name, job) for name in names] for job in jobs)


def _print_tables(
    arrays: Sequence[dict[str, Any]],
    tasks: Sequence[dict[str, Any]],
    jobs: Sequence[ListedJob],
    columns: Sequence[str] | None,
    table_format: str,
) -> None:
    from jobjar.reports.arrays import format_arrays
    from jobjar.reports.listed_arrays import format_listed_tasks
    from jobjar.reports.listing_table import make_table

    sections = [format_arrays(arrays)] if arrays else []
    sections += [format_listed_tasks(tasks, table_format)] if tasks else []
    sections += [make_table(jobs, columns, terminal_width(), table_format, painter(_COLOURS))] if jobs else []
    print_paged("\n\n".join(sections))


def _explain_more(jar: Jar, selection: Selection, limit: int) -> str:
    from jobjar.selecting.select import count_selected

    count = count_selected(jar, selection)
    more = "there are more" if count is None else f"{count - limit:,} more"
    return f"{more}; --limit 0 lists all, --state and other filters fewer"
