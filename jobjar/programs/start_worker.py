"""start_worker: start one worker on this node, in the background unless told otherwise; print its name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobjar.job_file.description import storage_category
from jobjar.job_file.names import check_category
from jobjar.programs.command import add_root_option, complain, make_parser, named_jar, run, warn_of_other_versions
from jobjar.programs.offers import add_offer, read_offer

if TYPE_CHECKING:
    from jobjar.worker.successor import Predecessor


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "start_worker") -> int:
    parser = make_parser(
        program,
        "Start a worker on this node. It asks the category named like the node, then the CATEGORies in order, then the "
        "uncategorized jobs. Prints the worker's name, node.pid.",
    )
    parser.add_argument("--foreground", action="store_true", help="stay in the foreground; SIGTERM or Ctrl-C ends it")
    parser.add_argument(
        "--storage",
        action="store_true",
        help="a storage worker: each CATEGORY is a storage class, whose published files it stores, and it asks for nothing else",
    )
    add_offer(parser)
    # After a failure a worker starts its successor in the same process, with this option (worker/successor.py).
    parser.add_argument("--in-place-of", metavar="WORKER", help=argparse.SUPPRESS)
    add_root_option(parser)
    parser.add_argument("category", nargs="*", metavar="CATEGORY", help="categories to ask (default: JJ_CATEGORIES)")

    def body(options: argparse.Namespace) -> int:
        from jobjar.control import check_may_start, explain_paused_start
        from jobjar.worker import daemon

        predecessor = _read_predecessor(parser, options.in_place_of)
        path = program_path if predecessor is None else predecessor.program_path
        with named_jar(options, path) as jar:
            offer = read_offer(options, jar.settings)
            jar.root_is_meant = options.as_root_for_group
            warn_of_other_versions(program, jar)
            named = tuple(check_category(name) for name in options.category)
            if options.storage and not named:
                parser.error("--storage needs the storage classes whose files this worker is to store")
            categories = (
                tuple(storage_category(name) for name in named) if options.storage else named or jar.settings.categories
            )
            if predecessor is not None:
                daemon.run_in_foreground(
                    jar,
                    categories,
                    predecessor.is_logging,
                    is_storage=options.storage,
                    predecessor=predecessor,
                    offer=offer,
                )
                return 0

            def print_name(name: str) -> None:
                print(name, flush=True)
                paused = explain_paused_start(jar.layout)
                if paused:
                    complain(program, paused)

            if options.foreground:
                daemon.run_in_foreground(jar, categories, ready=print_name, is_storage=options.storage, offer=offer)
                return 0
            jar.check_is_safe()
            jar.check_who_runs_jobs()
            check_may_start(jar.layout)
            print_name(daemon.start_worker(jar, categories, options.storage, offer))
        return 0

    return run(parser, argv, body)


def _read_predecessor(parser: argparse.ArgumentParser, text: str | None) -> Predecessor | None:
    if text is None:
        return None
    from jobjar.worker.successor import read_predecessor

    try:
        return read_predecessor(text)
    except (ValueError, TypeError):
        parser.error("--in-place-of is for workers that take another's place, and for nobody else")


if __name__ == "__main__":
    sys.exit(main(program="start_worker"))
