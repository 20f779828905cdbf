"""check_pilots: look what became of the pilots that were submitted, and submit what the waiting work needs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import add_root_option, complain, make_parser, named_jar, run
from jobjar.text import printable


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "check_pilots") -> int:
    parser = make_parser(
        program,
        "Take one turn of each queue of pilots (`jobjar pilots add`): ask the batch system what became of the pilots that were "
        "submitted, and submit those that the waiting jobs need. Prints what it did. Cron runs it every minute "
        "(crontabs/pilots.cron), on a node from which jobs can be submitted.",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print only what is wrong, and what a person has to see to"
    )
    add_root_option(parser)
    parser.add_argument("queue", nargs="*", metavar="NAME", help="the pilots to look at (default: all)")

    def body(options: argparse.Namespace) -> int:
        from jobjar.pilots.queue import find_queue
        from jobjar.pilots.turn import take_turns

        def say(line: str) -> None:
            if not options.quiet:
                print(printable(line), flush=True)

        with named_jar(options, program_path) as jar:
            jar.root_is_meant = options.as_root_for_group
            jar.check_is_safe()
            jar.check_who_runs_jobs()
            names = [find_queue(jar, name).name for name in options.queue] or None
            take_turns(jar, say, lambda line: complain(program, line), names)
        return 0

    return run(parser, argv, body)
