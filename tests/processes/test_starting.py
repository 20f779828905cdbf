"""Starting a session: the directory that this process is in must not matter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobjar.access.refusals import explain_error
from jobjar.processes import starting
from jobjar.processes.children import Waiter
from jobjar.processes.starting import start_session


def run_in(directory: Path, output: Path) -> int | None:
    start, end = os.open(directory, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_APPEND)
    try:
        pid = start_session("/bin/pwd", start, end, {b"PATH": b"/bin:/usr/bin"})
    finally:
        os.close(start)
        os.close(end)
    waiter = Waiter(pid)
    ended = waiter.wait(30, [])
    waiter.close()
    assert ended is not None
    return ended.exit_status


@pytest.fixture
def output(tmp_path: Path) -> Path:
    made = tmp_path / "output"
    made.touch()
    return made


def test_a_session_starts_from_a_directory_that_is_gone(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run_in(tmp_path, output) == 0
    assert output.read_text() == f"{tmp_path}\n"
    assert os.getcwd() == "/"


def test_a_session_that_was_started_is_told_of_though_there_is_no_way_back(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory was taken away, or this user may not enter it: a job that runs must not be given back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path / "not there any more"))
    assert run_in(tmp_path, output) == 0


def test_a_directory_that_cannot_be_entered_leaves_no_other_umask_and_is_explained(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starting, "users_umask", lambda: 0o027)
    closed = os.open(tmp_path, os.O_RDONLY)
    os.close(closed)
    before = os.umask(0o022)
    os.umask(before)
    with pytest.raises(OSError) as refused:
        starting.start_session("/bin/pwd", closed, 1, {})
    assert os.umask(before) == before and os.getcwd() == str(tmp_path)
    assert explain_error(refused.value) == "Bad file descriptor"  # the number of the descriptor says nothing to people
