"""jobjar init: make a jar."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.jar import open_jar
from jobjar.programs.command import make_parser, run
from jobjar.settings.layers import parse_option


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar init") -> int:
    parser = make_parser(
        program, "Make a jar at DIR: its directories, programs, crontabs and configuration file. Harmless to repeat."
    )
    parser.add_argument("--group", action="store_true", help="let the directory's group submit and work (mode 2770)")
    parser.add_argument(
        "--self-contained",
        action="store_true",
        help="put the library and all that it needs into the jar, whose programs then want only Python 3.11 or later",
    )
    parser.add_argument("directory", metavar="DIR", help="a new or empty directory, or a jar")

    def body(options: argparse.Namespace) -> int:
        from jobjar.create import create_jar

        layout = create_jar(options.directory, options.group, options.self_contained)
        # Make the ledger now, so that a missing ledger later is worth a warning.
        with open_jar({"JJ_HOME": parse_option("JJ_HOME", layout.home, "DIR")}) as jar:
            jar.take_umask()
            jar.ledger.open()
        print(layout.home)
        return 0

    return run(parser, argv, body)
