"""The lines of sh that a stage of a described job is: to its directory, the packages' setup.sh, the command.

Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobjar.description import Description
from jobjar.jug.software import Package, find_command, shell_prefix

# What in the environment names a stage's command where neither the description nor a package does.
_NAMED_BY = {"stage_in_command": "JUG_STAGE_IN", "stage_out_command": "JUG_STAGE_OUT"}


def find_text(
    kind: str, description: Description, packages: Sequence[Package], environment: Mapping[bytes, bytes]
) -> str | None:
    """The lines for a command (`run_command`, `stage_in_command` …), to be given the working directory as $1; None where it
    is certain that there is none, so that no shell has to be started to find out."""
    said = getattr(description, kind)
    if not said and kind != "run_command" and not any(package.commands.get(kind) for package in packages):
        name = _NAMED_BY.get(kind)
        may_be_set = name is not None and (name.encode() in environment or any(package.setup for package in packages))
        if not may_be_set:
            return None
    return make_text(find_command(kind, said, packages), packages)


def make_text(command: str, packages: Sequence[Package]) -> str:
    """The lines that run a command in the directory $1, with the packages set up."""
    # A directory that is gone is no failure of the command's: a shell says 126 of what cannot be run.
    return f'cd -- "$1" || exit 126\nshift\n{shell_prefix(packages)}\n{command}\n'
