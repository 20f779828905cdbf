"""check_workers: start workers until this node runs JJ_MAX_WORKERS; print the names of the new ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, open_named_jar, run


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "check_workers") -> int:
    parser = make_parser(
        program, "Start workers until JJ_MAX_WORKERS of them run on this node. Prints the names of those it started."
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar import daemon

        jar = open_named_jar(options, program_path)
        jar.check_is_safe()
        for name in daemon.check_workers(jar, jar.settings.categories):
            print(name)
        return 0

    return run(parser, argv, body)
