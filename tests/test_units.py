from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given, strategies as st

from jobjar.units import format_rate, format_seconds, parse_coming, parse_moment, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        (" 7 ", 7),
        ("0", 0),
        ("30s", 30),
        ("250ms", 0.25),
        ("1m30s", 90),
        ("2h", 7200),
        ("1d2h3m4s", 93784),
        ("1.5h", 5400),
    ],
)
def test_a_time_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1e3", "nan", "inf", "5 m", "m", "5x", "1m30", "1,5", ".5", "5min"])
def test_what_is_no_time_is_refused_with_the_text_in_the_message(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time") as caught:
        parse_seconds(text)
    assert repr(text.strip()) in str(caught.value)


@given(st.integers(0, 999), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_the_parts_of_a_time_add_up(days: int, hours: int, minutes: int, seconds: int) -> None:
    expected = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_seconds(f"{days}d{hours}h{minutes}m{seconds}s") == expected


@pytest.mark.parametrize(
    ("per_s", "text"),
    [
        (10_234.0, "10,234/s"),
        (740.4, "740/s"),
        (12.34, "12/s"),
        (1.26, "1.3/s"),
        (0.5, "30/min"),
        (0.00111, "4/h"),
        (1.5 / 86400, "1.5/d"),
        (1e-6, "0.086/d"),
        (0.0, "0"),
    ],
)
def test_a_rate_is_written_in_the_unit_that_people_would_say(per_s: float, text: str) -> None:
    assert format_rate(per_s) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0 s"),
        (0.44, "0.4 s"),
        (42.9, "42 s"),
        (59.99, "59 s"),
        (60, "1 m 0 s"),
        (200, "3 m 20 s"),
        (18720, "5 h 12 m"),
        (3 * 86400 + 4 * 3600 + 5, "3 d 4 h"),
    ],
)
def test_a_duration_is_written_with_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", "2026-11-30T08:20:30"),
        ("-2h", "2026-11-30T08:20:30"),
        ("1h30m", "2026-11-30T08:50:30"),
        ("0", "2026-11-30T10:20:30"),
        ("10:20", "2026-11-30T10:20:00"),
        ("9:05", "2026-11-30T09:05:00"),
        ("14:00", "2026-11-29T14:00:00"),
        ("14:00+00:00", "2026-11-29T14:00:00+00:00"),
        (" 2026-11-20 ", "2026-11-20T00:00:00"),
        ("2026-11-20T14:00", "2026-11-20T14:00:00"),
        ("2026-11-20 14:00:01", "2026-11-20T14:00:01"),
        ("2026-11-20T14:00:00Z", "2026-11-20T14:00:00+00:00"),
        ("2026-11-20T14:00:00+05:30", "2026-11-20T14:00:00+05:30"),
    ],
)
def test_a_moment_is_read_as_people_write_it(text: str, moment: str) -> None:
    now = datetime.datetime(2026, 11, 30, 10, 20, 30).timestamp()
    assert parse_moment(text, now) == datetime.datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize("text", ["", "soon", "--2h", "25:00", "14:60", "2026-13-01", "yesterday 2h", "9999999d"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither so long ago"):
        parse_moment(text, 1e9)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("+2h", "2026-11-30T12:20:30"),
        ("10:20", "2026-12-01T10:20:00"),
        ("8:30", "2026-12-01T08:30:00"),
        ("18:30", "2026-11-30T18:30:00"),
        ("18:30:01", "2026-11-30T18:30:01"),
        ("18:30Z", "2026-11-30T18:30:00+00:00"),
        ("2:30+05:30", "2026-12-01T02:30:00+05:30"),
        (" 2026-11-20 ", "2026-11-20T00:00:00"),
        ("2026-12-20T14:00Z", "2026-12-20T14:00:00+00:00"),
    ],
)
def test_a_time_to_come_is_read_as_a_time_that_was(text: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        now = datetime.datetime(2026, 11, 30, 10, 20, 30).timestamp()
        assert parse_coming(text, now) == datetime.datetime.fromisoformat(moment).timestamp()
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["", "soon", "2h", "25:00", "14:60", "8:3", "18:30X", "nan", "1e30", "9999-01-01", "0001-01-01"]
)
def test_what_is_no_time_to_come_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a time from now|not within the next 100 years"):
        parse_coming(text, 1e9)
