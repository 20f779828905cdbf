"""What stop_worker, pause_worker and unpause_worker share: names in, control files made or removed, names out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

from jobjar.errors import JarError
from jobjar.hearing import name_workers
from jobjar.layout import Layout
from jobjar.programs.command import complain, make_parser, named_jar, run

Action = Callable[[Layout, Iterable[str]], tuple[list[str], list[JarError]]]


def control_workers(
    program: str, description: str, action: Action, argv: Sequence[str] | None, program_path: str | None
) -> int:
    """Parse names of workers and nodes, do `action` for them, and print the workers concerned. Returns 1 if anything failed."""
    parser = make_parser(program, description)
    parser.add_argument(
        "name",
        nargs="+",
        metavar="NAME",
        help="all, a node (all of its workers) or a worker (node.pid); several may be mixed",
    )

    def body(options: argparse.Namespace) -> int:
        with named_jar(options, program_path) as jar:
            names, errors = action(jar.layout, options.name)
            named = name_workers(jar.layout, names)
        for name in named:
            print(name)
            if name.silence:
                complain(program, name.silence)
        for error in errors:
            complain(program, error)
        return 1 if errors else 0

    return run(parser, argv, body)
