"""The one table of settings, the layers that they come from, and where each value came from.

Later wins: built-in default < global configuration file (`$JJ_HOME/config.ini`) < personal configuration file
(`~/.jobjar/config.ini`, or the one that JJ_CONFIG_FILE names) < environment < library call or command-line option.
Reads the two files and the environment; writes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobjar.disk import is_directory, read_file
from jobjar.errors import ConfigError, NoJarNamed
from jobjar.patience import patience
from jobjar.units import parse_seconds
from jobjar.values import (
    parse_categories,
    parse_count,
    parse_days,
    parse_flag,
    parse_path,
    parse_positive_seconds,
    parse_umask,
)

SECTION = "[Job Jar]"


def _parse_lease(text: str) -> float:
    seconds = parse_seconds(text)
    if 0 < seconds < 1:
        raise ValueError(f"{text!r} is less than 1 second, in which no heartbeat can be relied on; 0 turns leases off")
    return seconds


class Setting(NamedTuple):
    """One row of the table. `default` is text, as a person would write it in a file."""

    name: str
    attribute: str
    parse: Callable[[str], Any]
    default: str
    help: str
    layers: str = "file, environment"


TABLE: tuple[Setting, ...] = (
    Setting(
        "JJ_HOME",
        "home",
        parse_path,
        "",
        "The jar: the parent of unclaimed, claimed, completed and limbo. "
        "Default: the directory above the bin directory that the program is run from.",
        "file, environment, library",
    ),
    Setting(
        "JJ_WORKER_HOME",
        "worker_home",
        parse_path,
        "",
        "The parent of the workers' directories. Default: $JJ_HOME/workers.",
        "file, environment, library",
    ),
    Setting(
        "JJ_CONFIG_FILE",
        "config_file",
        parse_path,
        "",
        "The personal configuration file. Default: ~/.jobjar/config.ini.",
        "environment",
    ),
    Setting(
        "JJ_PAUSE_TIME",
        "pause_time_s",
        parse_positive_seconds,
        "60",
        "How long a worker sleeps when it is paused or finds no job, in seconds, made up to 10 % "
        "(at most 10 s) longer or shorter at random. A local submission wakes it at once.",
        "file, environment, library",
    ),
    Setting(
        "JJ_MAX_WORKERS",
        "max_workers",
        parse_count,
        "4",
        "How many workers check_workers keeps running on this node.",
    ),
    Setting(
        "JJ_CATEGORIES",
        "categories",
        parse_categories,
        "",
        "The categories that a worker asks for jobs, in order, separated by spaces or commas: after the category named "
        "like its node and before the uncategorized jobs.",
        "file, environment, library",
    ),
    Setting(
        "JJ_POLL_TIME",
        "poll_time_s",
        parse_positive_seconds,
        "1",
        "How often, in seconds, a node looks at what other nodes did.",
    ),
    Setting(
        "JJ_GRACE_TIME",
        "grace_time_s",
        parse_seconds,
        "10",
        "Seconds from the SIGTERM to the SIGKILL when a job is ended: at its time limit, by a kill, or with its worker.",
    ),
    Setting(
        "JJ_HEARTBEAT_TIME",
        "heartbeat_time_s",
        parse_positive_seconds,
        "30",
        "How often, in seconds, a worker touches its heartbeat file; more often where JJ_LEASE_TIME needs it.",
    ),
    Setting(
        "JJ_LEASE_TIME",
        "lease_time_s",
        _parse_lease,
        "0",
        "Seconds without a heartbeat after which any node's recover_jobs, and workers that have nothing to do, take a "
        "worker's jobs back. Workers then touch their heartbeats at least four times in that time. 0: never; only a "
        "worker's own node takes its jobs back.",
    ),
    Setting(
        "JJ_CRASH_LIMIT",
        "crash_limit",
        parse_count,
        "5",
        "How often a job may be stranded before it completes with outcome crashed. 0: without limit.",
    ),
    Setting(
        "JJ_RETRIES",
        "retries",
        parse_count,
        "0",
        "How often a job that failed is run again, where it says nothing itself.",
    ),
    Setting(
        "JJ_RETRY_DELAY",
        "retry_delay_s",
        parse_seconds,
        "0",
        "Seconds before a failed job's first retry, doubled for each further one, where it says nothing itself.",
    ),
    Setting(
        "JJ_TIME_LIMIT",
        "time_limit_s",
        parse_seconds,
        "0",
        "Seconds after which a running job is ended, where it says nothing itself. 0: without limit.",
    ),
    Setting(
        "JJ_EXIT_ON_FAILURE",
        "exit_on_failure",
        parse_flag,
        "no",
        "Whether a worker leaves after a job that failed.",
    ),
    Setting(
        "JJ_ARCHIVE_AFTER",
        "archive_after_days",
        parse_days,
        "30",
        "Days after which the nightly job moves a completed job, and the directory of a worker that ended, to archive/. "
        "0: never.",
    ),
    Setting(
        "JJ_KEEP_COMPLETED",
        "keep_completed_days",
        parse_days,
        "0",
        "Days after its end at which the nightly job deletes a completed job's file; its history stays. 0: kept for ever.",
    ),
    Setting(
        "JJ_KEEP_WORKERS",
        "keep_workers_days",
        parse_days,
        "0",
        "Days after which the nightly job deletes the directory of a worker that ended, with its log and its jobs' output. "
        "0: kept for ever.",
    ),
    Setting(
        "JJ_UMASK",
        "umask",
        parse_umask,
        "",
        "The umask of workers, their jobs and all that programs make in the jar, in octal. Default: what the mode of the jar's "
        "directory leaves out for its group and others, and never writing by others: 077 in a jar that is 0700, as `jobjar "
        "init` makes it, 007 in one made with --group.",
    ),
    Setting(
        "JJ_DISK_PATIENCE",
        "disk_patience_s",
        parse_seconds,
        "150",
        "Seconds for which a program tries again what a network disk refuses for the moment (its server is away, say) before "
        "it gives up; workers go on trying. 0: not at all.",
    ),
    Setting(
        "JJ_LEDGER_HOME",
        "ledger_home",
        parse_path,
        "",
        "Where this node keeps its ledger. Default: the jar's ledger directory on a local disk, "
        "/var/tmp/jobjar-<uid>/<jar id> where the jar is on a network disk.",
    ),
)
BY_NAME: dict[str, Setting] = {setting.name: setting for setting in TABLE}


class Value(NamedTuple):
    """A setting's value and, for people, where it came from."""

    value: Any
    origin: str


class Settings:
    """The settings of one program or library call: `settings.pause_time_s`, and `origin('JJ_PAUSE_TIME')`."""

    home: str
    worker_home: str
    config_file: str
    pause_time_s: float
    max_workers: int
    categories: tuple[str, ...]
    poll_time_s: float
    grace_time_s: float
    heartbeat_time_s: float
    lease_time_s: float
    crash_limit: int
    retries: int
    retry_delay_s: float
    time_limit_s: float
    exit_on_failure: bool
    archive_after_days: float
    keep_completed_days: float
    keep_workers_days: float
    umask: int | None
    disk_patience_s: float
    ledger_home: str

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)
        for setting in TABLE:
            setattr(self, setting.attribute, self._values[setting.name].value)

    def origin(self, name: str) -> str:
        """Where the value of the setting called `name` came from, in words."""
        return self._values[name].origin

    def rows(self) -> list[tuple[str, str, str]]:
        """(name, value as text, origin) of every setting, in the table's order."""
        return [
            (setting.name, _as_text(setting, self._values[setting.name].value), self.origin(setting.name))
            for setting in TABLE
        ]


def _as_text(setting: Setting, value: Any) -> str:
    if setting.parse is parse_umask:
        return "" if value is None else f"{value:03o}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def read_config_file(path: str) -> dict[str, Value]:
    """The settings in one INI file; {} where there is no such file.

    Raises ConfigError with file and line for anything but comments, `[Job Jar]` first, and `name: value` or
    `name = value` lines of names and values that the table knows (guide, "Configuring a System With INI Files").
    """
    try:
        text = read_file(path).decode()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(where=path, reason=f"cannot be read: {error}") from error
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
    """The personal configuration file: the one that JJ_CONFIG_FILE names, or ~/.jobjar/config.ini."""
    named = environment.get("JJ_CONFIG_FILE", "")
    if named:
        return str(_parse(BY_NAME["JJ_CONFIG_FILE"], named, "environment", "environment").value)
    return os.path.expanduser("~/.jobjar/config.ini")


def home_of_program(program_path: str | None) -> str | None:
    """The jar that a program lies in: the directory above its bin directory, through symbolic links; else None."""
    if not program_path:
        return None
    above = os.path.dirname(os.path.dirname(os.path.realpath(program_path)))
    return above if is_directory(f"{above}/unclaimed") and is_directory(f"{above}/limbo") else None


def load_settings(
    overrides: Mapping[str, Value] | None = None,
    program_path: str | None = None,
    environment: Mapping[str, str] | None = None,
    need_home: bool = True,
) -> Settings:
    """All settings, by the layers. `overrides` are library calls and options; `program_path` is the program's own place.

    Raises ConfigError, or NoJarNamed where nothing names the jar and `need_home` is true.
    """
    environment = os.environ if environment is None else environment
    personal = personal_file(environment)
    from_personal = read_config_file(personal)
    if environment.get("JJ_CONFIG_FILE") and not os.path.exists(personal):
        raise ConfigError(where="environment", reason=f"JJ_CONFIG_FILE: there is no file {personal}")
    from_environment = {
        setting.name: _parse(setting, environment[setting.name], "environment", "environment")
        for setting in TABLE
        if environment.get(setting.name)
    }
    upper = {**from_personal, **from_environment, **(overrides or {})}
    if "JJ_DISK_PATIENCE" in upper:
        patience.limit_s = upper["JJ_DISK_PATIENCE"].value  # what is read next lies on the jar's disk

    installation = home_of_program(program_path)
    from_installation = read_config_file(f"{installation}/config.ini") if installation else {}
    home = upper.get("JJ_HOME") or from_installation.get("JJ_HOME")
    if home is None and installation:
        home = Value(installation, "place of the program")
    if home is None:
        if need_home:
            raise NoJarNamed(personal_file=personal)
        home = Value("", "not set")
    from_global = read_config_file(f"{home.value}/config.ini") if home.value and home.value != installation else {}

    values = {setting.name: _default(setting) for setting in TABLE}
    values.update(from_installation)
    values.update(from_global)
    values.update(upper)
    values["JJ_HOME"] = home
    if not values["JJ_WORKER_HOME"].value and home.value:
        values["JJ_WORKER_HOME"] = Value(f"{home.value}/workers", "default")
    if not values["JJ_CONFIG_FILE"].value:
        values["JJ_CONFIG_FILE"] = Value(personal, "default")
    return Settings(values)


def _default(setting: Setting) -> Value:
    if setting.parse is parse_path and not setting.default:
        return Value("", "default")
    return Value(setting.parse(setting.default), "default")


def parse_option(name: str, text: str, origin: str) -> Value:
    """The value of setting `name` given as a command-line option or a library call. Raises ConfigError."""
    return _parse(BY_NAME[name], text, origin, origin)
