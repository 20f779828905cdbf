"""jobjar check: compare the ledger, the journals and the directories; 1 if they differ."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.jobname import printable
from jobjar.programs.command import complain, make_parser, open_named_jar, run, say_source


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar check") -> int:
    parser = make_parser(
        program,
        "Compare the ledger, the journals and the directories, and print each difference. Changes nothing. "
        "Exit status 1 if there is one; `recover_jobs` reconciles, `jobjar rebuild` makes the ledger anew.",
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar.check import check_jar
        from jobjar.lookup import describe_source

        jar = open_named_jar(options, program_path)
        lines = check_jar(jar, lambda line: complain(program, line))
        say_source(program, describe_source(jar))
        jar.close()
        for line in lines:
            print(printable(line))
        return 1 if lines else 0

    return run(parser, argv, body)
