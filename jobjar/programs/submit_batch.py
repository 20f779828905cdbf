"""submit_batch: submit the batches that files describe, all of them or nothing; print their names."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from jobjar.errors import UsageError
from jobjar.programs.command import make_parser, named_jar, run

_PARAMETER = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "submit_batch") -> int:
    parser = make_parser(
        program,
        "Submit the batches that submit files describe: all of them, or, where anything is wrong with one, nothing. Prints "
        "the names of the batches.",
    )
    parser.usage = f"{program} [OPTION…] FILE… [PARAMETER=VALUE…]"
    parser.add_argument(
        "--fail-fast",
        action="store_true",
        help="cancel the rest of a batch when one of its jobs has failed for good; as fail_fast = yes in its block",
    )
    parser.add_argument(
        "word",
        nargs="+",
        metavar="FILE",
        help="a submit file, in Jug's syntax or TOML; - is standard input; PARAMETER=VALUE replaces $(PARAMETER) in the "
        "files' values (a file whose name looks so is written ./NAME)",
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar.batches.submit import read_submit_files, submit_batches
        from jobjar.programs.shown_meter import open_meter

        parameters: dict[str, str] = {}
        paths = []
        for word in options.word:
            found = _PARAMETER.fullmatch(word)
            if found is None:
                paths.append(word)
            elif found.group(1) in parameters:
                raise UsageError(reason=f"parameter {found.group(1)} is given twice")
            else:
                parameters[found.group(1)] = found.group(2)
        if not paths:
            parser.error("name a FILE")
        with named_jar(options, program_path) as jar:
            texts = read_submit_files(jar, paths, parameters, sys.stdin.buffer)
            if options.fail_fast:
                texts = [text.failing_fast() for text in texts]
            with open_meter() as meter:
                batches = submit_batches(jar, texts, meter)
            for batch in batches:
                print(batch.name)
        return 0

    return run(parser, argv, body)
