"""jobjar move: put waiting and held jobs into another category."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run
from jobjar.programs.steering import EXITS, add_steering, steer_selected

_ABOUT = """Put waiting and held jobs into another category. They keep their priority, and their place in the order of
submissions."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar move") -> int:
    parser = make_parser(program, f"{_ABOUT} {EXITS}")
    add_steering(parser, "move")
    parser.add_argument("target", metavar="CATEGORY", help="the category, which is made if it is not there ('': none)")

    def body(options: argparse.Namespace) -> int:
        from jobjar.host import login
        from jobjar.job_file.names import check_category
        from jobjar.steering.waiting import Recategorize

        category = check_category(options.target) if options.target else ""
        verb = Recategorize(login(), category)
        where = f"to category {category}" if category else "out of any category"
        moved = "would move" if options.dry_run else "moved"
        return steer_selected(options, program_path, program, verb, lambda count: f"{moved} {count} {where}")

    return run(parser, argv, body)
