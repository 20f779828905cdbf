"""jobjar top: a live screen of a jar: what it is doing, its workers and its jobs. In a pipe: one such screen."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobjar.errors import UsageError
from jobjar.programs.command import complain, make_parser, named_jar, print_tables, run, warn_of_source
from jobjar.programs.options import add_selection, read_selection, read_time
from jobjar.programs.terminal import is_terminal, terminal_width
from jobjar.units import parse_seconds

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.reports.overview import Asked

_ABOUT = """Show what a jar is doing, its workers and its jobs, again and again, on the whole terminal. Keys: the arrows and
the page keys go through the jobs; s sorts by the next column, r the other way round; / filters (with the words and options that
`jobjar list` has); c cancels the job under the cursor, after a question; h lists the keys; q quits. Where standard input or
output is no terminal, the screen is printed once."""
_LEAST_EVERY_S = 0.1
# Jobs that are printed where there is no terminal.
_ONCE = 100


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar top") -> int:
    parser = make_parser(program, _ABOUT)
    parser.add_argument("--every", metavar="TIME", default="2s", help="look so often (default: 2s)")
    parser.add_argument("--once", action="store_true", help="print one screen, on a terminal too, and exit")
    parser.add_argument(
        "--sort", metavar="COLUMN", help="sort the jobs by a column of `jobjar list` (default: by state)"
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    add_selection(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.listing import check_columns
        from jobjar.reports.overview import SORTS, Asked

        every_s = read_time("--every", options.every, parse_seconds)
        if every_s < _LEAST_EVERY_S:
            raise UsageError(reason=f"--every: {options.every!r} is less than {_LEAST_EVERY_S:g} s")
        if options.sort is not None:
            check_columns([options.sort])
            if options.sort not in SORTS:
                raise UsageError(reason=f"--sort: jobs are not sorted by {options.sort} here; `jobjar list` does that")
        asked = Asked(read_selection(options), options.sort, options.reverse)
        with named_jar(options, program_path) as jar:
            unfit = None if options.once else _explain_no_screen()
            if options.once or unfit is not None:
                if unfit:
                    complain(program, unfit)
                _print_once(jar, asked._replace(rows=_ONCE, width=terminal_width()), program)
                return 0
            from jobjar.programs.top_screen import show_screen

            return show_screen(jar.settings, asked, every_s)

    return run(parser, argv, body)


def _explain_no_screen() -> str | None:
    """Why there can be no live screen; '' if a person did not expect one; None if there can be one."""
    if not is_terminal() or not sys.stdin.isatty():
        return ""
    try:
        import curses
    except ImportError:
        return "this Python has no module curses, so this is one screen; its system's python3 package has it"
    try:
        curses.setupterm()
        if not curses.tigetstr("cup"):
            return f"the terminal {os.environ.get('TERM', '')!r} cannot place text, so this is one screen"
    except curses.error:
        return f"nothing is known of the terminal {os.environ.get('TERM', '')!r} (TERM), so this is one screen"
    return None


def _print_once(jar: Jar, asked: Asked, program: str) -> None:
    from jobjar.reports.overview import Glance
    from jobjar.reports.overview_lines import describe_page, make_head, make_jobs, make_workers
    from jobjar.reports.refresh import describe_source

    glance, width = Glance(jar), asked.width
    overview = glance.look()
    page = glance.list_jobs(asked)
    sections = [make_head(overview, None), make_workers(overview, width), make_jobs(page)]
    texts = ["\n".join(line.text for line in lines) for lines in sections if lines]
    if page.found > len(page.jobs) or page.has_more:
        texts.append(describe_page(page))
    print_tables("\n\n".join(texts))
    warn_of_source(program, describe_source(jar))
