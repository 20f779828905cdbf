"""Nothing behind a mount is removed, whatever is mounted where; all the rest is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.others import BY_PERMISSION_BITS

pytestmark = pytest.mark.root
HERE = Path(__file__).parent.parent.parent
# Refuses openat2 as whoever confines a process does: seccomp(2), with the number of the error in the first word.
_CONFINED = """
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x50000 | int(sys.argv.pop(1))), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *rule) for rule in rules))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(rules), ctypes.addressof(code))), 0, 0) == 0
"""
_REMOVE = """
import json, os, sys
from jobjar.shared_disk import trees
before = os.listdir("/proc/self/fd")
kept = trees.remove_tree(sys.argv[1])
assert len(os.listdir("/proc/self/fd")) == len(before)
print(json.dumps([trees._find_openat2() is not None, *map(str, kept)]))
"""


class Space:
    """A mount namespace of its own, in which trees are removed."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None and self._holder.stdout.readline() == "ready\n"
        self._enter = ["nsenter", "--mount", "--target", str(self._holder.pid), "--"]
        self._servers: list[subprocess.Popen[str]] = []

    def shell(self, script: str) -> None:
        subprocess.run([*self._enter, "/bin/sh", "-ec", script], check=True, timeout=60)

    def remove(self, path: Path, refused: int | None = None) -> list[str]:
        """Remove a tree there, by openat2, or with that answered by the error `refused`; returns what is said to stay."""
        words = [_REMOVE, str(path)] if refused is None else [_CONFINED + _REMOVE, str(refused), str(path)]
        result = subprocess.run(
            [*self._enter, sys.executable, "-c", *words], capture_output=True, text=True, timeout=60, cwd=HERE
        )
        assert result.returncode == 0, result.stderr
        by_openat2, *kept = json.loads(result.stdout)
        assert by_openat2 == (refused is None)
        return [str(line).partition(". ")[0].replace(str(path.parent), "") for line in kept]

    def mount_fuse(self, path: Path, removals: Path) -> subprocess.Popen[str]:
        words = [*self._enter, sys.executable, "-m", "tests.fuse_disk", str(path), str(removals)]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=HERE)
        self._servers.append(server)
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        return server

    def end(self) -> None:
        for server in self._servers:
            server.kill()
            server.communicate()
        self._holder.communicate("")


@pytest.fixture
def space() -> Iterator[Space]:
    made = Space()
    yield made
    made.end()


@pytest.fixture(params=[None, 38, 1], ids=["openat2", "ENOSYS", "EPERM"])
def refused(request: pytest.FixtureRequest) -> int | None:
    """How openat2 is answered."""
    value: int | None = request.param
    return value


def make_tree(tmp_path: Path) -> tuple[Path, Path]:
    """A job's tree, and data that are not its own."""
    tree, data = tmp_path / "tree", tmp_path / "data"
    for directory in (tree / "a" / "b" / "c", data / "inner"):
        directory.mkdir(parents=True)
        (directory / "file").write_text("text")
    for directory in (tree, tree / "a", tree / "z"):
        directory.mkdir(exist_ok=True)
        (directory / "file").write_text("text")
    (data / "file").write_text("text")
    return tree, data


def is_whole(data: Path) -> bool:
    return (data / "file").read_text() == (data / "inner" / "file").read_text() == "text"


def test_what_is_bound_into_a_tree_stays_and_all_else_goes(space: Space, tmp_path: Path, refused: int | None) -> None:
    tree, data = make_tree(tmp_path)
    space.shell(f"mount --bind '{data}' '{tree}/a/b'")
    assert space.remove(tree, refused) == ["/tree/a/b stays: something is mounted there"]
    assert is_whole(data)
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == ["a", "a/b", "a/b/c", "a/b/c/file"]
    space.shell(f"umount '{tree}/a/b'")
    assert space.remove(tree, refused) == []
    assert not tree.exists() and is_whole(data)


def test_a_tree_that_is_a_mount_itself_stays(space: Space, tmp_path: Path, refused: int | None) -> None:
    tree, data = make_tree(tmp_path)
    space.shell(f"mount --bind '{data}' '{tree}'")
    assert space.remove(tree, refused) == ["/tree stays: something is mounted there"]
    assert is_whole(data)


def test_a_tree_that_is_bound_onto_itself_stays(space: Space, tmp_path: Path, refused: int | None) -> None:
    tree, _ = make_tree(tmp_path)
    space.shell(f"mount --bind '{tree}' '{tree}'")
    assert space.remove(tree, refused) == ["/tree stays: something is mounted there"]
    assert (tree / "a" / "b" / "c" / "file").exists()


def test_a_file_that_is_bound_onto_a_file_stays(space: Space, tmp_path: Path, refused: int | None) -> None:
    tree, data = make_tree(tmp_path)
    space.shell(f"mount --bind '{data}/file' '{tree}/z/file'")
    kept = space.remove(tree, refused)
    assert kept == ["/tree/z/file stays: something is mounted there, or uses it"]
    assert is_whole(data)
    assert [path.name for path in tree.iterdir()] == ["z"]


def test_mounts_on_mounts_and_many_of_them_stay(space: Space, tmp_path: Path) -> None:
    tree, data = make_tree(tmp_path)
    for number in range(15):
        (tree / f"m{number}").mkdir()
    space.shell(f"for m in '{tree}'/m*; do mount --bind '{data}' \"$m\"; mount -t tmpfs tmpfs \"$m/inner\"; done")
    kept = space.remove(tree)
    assert len(kept) == 10 and all("something is mounted there" in line for line in kept)
    assert is_whole(data)
    assert len(list(tree.iterdir())) == 15


def test_what_a_deep_tree_has_mounted_at_its_bottom_stays(space: Space, tmp_path: Path) -> None:
    tree, data = make_tree(tmp_path)
    script = f"cd '{tree}'; for i in $(seq 150); do mkdir dddddddddddddddd; cd dddddddddddddddd; done; mount --bind '{data}' ."
    space.shell(script)
    (kept,) = space.remove(tree)
    assert "something is mounted there" in kept
    assert is_whole(data)
    assert [path.name for path in tree.iterdir()] == ["dddddddddddddddd"]


def test_a_closed_directory_with_a_mount_is_opened_and_what_is_mounted_is_not_changed(
    space: Space, tmp_path: Path
) -> None:
    tree, data = make_tree(tmp_path)
    data.chmod(0o500)
    space.shell(f"mount --bind '{data}' '{tree}/a/b'; chmod 0 '{tree}/a'")
    space._enter += BY_PERMISSION_BITS
    assert space.remove(tree) == ["/tree/a/b stays: something is mounted there"]
    assert data.stat().st_mode & 0o777 == 0o500
    assert is_whole(data)


@pytest.mark.parametrize("state", ["served", "dead", "stopped"])
def test_a_fuse_mount_stays_and_is_not_waited_for(
    space: Space, tmp_path: Path, state: str, refused: int | None
) -> None:
    tree, removals = make_tree(tmp_path)[0], tmp_path / "removals"
    server = space.mount_fuse(tree / "a", removals)
    if state == "served":
        space.shell(f"test \"$(cat '{tree}/a/precious')\" = kept")
    elif state == "dead":
        server.kill()
        server.wait()
    else:
        os.kill(server.pid, signal.SIGSTOP)
    assert space.remove(tree, refused) == ["/tree/a stays: something is mounted there"]
    if state == "stopped":
        os.kill(server.pid, signal.SIGCONT)
    assert not removals.exists()
    space.shell(f"umount --lazy '{tree}/a'")
    assert space.remove(tree, refused) == []
    assert not tree.exists()
