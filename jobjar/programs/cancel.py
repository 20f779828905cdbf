"""jobjar cancel: cancel jobs that wait, are held, or run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run
from jobjar.programs.steering import EXITS, add_steering, steer_selected

_ABOUT = """Cancel jobs: those that wait or are held complete without a run, those that run are ended by their workers, on any
node (SIGTERM, and SIGKILL after JJ_GRACE_TIME). Their outcome is cancelled, and they are not run again; what depends on their
success is cancelled too. Waits until the running ones have ended."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar cancel") -> int:
    parser = make_parser(program, f"{_ABOUT} {EXITS}")
    parser.add_argument("--reason", metavar="TEXT", help="why, for the jobs' history")
    add_steering(parser, "cancel")

    def body(options: argparse.Namespace) -> int:
        from jobjar.host import login
        from jobjar.steering.cancel import Cancel

        cancelled = "would cancel" if options.dry_run else "cancelled"
        verb = Cancel(login(), options.reason)
        return steer_selected(options, program_path, program, verb, lambda count: f"{cancelled} {count}")

    return run(parser, argv, body)
