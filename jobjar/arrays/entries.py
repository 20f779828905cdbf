"""The entries of an array's tasks, from a file or from values: checked before anything is submitted.

An entry becomes an environment variable and a word of a program. So it has no NUL, and it is no longer than the system lets one
word be. Reads the files that people name.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from jobjar.errors import UsageError

STANDARD_INPUT = "-"
# Linux gives a program no longer word than 128 KiB, with its NUL (execve(2)); the entry stands behind its variable's name.
LONGEST_BYTES = (128 << 10) - len("JJ_ENTRY=") - 1


def read_entries_file(path: str) -> bytes:
    """Read a file of entries, of any length; `-` is standard input. Raises UsageError."""
    try:
        if path == STANDARD_INPUT:
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise refuse(path, str(error.strerror)) from error


def split_lines(data: bytes) -> list[bytes]:
    """The lines of a file, without their ends. An end is CR LF if every line has that: such a file is from another system. The
    last line needs no end."""
    lines = data.split(b"\n")
    last = lines.pop()
    if lines and all(line.endswith(b"\r") for line in lines):
        lines = [line[:-1] for line in lines]
    return [*lines, last] if last else lines


def check_lines(lines: Iterable[bytes], where: str) -> Iterator[bytes]:
    """The entries as they are, each checked. Raises UsageError that names the line (counted from 1)."""
    for number, line in enumerate(lines, 1):
        if b"\0" in line:
            raise refuse(where, f"line {number} has a NUL, which no word of a program can have")
        if len(line) > LONGEST_BYTES:
            raise refuse(where, f"line {number} {_too_long(line)}")
        yield line


def read_json(data: bytes, where: str) -> list[bytes]:
    """The values of a JSON list, or of JSON lines, each as JSON. Raises UsageError."""
    try:
        values = json.loads(data)
        if type(values) is not list:
            values = [values]
    except (ValueError, RecursionError):
        values = [
            _read_json_line(line, number, where) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()
        ]
    return encode_json(values, where)


def _read_json_line(line: bytes, number: int, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise refuse(where, f"line {number} is no JSON, and the whole is no JSON list: {error}") from error


def encode_json(values: Iterable[Any], where: str) -> list[bytes]:
    """Values as JSON, each on one line. Raises UsageError for what JSON has not, or what is too long."""
    entries = []
    for number, value in enumerate(values, 1):
        try:
            text = json.dumps(value, ensure_ascii=False)
            try:
                entry = text.encode()
            except UnicodeEncodeError:  # half of a surrogate pair
                entry = json.dumps(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise refuse(where, f"value {number} cannot be JSON: {error}") from error
        if len(entry) > LONGEST_BYTES:
            raise refuse(where, f"value {number} {_too_long(entry)}")
        entries.append(entry)
    return entries


def encode_texts(values: Iterable[str | bytes], where: str) -> list[bytes]:
    """Texts as entries. Raises UsageError."""
    return list(check_lines(map(os.fsencode, values), where))


def _too_long(entry: bytes) -> str:
    return f"has {len(entry):,} bytes, and a task can be given {LONGEST_BYTES:,}; put it into a file, and give its name"


def refuse(where: str, reason: str) -> UsageError:
    return UsageError(reason=f"{where}: {reason}; nothing was submitted")
