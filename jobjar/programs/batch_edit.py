"""batch_edit: change a batch; print how many jobs were submitted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.errors import UsageError
from jobjar.programs.command import make_parser, named_jar, run


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "batch_edit") -> int:
    parser = make_parser(
        program,
        "Change a batch. seeds=1-2000 submits the jobs of the seeds that it does not have yet; priority=N holds for its "
        "waiting jobs and those submitted later; notes=TEXT. Prints how many jobs were submitted.",
    )
    parser.add_argument("name", metavar="NAME", help="the batch")
    parser.add_argument("change", nargs="+", metavar="KEY=VALUE", help="what to change: seeds, priority, notes")

    def body(options: argparse.Namespace) -> int:
        from jobjar.batches.edit import edit_batch

        changes: dict[str, str] = {}
        for word in options.change:
            key, equals, value = word.partition("=")
            if not equals or key in changes:
                reason = f"{key} is given twice" if equals else f"{word!r} is not of the form KEY=VALUE"
                raise UsageError(reason=reason)
            changes[key] = value
        with named_jar(options, program_path) as jar:
            print(edit_batch(jar, options.name, changes).jobs)
        return 0

    return run(parser, argv, body)
