"""Files of variables and records of stored files: what is read, what is warned of, and that nothing else is lost."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, strategies

from jobjar.publishing.variables import Polling, StoredRecords, Variables, read_polling, read_stored, read_variables

MD5 = "900150983cd24fb0d6963f7d28e17f72"


@pytest.fixture
def monitored(tmp_path: Path) -> Path:
    return tmp_path / "jug_monitor.vars"


def read(path: Path, content: bytes | str, is_final: bool = True) -> Variables:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_variables(str(path), is_final)


def test_variables_are_lines_of_key_and_value_with_or_without_spaces(monitored: Path) -> None:
    found = read(monitored, "events=12\nwork_done = 3.5\n  level =high\nurl = http://a/?b=c # d\nempty=\n")
    assert found.values == {
        "events": "12",
        "work_done": "3.5",
        "level": "high",
        "url": "http://a/?b=c # d",
        "empty": "",
    }
    assert found.warnings == []


def test_comments_blank_lines_and_other_systems_line_ends_are_no_matter(monitored: Path) -> None:
    found = read(monitored, "\ufeff# what the job counts\r\n\r\n   \r\na = 1\r\n # b = 2\r\n")
    assert found == Variables({"a": "1"}, [])


def test_of_a_variable_that_stands_twice_the_later_value_is_taken(monitored: Path) -> None:
    assert read(monitored, "work_done = 1\nwork_done = 2\n") == Variables({"work_done": "2"}, [])


def test_a_missing_file_says_nothing(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert read_variables(missing) == Variables({}, [])
    assert read_polling(missing) == Polling(False, None, [])
    assert read_stored(missing) == StoredRecords([], [])


def test_a_malformed_line_is_a_warning_with_its_number_and_costs_no_other(monitored: Path) -> None:
    found = read(monitored, "a = 1\nnonsense\n= 2\ntwo words = 3\nx\0y = 4\nb = 5\n")
    assert found.values == {"a": "1", "b": "5"}
    assert [warning.partition(":")[0] for warning in found.warnings] == [
        f"jug_monitor.vars, line {number}" for number in (2, 3, 4, 5)
    ]
    assert "'nonsense'" in found.warnings[0]


def test_what_is_not_utf8_is_kept_by_its_codes_and_warned_of(monitored: Path) -> None:
    found = read(monitored, b"a = caf\xe9\nb = 2\n")
    assert found.values == {"a": "caf\\xe9", "b": "2"}
    assert len(found.warnings) == 1 and "line 1: not UTF-8" in found.warnings[0]


def test_a_torn_last_line_waits_while_the_file_is_written_and_counts_at_its_end(monitored: Path) -> None:
    assert read(monitored, "a = 1\nwork_done = 12", is_final=False) == Variables({"a": "1"}, [])
    assert read(monitored, "a = 1\nwork_done = 12") == Variables({"a": "1", "work_done": "12"}, [])
    assert read(monitored, "a = 1\nwork_do") == Variables(
        {"a": "1"}, ["jug_monitor.vars, line 2: not of the form key = value: 'work_do'"]
    )


def test_work_done_that_is_no_number_is_kept_as_text_and_warned_of(monitored: Path) -> None:
    found = read(monitored, "work_done = plenty\n")
    assert found.values == {"work_done": "plenty"}
    assert found.warnings == ["jug_monitor.vars, line 1: work_done is not a number: 'plenty'"]


def test_of_a_huge_file_the_beginning_is_taken_up_to_a_whole_line(monitored: Path) -> None:
    line = "a_variable = " + "9" * 100 + "\n"
    found = read(monitored, line * (5 << 20 >> 6) + "last = 1\n")
    assert found.values == {"a_variable": "9" * 100}
    assert len(found.warnings) == 1 and "longer than 4194304 bytes" in found.warnings[0]


def test_values_names_variables_and_warnings_have_bounds(monitored: Path) -> None:
    found = read(monitored, f"a = {'x' * 16385}\n{'k' * 257} = 1\nb = {'x' * 16384}\n")
    assert found.values == {"b": "x" * 16384} and len(found.warnings) == 2
    found = read(monitored, "".join(f"v{number} = 1\n" for number in range(10_001)))
    assert len(found.values) == 10_000
    assert found.warnings == [
        "jug_monitor.vars, line 10001: more than 10000 variables; this one and those after it are not taken"
    ]
    found = read(monitored, "nonsense\n" * 1000 + "a = 1\n")
    assert found.values == {"a": "1"}
    assert len(found.warnings) == 21 and found.warnings[-1] == "jug_monitor.vars: 980 more warnings are left out"


def test_links_pipes_sockets_and_directories_are_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("secret = 1\n")
    for name in ("link", "pipe", "directory", "socket"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / "jug_monitor.vars").symlink_to(real)
    os.mkfifo(tmp_path / "pipe" / "jug_monitor.vars")
    (tmp_path / "directory" / "jug_monitor.vars").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket" / "jug_monitor.vars"))
    for name, reason in (
        ("link", "it is a symbolic link"),
        ("pipe", "it is not a regular file"),
        ("directory", "it is not a regular file"),
        ("socket", "it is not a regular file"),
    ):
        found = read_variables(str(tmp_path / name / "jug_monitor.vars"))
        assert found == Variables({}, [f"jug_monitor.vars: {reason}; nothing of it is taken"])


@given(strategies.binary(max_size=300))
def test_no_content_is_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{os.getpid()}"
    good = b"\nbefore = 1\n"
    found = read(path, b"before = 1\n" + content + b"\nafter = 2\n")
    assert found.values["after"] == "2" and "before" in found.values
    path.write_bytes(good + content)
    read_polling(str(path))
    read_stored(str(path))


def poll(tmp_path: Path, text: str) -> Polling:
    path = tmp_path / "jug_polling.vars"
    path.write_text(text)
    return read_polling(str(path))


def test_a_polled_job_has_finished_when_the_file_says_so(tmp_path: Path) -> None:
    assert poll(tmp_path, "finished = 1\n") == Polling(True, None, [])
    assert poll(tmp_path, "finished=1\nexit_status=3\n") == Polling(True, 3, [])
    assert poll(tmp_path, "exit_status = 0\nfinished = 1") == Polling(True, 0, [])
    assert poll(tmp_path, "finished = 0\n") == Polling(False, None, [])
    assert poll(tmp_path, "") == Polling(False, None, [])


def test_what_a_polling_file_says_wrongly_is_warned_of_and_not_taken(tmp_path: Path) -> None:
    found = poll(tmp_path, "finished = yes\nexit_status = bad\nqueue = 7\n")
    assert (found.finished, found.exit_status) == (False, None)
    assert [warning.partition(": ")[0] for warning in found.warnings] == [
        f"jug_polling.vars, line {number}" for number in (1, 2, 3)
    ]


def stored(tmp_path: Path, text: str) -> StoredRecords:
    path = tmp_path / "jug_stage_out.log"
    path.write_text(text)
    return read_stored(str(path))


def test_a_record_begins_with_source_name_and_has_its_other_fields_in_any_order(tmp_path: Path) -> None:
    found = stored(
        tmp_path,
        f"source_name = data/output.ntpl\nstorage_md5 = {MD5.upper()}\nstorage_size=3\n"
        "storage_url = http://store/o\nstorage_hfn = rain:/store/o\nstorage_name = data/o.ntpl\n"
        "source_name = log/cmkin.log\n",
    )
    assert found.warnings == []
    assert found.records == [
        {
            "source_name": "data/output.ntpl",
            "storage_md5": MD5,
            "storage_size": 3,
            "storage_url": "http://store/o",
            "storage_hfn": "rain:/store/o",
            "storage_name": "data/o.ntpl",
        },
        {"source_name": "log/cmkin.log"},
    ]


def test_fields_that_cannot_be_used_are_warnings_and_the_records_stay(tmp_path: Path) -> None:
    found = stored(
        tmp_path,
        "storage_size = 1\nsource_name = a\ncolour = red\nstorage_size = -3\nstorage_md5 = abc\nstorage_url =\n"
        "storage_hfn = nowhere\nsource_name = b\nstorage_size = 4\nstorage_size = 5\n",
    )
    assert found.records == [
        {"source_name": "a", "storage_hfn": "nowhere"},
        {"source_name": "b", "storage_size": 5},
    ]
    assert [int(warning.partition("line ")[2].partition(":")[0]) for warning in found.warnings] == [
        1,
        3,
        4,
        5,
        6,
        7,
        10,
    ]
    assert found.warnings[0] == "jug_stage_out.log, line 1: storage_size before the first source_name"


def test_the_fields_of_a_record_without_a_name_do_not_go_to_the_record_before(tmp_path: Path) -> None:
    found = stored(tmp_path, "source_name = a\nsource_name =\nstorage_size = 4\nsource_name = b\n")
    assert found.records == [{"source_name": "a"}, {"source_name": "b"}]
    assert found.warnings == ["jug_stage_out.log, line 2: source_name is empty; its record is passed over"]


def test_of_two_records_of_a_file_the_later_stands_and_is_warned_of(tmp_path: Path) -> None:
    found = stored(tmp_path, "source_name = a\nstorage_size = 1\nsource_name = a\nstorage_size = 2\n")
    assert found.records == [{"source_name": "a", "storage_size": 2}]
    assert len(found.warnings) == 1 and "a second record of 'a'" in found.warnings[0]
