"""What a job may be given beside its retries and its time limit: where it runs, with which words and variables, where its output
goes, when it may begin, how people find it.

Each is a `#JJ name = value` line, an option of `jobjar submit`, and a keyword argument of the library. Together they are one
object, the field `given` of journals and the column `given` of ledgers. A job that was given none of it has no such object.
`settle` makes paths and times absolute, and is called once, where the submitter's directory and clock are known.
Reads the submitter's environment and directory; writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jobjar.errors import BadAttribute, JarError
from jobjar.job_file.names import check_category, check_identifier, check_priority, parse_priority
from jobjar.job_file.patterns import check_pattern, explain_misfit
from jobjar.job_file.prerequisites import KINDS, are_prerequisites
from jobjar.job_file.request import CHECKS, PARSERS, class_of
from jobjar.units import check_coming, parse_coming, parse_duration, parse_seconds

Fields = dict[str, Any]

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIGNAL = re.compile(r"(?:SIG)?([A-Z][A-Z0-9+-]*)@(.+)")
_STATUSES = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")
# Signals that no process can act on.
_NOT_HEARD = ("KILL", "STOP")
# What a shell keeps about itself, which would be wrong in another one.
_OF_A_SHELL = ("_", "PWD", "OLDPWD", "SHLVL")
_OF_THE_WORKER = "JJ_"


def _text(value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    if "\0" in value:
        raise ValueError("it has a NUL")
    return value


def split_words(text: str) -> list[str]:
    """Words as a shell would read them. Raises ValueError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {str(error).lower()}") from error


def _words(value: Any) -> list[str]:
    """Words as a shell would read them, or a list of words."""
    return split_words(value) if isinstance(value, str) else [_text(word) for word in value]


def _parse_path(value: Any) -> str:
    text = _text(value)
    if not text or "\n" in text:
        raise ValueError(f"{text!r} is no path")
    return text


def _parse_output(value: Any) -> str:
    text = _parse_path(value)
    if text.endswith("/"):
        raise ValueError(f"{text!r} names a directory; name a file in it, for example {text + '%j.out'!r}")
    check_pattern(text)
    return text


def _parse_flag(value: Any) -> bool:
    if value in (True, "yes"):
        return True
    if value in (False, "no"):
        return False
    raise ValueError(f"{value!r} is neither yes nor no")


def _parse_environment(value: Any) -> dict[str, str | None]:
    """Variables and their values; None for a variable that is to have the value that it has where the job is submitted."""
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(value, Mapping):
        pairs = value.items()
    else:
        pairs = (
            (name, text if equals else None) for name, equals, text in (word.partition("=") for word in _words(value))
        )
    parsed: dict[str, str | None] = {}
    for name, text in pairs:
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a variable; give NAME=VALUE, or NAME for the value that it has here"
            )
        if name.startswith(_OF_THE_WORKER):
            raise ValueError(f"{name}: the worker sets the variables whose names begin with {_OF_THE_WORKER}")
        parsed[name] = None if text is None else _text(text)
    return parsed


def _parse_tags(value: Any) -> list[str]:
    return [check_identifier(word) for word in _words(value)]


def _parse_priority(value: Any) -> int:
    return check_priority(value) if isinstance(value, int) else parse_priority(_text(value))


def _parse_statuses(value: Any) -> str:
    """Exit statuses, in one form: `1,64-78`. Raises ValueError."""
    if isinstance(value, int):
        value = str(value)
    parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else [str(part) for part in value]
    ranges = []
    for part in parts:
        found = _STATUSES.fullmatch(part)
        first, last = (int(found.group(1)), int(found.group(2) or found.group(1))) if found else (1, 0)
        if not 1 <= first <= last <= 255:
            raise ValueError(
                f"{part!r} is no exit status of a failed job: give numbers from 1 to 255, or ranges (64-78)"
            )
        ranges.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(ranges)


def _parse_warning(value: Any) -> Fields:
    found = _SIGNAL.fullmatch(_text(value).strip())
    if found is None or not is_signal(found.group(1)):
        raise ValueError(f"{value!r} is not of the form SIGNAL@TIME, such as USR1@60s")
    if found.group(1) in _NOT_HEARD:
        raise ValueError(f"{value!r}: no job can hear that signal; use USR1, or TERM")
    return {"warn_signal": found.group(1), "warn_before_s": parse_seconds(found.group(2))}


def is_signal(name: Any) -> bool:
    """Whether this is the name of a signal, without SIG."""
    import signal

    return isinstance(name, str) and hasattr(signal.Signals, f"SIG{name}")


def _parse_begin(value: Any) -> Fields:
    if hasattr(value, "timestamp"):
        value = value.timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"begin_at": round(float(check_coming(value, value)), 6)}
    text = _text(value).strip()
    parse_coming(text, 0.0)
    return {"begin": text}


def format_begin(begin_at: float) -> str:
    """A time (UTC epoch seconds) as a `#JJ begin` line has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begin_at)) + "+00:00"


def _as(field: str, parse: Callable[[Any], Any]) -> Callable[[Any], Fields]:
    return lambda value: {field: parse(value)}


# Name as people write it -> parser, which returns the fields.
GIVEN: dict[str, Callable[[Any], Fields]] = {
    "name": _as("name", check_identifier),
    "priority": _as("priority", _parse_priority),
    "category": _as("category", check_category),
    "tag": _as("tags", _parse_tags),
    "hold": _as("hold", _parse_flag),
    **{kind: _as(kind, _words) for kind in KINDS},
    "begin": _parse_begin,
    "warn": _parse_warning,
    "retry_on": _as("retry_on", _parse_statuses),
    "no_retry_on": _as("no_retry_on", _parse_statuses),
    "job_runtime": _as("job_runtime_s", parse_duration),
    "dir": _as("dir", _parse_path),
    "scratch": _as("scratch", _parse_flag),
    "arguments": _as("arguments", _words),
    "output": _as("output", _parse_output),
    "error": _as("error", _parse_output),
    **PARSERS,
    "env": _as("env", _parse_environment),
    "env_all": _as("env_all", _parse_flag),
}
SHARED = ("name", "job_runtime")  # keys of descriptions too; alone they make no described job
# A described job says these in other words, or its stages leave no place for them.
_NOT_DESCRIBED = {
    "dir": "it has a working directory of its own",
    "scratch": "it has a working directory of its own",
    "arguments": "its commands have their words",
    "env": "`environment` sets its variables",
    "env_all": "`environment` sets its variables",
    "output": "its `output/` is stored",
    "error": "its `output/` is stored",
    "warn_signal": "it may have several commands",
}


def parse_given(name: str, value: Any, where: str, known: Sequence[str]) -> Fields:
    """Parse one of GIVEN to fields. Raises BadAttribute with `where`."""
    try:
        return GIVEN[name](value)
    except (ValueError, TypeError, OverflowError, JarError) as error:
        raise BadAttribute(where=where, reason=f"{name}: {error}", known=", ".join(known)) from error


def merge_given(first: Fields, then: Fields) -> Fields:
    """Join fields; what comes later wins. Tags add up, as do variables and prerequisites."""
    merged = {**first, **then}
    for name in ("tags", *KINDS):
        if name in first and name in then:
            merged[name] = list(dict.fromkeys(first[name] + then[name]))
    for name in ("env", "resources"):
        if name in first and name in then:
            merged[name] = {**first[name], **then[name]}
    for one, other in (("dir", "scratch"), ("scratch", "dir"), ("begin", "begin_at"), ("begin_at", "begin")):
        if one in then and other not in then:
            merged.pop(other, None)
    return merged


class Submitter(NamedTuple):
    """What is known where a job is submitted: the directory and the environment there, and the time (UTC epoch seconds). For a
    file that was put into a jar by hand the first two are None, and the time is that of its last change."""

    directory: str | None
    environment: Mapping[str, str] | None
    now: float


def find_submitter() -> Submitter:
    """What is known where this process submits. Its directory has the name that the shell has for it: that may lead through links
    which are the same on other nodes, where the kernel's name is not. It is None if it was removed."""
    directory: str | None = None
    with contextlib.suppress(OSError):
        directory = os.getcwd()
        said = os.environ.get("PWD", "")
        if said.startswith("/") and os.path.samefile(said, directory):
            directory = said
    return Submitter(directory, os.environ, time.time())


def settle(
    attributes: Mapping[str, Any], where: str, submitter: Submitter, is_array: bool | None = False
) -> dict[str, Any]:
    """Make what a job was given independent of where it was submitted, and compare it with the other attributes. `is_array`: it
    is for the tasks of an array (None: that is not known yet, and is settled again). Raises BadAttribute, if it makes no sense
    together, or needs what only a submitter knows."""

    def refuse(reason: str) -> BadAttribute:
        return BadAttribute(where=where, reason=reason, known=", ".join(GIVEN))

    given = dict(attributes["given"])
    if attributes.get("kind"):
        for name, why in _NOT_DESCRIBED.items():
            if name in given:
                raise refuse(f"{name.partition('_')[0]} is not for a described job: {why}")
    if "warn_signal" in given and not attributes.get("time_limit_s"):
        raise refuse("warn says how long before the time limit, and the job has none: give a time_limit too")
    if "warn_signal" in given and given["warn_before_s"] >= attributes["time_limit_s"]:
        raise refuse(
            f"warn: the time limit is {attributes['time_limit_s']:g} s, so the signal would come before the job"
        )
    for name in ("retry_on", "no_retry_on"):
        if name in given and not attributes.get("retries"):
            raise refuse(f"{name} says which failures are tried again, and none is: give retries too")
    usual = given.pop("usual_dir", None)
    if given.pop("scratch", False):
        given.pop("dir", None)
    elif usual is not None and not attributes.get("kind"):
        given.setdefault("dir", usual)
    base = submitter.directory
    if "dir" in given:
        base = given["dir"] = _absolute(given["dir"], base, "dir", refuse)
    for name in ("output", "error"):
        if name in given:
            given[name] = _absolute(given[name], base, name, refuse)
            misfit = None if is_array is None else explain_misfit(given[name], is_array)
            if misfit is not None:
                raise refuse(f"{name}: {misfit}")
    if "begin" in given:
        given["begin_at"] = round(parse_coming(given.pop("begin"), submitter.now), 6)
    _settle_environment(given, submitter, refuse)
    rest = {name: value for name, value in attributes.items() if name != "given"}
    return {**rest, "given": given} if given else rest


def _absolute(path: str, base: str | None, name: str, refuse: Callable[[str], BadAttribute]) -> str:
    path = os.path.expanduser(path)
    if not path.startswith("/"):
        if base is None:
            raise refuse(
                f"{name}: {path!r} begins nowhere, for nobody submitted this file from a directory; begin it with /"
            )
        path = f"{base}/{path}"
    return os.path.normpath(path) if "/../" not in f"{path}/" else path  # `..` behind a link leads elsewhere


def _settle_environment(given: Fields, submitter: Submitter, refuse: Callable[[str], BadAttribute]) -> None:
    takes_all = given.pop("env_all", False)
    if not takes_all and "env" not in given:
        return
    here = submitter.environment
    if takes_all and here is None:
        raise refuse(
            "env_all: nobody submitted this file, so there is no environment to take over; set variables with env"
        )
    variables = {
        name: value
        for name, value in (here.items() if takes_all and here is not None else ())
        if name not in _OF_A_SHELL and not name.startswith(_OF_THE_WORKER)
    }
    for name, value in given.get("env", {}).items():
        if value is None:
            if here is None:
                raise refuse(f"env: nobody submitted this file, so there is no value to take over; write {name}=VALUE")
            if name not in here:
                raise refuse(f"env: {name} is not set here; give {name}=VALUE")
            value = here[name]
        variables[name] = value
    given["env"] = variables


class Given(NamedTuple):
    """What a worker does for a job that was given something. Paths are absolute. Times are in seconds, `begin_at` of the
    epoch."""

    name: str | None = None
    dir: str | None = None
    arguments: tuple[str, ...] = ()
    output: str | None = None
    error: str | None = None
    env: Mapping[str, str] = {}
    warn_signal: str | None = None
    warn_before_s: float = 0.0
    retry_on: str | None = None
    no_retry_on: str | None = None
    begin_at: float = 0.0
    hold: bool = False
    # The class of what it asks for (job_file/request.py).
    request: str = ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 250_000_000_000  # what is later has no date


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_path(value: Any) -> bool:
    return _is_text(value) and value.startswith("/")


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "command", "retry_on", "no_retry_on"), _is_text),
    **dict.fromkeys(("dir", "output", "error"), _is_path),
    **dict.fromkeys(("warn_before_s", "begin_at", "job_runtime_s"), _is_time),
    **dict.fromkeys(("arguments", "tags"), _are_texts),
    "env": lambda value: isinstance(value, dict) and all(map(_is_text, (*value, *value.values()))) and "" not in value,
    "warn_signal": is_signal,
    "hold": lambda value: isinstance(value, bool),
    **CHECKS,
    **dict.fromkeys(KINDS, are_prerequisites),
}


def fit_given(fields: Mapping[str, Any]) -> Fields:
    """The fields that are what belongs there, for people who look at a job."""
    return {name: value for name, value in fields.items() if name in _CHECKS and _CHECKS[name](value)}


def read_given(fields: Mapping[str, Any], where: str) -> Given:
    """Read the fields that journals hold. Unknown fields are passed over. Raises BadAttribute if one is not what belongs there:
    anybody who may write to a jar may have written it."""
    for name, fits in _CHECKS.items():
        if name in fields and not fits(fields[name]):
            raise BadAttribute(where=where, reason=f"{name} cannot be that", known=", ".join(GIVEN))
    known = {name: fields[name] for name in Given._fields if name in fields} | {"request": class_of(fields)}
    if "arguments" in known:
        known["arguments"] = tuple(known["arguments"])
    return Given(**known)


def has_status(statuses: str, status: int) -> bool:
    """Whether a list of exit statuses, as `_parse_statuses` writes them, has this one."""
    for part in statuses.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and int(first) <= status <= int(last if last.isdecimal() else first):
            return True
    return False
