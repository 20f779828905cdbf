"""start_worker: start one worker on this node, in the background unless told otherwise; print its name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.jobname import check_category
from jobjar.programs.command import make_parser, open_named_jar, run


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "start_worker") -> int:
    parser = make_parser(
        program,
        "Start a worker on this node. It asks the category named like the node, then the CATEGORies in order, then the "
        "uncategorized jobs. Prints the worker's name, node.pid.",
    )
    parser.add_argument("--foreground", action="store_true", help="stay in the foreground; SIGTERM or Ctrl-C ends it")
    parser.add_argument("category", nargs="*", metavar="CATEGORY", help="categories to ask (default: JJ_CATEGORIES)")

    def body(options: argparse.Namespace) -> int:
        from jobjar import daemon

        jar = open_named_jar(options, program_path)
        categories = tuple(check_category(name) for name in options.category) or jar.settings.categories
        if options.foreground:
            daemon.run_in_foreground(jar, categories, ready=lambda name: print(name, flush=True))
            return 0
        jar.check_is_safe()
        print(daemon.start_worker(jar, categories))
        return 0

    return run(parser, argv, body)
