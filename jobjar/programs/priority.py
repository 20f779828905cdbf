"""jobjar priority: give waiting and held jobs another priority."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run
from jobjar.programs.steering import EXITS, add_steering, steer_selected

_ABOUT = """Give waiting and held jobs another priority. It is part of their names: the ids stay."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar priority") -> int:
    parser = make_parser(program, f"{_ABOUT} {EXITS}")
    add_steering(parser, "give the priority to")
    parser.add_argument(
        "priority", metavar="N", help="the priority: an integer; jobs with a higher one are claimed first"
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar.host import login
        from jobjar.job_file.names import parse_priority
        from jobjar.steering.waiting import Prioritize

        verb = Prioritize(login(), parse_priority(options.priority))
        gave = f"{'would give' if options.dry_run else 'gave'} priority {options.priority} to"
        return steer_selected(options, program_path, program, verb, lambda count: f"{gave} {count}")

    return run(parser, argv, body)
