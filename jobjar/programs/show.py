"""jobjar show: print all that is known of a job."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

from jobjar.errors import UsageError
from jobjar.programs.command import make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_job, add_text_format
from jobjar.programs.terminal import print_paged, terminal_width
from jobjar.text import printable


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar show") -> int:
    parser = make_parser(
        program,
        "Print all that is known of a job: where it is, how it ended, its attempts and its moves. For an array, print how "
        "far its tasks are; ARRAY[7] is one of its tasks.",
    )
    add_text_format(parser)
    add_job(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.programs.show_array import show_tasks
        from jobjar.programs.shown_job import format_description, format_for_terminal
        from jobjar.reports.jobs import describe_job
        from jobjar.reports.refresh import describe_source, refresh_ledger
        from jobjar.reports.sentences import format_job
        from jobjar.selecting.arrays import find_tasks
        from jobjar.selecting.named import find_job

        if not options.job:
            raise UsageError(reason="name a job")
        with named_jar(options, program_path) as jar:
            refresh_ledger(jar)
            tasks = find_tasks(jar, options.job)
            if tasks is not None:
                show_tasks(jar, tasks, as_json=options.format == "json")
                warn_of_source(program, describe_source(jar))
                return 0
            description = describe_job(jar, find_job(jar, options.job))
            first = "" if terminal_width() is None else format_job(jar, description, time.time())
            source = describe_source(jar)
        if options.format == "json":
            print(json.dumps({**description, **source}, indent=1))
        else:
            width = terminal_width()
            if width is None:
                print(printable(format_description(description)))
            else:
                print_paged(printable(format_for_terminal(first, description, width)))
            warn_of_source(program, source)
        return 0

    return run(parser, argv, body)
