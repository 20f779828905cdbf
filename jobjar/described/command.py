"""The lines of sh that a stage of a described job is: to its directory, the packages' setup.sh, the command.

Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobjar.job_file.description import Description
from jobjar.packages.install import Package, find_command, shell_prefix
from jobjar.packages.package import VARIABLES


def find_text(
    kind: str, description: Description, packages: Sequence[Package], environment: Mapping[bytes, bytes]
) -> str | None:
    """The lines for a command (`run_command`, `stage_in_command` …), to be given the working directory as $1; None where it
    is certain that there is none, so that no shell has to be started to find out."""
    said = getattr(description, kind)
    commands: Sequence[Package] = () if _is_named(kind, description) else packages
    if not said and kind != "run_command" and not any(package.commands.get(kind) for package in commands):
        variable = VARIABLES.get(kind)
        is_set = variable is not None and bool(environment.get(variable.encode()))
        if not is_set and not (variable is not None and any(package.setup for package in packages)):
            return None
    return make_text(find_command(kind, said, commands), packages)


def _is_named(kind: str, description: Description) -> bool:
    """Whether the description's `environment` says the command, which goes before what a package says. Nothing in JUG_STAGE_IN or
    JUG_STAGE_OUT is a word too: the package's stage is left out. Nothing in JUG_RUN is none: something has to be run."""
    said = dict(description.environment).get(VARIABLES.get(kind, ""))
    return bool(said) or (said is not None and kind != "run_command")


def make_text(command: str, packages: Sequence[Package]) -> str:
    """The lines that run a command in the directory $1, with the packages set up."""
    # A directory that is gone is no failure of the command's: a shell says 126 of what cannot be run.
    return f'cd -- "$1" || exit 126\nshift\n{shell_prefix(packages)}\n{command}\n'
