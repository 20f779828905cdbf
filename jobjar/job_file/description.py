"""The description of a described job: the keys of Jug's batch and job descriptions, written as lines of its `#JJ` block.

    #JJ described = yes
    #JJ batch = wc
    #JJ seed = 17
    #JJ software = /data/wc-1.2.tgz#sha256=0f…
    #JJ input_files = /data/in/a.txt https://example.org/b.txt#name=b&md5=9e…
    #JJ environment = LEVEL=3 'TITLE=two words'
    #JJ run_command = count_words a.txt

A file with any of these keys in its block is a described job. The lists (software, workware, input_files, environment) may
have several lines, which add up. For any other key, the last line counts. Words of lists are quoted as for a shell. A source
of a file is a path, a `file:` or `http(s):` address, or `host:/path`. After `#` it may have `name=…` (the file's name in the
working directory), `md5=…` and `sha256=…`, joined by `&`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from jobjar.job_file.given import VARIABLE, split_words
from jobjar.job_file.names import check_category, check_identifier
from jobjar.units import parse_seconds

# The retries of a described job whose file sets none. Jug takes every failure for a transient one.
RETRIES = 3
RETRY_DELAY_S = 10.0
# Storage workers take their jobs from categories with this prefix.
STORAGE_CATEGORY = "STORAGE-"
_LONGEST_VALUE = 16384


class Source(NamedTuple):
    """The source of a file or package: its location, its name after the fetch, and the checksums that its content must have."""

    location: str
    name: str
    md5: str | None = None
    sha256: str | None = None


class Description(NamedTuple):
    """What a described job has to do. Times are in seconds. None: not set."""

    batch: str | None = None
    name: str | None = None
    seed: int | None = None
    software: tuple[Source, ...] = ()
    workware: tuple[Source, ...] = ()
    input_files: tuple[Source, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    run_command: str | None = None
    stage_in_command: str | None = None
    polling_command: str | None = None
    stage_out_command: str | None = None
    polling_time_s: float | None = None
    output_path: str = ""
    storage_class: str | None = None
    err_storage_class: str | None = None
    err_output_path: str | None = None
    job_runtime_s: float | None = None
    failure_throttle: int | None = None
    notes: str | None = None


def has_staging(description: Description) -> bool:
    """Whether a job has something to fetch, install or run before its `run_command`."""
    return bool(description.software or description.workware or description.input_files or description.stage_in_command)


def says_what_to_run(description: Description) -> bool:
    """Whether a job may have a command to run: its own, one of a package, or the one in its variable JUG_RUN."""
    is_said = description.run_command or description.software or description.workware
    return bool(is_said) or any(name == "JUG_RUN" for name, _ in description.environment)


def storage_category(storage_class: str) -> str:
    """Return the category from which the storage workers of a class take jobs."""
    return f"{STORAGE_CATEGORY}{storage_class}"


def parse_source(text: str) -> Source:
    """Parse a source. Raises ValueError with the reason."""
    location, _, fragment = text.partition("#")
    if not location:
        raise ValueError(f"{text!r} names no file")
    said = dict(parse_qsl(fragment, keep_blank_values=True))
    unknown = sorted(set(said) - {"name", "md5", "sha256"})
    if unknown or bool(fragment) > bool(said):
        raise ValueError(f"{text!r}: after # come name=…, md5=… and sha256=…, joined by &")
    for kind, length in (("md5", 32), ("sha256", 64)):
        if kind in said and not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", said[kind]):
            raise ValueError(f"{text!r}: the {kind} is not {length} hexadecimal digits")
    name = said.get("name") or _name_at(location)
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{text!r}: {name!r} is no name for a file; give one with #name=…")
    md5, sha256 = said.get("md5"), said.get("sha256")
    return Source(location, name, md5 and md5.lower(), sha256 and sha256.lower())


def _name_at(location: str) -> str:
    """Return the name of the file at a location. A path may have ? and % in its name; a file: address encodes them (RFC 8089)."""
    if is_file_address(location):
        location = path_of_file_address(location)
    elif re.match(r"https?://", location, re.IGNORECASE):
        location = location.partition("?")[0]
    return location.rstrip("/").rpartition("/")[2]


def is_file_address(location: str) -> bool:
    return location[:5].lower() == "file:"


def path_of_file_address(location: str) -> str:
    """Convert `file:/path`, `file:///path` or `file://host/path` (RFC 8089) to a path or host:/path. Raises ValueError."""
    rest = location[len("file:") :]
    host = ""
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        rest = slash + rest
    path = unquote(rest, errors="surrogateescape")
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{location!r} is not of the form file:///path")
    return f"{host}:{path}" if host else path


def _parse_sources(text: str) -> tuple[Source, ...]:
    return tuple(parse_source(word) for word in split_words(text))


def _parse_environment(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for word in split_words(text):
        name, equals, value = word.partition("=")
        if not equals or not VARIABLE.fullmatch(name):
            raise ValueError(f"{word!r} is not of the form NAME=value")
        pairs.append((name, value))
    return tuple(pairs)


def _parse_seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _parse_throttle(text: str) -> int:
    if text.lower() in ("no", "off"):
        return 0
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError(f"{text!r} is not a number of failures, or no")
    return int(text)


def parse_output_path(text: str) -> str:
    """Parse a path below the storage path. Raises ValueError if it leads out of that."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or "\0" in text:
        raise ValueError(
            f"{text!r} leads out of the storage path; give a path without .. and without / at its beginning"
        )
    return "/".join(parts)


def _parse_text(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise ValueError("it has a line end or a NUL")
    if len(text) > _LONGEST_VALUE:
        raise ValueError(f"it is longer than {_LONGEST_VALUE} characters")
    return text


def _parse_yes(text: str) -> None:
    if text != "yes":
        raise ValueError(f"{text!r} is not yes")


# Key as people write it -> (field of Description, or '' for none; parser).
KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "described": ("", _parse_yes),
    "batch": ("batch", check_identifier),
    "name": ("name", check_identifier),
    "seed": ("seed", _parse_seed),
    "software": ("software", _parse_sources),
    "workware": ("workware", _parse_sources),
    "input_files": ("input_files", _parse_sources),
    "environment": ("environment", _parse_environment),
    "run_command": ("run_command", _parse_text),
    "stage_in_command": ("stage_in_command", _parse_text),
    "polling_command": ("polling_command", _parse_text),
    "stage_out_command": ("stage_out_command", _parse_text),
    "polling_time": ("polling_time_s", parse_seconds),
    "output_path": ("output_path", parse_output_path),
    "storage_class": ("storage_class", lambda text: check_category(text)[:64]),
    "err_storage_class": ("err_storage_class", lambda text: check_category(text)[:64]),
    "err_output_path": ("err_output_path", parse_output_path),
    "job_runtime": ("job_runtime_s", parse_seconds),
    "failure_throttle": ("failure_throttle", _parse_throttle),
    "notes": ("notes", _parse_text),
}
# The keys whose lines add up.
LISTS = ("software", "workware", "input_files", "environment")


def describe(pairs: list[tuple[str, str]]) -> Description:
    """Parse a description from keys and values in order. Raises ValueError for a bad value, KeyError for an unknown key."""
    said: dict[str, Any] = {}
    for key, text in pairs:
        field, parse = KEYS[key]
        try:
            value = parse(_parse_text(text.strip()))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
        if field:
            said[field] = (*said.get(field, ()), *value) if key in LISTS else value
    return Description(**said)


def check_names(files: tuple[Source, ...]) -> None:
    """Raise ValueError if two different input files of a job have the same name."""
    named: dict[str, Source] = {}
    for source in files:
        first = named.setdefault(source.name, source)
        if first != source:
            places = f"{first.location} and {source.location}"
            raise ValueError(f"input_files: {places} are both called {source.name!r}; name one otherwise, with #name=…")


def journaled_fields(description: Description) -> Mapping[str, Any]:
    """Return the fields of a description that journals and ledgers hold. The others are read from the file when the job runs."""
    said = {"kind": "described", "batch": description.batch, "seed": description.seed}
    return {name: value for name, value in said.items() if value is not None}
