"""jobjar check: compare the ledger, the journals and the directories; 1 if they differ."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.grouped import summarize
from jobjar.programs.command import complain, make_parser, named_jar, run, warn_of_source
from jobjar.text import printable


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar check") -> int:
    parser = make_parser(
        program,
        "Compare the ledger, the journals and the directories, and print what differs, a line for each kind. Changes nothing. "
        "Exit status 1 if there is one; `recover_jobs` reconciles, `jobjar rebuild` makes the ledger anew.",
    )

    parser.add_argument("-v", "--verbose", action="store_true", help="print each, where there are several of one kind")

    def body(options: argparse.Namespace) -> int:
        from jobjar.programs.shown_meter import open_meter
        from jobjar.reports.check import check_jar
        from jobjar.reports.refresh import describe_source

        with named_jar(options, program_path) as jar:
            notes: list[str] = []
            with open_meter() as meter:
                lines = check_jar(jar, notes.append, meter)
            for line in notes if options.verbose else summarize(notes):
                complain(program, line)
            warn_of_source(program, describe_source(jar))
        for line in lines if options.verbose else summarize(lines):
            print(printable(line))
        if lines:
            what = "`recover_jobs` has the ledger agree with the directories; what stays, `jobjar rebuild` may mend"
            complain(program, what)
        return 1 if lines else 0

    return run(parser, argv, body)
