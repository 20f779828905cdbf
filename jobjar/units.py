"""Convert times as people write them (`90`, `1m30s`, `2h`) to seconds, and format times, rates and sizes for reports."""

from __future__ import annotations

import contextlib
import re
import time

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Longer than anybody waits. A time plus this many seconds is still a valid date.
LONGEST_S = 36_525 * 86_400.0
_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB")
_RATES = (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0))
_UNLIMITED = "unlimited"
# A number, since journals hold it: releases that do not know the word `unlimited` treat it correctly.
UNLIMITED = 1 << 40
_TIME_OF_DAY = re.compile(r"([0-9]{1,2}):[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?")
_TOO_FAR = "is not within the next 100 years"
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def parse_seconds(text: str) -> float:
    """Parse a time to seconds: a plain number, or numbers with ms, s, m, h or d. Raises ValueError with the reason."""
    seconds = _parse_seconds(text.strip())
    if seconds > LONGEST_S:
        raise ValueError(f"{text.strip()[:40]!r} is longer than 100 years")
    return seconds


def _parse_seconds(text: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a time such as 90, 1.5, 30s, 1m30s or 2h")
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def parse_duration(value: object) -> float:
    """`parse_seconds` of text or of a number, as files and callers of the library give it."""
    return parse_seconds(f"{value:f}" if isinstance(value, float) else str(value))


def parse_moment(text: str, now: float | None = None) -> float:
    """Parse a time in the past to UTC epoch seconds: so long ago (`2h`, `-2h`, `1h30m`, seconds), a time of day (the last `14:00`
    that there was), a date (`2026-11-30`, its beginning), or both in ISO 8601. Without a zone it is local time.

    Raises ValueError with the reason.
    """
    now = time.time() if now is None else now
    word = text.strip()
    with contextlib.suppress(ValueError):
        return now - parse_seconds(word.removeprefix("-"))
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return _parse_date(word, now, is_ahead=False)
    raise ValueError(
        f"{text!r} is neither so long ago (30m, 2h, 1d) nor a date and time (14:00, 2026-11-20, 2026-11-20T14:00)"
    )


def parse_coming(text: str, now: float) -> float:
    """Parse a time to come to UTC epoch seconds: `+2h` after `now`, a time of day (the next `18:30` that there is), or what
    `parse_moment` takes for a date. Raises ValueError with the reason."""
    word = text.strip()
    if word.startswith("+"):
        return now + parse_seconds(word[1:])
    try:
        return check_coming(_parse_date(word, now, is_ahead=True), word)
    except (OverflowError, OSError):
        return check_coming(float("inf"), word)
    except ValueError as error:
        if str(error).endswith(_TOO_FAR):
            raise
        raise ValueError(
            f"{text!r} is neither a time from now (+2h) nor of a day (18:30) nor a date and time (2026-11-20T14:00)"
        ) from error


def check_coming(moment: float, shown: object) -> float:
    """Return a time in UTC epoch seconds, if a job may wait for it. Raises ValueError with the reason."""
    if not 0 <= moment < time.time() + LONGEST_S:  # nor is it a number at all
        raise ValueError(f"{str(shown)[:40]!r} {_TOO_FAR}")
    return moment


def _parse_date(word: str, now: float, is_ahead: bool) -> float:
    import datetime  # every program would load it

    found = _TIME_OF_DAY.fullmatch(word)
    if found is None:
        return datetime.datetime.fromisoformat(word).timestamp()
    day = datetime.timedelta(days=1)
    wanted = datetime.time.fromisoformat(word if len(found.group(1)) == 2 else f"0{word}")
    here = datetime.datetime.fromtimestamp(now, wanted.tzinfo)
    moment = datetime.datetime.combine(here.date(), wanted)
    if is_ahead and moment <= here:
        moment += day
    elif not is_ahead and moment > here:
        moment -= day
    return moment.timestamp()


def format_moment(moment: float) -> str:
    """Format a time (UTC epoch seconds) for people: local, to the second; '' if no calendar has it."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))
    except (OverflowError, ValueError, OSError):
        return ""


def format_seconds(seconds: float) -> str:
    """Format a duration for people: `0.4 s`, `42 s`, `3 m 20 s`, `5 h 12 m`, `3 d 4 h`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def format_rate(per_s: float) -> str:
    """Format a rate in the first unit that gives one or more: `1,200/s`, `12/min`, `4/h`, `1.5/d`."""
    if per_s <= 0:
        return "0"
    unit, each_s = next(((unit, each_s) for unit, each_s in _RATES if per_s * each_s >= 1), _RATES[-1])
    number = per_s * each_s
    return f"{number:,.0f}/{unit}" if number >= 99.5 else f"{number:.2g}/{unit}"


def parse_retries(text: str) -> int:
    """Parse a number of retries: a whole number, or `unlimited`. Raises ValueError with the reason."""
    text = text.strip()
    if text.lower() == _UNLIMITED:
        return UNLIMITED
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is neither a whole number of 0 or more nor `{_UNLIMITED}`")
    return int(text)


def name_retries(retries: int | None) -> int | str | None:
    """Return a number of retries as people write it. The inverse of `parse_retries`."""
    return _UNLIMITED if retries is not None and retries >= UNLIMITED else retries


def format_ordinal(number: int) -> str:
    """A number that counts: `1st`, `2nd`, `11th`, `23rd`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def parse_size(text: str) -> int:
    """Parse a number of bytes: digits, or digits with K, M, G or T for powers of 1024. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,15})([KMGT]?)", text, re.IGNORECASE)
    if not found:
        raise ValueError(f"{text!r} is not a number of bytes such as 500M or 10G")
    return int(found.group(1)) << 10 * ("KMGT".index(found.group(2).upper()) + 1 if found.group(2) else 0)


def format_bytes(size: int) -> str:
    """Format a size for people: `0 B`, `999 B`, `1.5 KiB`, `20 MiB`."""
    if size < 1024:
        return f"{size} B"
    power = 1
    while size >= 999.5 * 1024**power and power < len(_SIZES):
        power += 1
    return f"{size / 1024**power:.3g} {_SIZES[power - 1]}"
