"""get_output: copy a stored output file from where it is stored."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobjar.errors import CannotGetOutput
from jobjar.programs.command import complain, make_parser, named_jar, run
from jobjar.programs.options import A_JOB

_STANDARD_OUTPUT = "-"


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "get_output") -> int:
    parser = make_parser(
        program,
        "Copy a stored output file from where it is stored, and verify its size and md5; prints the path of the copy.",
    )
    parser.add_argument("--job", metavar="JOB", help=f"the job that stored it: {A_JOB}")
    parser.add_argument("--batch", metavar="BATCH", help="the batch of the job that stored it")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("name", metavar="NAME", help="the file's name, as `list_outputs` prints it")
    parser.add_argument(
        "destination",
        metavar="DEST",
        nargs="?",
        help="a file or directory; - is standard output (default: this directory, under its base name)",
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.stored_files import copy_output, find_stored_output, write_output

        with named_jar(options, program_path) as jar:
            output = find_stored_output(jar, options.name, options.job, options.batch)
        if options.destination == _STANDARD_OUTPUT:
            sys.stdout.flush()
            try:
                write_output(output, 1)
            except BrokenPipeError:
                raise  # the reader has seen enough
            except OSError as error:
                reason = f"standard output: {error.strerror}"
                raise CannotGetOutput(name=repr(output.name), reason=reason) from error
        else:
            print(copy_output(output, options.destination, options.force))
        if output.storage_md5 is None:
            complain(program, "no md5 was recorded when it was stored, so its content could not be verified")
        return 0

    return run(parser, argv, body)
