"""The layers that settings come from, and the origin of each value. The table of settings is in table.py.

Later layers win: built-in default < global configuration file (`$JJ_HOME/config.ini`) < personal configuration file
(`~/.jobjar/config.ini`, or the one that JJ_CONFIG_FILE names) < environment < library call or command-line option.
Reads the two files and the environment; writes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jobjar.access.refusals import explain_at, explain_forbidden
from jobjar.errors import ConfigError, ForbiddenJar, NoJarNamed
from jobjar.settings.parsers import parse_path, parse_umask
from jobjar.settings.table import BY_NAME, TABLE, Setting
from jobjar.shared_disk.files import is_directory, read_file
from jobjar.shared_disk.patience import patience
from jobjar.shared_disk.regular import read_given
from jobjar.units import name_retries, parse_retries

SECTION = "[Job Jar]"


class Value(NamedTuple):
    """A setting's value, and its origin in words for people."""

    value: Any
    origin: str


class Settings:
    """The settings of one program or library call: `settings.pause_time_s`, and `origin('JJ_PAUSE_TIME')`."""

    home: str
    worker_home: str
    config_file: str
    node: str
    pause_time_s: float
    max_workers: int
    max_storage_workers: int
    categories: tuple[str, ...]
    poll_time_s: float
    grace_time_s: float
    heartbeat_time_s: float
    lease_time_s: float
    crash_limit: int
    retries: int
    retry_delay_s: float
    time_limit_s: float
    exit_on_failure: str
    failure_pause_s: float
    longest_failure_pause_s: float
    archive_after_days: float
    keep_completed_days: float
    keep_workers_days: float
    umask: int | None
    disk_patience_s: float
    stage_in_slots: int
    slots: int | None
    cores: int | str | None
    memory: int | str | None
    gpus: str
    resources: dict[str, int]
    pass_over_s: float
    run_slots: int
    stage_out_slots: int
    staged_ahead: int
    stage_out_queue: int
    polling_time_s: float
    progress_time_s: float
    storage_path: str
    storage_software: str
    ssh: str
    on_end: str
    input_cache: str
    input_cache_size: int
    ledger_home: str

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)
        for setting in TABLE:
            setattr(self, setting.attribute, self._values[setting.name].value)

    def origin(self, name: str) -> str:
        """Return the origin of the value of the setting `name`, in words."""
        return self._values[name].origin

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (name, value as text, origin) of every setting, in the table's order."""
        return [
            (setting.name, _as_text(setting, self._values[setting.name].value), self.origin(setting.name))
            for setting in TABLE
        ]


def _as_text(setting: Setting, value: Any) -> str:
    if setting.parse is parse_umask:
        return "" if value is None else f"{value:03o}"
    if setting.parse is parse_retries:
        return str(name_retries(value))
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, dict):
        return " ".join(f"{name}={number}" for name, number in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def read_config_file(path: str, is_given: bool = False) -> dict[str, Value]:
    """Read the settings in one INI file; {} if there is no such file. `is_given`: it is the user's own, so it may be a link or
    a pipe.

    A file may have comments, then `[Job Jar]`, then lines `name: value` or `name = value` with names and values that the table
    knows (guide, "Configuring a System With INI Files"). Raises ConfigError with file and line for anything else.
    """
    try:
        data = read_given(path) if is_given else read_file(path)
        text = data.decode("utf-8-sig")  # an editor's byte order mark means nothing
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(where=path, reason=f"it cannot be read: {explain_at(error, path, os.R_OK)}") from error
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            where=f"{path}, line {number}", reason="it cannot be read, since it is not UTF-8; save it so"
        ) from error
    values: dict[str, Value] = {}
    in_section = False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        where = f"{path}, line {number}"
        if not line or line[0] in "#;":
            continue
        if not in_section:
            if line != SECTION:
                raise ConfigError(where=where, reason=f"the first line has to be {SECTION}, not {line!r}")
            in_section = True
            continue
        found = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)\s*[:=]\s*(.*)", line)
        if not found:
            raise ConfigError(where=where, reason=f"{line!r} is not of the form `name: value`")
        name, value_text = found.groups()
        setting = BY_NAME.get(name)
        if setting is None:
            raise ConfigError(where=where, reason=f"there is no setting {name}; `jobjar config` lists them")
        if "file" not in setting.layers:
            raise ConfigError(where=where, reason=f"{name} is read from the environment only")
        values[name] = _parse(setting, value_text, where, f"{path}, line {number}")
    return values


def _parse(setting: Setting, text: str, where: str, origin: str) -> Value:
    try:
        return Value(setting.parse(text.strip()), origin)
    except ValueError as error:
        raise ConfigError(where=where, reason=f"{setting.name}: {error}") from error


def personal_file(environment: Mapping[str, str]) -> str:
    """Return the path of the personal configuration file: JJ_CONFIG_FILE, or ~/.jobjar/config.ini. Raises ConfigError."""
    named = environment.get("JJ_CONFIG_FILE", "")
    if named:
        return str(_parse(BY_NAME["JJ_CONFIG_FILE"], named, "environment", "environment").value)
    return os.path.expanduser("~/.jobjar/config.ini")


def home_of_program(program_path: str | None) -> str | None:
    """Return the jar that contains a program: the directory above its bin directory, after following links. None if that is no
    jar."""
    if not program_path:
        return None
    above = os.path.dirname(os.path.dirname(os.path.realpath(program_path)))
    return above if is_directory(f"{above}/unclaimed") and is_directory(f"{above}/limbo") else None


def home_of_library() -> str | None:
    """Return the jar that carries this package in its `python/` (self_contained.py); None if none does."""
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return home_of_program(package) if package.endswith("/python/jobjar") else None


def load_settings(
    overrides: Mapping[str, Value] | None = None,
    program_path: str | None = None,
    environment: Mapping[str, str] | None = None,
    need_home: bool = True,
) -> Settings:
    """Load all settings from all layers. `overrides` come from library calls or options; `program_path` is the program's path.

    Raises ConfigError; ForbiddenJar; NoJarNamed if nothing names the jar and `need_home` is true.
    """
    environment = os.environ if environment is None else environment
    personal = personal_file(environment)
    from_personal = read_config_file(personal, is_given=True)
    if environment.get("JJ_CONFIG_FILE") and not os.path.exists(personal):
        raise ConfigError(where="environment", reason=f"JJ_CONFIG_FILE: there is no file {personal}")
    from_environment = {
        setting.name: _parse(setting, environment[setting.name], "environment", "environment")
        for setting in TABLE
        if environment.get(setting.name)
    }
    upper = {**from_personal, **from_environment, **(overrides or {})}
    if "JJ_DISK_PATIENCE" in upper:
        patience.limit_s = upper["JJ_DISK_PATIENCE"].value  # the following reads are on the jar's disk

    installation = home_of_program(program_path)
    from_installation = _read_config_of_jar(installation) if installation else {}
    home = upper.get("JJ_HOME") or from_installation.get("JJ_HOME")
    if home is None and installation:
        home = Value(installation, "place of the program")
    if home is None:
        if need_home:
            raise NoJarNamed(personal_file=personal)
        home = Value("", "not set")
    from_global = _read_config_of_jar(home.value) if home.value and home.value != installation else {}

    values = {setting.name: _default(setting) for setting in TABLE}
    values.update(from_installation)
    values.update(from_global)
    values.update(upper)
    values["JJ_HOME"] = home
    if not values["JJ_WORKER_HOME"].value and home.value:
        values["JJ_WORKER_HOME"] = Value(f"{home.value}/workers", "default")
    if not values["JJ_STORAGE_PATH"].value and home.value:
        values["JJ_STORAGE_PATH"] = Value(f"{home.value}/storage", "default")
    if not values["JJ_CONFIG_FILE"].value:
        values["JJ_CONFIG_FILE"] = Value(personal, "default")
    return Settings(values)


def _read_config_of_jar(home: str) -> dict[str, Value]:
    """Read a jar's configuration file. Raises ForbiddenJar if this user may not read it, ConfigError."""
    try:
        return read_config_file(f"{home}/config.ini")
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            reason = explain_forbidden(f"{home}/config.ini", os.R_OK)
            raise ForbiddenJar(home=home, reason=reason) from error.__cause__
        raise


def _default(setting: Setting) -> Value:
    if setting.parse is parse_path and not setting.default:
        return Value("", "default")
    return Value(setting.parse(setting.default), "default")


def parse_option(name: str, text: str, origin: str) -> Value:
    """Parse the value of setting `name` from a command-line option or a library call. Raises ConfigError."""
    return _parse(BY_NAME[name], text, origin, origin)


# The least number of heartbeats, and of looks at them, in the time of one lease.
BEATS_IN_LEASE = 4


def heartbeat_interval_s(settings: Settings) -> float:
    """Return the seconds between heartbeats: JJ_HEARTBEAT_TIME; with leases, at most a quarter of JJ_LEASE_TIME."""
    if not settings.lease_time_s:
        return settings.heartbeat_time_s
    return min(settings.heartbeat_time_s, settings.lease_time_s / BEATS_IN_LEASE)
