"""start_worker: start workers on this node or on others, in the background unless told otherwise; print their names."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobjar.job_file.description import storage_category
from jobjar.job_file.names import check_category
from jobjar.programs.command import add_root_option, complain, make_parser, named_jar, run, warn_of_other_versions
from jobjar.programs.end_options import add_end_options, limits_as_words, parse_some, parse_some_time, read_limits
from jobjar.programs.offers import add_offer, read_offer

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.worker.own_end import Limits
    from jobjar.worker.successor import Predecessor


def make_start_parser(program: str) -> argparse.ArgumentParser:
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
    add_end_options(parser)
    elsewhere = parser.add_argument_group("on other hosts, by ssh (keys only; JJ_SSH)")
    elsewhere.add_argument(
        "--on", metavar="HOST,...", help="start workers on these hosts, which have the jar at the same path"
    )
    elsewhere.add_argument(
        "--per-host", type=parse_some, default=1, metavar="N", help="so many workers on each (default 1)"
    )
    elsewhere.add_argument(
        "--ssh-timeout",
        type=parse_some_time,
        default=60.0,
        metavar="TIME",
        help="how long a host may take to answer (60s)",
    )
    add_offer(parser)
    # After a failure a worker starts its successor in the same process, with this option (worker/successor.py).
    parser.add_argument("--in-place-of", metavar="WORKER", help=argparse.SUPPRESS)
    parser.add_argument(
        "--setup", metavar="NAME", help="the options and settings of this setup (`jobjar worker_setup`); others win"
    )
    add_root_option(parser)
    parser.add_argument("category", nargs="*", metavar="CATEGORY", help="categories to ask (default: JJ_CATEGORIES)")
    return parser


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "start_worker") -> int:
    parser = make_start_parser(program)

    def body(options: argparse.Namespace) -> int:
        from jobjar.control import check_may_start, explain_paused_start
        from jobjar.worker import daemon

        options = merge_setup(parser, options, program_path)
        predecessor = _read_predecessor(parser, options.in_place_of)
        if options.foreground and predecessor is None and (options.on is not None or options.per_host > 1):
            parser.error("--foreground is for one worker on this node")
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
                    limits=predecessor.limits,
                    offer=offer,
                )
                return 0
            limits = read_limits(options, jar.settings.grace_time_s, lambda text: complain(program, text))
            if options.on is not None:
                return _start_elsewhere(parser, program, jar, options, limits)

            _warn_of_name(program, jar)

            def print_name(name: str) -> None:
                print(name, flush=True)
                paused = explain_paused_start(jar.layout)
                if paused:
                    complain(program, paused)

            if options.foreground:
                daemon.run_in_foreground(
                    jar, categories, ready=print_name, is_storage=options.storage, limits=limits, offer=offer
                )
                return 0
            jar.check_is_safe()
            jar.check_who_runs_jobs()
            check_may_start(jar.layout)
            for _ in range(options.per_host):
                print_name(daemon.start_worker(jar, categories, options.storage, limits, offer))
        return 0

    return run(parser, argv, body)


def merge_setup(
    parser: argparse.ArgumentParser, typed: argparse.Namespace, program_path: str | None
) -> argparse.Namespace:
    """The options that a setup has where none is typed; its settings go to the environment of this process. Raises BadSetup."""
    if not typed.setup:
        return typed
    from jobjar.worker.setups import read_setup, use_settings

    with named_jar(typed, program_path) as jar:
        setup = read_setup(jar.layout, typed.setup)
    use_settings(setup)
    merged = parser.parse_args(list(setup.words))
    if typed.for_s is not None or typed.until is not None:
        merged.for_s = merged.until = None
    for name, value in vars(typed).items():
        if value != parser.get_default(name) and value != []:
            setattr(merged, name, value)
    return merged


def use_settings_of(options: argparse.Namespace, program_path: str | None) -> None:
    """Give this process the settings of the setup that the options name. Raises BadSetup."""
    from jobjar.worker.setups import read_setup, use_settings

    with named_jar(options, program_path) as jar:
        use_settings(read_setup(jar.layout, options.setup))


def read_for_check(jar: Jar, setup: str) -> tuple[tuple[str, ...], bool, Limits]:
    """The categories of a setup's workers, whether they are storage workers, and their limits. Raises BadSetup."""
    from jobjar.worker.setups import read_setup

    options = make_start_parser("check_workers").parse_args(list(read_setup(jar.layout, setup).words))
    named = tuple(check_category(name) for name in options.category)
    categories = tuple(map(storage_category, named)) if options.storage else named or jar.settings.categories
    options.setup = setup
    return categories, options.storage, read_limits(options, jar.settings.grace_time_s, jar.log)


def _start_elsewhere(
    parser: argparse.ArgumentParser, program: str, jar: Jar, options: argparse.Namespace, limits: Limits
) -> int:
    """Start workers on other hosts, and tell each host's answer. Returns 0 if all were started, else 1."""
    from jobjar.text import printable
    from jobjar.worker.remote import parse_hosts, start_on

    try:
        hosts = parse_hosts(options.on)
    except ValueError as error:
        parser.error(f"--on: {error}")
    words = [*limits_as_words(limits, options), *(["--setup", options.setup] if options.setup else [])]
    words += ["--storage"] if options.storage else []
    words += ["--as-root-for-group"] if options.as_root_for_group else []
    is_whole = True
    for answer in start_on(jar, hosts, [*words, *options.category], options.per_host, options.ssh_timeout, os.environ):
        for name in answer.workers:
            print(name, flush=True)
        if answer.trouble:
            is_whole = False
            complain(program, f"{answer.host}: {printable(answer.trouble)}")
        elif answer.said:
            complain(program, f"{answer.host}: {printable(answer.said)}")
    return 0 if is_whole else 1


def _warn_of_name(program: str, jar: Jar) -> None:
    from jobjar.doctor.node_name import note_name

    said = note_name(jar)
    if said:
        complain(program, said)


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
