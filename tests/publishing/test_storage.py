"""The stock storage handler, and storage software in its place."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from jobjar.errors import CannotStore, PublishedChanged, StorageFailed, StorageTaken
from jobjar.fetching import copying
from jobjar.host import node_name
from jobjar.publishing import storage
from jobjar.publishing.outputs import list_outputs
from jobjar.publishing.storage import run_storage_software, storage_path, store_file
from jobjar.publishing.underway import OutputFile
from jobjar.shared_disk.files import look
from tests.programs.spaces import SpaceRig
from tests.rig import Rig

CONTENT = b"a line\n" * 400_000


class Published:
    """A directory of published files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def add(self, name: str, content: bytes = CONTENT) -> OutputFile:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(content)
        return OutputFile(name, len(content), hashlib.md5(content).hexdigest())

    def store(self, file: OutputFile, where: Path, output_path: str = "") -> dict[str, Any]:
        return store_file(str(self.path / file.name), file, str(where), output_path)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path / "published")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    made.mkdir()
    return made


def stored_files(where: Path) -> dict[str, bytes]:
    """All files below a directory, half copies too."""
    return {str(path.relative_to(where)): path.read_bytes() for path in where.rglob("*") if not path.is_dir()}


def test_a_file_is_stored_below_the_output_path_and_its_record_says_where(published: Published, store: Path) -> None:
    file = published.add("data/ö x.ntpl")
    record = published.store(file, store, "run/7")
    place = store / "run/7/data/ö x.ntpl"
    assert stored_files(store) == {"run/7/data/ö x.ntpl": CONTENT}
    assert record == {
        "source_name": "data/ö x.ntpl",
        "storage_hfn": f"{node_name()}:{place}",
        "storage_url": place.as_uri(),
        "storage_size": len(CONTENT),
        "storage_md5": hashlib.md5(CONTENT).hexdigest(),
    }
    assert unquote(urlsplit(record["storage_url"]).path) == str(place)
    assert (published.path / file.name).read_bytes() == CONTENT


def test_an_empty_file_is_stored_and_a_run_bit_is_kept(published: Published, store: Path) -> None:
    published.store(published.add("empty", b""), store)
    tool = published.add("tool")
    (published.path / "tool").chmod(0o4755)
    published.store(tool, store)
    assert stored_files(store) == {"empty": b"", "tool": CONTENT}
    assert (store / "tool").stat().st_mode & 0o7111 == 0o111 & ~current_umask()
    assert not (store / "empty").stat().st_mode & 0o111


def current_umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def test_storing_again_is_fine_and_touches_nothing(published: Published, store: Path) -> None:
    file = published.add("a")
    record = published.store(file, store, "x")
    before = (store / "x/a").stat()
    assert published.store(file, store, "x") == record
    after = (store / "x/a").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert stored_files(store) == {"x/a": CONTENT}


@pytest.mark.parametrize("other", [b"other", b"A" + CONTENT[1:], b""], ids=["shorter", "as long", "empty"])
def test_a_name_taken_by_other_content_is_an_error_that_names_both(
    published: Published, store: Path, other: bytes
) -> None:
    file = published.add("a")
    (store / "a").write_bytes(other)
    with pytest.raises(StorageTaken) as caught:
        published.store(file, store)
    assert f"{store}/a is there already" in str(caught.value)
    assert f"{len(other)} bytes" in str(caught.value) and file.md5 in str(caught.value)
    assert stored_files(store) == {"a": other}


def test_a_name_taken_by_a_directory_a_link_or_a_pipe_is_an_error(published: Published, store: Path) -> None:
    same = published.add("same")
    (store / "a").mkdir()
    (store / "b").symlink_to(published.path / "same")
    os.mkfifo(store / "c")
    for name, kind in (("a", "not a regular file"), ("b", "a symbolic link"), ("c", "not a regular file")):
        published.add(name)
        with pytest.raises(StorageTaken, match=kind):
            published.store(same._replace(name=name), store)


@pytest.mark.parametrize(
    ("name", "output_path"),
    [
        ("../a", ""),
        ("/a", ""),
        ("x/../../a", ""),
        ("a", ".."),
        ("a", "/tmp"),
        ("a", "x/../../y"),
        ("", ""),
        (".", ""),
        ("x//a", ""),
        ("./a", ""),
        ("a\nb", ""),
        ("a\0b", ""),
        ("a", "x\0y"),
        (".jobjar.rain.1.1.new", ""),
    ],
)
def test_names_and_output_paths_cannot_leave_the_storage_path(
    published: Published, store: Path, name: str, output_path: str
) -> None:
    published.add("a")
    file = OutputFile(name, len(CONTENT), hashlib.md5(CONTENT).hexdigest())
    with pytest.raises(CannotStore):
        store_file(str(published.path / "a"), file, str(store), output_path)
    assert list(store.iterdir()) == []
    assert not (store.parent / "a").exists()


@pytest.mark.parametrize("target", ["..", "/tmp", "inside"])
def test_no_link_below_the_storage_path_is_followed(published: Published, store: Path, target: str) -> None:
    file = published.add("sub/a")
    (store / "inside").mkdir()
    (store / "x").symlink_to(target)
    (store / "sub").symlink_to(target)
    for output_path in ("x", ""):
        with pytest.raises(CannotStore, match="symbolic link, which could lead out"):
            published.store(file, store, output_path)
    assert stored_files(store / "inside") == {}


def test_a_directory_that_is_swapped_for_a_link_while_a_file_is_stored_leads_nowhere(
    published: Published, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = published.add("a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = os.link

    def swap_and_link(*words: Any, **named: Any) -> None:
        (store / "x").rename(store / "aside")
        (store / "x").symlink_to(elsewhere)
        link(*words, **named)

    monkeypatch.setattr(os, "link", swap_and_link)
    published.store(file, store, "x")
    assert stored_files(elsewhere) == {}
    assert stored_files(store / "aside") == {"a": CONTENT}


def test_the_storage_path_itself_may_be_a_link(published: Published, store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    published.store(published.add("a"), tmp_path / "link")
    assert stored_files(store) == {"a": CONTENT}


def test_a_file_in_the_way_of_a_directory_is_an_error(published: Published, store: Path) -> None:
    file = published.add("x/a")
    (store / "x").write_text("")
    with pytest.raises(CannotStore, match=f"{store}/x is not a directory"):
        published.store(file, store)


def test_a_name_that_is_too_long_for_the_disk_is_final(published: Published, store: Path) -> None:
    file = published.add("a")._replace(name="x" * 256)
    with pytest.raises(CannotStore, match="too long"):
        store_file(str(published.path / "a"), file, str(store), "")
    with pytest.raises(CannotStore, match="too long"):
        store_file(str(published.path / "a"), file._replace(name="y" * 256 + "/a"), str(store), "")
    longest = published.add("z" * 255)
    published.store(longest, store)
    assert list(stored_files(store)) == ["z" * 255]


def test_a_storage_path_that_is_away_is_an_error_that_may_pass(published: Published, tmp_path: Path) -> None:
    file = published.add("a")
    with pytest.raises(FileNotFoundError) as caught:
        published.store(file, tmp_path / "not mounted")
    assert caught.value.filename == str(tmp_path / "not mounted")
    assert not (tmp_path / "not mounted").exists()


def test_the_default_storage_path_is_in_the_jar_and_made_where_missing(rig: Rig, tmp_path: Path) -> None:
    jar = rig.open()
    assert storage_path(jar) == f"{rig.home}/storage"
    assert storage_path(jar) == f"{rig.home}/storage" and (rig.home / "storage").is_dir()
    rig.environment["JJ_STORAGE_PATH"] = str(tmp_path / "named")
    assert storage_path(rig.open()) == str(tmp_path / "named")
    assert not (tmp_path / "named").exists()


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_bytes(b"B" + CONTENT[1:]), "md5"),
        (lambda path: path.write_bytes(CONTENT[1:]), "bytes and md5"),
        (lambda path: path.write_bytes(CONTENT * 3), "longer"),
        (lambda path: path.unlink(), "no such file"),
        (make_link, "symbolic links"),
        (make_pipe, "not a regular file"),
    ],
    ids=["changed", "cut", "grown", "gone", "link", "pipe"],
)
def test_a_published_file_that_changed_is_not_stored(
    published: Published, store: Path, change: Callable[[Path], object], reason: str
) -> None:
    file = published.add("a")
    change(published.path / "a")
    with pytest.raises(PublishedChanged, match=reason):
        published.store(file, store)
    assert stored_files(store) == {}


def test_what_is_read_back_otherwise_than_written_gets_no_name(
    published: Published, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = published.add("a")
    measure_stored = copying.measure_stored

    def damage_and_measure(descriptor: int, *rest: Any) -> tuple[int, str]:
        os.pwrite(descriptor, b"?", 1000)
        return measure_stored(descriptor, *rest)

    monkeypatch.setattr(storage, "measure_stored", damage_and_measure)
    with pytest.raises(OSError, match="read back"):
        published.store(file, store)
    assert stored_files(store) == {}


@pytest.mark.root
@pytest.mark.skipif(sys.platform != "linux", reason="needs mount namespaces")
def test_a_full_disk_leaves_nothing_and_storing_goes_on_when_there_is_room(
    published: Published, tmp_path: Path
) -> None:
    space = SpaceRig(tmp_path / "jar")
    try:
        space.mount_small_disk(tmp_path / "small")
        small = space.seen(tmp_path / "small")
        file = published.add("x/a")
        filler = space.fill(tmp_path / "small")
        os.truncate(filler, filler.stat().st_size - len(CONTENT) // 2)
        with pytest.raises(OSError) as caught:
            published.store(file, small)
        assert caught.value.errno == errno.ENOSPC
        assert list(stored_files(small)) == ["filler"]
        filler.unlink()
        published.store(file, small)
        assert stored_files(small) == {"x/a": CONTENT}
        space.root_shell(f"mount -o remount,ro '{tmp_path / 'small'}'")
        with pytest.raises(OSError) as caught:
            published.store(published.add("b"), small)
        assert caught.value.errno == errno.EROFS
        assert str(caught.value.filename).startswith(str(small))
    finally:
        space.end_everything()


STORE = """
import sys, time
from jobjar.publishing.outputs import list_outputs
from jobjar.publishing.storage import store_file
published, store = sys.argv[1:3]
files = list_outputs(published)
print("ready", flush=True)
sys.stdin.readline()
for file in files:
    store_file(f"{published}/{file.name}", file, store, "x/y")
"""


def start_storing(published: Published, store: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", STORE, str(published.path), str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_several_handlers_at_once_store_each_file_once(published: Published, store: Path) -> None:
    for number in range(40):
        published.add(f"d{number % 4}/{number}", b"%d" % number * 1000)
    handlers = [start_storing(published, store) for _ in range(4)]
    for handler in handlers:
        assert handler.stdin is not None
        handler.stdin.write("go\n")
        handler.stdin.flush()
    assert [handler.communicate(timeout=60) and handler.returncode for handler in handlers] == [0] * 4
    assert stored_files(store / "x/y") == stored_files(published.path)


@pytest.mark.parametrize("is_same", [True, False])
def test_a_name_that_is_taken_between_the_look_and_the_link(
    published: Published, store: Path, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    file = published.add("a")
    link = os.link

    def take_and_link(*words: Any, **named: Any) -> None:
        (store / "a").write_bytes(CONTENT if is_same else b"other")
        link(*words, **named)

    monkeypatch.setattr(os, "link", take_and_link)
    if is_same:
        published.store(file, store)
    else:
        with pytest.raises(StorageTaken):
            published.store(file, store)
    assert stored_files(store) == {"a": CONTENT if is_same else b"other"}


def test_a_link_that_was_made_although_the_disk_reported_an_error_is_believed(
    published: Published, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link
    tries: list[str] = []

    def link_and_fail(source: str, target: str, **named: Any) -> None:
        tries.append(target)
        link(source, target, **named)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", link_and_fail)
    published.store(published.add("a"), store)
    assert tries == ["a"] * 2
    assert stored_files(store) == {"a": CONTENT}


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has no hard links, and no rename that refuses to overwrite."""

    def refuse(*words: Any, **named: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("jobjar.shared_disk.moves._load_renameat2", lambda: None)


def test_a_disk_without_links_gets_files_by_a_rename(
    published: Published, store: Path, without_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = published.add("a")
    published.store(file, store)
    assert stored_files(store) == {"a": CONTENT}
    (store / "a").unlink()
    symlink = os.symlink

    def take_first(target: str, path: str) -> None:
        symlink(".moving:elsewhere:1:1.0:boot:1", path)
        symlink(target, path)

    monkeypatch.setattr(os, "symlink", take_first)
    for _ in range(2):
        with pytest.raises(OSError) as caught:  # the name is held by a handler that is about to store it, or was killed
            published.store(file, store)
        assert caught.value.errno == errno.EBUSY and caught.value.filename == str(store / "a")
    assert os.readlink(store / "a").startswith(".moving:elsewhere:")


def test_a_name_that_a_killed_handler_of_this_node_holds_is_free_at_the_next_try(
    published: Published, store: Path, without_links: None
) -> None:
    file = published.add("a")
    (store / "a").symlink_to(f".moving:{node_name()}:1:1.0:another boot:1")
    with pytest.raises(OSError, match="holds the name"):
        published.store(file, store)
    published.store(file, store)
    assert stored_files(store) == {"a": CONTENT}


def test_half_copies_of_killed_handlers_are_swept_and_those_of_living_ones_stay(
    published: Published, store: Path
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (store / "x").mkdir()
    dead = store / "x" / f".jobjar.{node_name()}.{ended.pid}.1.new"
    living = store / "x" / f".jobjar.{node_name()}.{os.getpid()}.1.new"
    elsewhere = store / "x" / ".jobjar.another-node.12.1.new"
    forgotten = store / "x" / ".jobjar.another-node.13.1.new"
    own = store / "x" / ".jobjar.mine"
    for path in (dead, living, elsewhere, forgotten, own):
        path.write_text("half")
    two_days_ago = time.time() - 2 * 86400
    os.utime(forgotten, (two_days_ago, two_days_ago))
    published.store(published.add("a"), store, "x")
    left = sorted(path.name for path in (store / "x").iterdir())
    assert left == sorted(["a", living.name, elsewhere.name, own.name])


def test_what_is_done_meanwhile_may_end_a_copy(published: Published, store: Path) -> None:
    file = published.add("a")
    pieces: list[int] = []

    def end() -> None:
        pieces.append(1)
        if len(pieces) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        store_file(str(published.path / "a"), file, str(store), "", end)
    assert stored_files(store) == {}


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    made = tmp_path / "cwd"
    made.mkdir()
    return made


def shell(script: str) -> Callable[[str], int]:
    """A storage_command: it runs in the directory that it is given."""
    return lambda directory: subprocess.run(["/bin/sh", "-c", script], cwd=directory, timeout=60).returncode


def test_storage_software_finds_the_files_in_output_and_says_where_it_put_them(
    published: Published, store: Path, cwd: Path
) -> None:
    files = [published.add("a"), published.add("log/b", b"b")]
    record_of = 'for f in a log/b; do echo "source_name = $f"; echo "storage_hfn = tape:/$f"; done > jug_storage.log'
    script = f'cp -r output/. "{store}" && {record_of} && echo "storage_size = 1" >> jug_storage.log'
    said = run_storage_software(str(cwd), str(published.path), files, shell(script))
    assert said.warnings == []
    assert said.records == [
        {"source_name": "a", "storage_hfn": "tape:/a", "storage_size": len(CONTENT), "storage_md5": files[0].md5},
        {"source_name": "log/b", "storage_hfn": "tape:/log/b", "storage_size": 1, "storage_md5": files[1].md5},
    ]
    assert stored_files(store) == {"a": CONTENT, "log/b": b"b"}


def test_storage_software_that_moves_the_files_away_and_fails_loses_none(
    published: Published, store: Path, cwd: Path
) -> None:
    files = [published.add("a"), published.add("b")]
    with pytest.raises(StorageFailed, match="exit status 3"):
        run_storage_software(str(cwd), str(published.path), files, shell(f'mv output/a "{store}"; exit 3'))
    assert list_outputs(str(published.path)) == files


def test_storage_software_has_to_tell_of_every_file(published: Published, cwd: Path) -> None:
    files = [published.add("a"), published.add("log/b")]
    with pytest.raises(StorageFailed, match=r"'log/b': jug_storage.log has no record of it"):
        run_storage_software(str(cwd), str(published.path), files, shell("echo source_name=a > jug_storage.log"))


@pytest.mark.parametrize("line", ["storage_size = 1", "storage_md5 = 900150983cd24fb0d6963f7d28e17f72"])
def test_what_storage_software_says_of_size_and_md5_is_verified(published: Published, cwd: Path, line: str) -> None:
    files = [published.add("a")]
    script = f"printf 'source_name = a\\n{line}\\n' > jug_storage.log"
    with pytest.raises(StorageFailed, match=f"gives {line.partition(' ')[0]}"):
        run_storage_software(str(cwd), str(published.path), files, shell(script))


def test_odd_lines_and_unknown_files_of_storage_software_are_warnings(published: Published, cwd: Path) -> None:
    files = [published.add("a")]
    script = "printf 'source_name=a\\nnonsense\\nsource_name=z\\n' > jug_storage.log"
    said = run_storage_software(str(cwd), str(published.path), files, shell(script))
    assert [record["source_name"] for record in said.records] == ["a"]
    assert said.warnings == [
        "jug_storage.log, line 2: not of the form key = value: 'nonsense'",
        "jug_storage.log: a record of 'z', which was not published",
    ]


def test_storage_software_is_not_given_a_file_that_changed(published: Published, cwd: Path) -> None:
    files = [published.add("a")]
    (published.path / "a").write_bytes(b"other")
    with pytest.raises(PublishedChanged):
        run_storage_software(str(cwd), str(published.path), files, pytest.fail)
    assert look(f"{cwd}/output") is None


def test_where_links_cannot_be_made_output_leads_to_the_published_files(
    published: Published, cwd: Path, without_links: None
) -> None:
    files = [published.add("a"), published.add("log/b")]
    script = "cat output/log/b > copy; printf 'source_name=a\\nsource_name=log/b\\n' > jug_storage.log"
    said = run_storage_software(str(cwd), str(published.path), files, shell(script))
    assert len(said.records) == 2
    assert os.readlink(cwd / "output") == str(published.path)
    assert (cwd / "copy").read_bytes() == CONTENT
