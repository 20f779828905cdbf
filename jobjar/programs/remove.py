"""jobjar remove: remove ended jobs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run
from jobjar.programs.steering import EXITS, add_steering, steer_selected

_ABOUT = """Remove the files of ended jobs now, instead of when JJ_KEEP_COMPLETED is over. The history stays: `jobjar show` and
`jobjar history` go on to print it. So does what the jobs wrote, until their worker's directory is removed."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar remove") -> int:
    parser = make_parser(program, f"{_ABOUT} {EXITS}")
    add_steering(parser, "remove")

    def body(options: argparse.Namespace) -> int:
        from jobjar.host import login
        from jobjar.steering.ended import Remove

        verb = Remove(login())
        return steer_selected(
            options,
            program_path,
            program,
            verb,
            lambda count: f"{'would remove' if options.dry_run else 'removed'} {count}",
        )

    return run(parser, argv, body)
