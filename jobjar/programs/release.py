"""jobjar release: let held jobs wait again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run
from jobjar.programs.steering import EXITS, add_steering, steer_selected

_ABOUT = """Let held jobs wait again in their categories, whoever held them. A dependent that is named, or asked for by
--state dependent, goes on without waiting for its prerequisites; one that was held waits for them first. A job that is held for a
fault of its file is held again by the worker that claims it, unless the file was corrected."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar release") -> int:
    parser = make_parser(program, f"{_ABOUT} {EXITS}")
    add_steering(parser, "release")

    def body(options: argparse.Namespace) -> int:
        from jobjar.host import login
        from jobjar.steering.waiting import Release

        verb = Release(login())
        return steer_selected(
            options,
            program_path,
            program,
            verb,
            lambda count: f"{'would release' if options.dry_run else 'released'} {count}",
        )

    return run(parser, argv, body)
