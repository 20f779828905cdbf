"""The wrapper around what a network disk refuses for the moment; the kernel cannot be asked to, so functions are patched."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobjar.access.refusals import Refusals
from jobjar.errors import CannotUseJar
from jobjar.journal.append import Journal
from jobjar.journal.read import read_journal
from jobjar.shared_disk import moves, patience
from jobjar.shared_disk.files import look, make_directory, remove_file, rename, replace_file
from jobjar.shared_disk.moves import move, move_to_free_name
from jobjar.shared_disk.patience import TRANSIENT, do_once, patiently

Call = Callable[..., object]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that only pauses move on; the pauses that were made."""
    pauses: list[float] = []
    now = [1000.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

        @staticmethod
        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            now[0] += seconds

    monkeypatch.setattr(patience, "time", Clock)
    monkeypatch.setattr(patience.patience, "limit_s", 150.0)
    yield pauses


class Failing:
    """A function that fails at its first calls: with each error of `before` without having done anything, then with each
    of `after` although it has."""

    def __init__(self, call: Call, before: list[int] | None = None, after: list[int] | None = None) -> None:
        self.call, self.before, self.after = call, list(before or []), list(after or [])
        self.calls = 0

    def __call__(self, *words: object, **named: object) -> object:
        self.calls += 1
        if self.before:
            number = self.before.pop(0)
            raise OSError(number, os.strerror(number), *words[:1])
        result = self.call(*words, **named)
        if self.after:
            if isinstance(result, int) and self.call is os.open:
                os.close(result)
            number = self.after.pop(0)
            raise OSError(number, os.strerror(number), *words[:1])
        return result


def test_what_is_refused_for_the_moment_is_tried_again_with_growing_pauses(quick: list[float]) -> None:
    action = Failing(lambda: "done", [errno.EIO, errno.ESTALE, errno.ENOLCK, errno.EINTR])
    assert patiently(action, "path") == "done"
    assert action.calls == 5
    assert quick == sorted(quick) and len(set(quick)) == 4


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EEXIST, errno.EDQUOT])
def test_what_is_refused_for_good_is_an_error_at_once(quick: list[float], number: int) -> None:
    action = Failing(lambda: "done", [number])
    with pytest.raises(OSError) as caught:
        patiently(action, "path")
    assert (caught.value.errno, action.calls, quick) == (number, 1, [])


def test_at_the_deadline_the_last_error_is_raised(quick: list[float]) -> None:
    action = Failing(lambda: None, [errno.EIO] + [errno.ESTALE] * 10_000)
    with pytest.raises(OSError) as caught:
        patiently(action, "path")
    assert caught.value.errno == errno.ESTALE
    assert sum(quick) == pytest.approx(150)


def test_who_was_told_to_end_does_not_wait_for_an_outage_but_outlasts_a_hiccup(
    quick: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience.patience, "may_wait", lambda: False)
    assert patiently(Failing(lambda: "done", [errno.EIO] * 3), "path") == "done"
    with pytest.raises(OSError):
        patiently(Failing(lambda: None, [errno.EIO] * 10_000), "path")
    assert sum(quick) < 1


def test_an_outage_is_told_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(patience.patience, "log", said.append)
    patiently(Failing(lambda: None, [errno.EIO] * 20), "/jar/x")
    assert len(said) == 2 and all(line.startswith("/jar/x: ") for line in said)
    patiently(Failing(lambda: None, [errno.EIO]), "/jar/x")
    assert len(said) == 2


def test_a_worker_says_each_kind_of_refusal_once_until_it_goes_on() -> None:
    said: list[str] = []
    refusals = Refusals()
    for name in "ab":
        refusals.log_error_once(OSError(errno.EIO, "no", name), said.append)
        refusals.log_error_once(CannotUseJar(action="claim", path=name, reason="no"), said.append)
    assert len(said) == 2
    refusals.end_all(said.append)
    refusals.end_all(said.append)
    assert len(said) == 3
    refusals.log_error_once(OSError(errno.EIO, "no", "a"), said.append)
    assert len(said) == 4


def test_lock_errors_and_lost_servers_are_transient_and_what_people_must_mend_is_not() -> None:
    assert {errno.EIO, errno.ESTALE, errno.ENOLCK, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN} <= TRANSIENT
    assert not TRANSIENT & {
        errno.EBUSY,
        errno.ENOSPC,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
        errno.EXDEV,
    }


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_an_unlink_and_a_mkdir_that_failed_but_happened_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(os, "unlink", Failing(os.unlink, after=[number]))
    do_once(lambda: os.unlink(f"{tmp_path}/file"), "file")
    with pytest.raises(FileNotFoundError):
        do_once(lambda: os.unlink(f"{tmp_path}/file"), "file")
    remove_file(f"{tmp_path}/file")
    monkeypatch.setattr(os, "mkdir", Failing(os.mkdir, after=[number]))
    make_directory(f"{tmp_path}/directory")
    with pytest.raises(FileExistsError):
        make_directory(f"{tmp_path}/directory")


def test_a_disk_in_trouble_is_not_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(f"{tmp_path}/none") is None
    monkeypatch.setattr(os, "lstat", Failing(os.lstat, [errno.EIO] * 10_000))
    with pytest.raises(OSError):
        look(f"{tmp_path}")


# Moves: by renameat2, whose errors are numbers, and over a placeholder, where os.rename raises.


class FailingCall:
    """renameat2 as `Failing`."""

    def __init__(self, before: list[int] | None = None, after: list[int] | None = None) -> None:
        call = moves._load_renameat2()
        assert call is not None
        self.call, self.before, self.after = call, list(before or []), list(after or [])

    def __call__(self, *words: object) -> int:
        import ctypes

        if self.before:
            ctypes.set_errno(self.before.pop(0))
            return -1
        result: int = self.call(*words)
        if result == 0 and self.after:
            ctypes.set_errno(self.after.pop(0))
            return -1
        return result


@pytest.fixture(params=["renameat2", "placeholder"])
def fail_renames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def fail(before: list[int] | None = None, after: list[int] | None = None) -> None:
        if request.param == "renameat2":
            call = FailingCall(before, after)
            monkeypatch.setattr(moves, "_load_renameat2", lambda: call)
        else:
            monkeypatch.setattr(moves, "_load_renameat2", lambda: None)
            monkeypatch.setattr(os, "rename", Failing(os.rename, before, after))

    return fail


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([errno.EIO], []),
        ([errno.EIO, errno.ESTALE, errno.ETIMEDOUT], []),
        ([], [errno.EIO]),
        ([errno.ESTALE], [errno.EIO]),
        ([errno.ENOTCONN] * 5, [errno.ENOLCK]),
    ],
)
def test_a_move_in_trouble_arrives_once(
    tmp_path: Path, fail_renames: Callable[..., None], before: list[int], after: list[int]
) -> None:
    (tmp_path / "a").write_text("text")
    fail_renames(before, after)
    move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "text"


def test_a_move_in_trouble_does_not_take_another_file_for_its_own(
    tmp_path: Path, fail_renames: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else takes the source away between two tries, and puts another file at the destination before."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    fail_renames([errno.EIO])
    with pytest.raises(FileExistsError):
        move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]
    fail_renames([errno.EIO])
    assert move_to_free_name(f"{tmp_path}/a", str(tmp_path), "b") == "b~2"
    assert [(tmp_path / name).read_text() for name in ("b", "b~2")] == ["b", "a"]


def test_a_move_whose_source_goes_elsewhere_during_trouble_is_lost(
    tmp_path: Path, fail_renames: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    fail_renames([errno.EIO])

    def take_away(seconds: float) -> None:
        (tmp_path / "a").unlink(missing_ok=True)

    monkeypatch.setattr("jobjar.shared_disk.patience.time.sleep", take_away)
    with pytest.raises(FileNotFoundError):
        move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert os.listdir(tmp_path) == []


def test_an_answer_of_a_rename_sent_twice_is_not_believed_over_its_placeholder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("text")
    monkeypatch.setattr(moves, "_load_renameat2", lambda: None)
    monkeypatch.setattr(os, "rename", Failing(os.rename, after=[errno.ENOENT]))
    move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert (tmp_path / "b").read_text() == "text"


def test_a_forgotten_placeholder_does_not_let_another_file_be_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "c").write_text("another's")

    def fail(source: str, destination: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.replace(tmp_path / "c", destination)
        raise OSError(errno.EIO, "the server was started anew")

    monkeypatch.setattr(moves, "_load_renameat2", lambda: None)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(FileExistsError):
        move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "another's"]


def test_a_placeholder_whose_making_failed_but_happened_is_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.5").write_text("text")
    monkeypatch.setattr(moves, "_load_renameat2", lambda: None)
    monkeypatch.setattr(os, "symlink", Failing(os.symlink, after=[errno.EIO]))
    assert move_to_free_name(f"{tmp_path}/a.5", str(tmp_path), "b.5") == "b.5"
    assert os.listdir(tmp_path) == ["b.5"]
    assert (tmp_path / "b.5").read_text() == "text"


def test_a_file_is_written_anew_when_its_sync_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = Failing(os.write)
    monkeypatch.setattr(os, "write", writes)
    monkeypatch.setattr(os, "fsync", Failing(os.fsync, [errno.EIO]))
    monkeypatch.setattr(os, "rename", Failing(os.rename, after=[errno.EIO]))
    replace_file(f"{tmp_path}/file", b"text")
    assert writes.calls == 2
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"text"


def test_a_rename_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rename(f"{tmp_path}/a", f"{tmp_path}/b")


# Journals


def entries_in(path: Path) -> list[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [line.entry["number"] for line in read_journal(descriptor, 0) if line.entry is not None]
    finally:
        os.close(descriptor)


def test_a_journal_whose_handle_went_stale_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(f"{tmp_path}/journal")
    journal.append([{"entry": "x", "number": 1}])
    opened = Failing(os.open)
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "write", Failing(os.write, [errno.ESTALE]))
    journal.append([{"entry": "x", "number": 2}])
    assert opened.calls == 1
    monkeypatch.setattr(os, "pread", Failing(os.pread, [errno.ESTALE]))
    assert journal.read_new().count(b"entry") == 2
    journal.close()
    assert entries_in(tmp_path / "journal") == [1, 2]


def test_an_entry_of_which_a_part_was_written_is_written_again_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def write_half(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        write(descriptor, data[: len(data) // 2])
        raise OSError(errno.EIO, "no")

    journal = Journal(f"{tmp_path}/journal")
    journal.append([{"entry": "x", "number": 1}])
    monkeypatch.setattr(os, "write", write_half)
    journal.append([{"entry": "x", "number": 2}])
    journal.close()
    assert entries_in(tmp_path / "journal") == [1, 2]


def test_what_a_sync_dropped_is_appended_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(f"{tmp_path}/journal")
    journal.append([{"entry": "x", "number": 1}], durable=True)
    good = os.path.getsize(tmp_path / "journal")
    journal.append([{"entry": "x", "number": 2}])
    sync = os.fdatasync

    def drop(descriptor: int) -> None:
        monkeypatch.setattr(os, "fdatasync", sync)
        os.truncate(tmp_path / "journal", good)
        raise OSError(errno.EIO, "pages were dropped")

    monkeypatch.setattr(os, "fdatasync", drop)
    journal.append([{"entry": "x", "number": 3}], durable=True)
    journal.close()
    assert entries_in(tmp_path / "journal") == [1, 2, 3]
