"""jobjar init: make a jar."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from jobjar.jar import open_jar
from jobjar.layout import Layout
from jobjar.programs.command import make_parser, run
from jobjar.settings.layers import parse_option
from jobjar.version import VERSION


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
        from jobjar.create import create_jar, find_version_of_programs

        before = find_version_of_programs(Layout(os.path.abspath(options.directory)))
        layout = create_jar(options.directory, options.group, options.self_contained)
        if before not in (None, VERSION):
            print(
                f"{program}: the programs in {layout.bin} were made by Job Jar {before}; they are of {VERSION} now. "
                "Workers that run go on with the version that they began with: restart them",
                file=sys.stderr,
            )
        # Make the ledger now, so that a missing ledger later is worth a warning.
        with open_jar({"JJ_HOME": parse_option("JJ_HOME", layout.home, "DIR")}) as jar:
            jar.take_umask()
            jar.ledger.open()
        print(layout.home)
        return 0

    return run(parser, argv, body)
