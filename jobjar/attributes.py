"""A job's attributes: what `#JJ name = value` lines, options of submit_job and keyword arguments may set."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jobjar.errors import BadAttribute
from jobjar.units import parse_seconds

# How much of a file is searched for its leading comment block.
HEADER_BYTES = 65536
_LINE = re.compile(rb"#JJ(?:\s|$)")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def _parse_retries(value: Any) -> int:
    text = str(value).strip()
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _parse_duration(value: Any) -> float:
    return parse_seconds(f"{value:f}" if isinstance(value, float) else str(value))


# name as people write it -> (name in journals and ledgers, parser)
ATTRIBUTES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "retries": ("retries", _parse_retries),
    "retry_delay": ("retry_delay_s", _parse_duration),
    "time_limit": ("time_limit_s", _parse_duration),
}


def parse_attributes(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values by the names that journals use, from values by the names that people use; None means not given.

    Raises BadAttribute, which says `where`, for an unknown name or a bad value.
    """
    parsed = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in ATTRIBUTES:
            raise BadAttribute(where=where, reason=f"there is no attribute {name!r}", known=", ".join(ATTRIBUTES))
        key, parse = ATTRIBUTES[name]
        try:
            parsed[key] = parse(value)
        except ValueError as error:
            raise BadAttribute(where=where, reason=f"{name}: {error}", known=", ".join(ATTRIBUTES)) from error
    return parsed


def read_header(data: bytes, where: str) -> dict[str, Any]:
    """The attributes in the leading comment block of a script, of which `data` is the beginning.

    The block ends at the first line that does not start with `#`. A file that is not a script has none.
    Raises BadAttribute with the line's number.
    """
    if not data.startswith(b"#") or b"#JJ" not in data:
        return {}
    parsed: dict[str, Any] = {}
    lines = data[:HEADER_BYTES].split(b"\n")
    if len(data) >= HEADER_BYTES:
        lines.pop()  # cut short: half a value would be another value
    for number, line in enumerate(lines, 1):
        if not line.startswith(b"#"):
            break
        if not _LINE.match(line):
            continue
        here = f"{where}, line {number}"
        found = _ASSIGNMENT.fullmatch(line[3:].decode("utf-8", "replace").strip())
        if not found:
            raise BadAttribute(where=here, reason="is not of the form `#JJ name = value`", known=", ".join(ATTRIBUTES))
        parsed.update(parse_attributes({found.group(1): found.group(2)}, here))
    return parsed
