"""jobjar make_worker: write one executable file that runs a worker of a named setup where nothing is installed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, named_jar, run


def main(
    argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar make_worker"
) -> int:
    parser = make_parser(
        program,
        "Write one executable file that runs a worker of a setup, with the library and all that it needs inside. The node has to "
        "have the jar at the same path, and Python 3.11 or later. Words after the file's name are more options of start_worker.",
    )
    parser.add_argument("setup", metavar="NAME", help="the setup (`jobjar worker_setup add`)")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file (default: NAME.worker in this directory)")

    def body(options: argparse.Namespace) -> int:
        from jobjar.worker.made_worker import write_worker
        from jobjar.worker.setups import read_setup

        with named_jar(options, program_path) as jar:
            path = options.output or f"{options.setup}.worker"
            write_worker(jar.layout.home, read_setup(jar.layout, options.setup), path)
            print(path)
        return 0

    return run(parser, argv, body)
