"""jobjar worker_setup: named setups of workers, kept in the jar."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from jobjar.programs.command import make_parser, named_jar, run

_VERBS = ("add", "list", "show", "remove")


def main(
    argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar worker_setup"
) -> int:
    parser = make_parser(
        program,
        "Keep named setups of workers in the jar: `add NAME` with options and categories of start_worker, and settings "
        "(JJ_GRACE_TIME=30); `list`; `show NAME`; `remove NAME`. start_worker and check_workers take `--setup NAME`.",
    )
    parser.add_argument("verb", choices=_VERBS, metavar="add|list|show|remove", help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the setup")
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="WORD", help="options, categories and settings of its workers"
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar.programs.start_worker import make_start_parser
        from jobjar.worker import setups

        if (options.verb == "list") == (options.name is not None):
            parser.error("`list` takes no NAME, and the others need one")
        if options.words and options.verb != "add":
            parser.error(f"`{options.verb}` takes no more words")
        with named_jar(options, program_path) as jar:
            if options.verb == "add":
                words = options.words[1:] if options.words[:1] == ["--"] else options.words
                setup = setups.make_setup(options.name, words)
                typed = make_start_parser(f"{program}: {options.name}").parse_args(list(setup.words))
                if typed.setup or typed.home or typed.on is not None or typed.foreground or typed.in_place_of:
                    parser.error("a setup has no --setup, --home, --on or --foreground")
                jar.check_is_safe()
                setups.write_setup(jar.layout, setup, jar.is_for_group)
            elif options.verb == "list":
                for name in setups.list_setups(jar.layout):
                    print(name)
            elif options.verb == "show":
                setup = setups.read_setup(jar.layout, options.name)
                settings = [f"{name}={value}" for name, value in sorted(setup.settings.items())]
                print(shlex.join(["jobjar", "worker_setup", "add", setup.name, *settings, *setup.words]))
            else:
                setups.remove_setup(jar.layout, options.name)
        return 0

    return run(parser, argv, body)
