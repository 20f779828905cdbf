"""jobjar rebuild: make this node's ledger anew from the journals and the directories."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, open_named_jar, run


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar rebuild") -> int:
    parser = make_parser(
        program, "Make this node's ledger anew from the journals and the directories. Workers may go on meanwhile."
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar.ledger.rebuild import rebuild_ledger

        jar = open_named_jar(options, program_path)
        rebuild_ledger(jar.layout, jar.ledger_home)
        print(jar.ledger_home.database)
        return 0

    return run(parser, argv, body)
