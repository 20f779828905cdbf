"""jobjar retry: run ended jobs again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run
from jobjar.programs.steering import EXITS, add_steering, steer_selected

_ABOUT = """Run ended jobs again: the same jobs, with their history, and with all their retries. They wait in their categories as
before."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar retry") -> int:
    parser = make_parser(program, f"{_ABOUT} {EXITS}")
    parser.add_argument(
        "--failed",
        action="store_true",
        help="jobs that failed, timed out, were killed, or crashed; as --outcome of each",
    )
    parser.add_argument(
        "--with-dependents",
        action="store_true",
        help="also what was cancelled because of these jobs; it waits for them again",
    )
    add_steering(parser, "retry")

    def body(options: argparse.Namespace) -> int:
        from jobjar.host import login
        from jobjar.steering.ended import FAILURES, Retry

        if options.failed:
            options.outcome = [*(options.outcome or ()), *FAILURES]
        verb = Retry(login(), options.with_dependents)
        return steer_selected(
            options,
            program_path,
            program,
            verb,
            lambda count: f"{'would retry' if options.dry_run else 'retried'} {count}",
        )

    return run(parser, argv, body)
