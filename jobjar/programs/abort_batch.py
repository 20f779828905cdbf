"""abort_batch: cancel what waits of a batch and kill what runs, and, if asked, submit again what did not succeed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import complain, make_parser, open_named_jar, run


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "abort_batch") -> int:
    parser = make_parser(
        program,
        "Abort a batch: its waiting jobs complete with outcome cancelled, its running ones are killed, and until it is "
        "restarted none of it runs. Jobs whose run is over and whose files wait to be stored are left to be stored. Prints "
        "how many jobs were cancelled, killed, and submitted again.",
    )
    parser.add_argument(
        "--restart", action="store_true", help="then submit its jobs that did not succeed again, as new jobs"
    )
    parser.add_argument("name", metavar="NAME", help="the batch")

    def body(options: argparse.Namespace) -> int:
        from jobjar.batch import abort_batch

        jar = open_named_jar(options, program_path)
        try:
            done = abort_batch(jar, options.name, options.restart)
        finally:
            jar.close()
        print(f"{done.cancelled} cancelled, {done.killed} killed, {done.restarted} submitted again")
        for job in done.running:
            complain(program, f"{job} still runs; its worker was asked to kill it")
        return 0

    return run(parser, argv, body)
