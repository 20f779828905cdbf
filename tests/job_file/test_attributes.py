from __future__ import annotations

import datetime
from typing import Any

import pytest

from jobjar.errors import BadAttribute, BadScript
from jobjar.job_file.attributes import ATTRIBUTES, HEADER_BYTES, parse_attributes, read_description, read_header
from jobjar.job_file.description import RETRIES, RETRY_DELAY_S, Source


def test_attributes_in_the_leading_comments_are_read() -> None:
    script = b"#!/bin/sh\n# does things\n#JJ retries = 2\n#JJ time_limit=1h\n#JJ  retry_delay =  1m30s \necho\n"
    assert read_header(script, "x") == {"retries": 2, "time_limit_s": 3600.0, "retry_delay_s": 90.0}


def test_the_block_ends_at_the_first_line_that_is_no_comment() -> None:
    for end in (b"echo\n", b" #JJ retries = 1\n", b"#JJ end\n"):
        assert read_header(b"#!/bin/sh\n" + end + b"#JJ retries = 2\n", "x") == {}


def test_blank_lines_belong_to_the_block() -> None:
    for blank in (b"\n", b"\r\n", b" \t\n\n# text\n\n"):
        assert read_header(b"#!/bin/sh\n" + blank + b"#JJ retries = 2\n", "x") == {"retries": 2}
        assert read_header(blank + b"#JJ retries = 2\n", "x") == {"retries": 2}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF\n#JJ retries = 2\n",
        b"echo\n#JJ retries = 2\n",
        b"#!/bin/sh\n# JJ retries = 2\n",
        b"#!/bin/sh\n#JJretries = 2\n",
        b"#!/bin/sh\n##JJ retries = 2\n",
    ],
)
def test_what_only_looks_like_an_attribute_is_none(data: bytes) -> None:
    assert read_header(data, "x") == {}


def test_the_last_line_needs_no_newline_and_may_end_as_on_other_systems() -> None:
    assert read_header(b"#!/bin/sh\r\n#JJ retries = 2\r\n#JJ time_limit = 3", "x") == {
        "retries": 2,
        "time_limit_s": 3.0,
    }


def test_only_the_beginning_of_a_file_is_searched_and_a_line_that_is_cut_off_is_refused() -> None:
    line = b"#JJ retries = 234567\n"
    start = b"#!/bin/sh\n#JJ retries = 1\n"
    for before in range(25):
        padding = b"#" * (HEADER_BYTES - len(start) - before - 1) + b"\n"
        script = start + padding + line
        for data in (script, script[:HEADER_BYTES]):
            if len(b"#JJ") <= before < len(line):
                with pytest.raises(BadScript, match="x, line 4"):
                    read_header(data, "x")
            else:
                assert read_header(data, "x") == {"retries": 234567 if before >= len(line) else 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"#JJ colour = red", "there is no attribute 'colour'"),
        (b"#JJ Retries = 2", "there is no attribute 'Retries'"),
        (b"#JJ retries = -1", "retries: '-1' is neither a whole number"),
        (b"#JJ retries = 1.5", "retries"),
        (b"#JJ retries =", "retries"),
        (b"#JJ time_limit = soon", "time_limit: 'soon' is not a time"),
        (b"#JJ retries 2", "not of the form"),
        (b"#JJ", "not of the form"),
    ],
)
def test_a_bad_attribute_is_an_error_with_its_line_and_what_there_is(line: bytes, reason: str) -> None:
    with pytest.raises(BadAttribute, match=reason) as caught:
        read_header(b"#!/bin/sh\n# text\n" + line + b"\n", "unclaimed/x.5")
    assert str(caught.value).startswith("unclaimed/x.5, line 3: ")
    assert all(name in str(caught.value) for name in ATTRIBUTES)


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ({"retries": 2}, {"retries": 2}),
        ({"retries": "2", "retry_delay": None}, {"retries": 2}),
        ({"time_limit": 90}, {"time_limit_s": 90.0}),
        ({"time_limit": 0.5}, {"time_limit_s": 0.5}),
        ({"time_limit": 1e-3}, {"time_limit_s": 0.001}),
        ({"time_limit": "2m", "retry_delay": "1s"}, {"time_limit_s": 120.0, "retry_delay_s": 1.0}),
        ({}, {}),
    ],
)
def test_values_of_options_and_of_keyword_arguments_are_read_alike(
    given: dict[str, Any], parsed: dict[str, Any]
) -> None:
    assert parse_attributes(given, "submission") == parsed


@pytest.mark.parametrize(
    "given", [{"retries": True}, {"retries": -1}, {"time_limit": -1.0}, {"time_limit": float("nan")}]
)
def test_a_bad_value_of_a_keyword_argument_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadAttribute, match="submission"):
        parse_attributes(given, "submission")


def test_a_script_that_describes_what_to_do_is_a_described_job() -> None:
    script = b"#!/bin/sh\n#JJ described = yes\n#JJ batch = wc\n#JJ seed = 17\n#JJ run_command = count a.txt\n"
    said = {"kind": "described", "batch": "wc", "seed": 17}
    assert read_header(script, "x") == {"retries": RETRIES, "retry_delay_s": RETRY_DELAY_S, **said}
    assert read_header(script + b"#JJ retries = 0\n#JJ retry_delay = 1s\n", "x") == {
        "retries": 0,
        "retry_delay_s": 1.0,
        **said,
    }


def test_lines_of_lists_add_up_and_of_others_the_last_counts() -> None:
    script = (
        b"#!/bin/sh\n#JJ input_files = /in/a 'file:/in/b c#name=b&md5=" + b"0F" * 16 + b"'\n"
        b"#JJ environment = A=1 'B=two words'\n#JJ run_command = first\n#JJ input_files = rain:/in/c\n"
        b"#JJ environment = C=\n#JJ run_command = second\n#JJ output_path = a//b/./c/\n"
    )
    description = read_description(script, "x")
    assert description.input_files == (
        Source("/in/a", "a"),
        Source("file:/in/b c", "b", md5="0f" * 16),
        Source("rain:/in/c", "c"),
    )
    assert description.environment == (("A", "1"), ("B", "two words"), ("C", ""))
    assert description.run_command == "second"
    assert description.output_path == "a/b/c"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"#JJ output_path = ../up", "output_path: '../up' leads out of the storage path"),
        (b"#JJ output_path = /tmp", "leads out of the storage path"),
        (b"#JJ input_files = 'a", 'input_files: "\'a": no closing quotation'),
        (b"#JJ input_files = /in/..", "is no name for a file"),
        (b"#JJ software = /p.tgz#md5=12", "the md5 is not 32 hexadecimal digits"),
        (b"#JJ software = /p.tgz#size=12", "after # come name="),
        (b"#JJ environment = 1A=2", "'1A=2' is not of the form NAME=value"),
        (b"#JJ seed = -1", "seed: '-1' is not a whole number"),
        (b"#JJ described = no", "described: 'no' is not yes"),
        (b"#JJ batch = a/b", "batch"),
        (b"#JJ polling_time = soon", "polling_time"),
    ],
)
def test_a_bad_line_of_a_description_is_named(line: bytes, reason: str) -> None:
    for read in (read_header, read_description):
        with pytest.raises(BadAttribute) as raised:
            read(b"#!/bin/sh\n#JJ run_command = x\n" + line + b"\n", "job")
        assert str(raised.value).startswith("job, line 3: ")
        assert reason in str(raised.value)


@pytest.mark.parametrize("begin", [float("nan"), float("inf"), 1e30, 10**400, -1.0, datetime.datetime(9999, 1, 1)])
def test_a_number_that_is_no_time_to_begin_is_refused(begin: object) -> None:
    with pytest.raises(BadAttribute, match="begin: "):
        parse_attributes({"begin": begin}, "submission")


def test_a_word_that_is_no_attribute_is_told_all_that_there_are() -> None:
    with pytest.raises(BadAttribute, match=r"time_limit, name, priority, .*env_all$"):
        parse_attributes({"colour": "red"}, "submission")
    for line in (b"#JJ colour = red\n", b"#JJ colour\n", b"#JJ seed = x\n"):
        with pytest.raises(BadAttribute, match=r"time_limit, name, priority, .*run_command"):
            read_header(line, "script")
