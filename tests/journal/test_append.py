from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from jobjar.journal.append import Journal
from jobjar.journal.read import Entry, Line, parse_line, read_journal

# A JSON object as any program might write it into an entry.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def read_lines(path: Path, offset: int = 0, end: int | None = None) -> list[Line]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(read_journal(descriptor, offset, end))
    finally:
        os.close(descriptor)


def read_entries(path: Path) -> list[Entry]:
    return [line.entry for line in read_lines(path) if line.entry is not None]


def append(path: Path, *entries: Entry) -> None:
    journal = Journal(str(path))
    journal.append(entries)
    journal.close()


def number(value: Any) -> Entry:
    return {"entry": "test", "number": value}


def test_entries_come_back_in_order_with_offsets_to_go_on_from(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    append(path, number(1), number(2))
    append(path, number(3))
    lines = read_lines(path)
    assert [line.entry for line in lines] == [number(1), number(2), number(3)]
    assert lines[-1].end == path.stat().st_size
    for index, line in enumerate(lines):
        assert [later.entry for later in read_lines(path, line.end)] == [number(n) for n in range(index + 2, 4)]
        assert [early.entry for early in read_lines(path, 0, line.end)] == [number(n) for n in range(1, index + 2)]


def test_nothing_is_written_for_no_entries(tmp_path: Path) -> None:
    append(tmp_path / "j.jsonl")
    assert not (tmp_path / "j.jsonl").exists()


@pytest.mark.slow
@settings(max_examples=100)
@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=3), min_size=1, max_size=4), st.data())
def test_however_an_append_is_cut_short_what_is_there_is_whole_entries(
    tmp_path_factory: pytest.TempPathFactory, objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    entries = [{**fields, "entry": "test"} for fields in objects]
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    append(path, *entries)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    lines = read_lines(path)
    assert all(line.entry is not None for line in lines)
    assert [line.entry for line in lines] == entries[: len(lines)]
    # Nothing that is whole is kept back, and the rest is read once it is there.
    ends = [len("\n".join(["", *(whole.decode().split("\n")[1 : n + 1])])) for n in range(1, len(entries) + 1)]
    assert len(lines) == sum(end <= cut for end in ends)
    path.write_bytes(whole)
    rest = read_lines(path, lines[-1].end if lines else 0)
    assert [line.entry for line in (*lines, *rest)] == entries


def test_a_torn_tail_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    append(path, number(1), number(2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    first = read_lines(path)
    assert [line.entry for line in first] == [number(1)]
    assert read_lines(path, first[-1].end) == []
    path.write_bytes(whole)
    assert [line.entry for line in read_lines(path, first[-1].end)] == [number(2)]


def test_a_torn_line_is_given_as_torn_once_a_good_one_follows(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    append(path, number(1))
    end_of_first = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'\n{"entry":"test","num')
    assert [line.entry for line in read_lines(path)] == [number(1)]
    append(path, number(3))
    lines = read_lines(path)
    assert [line.entry for line in lines] == [number(1), None, number(3)]
    assert (lines[1].start, lines[1].end) == (end_of_first + 1, end_of_first + 21)


def test_an_append_after_a_torn_write_does_not_join_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    for cut in range(1, 30):
        path.unlink(missing_ok=True)
        append(path, number(1))
        path.write_bytes(path.read_bytes()[:cut])
        append(path, number(2))
        assert read_entries(path)[-1] == number(2), cut


def test_several_torn_lines_are_kept_back_until_a_good_one_follows(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'\n{"a\n{"b\nnull\n[1]\n{"no_entry":1}')
    assert read_lines(path) == []
    append(path, number(1))
    assert [line.entry for line in read_lines(path)] == [None] * 5 + [number(1)]


def test_zeros_where_a_crash_lost_a_block_do_not_reach_what_is_appended_later(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    append(path, number(1))
    with path.open("ab") as file:
        file.write(b"\n" + b"\0" * 5000)
    assert read_entries(path) == [number(1)]
    append(path, number(2))
    assert [line.entry for line in read_lines(path)] == [number(1), None, number(2)]


def test_a_journal_longer_than_what_is_read_at_once_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    entries = [{"entry": "test", "number": n, "text": "x" * (n * 37 % 5000)} for n in range(1500)]
    append(path, *entries)
    assert path.stat().st_size > 3 << 20
    assert read_entries(path) == entries


@pytest.mark.parametrize(
    "line", [b"", b"null", b"1", b"[]", b'"entry"', b'{"a":1}', b'{"entry":"x"', b"\xff", b"{'entry':1}", b"[" * 100000]
)
def test_what_is_not_an_object_with_an_entry_is_not_an_entry(line: bytes) -> None:
    assert parse_line(line) is None


WRITER = """
import sys
from jobjar.journal.append import Journal
journal = Journal(sys.argv[1])
sys.stdin.read(1)
for number in range(int(sys.argv[3])):
    journal.append([{"entry": "test", "writer": sys.argv[2], "number": number, "text": "x" * (number * 97 % 4000)}
                    for number in (number, -number - 1)])
"""


def test_concurrent_appends_of_several_processes_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    path, count = tmp_path / "j.jsonl", 400
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(count)], stdin=subprocess.PIPE)
        for name in "abcd"
    ]
    for process in processes:
        process.communicate(b"x", timeout=60)
        assert process.returncode == 0
    lines = read_lines(path)
    assert all(line.entry is not None for line in lines)
    by_writer: dict[str, list[int]] = {name: [] for name in "abcd"}
    for entry in read_entries(path):
        by_writer[entry["writer"]].append(entry["number"])
    expected = [value for n in range(count) for value in (n, -n - 1)]
    assert by_writer == dict.fromkeys("abcd", expected)


def test_a_line_is_plain_json_that_other_programs_can_read(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    entry = {"entry": "test", "name": "é\n😀\"'", "value": 0.1, "given": {"arguments": ["\udcff"]}}
    append(path, entry)
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().isascii()
    assert json.loads(path.read_bytes()) == entry


def test_a_text_that_quotes_other_bytes_is_escaped_so_that_readers_take_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    given = {"arguments": ["\udcff"]}
    append(
        path,
        {"entry": "test", "message": "no \udcff", "warnings": ("😀\udcff",), "found": {"given": given, "x": "\ud800"}},
    )
    [entry] = read_entries(path)
    assert entry == {
        "entry": "test",
        "message": r"no \xff",
        "warnings": [r"😀\xff"],
        "found": {"given": given, "x": r"\ud800"},
    }


def test_what_others_appended_is_read_once_and_what_is_only_partly_there_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(str(path))
    append(path, number(1), number(2))
    assert journal.read_new().splitlines() == path.read_bytes().splitlines()
    assert journal.read_new() == b""
    whole = path.stat().st_size
    append(path, number(3))
    new = path.read_bytes()[whole:]
    path.write_bytes(path.read_bytes()[:-4])
    assert journal.read_new() == new[:-4]
    path.write_bytes(path.read_bytes() + new[-4:])
    assert journal.read_new() == new
    journal.close()


def test_what_is_put_off_is_appended_with_what_comes_next_and_before_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(str(path))
    journal.append([number(1)])
    journal.append_later([number(2)])
    assert read_entries(path) == [number(1)]
    journal.append([number(3)])
    assert read_entries(path) == [number(1), number(2), number(3)]
    journal.close()


@pytest.mark.parametrize("write", [Journal.flush, Journal.sync])
def test_what_is_put_off_is_there_at_the_latest_after_a_flush_or_a_sync(
    write: Callable[[Journal], None], tmp_path: Path
) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(str(path))
    journal.append_later([number(1)])
    write(journal)
    write(journal)
    assert read_entries(path) == [number(1)]
    journal.close()


def test_what_is_put_off_stays_so_until_it_could_be_written(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "j.jsonl"
    journal = Journal(str(path))
    journal.append_later([number(1)])
    with pytest.raises(OSError):
        journal.flush()
    with pytest.raises(OSError):
        journal.append([number(2)])
    path.parent.mkdir()
    journal.append([number(3)])
    assert read_entries(path) == [number(1), number(3)]
    journal.close()


def test_what_is_put_off_goes_to_the_journal_that_was_in_use_before_a_rotation(tmp_path: Path) -> None:
    named = [str(tmp_path / "j.jsonl")]
    journal = Journal(named[0], lambda: named[-1])
    journal.append_later([number(1)])
    named.append(str(tmp_path / "j-2.jsonl"))
    journal.follow()
    journal.append([number(2)])
    assert [read_entries(Path(name)) for name in named] == [[number(1)], [number(2)]]
    journal.close()
