"""What the files of a jar must contain: the fields of each kind of document, their types and their ranges.

Anybody who may write to a jar may have written anything. A document that does not fit is treated like one that a crash cut
short: `read_document` logs it once and raises Unreadable, and the caller goes on without it. Unknown fields are allowed.
Entries of journals are checked with the same functions (ledger/entries.py). This module writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobjar.shared_disk.files import read_file
from jobjar.shared_disk.regular import UnfitFile, pass_over

Fits = Callable[[Any], bool]

# LATEST is the end of the year 9999, Python's last date. MOST is the largest integer that a double holds exactly.
LATEST = 253_402_300_800.0
MOST = 1 << 53
_LONGEST_TEXT, _LONGEST_NAME, _DEEPEST = 1 << 20, 512, 16


class Unreadable(ValueError):
    """The content of a file is not what belongs there."""


def is_text(value: Any) -> bool:
    """Whether this is a text of bounded length that can be encoded as UTF-8."""
    if type(value) is not str or len(value) > _LONGEST_TEXT:
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def is_name(value: Any) -> bool:
    """Whether this can be one part of a path: without a slash or NUL, not `.` or `..`."""
    return (
        type(value) is str and 0 < len(value) <= _LONGEST_NAME and value not in (".", "..") and not {*"/\0"} & {*value}
    )


def is_category(value: Any) -> bool:
    """Whether this is a name or an empty text."""
    return value == "" or is_name(value)


def is_number(value: Any) -> bool:
    """Whether this is a finite number that a double holds."""
    return type(value) in (int, float) and -MOST <= value <= MOST


def is_time(value: Any) -> bool:
    """Whether these are UTC epoch seconds with a date."""
    return type(value) in (int, float) and 0 <= value < LATEST


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def is_pid(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 31


def is_flag(value: Any) -> bool:
    return type(value) is bool


def or_none(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def list_of(fits: Fits) -> Fits:
    return lambda value: type(value) is list and all(map(fits, value))


def _is_pair(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and all(map(is_text, value))


def _is_file(value: Any) -> bool:
    return (
        type(value) is dict and is_text(value.get("name")) and is_count(value.get("size")) and is_text(value.get("md5"))
    )


def _is_range(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and all(map(is_count, value)) and value[0] <= value[1]


class Document(NamedTuple):
    """A kind of document, with its needed and its optional fields."""

    what: str
    needed: Mapping[str, Fits]
    optional: Mapping[str, Fits]


_PROCESS: dict[str, Fits] = {"node": is_name, "pid": is_pid, "boot_id": is_text}
WORKER = Document(
    "who a worker is",
    {**_PROCESS, "worker": is_name, "worker_id": is_name, "process_started": is_number},
    {
        "user": is_text,
        "categories": list_of(is_name),
        "version": is_text,
        "pid_namespace": is_text,
        "started_at": is_time,
        "heartbeat_time_s": lambda value: is_number(value) and value > 0,
        "is_storage": is_flag,
        "ends_at": is_time,
        "setup": is_name,
        "ended_at": or_none(is_time),
        "end_reason": or_none(is_text),
        "given_up_at": or_none(is_time),
        "given_up_by": or_none(is_text),
        "pauses_until": is_time,
        "failures_in_a_row": is_count,
        "last_failed": is_name,
        "pilot": is_text,
    },
)
CHANGE = Document(
    "a change of a batch",
    {**_PROCESS, "started": is_number, "id": is_name, "by": is_text, "batches": list_of(is_name)},
    {"pid_namespace": is_text},
)
CANCELLATION = Document(
    "who cancels jobs",
    {**_PROCESS, "started": is_number, "by": is_text, "message": is_text},
    {"pid_namespace": is_text},
)
KILL = Document("why a job is to be ended", {"attempt": is_count, "message": is_text}, {"task": is_count})
ORDER = Document(
    "which tasks are to be cancelled",
    {"ranges": list_of(_is_range), "life": is_count, "message": is_text},
    {},
)
BATCH = Document(
    "what a batch is",
    {
        "batch": is_name,
        "change": is_name,
        "keys": list_of(_is_pair),
        "seeds": or_none(is_text),
        "has_blocks": is_flag,
        "is_aborted": is_flag,
        "changed_at": is_time,
        "restarted_until": is_time,
        "submitter": is_text,
        "submitted_at": is_time,
        "jobs": is_count,
    },
    {"priority_by": or_none(is_name), "array": lambda value: type(value) is dict},
)
STATE = Document(
    "what a job has reached",
    {
        "phase": is_text,
        "job": is_name,
        "name": is_name,
        "attempt": is_count,
        "worker": is_name,
        "worker_uid": is_name,
        "category": is_category,
        "files": list_of(_is_file),
    },
    {
        **{name: or_none(is_text) for name in ("outcome", "message")},
        **{name: or_none(is_number) for name in ("exit_status", "signal", "max_rss_kib")},
        **{name: or_none(is_number) for name in ("wall_time_s", "user_cpu_s", "system_cpu_s")},
    },
)
CLAIMER = Document("who builds here", {**_PROCESS, "started": is_number}, {"pid_namespace": is_text})
MESSAGE = Document("a message of the doctor's peer", {}, {})


def read_document(path: str, document: Document, deadline_s: float | None = None) -> dict[str, Any]:
    """Read the document in a file. A file that is no such document is logged once. Raises Unreadable, UnfitFile, OSError."""
    try:
        return parse_document(read_file(path, deadline_s), document)
    except Unreadable as error:
        pass_over(path, error)
        raise
    except UnfitFile as error:
        pass_over(path, error.strerror)
        raise


def parse_document(data: bytes, document: Document) -> dict[str, Any]:
    """Parse and check a document. The result includes fields that this version does not know. Raises Unreadable."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it does not say {document.what}: it is no JSON, or cut short") from error
    if type(said) is not dict:
        raise Unreadable(f"it does not say {document.what}: it is no JSON object")
    if _is_deeper(said, _DEEPEST):
        raise Unreadable(f"it does not say {document.what}: it is nested deeper than {_DEEPEST} levels")
    for name, fits in document.needed.items():
        if name not in said:
            raise Unreadable(f"it does not say {document.what}: it has no {name}")
        _check(said, name, fits, document)
    for name, fits in document.optional.items():
        if name in said:
            _check(said, name, fits, document)
    return said


def _check(said: Mapping[str, Any], name: str, fits: Fits, document: Document) -> None:
    if not fits(said[name]):
        raise Unreadable(f"it does not say {document.what}: {name} cannot be {shorten(said[name])}")


def shorten(value: Any) -> str:
    """Shorten a value for a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # too long a number, too deep a list
        text = type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]}…"


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            if type(outer) in (dict, list)
            for inner in (outer.values() if type(outer) is dict else outer)
        ]
        if not layer:
            return False
    return any(type(inner) in (dict, list) for inner in layer)
