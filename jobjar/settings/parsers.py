"""Parsers of settings' values: they turn the text that people write into a value. Each raises ValueError with the reason."""

from __future__ import annotations

import os
import re

from jobjar.errors import JarError
from jobjar.job_file.names import check_category
from jobjar.job_file.request import parse_number, parse_resources
from jobjar.units import parse_seconds, parse_size

__all__ = ["parse_size"]

_TRUE = frozenset(("yes", "true", "on", "1"))
_FALSE = frozenset(("no", "false", "off", "0"))


def parse_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def parse_optional_slots(text: str) -> int | None:
    return parse_slots(text) if text else None


def parse_cores(text: str) -> int | str | None:
    """Parse a number of cores, `all`, or nothing."""
    return text if text == "all" else parse_number(text, 1) if text else None


def parse_memory(text: str) -> int | str | None:
    """Parse a number of bytes, `all`, or nothing."""
    return text if text == "all" else parse_size(text) if text else None


def parse_named(text: str) -> dict[str, int]:
    """Parse named resources: `licence=2 disk=1`."""
    return parse_resources(text)


def parse_slots(text: str) -> int:
    slots = parse_count(text)
    if not 1 <= slots <= 1000:
        raise ValueError(f"{text!r} is not a number from 1 to 1000")
    return slots


def parse_node(text: str) -> str:
    """Check the name of a node. Names of workers begin with it."""
    if text and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", text):
        raise ValueError(f"{text!r} is not a name of up to 64 letters, digits and . _ -, starting with neither . nor -")
    return text


def parse_text(text: str) -> str:
    return text


def parse_days(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text):
        raise ValueError(f"{text!r} is not a number of days, 0 or more")
    return float(text)


def parse_flag(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither yes nor no")


def parse_after_failure(text: str) -> str:
    """Parse JJ_EXIT_ON_FAILURE: `yes`, `no`, `restart`, or an empty text if it is not set."""
    if text.lower() in ("", "restart"):
        return text.lower()
    if text.lower() in _TRUE | _FALSE:
        return "yes" if parse_flag(text) else "no"
    raise ValueError(f"{text!r} is neither yes nor no nor restart")


def parse_path(text: str) -> str:
    path = os.path.expanduser(text)
    if not os.path.isabs(path):
        raise ValueError(f"{text!r} is not an absolute path")
    return os.path.normpath(path)


def parse_categories(text: str) -> tuple[str, ...]:
    try:
        return tuple(check_category(word) for word in re.split(r"[\s,]+", text) if word)
    except JarError as error:
        raise ValueError(str(error)) from error


def parse_umask(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f"{text!r} is not a umask such as 077 or 007")
    return int(text, 8)


def parse_positive_seconds(text: str) -> float:
    seconds = parse_seconds(text)
    if seconds <= 0:
        raise ValueError(f"{text!r} is not more than 0 seconds")
    return seconds
