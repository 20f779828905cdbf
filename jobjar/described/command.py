"""The lines of sh that run a stage's command: go to the directory, source the packages' setup.sh, run the command.

Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobjar.job_file.description import Description
from jobjar.packages.install import Package, find_command, shell_prefix
from jobjar.packages.package import VARIABLES


def find_command_lines(
    kind: str, description: Description, packages: Sequence[Package], environment: Mapping[bytes, bytes]
) -> str | None:
    """The lines for a command of this kind (`run_command`, `stage_in_command` …); they take the working directory as $1.
    None where there is certainly no command: no shell has to be started to find out."""
    said = getattr(description, kind)
    commands: Sequence[Package] = () if _is_named(kind, description) else packages
    if not said and kind != "run_command" and not any(package.commands.get(kind) for package in commands):
        variable = VARIABLES.get(kind)
        is_set = variable is not None and bool(environment.get(variable.encode()))
        if not is_set and not (variable is not None and any(package.setup for package in packages)):
            return None
    return make_text(find_command(kind, said, commands), packages)


def _is_named(kind: str, description: Description) -> bool:
    """Whether the description's `environment` names the command, and so overrides the packages. An empty JUG_STAGE_IN or
    JUG_STAGE_OUT does: the package's stage is left out. An empty JUG_RUN does not, because something has to be run."""
    said = dict(description.environment).get(VARIABLES.get(kind, ""))
    return bool(said) or (said is not None and kind != "run_command")


def make_text(command: str, packages: Sequence[Package]) -> str:
    """The lines that run a command in the directory $1, with the packages set up."""
    # A missing directory is no failure of the command: 126 is the shell's status for what cannot be run.
    return f'cd -- "$1" || exit 126\nshift\n{shell_prefix(packages)}\n{command}\n'
