"""jobjar explain: say in a sentence why jobs wait, where they run or how they ended, and what to do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from jobjar.errors import UsageError
from jobjar.programs.command import complain, make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_selection, add_text_format, read_selection
from jobjar.text import printable

_ABOUT = """Say of each job in a sentence why it waits, where it runs or how it ended, and what to do about it. `system_status`
counts what stands still in the whole jar, `batch_status NAME` in a batch."""
# As many as a person reads. Programs get all.
_MOST = 20


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar explain") -> int:
    parser = make_parser(program, _ABOUT)
    add_text_format(parser)
    parser.add_argument(
        "--limit", type=int, metavar="N", help=f"explain at most N jobs; 0: all (default: {_MOST}; json: all)"
    )
    add_selection(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.explain import describe_for_programs
        from jobjar.reports.explain_selected import explain_selected
        from jobjar.reports.refresh import describe_source, refresh_ledger

        selection = read_selection(options)
        if selection.is_empty:
            raise UsageError(reason="name jobs or filters, or use --all")
        if options.limit is not None and options.limit < 0:
            raise UsageError(reason=f"--limit: {options.limit} is no number of jobs; 0 is for all")
        is_text = options.format == "text"
        limit = (_MOST if is_text else 0) if options.limit is None else options.limit
        with named_jar(options, program_path) as jar:
            unseen = refresh_ledger(jar)
            # One more tells whether there are more.
            explained = explain_selected(jar, selection, unseen, limit + 1 if limit else None)
            source = describe_source(jar)
        shown = explained.jobs[:limit] if limit else explained.jobs
        if not is_text:
            print(json.dumps({"jobs": [describe_for_programs(one) for one in shown], **source}, indent=1))
        for number, one in enumerate(shown if is_text else ()):
            lines = [f"{one.sentence}.", *(f"  To do: {what}." for what in one.what_to_do)]
            print(printable("\n".join(["", *lines] if number else lines)))
        for error in explained.errors:
            complain(program, error)
        if len(explained.jobs) > len(shown):
            complain(program, "there are more; --limit 0 explains all, --state and other filters fewer")
        if is_text and shown:
            warn_of_source(program, source)
        return explained.errors[0].exit_status if explained.errors else 0

    return run(parser, argv, body)
