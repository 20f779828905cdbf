from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobjar.host import node_name
from jobjar.liveness import boot_id
from jobjar.shared_disk import moves
from jobjar.shared_disk.clock import disk_time, read_disk_clock
from jobjar.shared_disk.files import is_job_file, open_common_file, replace_file
from jobjar.shared_disk.moves import move, move_to_free_name
from jobjar.shared_disk.patience import patience
from jobjar.shared_disk.placeholder import is_abandoned, is_own, read_placeholder


@pytest.fixture(params=["renameat2", "placeholder"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to move without overwriting: the kernel's, and the one for disks that refuse it."""
    if request.param == "placeholder":
        monkeypatch.setattr(moves, "_load_renameat2", lambda: None)
    return str(request.param)


def test_a_move_takes_the_file_along(tmp_path: Path, way: str) -> None:
    (tmp_path / "a").write_text("text")
    inode = (tmp_path / "a").stat().st_ino
    move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").stat().st_ino == inode


def test_a_move_never_overwrites(tmp_path: Path, way: str) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert (tmp_path / "a").read_text() == "a"
    assert (tmp_path / "b").read_text() == "b"


def test_a_move_does_not_overwrite_a_dangling_link(tmp_path: Path, way: str) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert os.readlink(tmp_path / "b") == "nowhere"
    assert not (tmp_path / "nowhere").exists()


def test_a_move_of_a_missing_file_says_so_and_leaves_nothing(tmp_path: Path, way: str) -> None:
    with pytest.raises(FileNotFoundError):
        move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert os.listdir(tmp_path) == []


def test_a_move_into_a_missing_directory_leaves_the_file(tmp_path: Path, way: str) -> None:
    (tmp_path / "a").write_text("a")
    with pytest.raises(FileNotFoundError):
        move(f"{tmp_path}/a", f"{tmp_path}/none/b")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["a b", "é", "x'\";$(y)", "-f", "line\nend"])
def test_a_move_takes_any_name(tmp_path: Path, way: str, name: str) -> None:
    (tmp_path / name).write_text("a")
    move(f"{tmp_path}/{name}", f"{tmp_path}/{name}.2")
    assert os.listdir(tmp_path) == [f"{name}.2"]


def test_of_two_files_moved_to_one_name_by_threads_one_arrives_and_none_is_lost(tmp_path: Path, way: str) -> None:
    for number in range(60):
        sources = [tmp_path / f"{number}.{which}" for which in "ab"]
        target = tmp_path / f"{number}.target"
        barrier = threading.Barrier(2)
        refused: list[str] = []

        def mover(
            source: Path, target: Path = target, barrier: threading.Barrier = barrier, refused: list[str] = refused
        ) -> None:
            barrier.wait()
            try:
                move(str(source), str(target))
            except FileExistsError:
                refused.append(source.name)

        for source in sources:
            source.write_text(source.name)
        threads = [threading.Thread(target=mover, args=(source,)) for source in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1
        texts = {path.read_text() for path in tmp_path.glob(f"{number}.*")}
        assert texts == {source.name for source in sources}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_that_refuses_the_flag_gets_the_placeholder_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import ctypes

    def refuse(*words: object) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(moves, "_load_renameat2", lambda: refuse)
    (tmp_path / "a").write_text("a")
    (tmp_path / "taken").write_text("b")
    move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert sorted(os.listdir(tmp_path)) == ["b", "taken"]
    with pytest.raises(FileExistsError):
        move(f"{tmp_path}/b", f"{tmp_path}/taken")


def test_a_rename_that_failed_but_happened_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def rename_and_lose_the_answer(source: str, destination: str) -> None:
        rename(source, destination)
        raise OSError(errno.EIO, "the answer was lost")

    monkeypatch.setattr(moves, "_load_renameat2", lambda: None)
    monkeypatch.setattr(os, "rename", rename_and_lose_the_answer)
    (tmp_path / "a").write_text("text")
    move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "text"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_rename_that_failed_leaves_the_file_and_a_placeholder_only_where_it_may_still_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(source: str, destination: str) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(moves, "_load_renameat2", lambda: None)
    monkeypatch.setattr(patience, "limit_s", 0.1)
    monkeypatch.setattr(os, "rename", fail)
    (tmp_path / "a").write_text("text")
    with pytest.raises(OSError, match="no"):
        move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert sorted(os.listdir(tmp_path)) == ["a"] + ["b"] * (number == errno.EIO)


def test_a_placeholder_that_is_left_behind_is_not_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def be_killed(source: str, destination: str) -> None:
        raise Killed

    monkeypatch.setattr(moves, "_load_renameat2", lambda: None)
    monkeypatch.setattr(os, "rename", be_killed)
    (tmp_path / "a").write_text("text")
    with pytest.raises(Killed):
        move(f"{tmp_path}/a", f"{tmp_path}/b")
    assert (tmp_path / "a").read_text() == "text"
    assert not is_job_file((tmp_path / "b").lstat())
    placeholder = read_placeholder(f"{tmp_path}/b")
    assert placeholder is not None and is_own(placeholder) and not is_abandoned(placeholder)


def test_a_placeholder_is_abandoned_when_a_process_of_this_node_made_it_and_is_dead(tmp_path: Path) -> None:
    code = (
        "import os, sys; from jobjar.shared_disk.placeholder import new_placeholder; "
        "os.symlink(new_placeholder(), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, f"{tmp_path}/b"], check=True)
    placeholder = read_placeholder(f"{tmp_path}/b")
    assert placeholder is not None and is_abandoned(placeholder) and not is_own(placeholder)
    assert not is_abandoned(
        placeholder.replace(f":{boot_id()}:", ":another boot:").replace(f":{node_name()}:", ":another-node:")
    )
    assert not is_abandoned(".moving:")


@pytest.mark.parametrize("what", ["nothing", "file", "link"])
def test_what_is_no_placeholder_is_not_read_as_one(tmp_path: Path, what: str) -> None:
    if what == "file":
        (tmp_path / "b").touch()
    elif what == "link":
        (tmp_path / "b").symlink_to("nowhere")
    assert read_placeholder(f"{tmp_path}/b") is None


def test_a_taken_name_gets_the_next_number_before_its_priority(tmp_path: Path, way: str) -> None:
    names = []
    for text in "123":
        (tmp_path / "source").write_text(text)
        target = tmp_path / "target"
        target.mkdir(exist_ok=True)
        names.append(move_to_free_name(f"{tmp_path}/source", str(target), "x.5"))
    assert names == ["x.5", "x~2.5", "x~3.5"]
    assert [(tmp_path / "target" / name).read_text() for name in names] == ["1", "2", "3"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "worker.json"
    replace_file(str(path), b"old", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="full"):
            replace_file(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["worker.json"]
    replace_file(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["worker.json"]


def test_a_common_file_is_the_group_s_where_its_directory_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        for mode, expected in ((0o700, 0o600), (0o770, 0o660)):
            directory = tmp_path / f"{mode:o}"
            directory.mkdir()
            directory.chmod(mode)
            os.close(open_common_file(f"{directory}/lock", os.O_WRONLY))
            assert (directory / "lock").stat().st_mode & 0o777 == expected
    finally:
        os.umask(before)


def test_the_disk_s_clock_does_not_run_backwards(tmp_path: Path) -> None:
    times = [read_disk_clock(f"{tmp_path}/clock") for _ in range(50)]
    assert times == sorted(times)
    (tmp_path / "file").write_text("")
    assert disk_time((tmp_path / "file").stat()) >= round(times[-1], 6) - 0.02  # two clocks of one kernel


def test_a_job_is_a_regular_file_with_a_run_bit(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("")
    (tmp_path / "job").chmod(0o010)
    (tmp_path / "text").write_text("")
    (tmp_path / "link").symlink_to("job")
    os.mkfifo(tmp_path / "fifo", 0o700)
    found = {path.name: is_job_file(path.lstat()) for path in tmp_path.iterdir()}
    assert found == {"job": True, "text": False, "link": False, "fifo": False}
    assert not is_job_file(tmp_path.stat())
