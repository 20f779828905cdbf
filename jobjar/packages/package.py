"""Read an unpacked software package: its `package/setup.sh` and `package/commands`, as text for /bin/sh.

Reads `package/`; writes nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Sequence
from typing import NamedTuple

from jobjar.access.refusals import explain_reason
from jobjar.errors import CannotInstall
from jobjar.shared_disk.patience import patiently

_COMMANDS_LIMIT = 1 << 20
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The variables that hold a kind of command, where neither the description nor a package names it.
VARIABLES = {"run_command": "JUG_RUN", "stage_in_command": "JUG_STAGE_IN", "stage_out_command": "JUG_STAGE_OUT"}
# Their defaults. A setup.sh finds them set, so that it can put something in front of them.
_DEFAULTS = 'export JUG_RUN="${JUG_RUN:-jug_run}" JUG_STAGE_IN="${JUG_STAGE_IN-}" JUG_STAGE_OUT="${JUG_STAGE_OUT-}"\n'
_VALUES = {
    "run_command": "${JUG_RUN:-jug_run}",
    "stage_in_command": "${JUG_STAGE_IN-}",
    "stage_out_command": "${JUG_STAGE_OUT-}",
}


class Package(NamedTuple):
    """A package at `location`: the path of its setup.sh, and its commands by their kinds."""

    location: str
    setup: str | None
    commands: dict[str, str]


def read_package(location: str) -> Package:
    """Read the package at `location`. Raises CannotInstall where package/commands cannot be understood, with file and line."""
    setup = f"{location}/package/setup.sh"
    return Package(location, setup if os.path.isfile(setup) else None, _read_commands(location))


def _read_commands(location: str) -> dict[str, str]:
    path = f"{location}/package/commands"

    def read() -> bytes:
        # O_NONBLOCK: a fifo without a writer must not block.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CannotInstall(location=location, reason=f"{path} is not a regular file")
            return file.read(_COMMANDS_LIMIT + 1)

    try:
        content = patiently(read, path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CannotInstall(location=location, reason=f"{path}: {explain_reason(error)}") from error
    if len(content) > _COMMANDS_LIMIT:
        raise CannotInstall(location=location, reason=f"{path} is larger than {_COMMANDS_LIMIT} bytes")
    try:
        return parse_commands(content.decode(), path)
    except ValueError as error:
        raise CannotInstall(location=location, reason=str(error)) from error


def parse_commands(text: str, where: str) -> dict[str, str]:
    """Parse `key = value` lines; empty lines and those that begin with # are skipped. Raises ValueError with file and line."""
    commands: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not _KEY.fullmatch(key):
            raise ValueError(f"{where}, line {number}: {line!r} is not of the form key = value")
        if not value or "\0" in value:
            raise ValueError(f"{where}, line {number}: {key} has no value, or a NUL in it")
        if key in commands:
            raise ValueError(f"{where}, line {number}: {key} was said already")
        commands[key] = value
    return commands


def shell_prefix(packages: Sequence[Package]) -> str:
    """Text for /bin/sh that sources each package's setup.sh, in order, with the package's location as `$1`.

    The text after it finds the variables of setup.sh, its own starting directory, and no positional parameters. The status of
    setup.sh's last command is ignored, as with `.` in a terminal. A setup.sh that calls exit, or that sh cannot read, ends the
    shell, and never with 0, because the command after it did not run. A trap on EXIT that it sets is dropped. It finds JUG_RUN,
    JUG_STAGE_IN and JUG_STAGE_OUT with their defaults: `JUG_RUN="nice $JUG_RUN"` works.
    """
    lines = [_DEFAULTS] if any(package.setup is not None for package in packages) else []
    for package in packages:
        if package.setup is not None:
            ended = shlex.quote(f"{package.setup} ended the shell")
            at_exit = f"jj_status=$?; echo {ended} >&2; [ $jj_status -ne 0 ] || jj_status=1; exit $jj_status"
            lines.append(
                f"trap {shlex.quote(at_exit)} EXIT\n"
                f"jj_directory=$PWD; set -- {shlex.quote(package.location)}\n"
                f". {shlex.quote(package.setup)}\n"
                f'cd -- "$jj_directory" || exit 1; unset jj_directory; set --; trap - EXIT\n'
            )
    return "".join(lines)


def find_command(kind: str, description_value: str | None, packages: Sequence[Package]) -> str:
    """The sh text of a kind of command. The first of these that exists: the description's command; the command of the first
    package that has one, with `$1` replaced by its location; the value of JUG_RUN, JUG_STAGE_IN or JUG_STAGE_OUT, taken when the
    text runs, after the `shell_prefix`.

    Other kinds have no variable, and get "". Without a value, JUG_STAGE_IN and JUG_STAGE_OUT do nothing, and JUG_RUN is
    `jug_run`.
    """
    if description_value:
        return description_value
    for package in packages:
        if kind in package.commands:
            return put_location(package.commands[kind], package.location)
    return f'eval "{_VALUES[kind]}"' if kind in _VALUES else ""


def put_location(command: str, location: str) -> str:
    """`command` with `$1` and `${1}` replaced by `location` as one word, in any kind of quotes; `\\$1` stays."""
    forms = {
        "": shlex.quote(location),
        '"': re.sub(r'(["$`\\])', r"\\\1", location),
        "'": location.replace("'", "'\\''"),
    }
    result, quote, position = [], "", 0
    while position < len(command):
        character = command[position]
        found = re.compile(r"\$(?:1|\{1\})").match(command, position)
        if character == "\\" and quote != "'":
            result.append(command[position : position + 2])
            position += 2
        elif found:
            result.append(forms[quote])
            position = found.end()
        else:
            if character in "\"'":
                quote = "" if quote == character else (quote or character)
            result.append(character)
            position += 1
    return "".join(result)
