"""jobjar hold: hold waiting jobs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run
from jobjar.programs.steering import EXITS, add_steering, steer_selected

_ABOUT = """Hold waiting jobs: they go to limbo, and no worker claims them until `jobjar release`. They keep their category, their
priority, and their place in the order. Dependents are held too, even if their prerequisites end. Jobs that run cannot be held."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar hold") -> int:
    parser = make_parser(program, f"{_ABOUT} {EXITS}")
    add_steering(parser, "hold")

    def body(options: argparse.Namespace) -> int:
        from jobjar.host import login
        from jobjar.steering.waiting import Hold

        verb = Hold(login())
        return steer_selected(
            options, program_path, program, verb, lambda count: f"{'would hold' if options.dry_run else 'held'} {count}"
        )

    return run(parser, argv, body)
