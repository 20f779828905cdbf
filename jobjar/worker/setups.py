"""Named setups of workers, kept in the jar: options of start_worker and settings, one TOML file a setup, `setups/NAME.toml`.

Each file is written whole, so a kill leaves the old one or the new one. A person may write one, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tomllib
from collections.abc import Iterable
from typing import NamedTuple

from jobjar.errors import UsageError
from jobjar.job_file.names import check_category
from jobjar.layout import Layout
from jobjar.settings.table import BY_NAME
from jobjar.shared_disk.files import list_if_there, make_directory, read_file, remove_file, replace_file
from jobjar.shared_disk.regular import UnfitFile

_SETTING = re.compile(r"(JJ_[A-Z_]+)=(.*)", re.DOTALL)
# Who the jar and the node are is not for a setup to say.
_NOT_OF_SETUPS = ("JJ_HOME", "JJ_NODE")
_ENDING = ".toml"


class BadSetup(UsageError):
    template = "setup {name}: {reason}"


class Setup(NamedTuple):
    """A setup: the words of start_worker, options and categories, and settings as text."""

    name: str
    words: tuple[str, ...]
    settings: dict[str, str]

    @property
    def text(self) -> str:
        """The setup as its file has it."""
        # JSON's strings are strings of TOML too.
        lines = [f"words = {json.dumps(list(self.words), ensure_ascii=False)}", "", "[settings]"]
        lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(self.settings.items())]
        return "\n".join(lines) + "\n"


def make_setup(name: str, words: Iterable[str]) -> Setup:
    """A setup of words as people type them: `JJ_NAME=VALUE` are settings. Raises BadSetup."""
    try:
        check_category(name)
    except UsageError as error:
        raise BadSetup(name=repr(name), reason="use letters, digits and . _ + @ % = -") from error
    options, settings = [], {}
    for word in words:
        found = _SETTING.fullmatch(word)
        if found is None:
            options.append(word)
        else:
            settings[found[1]] = found[2]
    return _check(Setup(name, tuple(options), settings))


def _check(setup: Setup) -> Setup:
    for name, value in setup.settings.items():
        if name not in BY_NAME or name in _NOT_OF_SETUPS:
            raise BadSetup(
                name=setup.name, reason=f"{name} is no setting that a setup may have; `jobjar config` lists them"
            )
        try:
            BY_NAME[name].parse(value)
        except ValueError as error:
            raise BadSetup(name=setup.name, reason=f"{name}: {error}") from error
    return setup


def write_setup(layout: Layout, setup: Setup, for_group: bool) -> None:
    """Add a setup, or replace the one of its name. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        make_directory(layout.setups, 0o2770 if for_group else 0o700)
    replace_file(_path(layout, setup.name), setup.text.encode(), 0o660 if for_group else 0o600)


def read_setup(layout: Layout, name: str) -> Setup:
    """Raises BadSetup, OSError."""
    try:
        check_category(name)
        said = tomllib.loads(read_file(_path(layout, name)).decode())
    except FileNotFoundError as error:
        raise BadSetup(
            name=name, reason="there is none; `jobjar worker_setup list` names those that there are"
        ) from error
    except (UsageError, UnfitFile, ValueError) as error:
        raise BadSetup(name=name, reason=f"{_path(layout, name)} cannot be read: {error}") from error
    words, settings = said.get("words", []), said.get("settings", {})
    are_words = isinstance(words, list) and all(isinstance(word, str) for word in words)
    if (
        not are_words
        or not isinstance(settings, dict)
        or not all(isinstance(value, str) for value in settings.values())
    ):
        reason = f"{_path(layout, name)}: `words` has to be a list of texts, and [settings] to have texts"
        raise BadSetup(name=name, reason=reason)
    return _check(Setup(name, tuple(words), settings))


def list_setups(layout: Layout) -> list[str]:
    """The names of all setups, in order."""
    names = (name.removesuffix(_ENDING) for name in list_if_there(layout.setups) if name.endswith(_ENDING))
    return sorted(name for name in names if not name.startswith("."))


def remove_setup(layout: Layout, name: str) -> None:
    """Remove a setup; what runs goes on. Raises BadSetup, OSError."""
    if name not in list_setups(layout):
        raise BadSetup(name=name, reason="there is none; `jobjar worker_setup list` names those that there are")
    remove_file(_path(layout, name))


def use_settings(setup: Setup) -> None:
    """Give this process the settings of a setup, but for those that its environment has."""
    for name, value in setup.settings.items():
        os.environ.setdefault(name, value)


def _path(layout: Layout, name: str) -> str:
    return f"{layout.setups}/{name}{_ENDING}"
