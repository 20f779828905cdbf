"""Read files of variables that jobs, polling commands and storage handlers write: `key = value`, one per line.

jug_monitor.vars holds monitored variables. jug_polling.vars says whether a job elsewhere has finished. jug_stage_out.log and
jug_storage.log say where files were stored. Their writers may have been killed, or may be wrong, so an unusable line is only a
warning with file and line; the other lines still count. Reads only, at most _MOST_BYTES, and only regular files: a job may have
put a link, a pipe or a directory there.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from jobjar.fetching.copying import open_file

MONITORED = "jug_monitor.vars"
POLLED = "jug_polling.vars"
STAGED_OUT = "jug_stage_out.log"
STORED = "jug_storage.log"
# The only monitored variable with a meaning to Job Jar: it is added up over a batch.
WORK_DONE = "work_done"
RECORD_FIELDS = ("source_name", "storage_name", "storage_hfn", "storage_url", "storage_size", "storage_md5")
_MOST_BYTES = 4 << 20
_MOST_VARIABLES = 10_000
_LONGEST_KEY, _LONGEST_VALUE = 256, 16384
_MOST_WARNINGS = 20
_HFN = re.compile(r"[^/:\s]+:/.*")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


class Variables(NamedTuple):
    """Names and values as text, in the order of the file. The later value of a repeated name counts."""

    values: dict[str, str]
    warnings: list[str]


class Polling(NamedTuple):
    """Whether the job has finished, and its exit status; None where the file has none."""

    finished: bool
    exit_status: int | None
    warnings: list[str]


class StoredRecords(NamedTuple):
    """One dict per stored file, with `source_name` and the other RECORD_FIELDS that were given. Sizes are numbers of bytes."""

    records: list[dict[str, Any]]
    warnings: list[str]


class _Line(NamedTuple):
    number: int
    key: str
    value: str


class _Warnings:
    """The warnings about one file: the first ones, and how many more there were."""

    def __init__(self, path: str) -> None:
        self.lines: list[str] = []
        self._name = os.path.basename(path)
        self._left_out = 0

    def add(self, text: str, line: int | None = None) -> None:
        if len(self.lines) < _MOST_WARNINGS:
            self.lines.append(f"{self._name}{'' if line is None else f', line {line}'}: {text}")
        else:
            self._left_out += 1

    def all(self) -> list[str]:
        more = [f"{self._name}: {self._left_out} more warnings are left out"] if self._left_out else []
        return self.lines + more


def read_variables(path: str, is_final: bool = True) -> Variables:
    """Read the monitored variables of a job. A missing file has none. `is_final`: no process writes to the file any more. Else a
    last line without a line end is left for the next look, because its value may be incomplete. Raises OSError where the disk
    refuses."""
    warnings = _Warnings(path)
    values: dict[str, str] = {}
    for line in _read_lines(path, is_final, warnings):
        if line.key not in values and len(values) == _MOST_VARIABLES:
            warnings.add(
                f"more than {_MOST_VARIABLES} variables; this one and those after it are not taken", line.number
            )
            break
        if line.key == WORK_DONE and not _is_number(line.value):
            warnings.add(f"{WORK_DONE} is not a number: {_shorten(line.value)}", line.number)
        values[line.key] = line.value
    return Variables(values, warnings.all())


def read_polling(path: str) -> Polling:
    """Read the answer of a polling command. A missing file means that the job has not finished. Raises OSError like
    `read_variables`."""
    warnings = _Warnings(path)
    finished, exit_status = False, None
    for line in _read_lines(path, True, warnings):
        if line.key == "finished":
            finished = line.value == "1"
            if line.value not in ("0", "1"):
                warnings.add(f"finished is neither 0 nor 1: {_shorten(line.value)}", line.number)
        elif line.key == "exit_status":
            if re.fullmatch(r"-?[0-9]{1,9}", line.value):
                exit_status = int(line.value)
            else:
                warnings.add(f"exit_status is not a number: {_shorten(line.value)}", line.number)
        else:
            warnings.add(f"{_shorten(line.key)} means nothing here; finished and exit_status do", line.number)
    return Polling(finished, exit_status, warnings.all())


def read_stored(path: str) -> StoredRecords:
    """Read the records of stored files. Each begins with source_name; its other fields come in any order. A missing file has
    none. Raises OSError like `read_variables`."""
    warnings = _Warnings(path)
    records: dict[str, dict[str, Any]] = {}
    record: dict[str, Any] | None = None
    # Fields after an unusable source_name must not go into the record before it.
    is_passed_over = False
    for line in _read_lines(path, True, warnings):
        if line.key == "source_name":
            is_passed_over = not line.value
            record = None
            if not line.value:
                warnings.add("source_name is empty; its record is passed over", line.number)
                continue
            if line.value in records:
                warnings.add(f"a second record of {_shorten(line.value)}; the later one stands", line.number)
            record = records[line.value] = {"source_name": line.value}
        elif line.key not in RECORD_FIELDS:
            warnings.add(
                f"{_shorten(line.key)} is no field of a record; those are {', '.join(RECORD_FIELDS)}", line.number
            )
        elif record is not None:
            _take_field(record, line, warnings)
        elif not is_passed_over:
            warnings.add(f"{line.key} before the first source_name", line.number)
    return StoredRecords(list(records.values()), warnings.all())


def _take_field(record: dict[str, Any], line: _Line, warnings: _Warnings) -> None:
    value: Any = line.value
    if not value:
        warnings.add(f"{line.key} is empty", line.number)
        return
    if line.key == "storage_size":
        if not re.fullmatch(r"[0-9]{1,18}", value):
            warnings.add(f"storage_size is not a number of bytes: {_shorten(value)}", line.number)
            return
        value = int(value)
    elif line.key == "storage_md5":
        if not re.fullmatch(r"[0-9a-fA-F]{32}", value):
            warnings.add(f"storage_md5 is not 32 hexadecimal digits: {_shorten(value)}", line.number)
            return
        value = value.lower()
    elif line.key == "storage_hfn" and not _HFN.fullmatch(value):
        warnings.add(f"storage_hfn is not of the form host:/path: {_shorten(value)}", line.number)
    if line.key in record:
        warnings.add(f"{line.key} stands twice in a record; the later one is taken", line.number)
    record[line.key] = value


def _read_lines(path: str, is_final: bool, warnings: _Warnings) -> Iterator[_Line]:
    """The lines of the form key = value. Other lines get a warning, except empty ones and comments (#)."""
    content = _read_content(path, warnings)
    lines = content.split(b"\n")
    if not is_final:
        lines.pop()  # the text after the last line end
    for number, raw in enumerate(lines, 1):
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8", "backslashreplace").strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key or len(key.split()) > 1:
            warnings.add(f"not of the form key = value: {_shorten(text)}", number)
        elif _CONTROL.search(text):
            warnings.add(f"control characters: {_shorten(text)}", number)
        elif len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            warnings.add(f"longer than a key ({_LONGEST_KEY}) or value ({_LONGEST_VALUE}) may be", number)
        else:
            if not _is_utf8(raw):
                warnings.add("not UTF-8; what is not is taken as \\x and its code", number)
            yield _Line(number, key, value)


def _read_content(path: str, warnings: _Warnings) -> bytes:
    try:
        descriptor = open_file(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        # ENXIO stands for a socket.
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EACCES, errno.EPERM):
            raise
        reasons = {errno.ELOOP: "it is a symbolic link", errno.EACCES: "it may not be read"}
        warnings.add(f"{reasons.get(error.errno, 'it is not a regular file')}; nothing of it is taken")
        return b""
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(_MOST_BYTES)
        if file.read(1):
            warnings.add(f"longer than {_MOST_BYTES} bytes; what comes after those is not taken")
            content = content[: content.rfind(b"\n") + 1]  # the limit may cut a value in two
    return content


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
