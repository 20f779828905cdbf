"""What is below output/ of a job, and how it is published with the state of its attempt."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jobjar.errors import BadOutput
from jobjar.layout import Layout
from jobjar.publishing import underway
from jobjar.publishing.outputs import finish_publishing, list_outputs, publish
from jobjar.publishing.underway import (
    POLL,
    STORE,
    OutputFile,
    State,
    attempt_directory,
    find_state,
    forget_state,
    make_attempt_directory,
    parse_state,
    remove_underway,
    state_directory,
    work_directory,
    write_state,
)
from jobjar.shared_disk import files as disk
from jobjar.shared_disk.trees import remove_tree
from tests.others import BY_PERMISSION_BITS
from tests.shared_disk.test_trees import make_deep

FILES = {"a.txt": b"one", "data/output.ntpl": b"\0" * 3_000_000, "log/deep/ö x.log": b"", ".hidden": b"dot"}


def fill(directory: Path, files: dict[str, bytes] = FILES) -> list[OutputFile]:
    """Write files; returns what should be listed of them."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    listed = [OutputFile(name, len(content), hashlib.md5(content).hexdigest()) for name, content in files.items()]
    return sorted(listed)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(str(tmp_path / "jar"))
    os.makedirs(made.underway)
    return made


@pytest.fixture
def working(tmp_path: Path) -> Path:
    made = tmp_path / "scratch"
    made.mkdir()
    return made


def state_of(attempt: int = 1, worker_uid: str = "w0rker", phase: str = STORE) -> State:
    return State(
        phase,
        "j0b",
        "the.job",
        attempt,
        "rain.7",
        worker_uid,
        "LINUX",
        outcome="succeeded",
        exit_status=0,
        wall_time_s=1.5,
        max_rss_kib=1234,
        storage_class="disk",
        output_path="run/7",
    )


def own_directory(layout: Layout, state: State) -> str:
    return attempt_directory(layout, state.job, state.attempt, state.worker_uid)


def test_every_regular_file_is_listed_sub_directories_too_with_size_and_md5(tmp_path: Path) -> None:
    expected = fill(tmp_path / "output")
    (tmp_path / "output" / "empty" / "directory").mkdir(parents=True)
    assert list_outputs(str(tmp_path / "output")) == expected


def test_a_job_without_outputs_has_none(tmp_path: Path) -> None:
    assert list_outputs(str(tmp_path / "output")) == []
    (tmp_path / "output").mkdir()
    assert list_outputs(str(tmp_path / "output")) == []


def test_what_is_no_regular_file_is_refused_by_name(tmp_path: Path) -> None:
    output = tmp_path / "output"
    fill(output)
    (output / "data" / "link").symlink_to("/etc/passwd")
    (output / "directory link").symlink_to("/etc")
    os.mkfifo(output / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(output / "socket"))
    with pytest.raises(BadOutput) as caught:
        list_outputs(str(output))
    for name, kind in (
        ("data/link", "a symbolic link"),
        ("directory link", "a symbolic link"),
        ("pipe", "a pipe"),
        ("socket", "a socket"),
    ):
        assert f"'{name}' is {kind}" in str(caught.value)


def test_output_itself_may_be_neither_a_link_nor_a_file(tmp_path: Path) -> None:
    (tmp_path / "output").symlink_to("/etc")
    with pytest.raises(BadOutput, match="a symbolic link itself"):
        list_outputs(str(tmp_path / "output"))
    (tmp_path / "output").unlink()
    (tmp_path / "output").write_text("")
    with pytest.raises(BadOutput, match="a file itself"):
        list_outputs(str(tmp_path / "output"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"two\nlines", "line end"),
        (b"caf\xe9", "not UTF-8"),
        (b"bell\x07", "control"),
        (b".jobjar.rain.7.1.new", "half copies"),
    ],
)
def test_a_name_that_no_list_of_files_can_hold_is_refused(tmp_path: Path, name: bytes, reason: str) -> None:
    fill(tmp_path / "output")
    (tmp_path / "output" / "data" / os.fsdecode(name)).write_text("")
    with pytest.raises(BadOutput, match=reason) as caught:
        list_outputs(str(tmp_path / "output"))
    assert str(caught.value).isascii() and "data/" in str(caught.value)
    (tmp_path / "output" / "data" / os.fsdecode(name)).unlink()
    (tmp_path / "output" / os.fsdecode(name)).mkdir()
    with pytest.raises(BadOutput, match=reason):
        list_outputs(str(tmp_path / "output"))


def test_a_file_that_nfs_keeps_for_who_has_it_open_is_no_output(tmp_path: Path) -> None:
    expected = fill(tmp_path / "output")
    (tmp_path / "output" / ".nfs00000000000a1b2c00000001").write_text("removed")
    assert list_outputs(str(tmp_path / "output")) == expected


def test_of_many_odd_files_some_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    for number in range(9):
        (tmp_path / "output" / f"link{number}").symlink_to("x")
    with pytest.raises(BadOutput, match="and 4 more"):
        list_outputs(str(tmp_path / "output"))


def test_publishing_moves_the_output_into_the_jar_and_writes_the_state(layout: Layout, working: Path) -> None:
    expected = fill(working / "output")
    directory = own_directory(layout, state_of())
    published = publish(directory, str(working), state_of(phase=POLL))
    assert published == state_of()._replace(files=tuple(expected))
    assert find_state(layout, "j0b") == published
    assert state_directory(layout, published) == directory
    assert list_outputs(finish_publishing(directory)) == expected
    assert not (working / "output").exists()


def test_publishing_again_after_it_was_done_changes_nothing(layout: Layout, working: Path) -> None:
    fill(working / "output")
    directory = own_directory(layout, state_of())
    published = publish(directory, str(working), state_of())
    assert publish(directory, str(working), state_of()) == published
    assert list_outputs(finish_publishing(directory)) == list(published.files)


def test_a_job_without_outputs_is_published_with_no_files(layout: Layout, working: Path) -> None:
    published = publish(own_directory(layout, state_of()), str(working), state_of())
    assert published.files == ()
    assert find_state(layout, "j0b") == published


def test_outputs_that_cannot_be_published_stay_where_they_are(layout: Layout, working: Path) -> None:
    fill(working / "output")
    (working / "output" / "link").symlink_to("a.txt")
    with pytest.raises(BadOutput):
        publish(own_directory(layout, state_of()), str(working), state_of())
    assert (working / "output" / "a.txt").read_bytes() == b"one"
    assert find_state(layout, "j0b") is None


def test_a_state_without_its_files_counts_for_nothing(layout: Layout, working: Path) -> None:
    expected = fill(working / "output")
    directory = own_directory(layout, state_of())
    make_attempt_directory(directory)
    write_state(directory, state_of()._replace(files=tuple(expected)))
    assert find_state(layout, "j0b") is None


def test_of_a_polled_job_a_publication_that_was_cut_short_is_finished_by_who_goes_on(layout: Layout) -> None:
    directory = own_directory(layout, state_of())
    work = work_directory(directory)
    expected = fill(Path(work) / "output")
    write_state(directory, state_of()._replace(files=tuple(expected)))
    found = find_state(layout, "j0b")
    assert found is not None and found.phase == STORE
    assert list_outputs(finish_publishing(directory)) == expected
    assert not os.path.exists(f"{work}/output")
    assert list_outputs(finish_publishing(directory)) == expected


def test_a_disk_that_refuses_midway_loses_nothing_and_publishing_goes_on(
    layout: Layout, working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fill(working / "output")
    directory = own_directory(layout, state_of())
    rename = os.rename
    refused: list[str] = []

    def refuse(source: str, destination: str, **directories: int) -> None:
        if destination not in refused:
            refused.append(destination)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)
        rename(source, destination, **directories)

    monkeypatch.setattr(os, "rename", refuse)
    for _ in range(2):  # of the state, then of the output
        with pytest.raises(OSError, match="No space left"):
            publish(directory, str(working), state_of())
        assert list_outputs(f"{working}/output") == expected
        assert find_state(layout, "j0b") is None
    assert publish(directory, str(working), state_of()).files == tuple(expected)
    assert len(refused) == 2
    assert list_outputs(finish_publishing(directory)) == expected
    assert sorted(os.listdir(directory)) == ["output", "state.json"]


def test_the_highest_attempt_with_a_sound_state_is_gone_on_with(layout: Layout) -> None:
    assert find_state(layout, "j0b") is None
    for attempt in (2, 10, 9):
        directory = own_directory(layout, state_of(attempt))
        make_attempt_directory(directory)
        write_state(directory, state_of(attempt, phase=POLL))
    make_attempt_directory(attempt_directory(layout, "j0b", 11, "w0rker"))
    found = find_state(layout, "j0b")
    assert found is not None and found.attempt == 10
    Path(own_directory(layout, found), "state.json").write_text("{")
    found = find_state(layout, "j0b")
    assert found is not None and found.attempt == 9
    forget_state(own_directory(layout, found))
    found = find_state(layout, "j0b")
    assert found is not None and found.attempt == 2
    forget_state(own_directory(layout, found))
    forget_state(own_directory(layout, found))
    assert find_state(layout, "j0b") is None


def test_a_state_in_another_attempt_s_directory_is_none(layout: Layout) -> None:
    directory = own_directory(layout, state_of(3))
    make_attempt_directory(directory)
    write_state(directory, state_of(2, phase=POLL))
    assert find_state(layout, "j0b") is None
    write_state(directory, state_of(3, phase=POLL)._replace(job="other"))
    assert find_state(layout, "j0b") is None


def test_a_disk_that_does_not_tell_is_not_taken_for_no_state(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = own_directory(layout, state_of())
    make_attempt_directory(directory)
    write_state(directory, state_of(phase=POLL))

    def refuse(path: str, deadline_s: float | None = None) -> bytes:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(underway, "read_file", refuse)
    with pytest.raises(PermissionError):
        find_state(layout, "j0b")


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "run"},
        {"attempt": "1"},
        {"attempt": True},
        {"job": None},
        {"exit_status": "0"},
        {"files": [{"name": "a", "size": 1}]},
        {"files": [{"name": "../a", "size": 1, "md5": "0" * 32}]},
        {"files": [{"name": "a", "size": 1.5, "md5": "0" * 32}]},
        {"files": [{"name": "a", "size": 1, "md5": "0"}]},
        {"files": None},
    ],
)
def test_a_state_of_wrong_fields_is_none(layout: Layout, change: dict[str, object]) -> None:
    directory = own_directory(layout, state_of())
    make_attempt_directory(directory)
    write_state(directory, state_of(phase=POLL))
    said = json.loads(Path(directory, "state.json").read_text())
    assert parse_state(json.dumps(said).encode()) == state_of(phase=POLL)
    assert parse_state(json.dumps({**said, "of_a_later_version": 1}).encode()) == state_of(phase=POLL)
    assert parse_state(json.dumps({**said, **change}).encode()) is None


def test_finding_no_state_costs_one_look(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def look(path: str) -> os.stat_result | None:
        looks.append(path)
        return disk.look(path)

    monkeypatch.setattr(underway, "look", look)
    monkeypatch.setattr(os, "listdir", pytest.fail)
    assert find_state(layout, "j0b") is None
    assert looks == [f"{layout.underway}/j0b"]


def test_removing_removes_all_attempts_and_the_lowest_first(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in (10, 9):
        directory = own_directory(layout, state_of(attempt))
        make_attempt_directory(directory)
        write_state(directory, state_of(attempt, phase=POLL))
        fill(Path(directory) / "work")
    seen: list[int | None] = []
    unlink = os.unlink

    def unlink_and_look(path: str, **named: int) -> None:
        unlink(path, **named)
        if str(path).endswith("state.json"):
            found = find_state(layout, "j0b")
            seen.append(found and found.attempt)

    monkeypatch.setattr(os, "unlink", unlink_and_look)
    remove_underway(layout, "j0b")
    assert seen == [10, None]
    assert os.listdir(layout.underway) == []
    remove_underway(layout, "j0b")


@pytest.mark.root
def test_what_a_job_made_unwritable_or_unreadable_is_published_and_removed(layout: Layout, working: Path) -> None:
    words = [*BY_PERMISSION_BITS, sys.executable, "-c"]
    fill(working / "output")
    closed = working / "output" / "data"
    for path in (closed, working / "output", working):
        path.chmod(0o555)
    script = (
        "import sys; from jobjar.publishing.outputs import *; from jobjar.publishing.underway import *; "
        "from jobjar.layout import Layout; "
        f"layout = Layout({layout.home!r}); directory = attempt_directory(layout, 'j0b', 1, 'w0rker'); "
        f"state = parse_state(sys.stdin.buffer.read()); publish(directory, {str(working)!r}, state)"
    )
    said = json.dumps({**state_of()._asdict(), "files": []}).encode()
    subprocess.run([*words, script], input=said, check=True, timeout=60)
    found = find_state(layout, "j0b")
    assert found is not None and len(found.files) == len(FILES)
    nested = Path(own_directory(layout, found), "work", "a", "b", "c")
    nested.mkdir(parents=True)
    (nested / "file").write_text("")
    for path in (nested, nested.parent, nested.parent.parent, Path(own_directory(layout, found))):
        path.chmod(0o000)
    mode = os.stat(layout.underway).st_mode
    script = (
        "from jobjar.publishing.outputs import *; from jobjar.publishing.underway import *; from jobjar.layout import Layout; "
        f"remove_underway(Layout({layout.home!r}), 'j0b')"
    )
    subprocess.run([*words, script], check=True, timeout=60)
    assert os.listdir(layout.underway) == []
    assert os.stat(layout.underway).st_mode == mode


@pytest.mark.root
def test_an_output_that_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "output")
    (tmp_path / "output" / "a.txt").chmod(0)
    (tmp_path / "output" / "log").chmod(0)
    words = [*BY_PERMISSION_BITS, sys.executable, "-c"]
    script = f"from jobjar.publishing.outputs import list_outputs; list_outputs({str(tmp_path / 'output')!r})"
    result = subprocess.run([*words, script], capture_output=True, text=True, timeout=60)
    assert "BadOutput" in result.stderr
    assert "'a.txt' may not be read" in result.stderr and "'log/' may not be read" in result.stderr
    shutil.rmtree(tmp_path / "output")


def test_an_output_at_a_path_that_is_too_long_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    output = tmp_path / "output"
    make_deep(output, 30, "d" * 200)
    with pytest.raises(BadOutput, match=r"'d{200}…' is at a path that is too long"):
        list_outputs(str(output))
    remove_tree(str(output))


@pytest.mark.root
def test_a_directory_of_outputs_that_may_be_listed_and_not_entered_is_refused_by_name(tmp_path: Path) -> None:
    output = tmp_path / "output"
    fill(output)
    (output / "log").chmod(0o444)
    words = [*BY_PERMISSION_BITS, sys.executable, "-c"]
    script = f"from jobjar.publishing.outputs import list_outputs; list_outputs({str(output)!r})"
    result = subprocess.run([*words, script], capture_output=True, text=True, timeout=60)
    assert "BadOutput" in result.stderr and "' may not be read" in result.stderr
    remove_tree(str(output))
