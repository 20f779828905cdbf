"""jobjar history: print what happened to a job, one line an event."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence

from jobjar.programs.command import make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_job, add_table_format
from jobjar.programs.terminal import print_paged


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar history") -> int:
    parser = make_parser(
        program, "Print what happened to a job, the earliest first: its moves, its attempts, their phases."
    )
    add_table_format(parser, others="json, csv")
    add_job(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.history import Event, gather_history
        from jobjar.reports.history_array import gather_array_history
        from jobjar.reports.listing import iso_time
        from jobjar.reports.refresh import describe_source, refresh_ledger
        from jobjar.reports.tables import check_format, format_table
        from jobjar.selecting.arrays import find_tasks
        from jobjar.selecting.named import find_job
        from jobjar.units import format_moment

        if options.format not in ("json", "csv"):
            check_format(options.format)
        with named_jar(options, program_path) as jar:
            refresh_ledger(jar)
            tasks = find_tasks(jar, options.job)
            if tasks is None:
                events = gather_history(jar, find_job(jar, options.job))
            else:
                events = gather_array_history(jar, tasks)
            source = describe_source(jar)
        described = [{**event._asdict(), "at": iso_time(event.at)} for event in events]
        if options.format == "json":
            print(json.dumps({"events": described, **source}, indent=1))
            return 0
        if options.format == "csv":
            writer = csv.DictWriter(sys.stdout, Event._fields, lineterminator="\n")
            writer.writeheader()
            writer.writerows(described)
            return 0
        rows = [
            (format_moment(event.at).replace("T", " "), event.event, event.by or "", event.attempt or "", event.details)
            for event in events
        ]
        text = format_table(rows, ("when", "event", "by", "attempt", ""), options.format)
        print_paged(text)
        warn_of_source(program, source)
        return 0

    return run(parser, argv, body)
