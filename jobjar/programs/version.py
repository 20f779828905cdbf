"""What `--version` prints: versions, and which ledger is used and how, if there is a jar."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from jobjar.errors import JarError, NoJarNamed
from jobjar.jar import Jar, open_jar
from jobjar.settings.layers import Value, parse_option
from jobjar.version import VERSION

# Where an SQLite file says how it is written, and what stands there in WAL mode (https://sqlite.org/fileformat.html).
_WRITE_VERSION_AT, _WAL = 18, 2


def describe_version(program_path: str | None, home: str | None = None) -> str:
    """The versions of Job Jar, of Python and of SQLite; and the ledger of the jar that is named, if one is."""
    from jobjar.ledger.database import driver

    sqlite = f"SQLite {driver.sqlite_version} ({driver.__name__.partition('.')[0]})"
    lines = [f"Job Jar {VERSION}", f"Python {platform.python_version()}, {sqlite}"]
    overrides: Mapping[str, Value] = {"JJ_HOME": parse_option("JJ_HOME", home, "option --home")} if home else {}
    try:
        with open_jar(overrides, program_path) as jar:
            lines.append(f"ledger of {jar.layout.home}: {_describe_ledger(jar)}")
    except NoJarNamed:
        pass
    except (JarError, OSError) as error:
        lines.append(f"no ledger: {error}")
    return "\n".join(lines)


def _describe_ledger(jar: Jar) -> str:
    home = jar.ledger_home
    whose = "this node's own" if home.has_other_homes else "the jar's own"
    try:
        with open(home.database, "rb") as file:
            start = file.read(_WRITE_VERSION_AT + 1)
    except FileNotFoundError:
        return f"{home.database}, {whose}; it will be made when it is needed"
    mode = "WAL" if start[_WRITE_VERSION_AT:] == bytes([_WAL]) else "rollback"
    return f"{home.database}, {whose}, in {mode} mode"
