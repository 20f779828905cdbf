"""jobjar completion: print what a shell needs to complete words of the programs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run

_ABOUT = """Print a script that has a shell complete verbs, options, jobs, categories, batches and workers when Tab is pressed.
For bash and zsh a line of ~/.bashrc or ~/.zshrc (there after compinit) reads it: eval "$(jobjar completion bash)". For fish
a line of ~/.config/fish/config.fish does: jobjar completion fish | source."""


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar completion") -> int:
    parser = make_parser(program, _ABOUT)
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")

    def body(options: argparse.Namespace) -> int:
        from argcomplete.shell_integration import shellcode

        from jobjar.create import PROGRAMS

        print(shellcode(PROGRAMS, shell=options.shell))
        return 0

    return run(parser, argv, body)
