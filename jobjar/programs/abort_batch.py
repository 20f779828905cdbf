"""abort_batch: cancel what waits of a batch and kill what runs; or submit again what did not succeed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import complain, make_parser, named_jar, run


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "abort_batch") -> int:
    parser = make_parser(
        program,
        "Abort a batch: its waiting jobs complete with outcome cancelled, its running ones are killed, and until it is "
        "restarted none of it runs. Jobs whose run is over and whose files wait to be stored are left to be stored. With "
        "--restart, submit its jobs that did not succeed again; what waits or runs is left alone then, unless --kill asks for "
        "more, or the batch is aborted already. Prints how many jobs were cancelled, killed, and submitted again.",
    )
    parser.add_argument(
        "--restart", action="store_true", help="submit its jobs that did not succeed again, as new jobs"
    )
    parser.add_argument(
        "--kill", action="store_true", help="with --restart: first cancel what waits and kill what runs, as without it"
    )
    parser.add_argument("name", metavar="NAME", help="the batch")

    def body(options: argparse.Namespace) -> int:
        from jobjar.batches.abort import abort_batch
        from jobjar.steering.dependents import fold_and_settle

        with named_jar(options, program_path) as jar:
            try:
                done = abort_batch(jar, options.name, options.restart, options.kill)
            finally:
                fold_and_settle(jar)
        print(f"{done.cancelled} cancelled, {done.killed} killed, {done.restarted} submitted again")
        if done.left_alone:
            what = (
                "1 job that waits or runs was"
                if done.left_alone == 1
                else f"{done.left_alone} jobs that wait or run were"
            )
            complain(program, f"{what} left alone (`abort_batch --restart --kill {done.name}` submits them again too)")
        for job in done.running:
            complain(program, f"{job} still runs; its worker was asked to kill it")
        return 0

    return run(parser, argv, body)
