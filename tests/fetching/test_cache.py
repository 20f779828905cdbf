"""A node's cache: bounded, safe against others, never the cause of a failure, and nobody can change what is in it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobjar.fetching.cache import Cache
from jobjar.fetching.sources import fetch
from jobjar.job_file.description import parse_source
from tests.serving import Server, http_server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    for number in range(10):
        (tmp_path / f"served/{number}").write_bytes(content(number))
    with http_server(tmp_path / "served") as server:
        yield server


def content(number: int) -> bytes:
    return bytes([number]) * 10_000


def key(number: int) -> str:
    return f"sha256-{hashlib.sha256(content(number)).hexdigest()}"


def take(served: Server, number: int, tmp_path: Path, cache: Cache) -> None:
    sha256 = hashlib.sha256(content(number)).hexdigest()
    fetch(parse_source(f"{served.address}/{number}#sha256={sha256}"), str(tmp_path / "taken"), cache)
    assert (tmp_path / "taken").read_bytes() == content(number)


def kept(cache: Cache) -> set[str]:
    return set(os.listdir(f"{cache.path}/files"))


def test_what_was_used_longest_ago_goes_when_there_is_too_much(served: Server, tmp_path: Path) -> None:
    cache = Cache(f"{tmp_path}/cache", 35_000)
    for number in range(3):
        take(served, number, tmp_path, cache)
        os.utime(f"{cache.path}/files/{key(number)}", (1000 + number, 1000 + number))
    assert kept(cache) == {key(0), key(1), key(2)}
    take(served, 0, tmp_path, cache)  # used just now
    take(served, 3, tmp_path, cache)
    assert kept(cache) == {key(0), key(2), key(3)}
    assert sum(entry.stat().st_size for entry in os.scandir(f"{cache.path}/files")) <= 35_000


def test_a_file_larger_than_the_cache_is_not_kept_and_removes_nothing(served: Server, tmp_path: Path) -> None:
    cache = Cache(f"{tmp_path}/cache", 15_000)
    take(served, 0, tmp_path, cache)
    (tmp_path / "served/big").write_bytes(bytes(20_000))
    fetch(parse_source(f"{served.address}/big"), f"{tmp_path}/taken", cache)
    assert (tmp_path / "taken").stat().st_size == 20_000
    assert kept(cache) == {key(0)}


def test_a_job_that_changes_its_input_changes_nothing_for_the_next(served: Server, tmp_path: Path) -> None:
    cache = Cache(f"{tmp_path}/cache", 1 << 30)
    for _ in range(2):
        take(served, 0, tmp_path, cache)
        with (tmp_path / "taken").open("r+b") as file:
            file.write(b"changed in place")
    take(served, 0, tmp_path, cache)
    assert served.gets("/0") == 1
    assert os.stat(f"{cache.path}/files/{key(0)}").st_nlink == 1
    assert os.stat(f"{cache.path}/files/{key(0)}").st_mode & 0o222 == 0


@pytest.mark.parametrize("damage", ["changed", "shorter", "empty"])
def test_a_damaged_file_of_the_cache_is_fetched_anew(served: Server, tmp_path: Path, damage: str) -> None:
    cache = Cache(f"{tmp_path}/cache", 1 << 30)
    take(served, 0, tmp_path, cache)
    path = Path(f"{cache.path}/files/{key(0)}")
    path.chmod(0o600)
    path.write_bytes({"changed": b"x" * 10_000, "shorter": content(0)[:5000], "empty": b""}[damage])
    take(served, 0, tmp_path, cache)
    assert served.gets("/0") == 2
    assert path.read_bytes() == content(0)


def test_a_link_in_the_cache_is_not_followed(served: Server, tmp_path: Path) -> None:
    cache = Cache(f"{tmp_path}/cache", 1 << 30)
    assert cache.why_not() is None
    (tmp_path / "elsewhere").write_bytes(b"secret")
    os.symlink(tmp_path / "elsewhere", f"{cache.path}/files/{key(0)}")
    take(served, 0, tmp_path, cache)
    assert (tmp_path / "elsewhere").read_bytes() == b"secret"


def assert_only_slower(served: Server, tmp_path: Path, cache: Cache, reason: str) -> None:
    why = cache.why_not()
    assert why is not None and reason in why
    for _ in range(2):
        take(served, 0, tmp_path, cache)
    assert served.gets("/0") == 2


def test_a_cache_that_others_can_write_to_is_not_used(served: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    assert_only_slower(served, tmp_path, Cache(f"{tmp_path}/cache", 1 << 30), "writable by others (mode 0777)")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_below_a_directory_that_others_can_write_to_is_not_used(served: Server, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert_only_slower(served, tmp_path, Cache(f"{tmp_path}/open/cache", 1 << 30), "open is writable by others")
    (tmp_path / "open").chmod(0o1777)  # as /var/tmp: nobody can move what is ours
    assert Cache(f"{tmp_path}/open/other", 1 << 30).why_not() is None


@pytest.mark.root
@pytest.mark.parametrize("whose", ["cache", "above"])
def test_a_cache_of_somebody_else_is_not_used(served: Server, tmp_path: Path, whose: str) -> None:
    (tmp_path / "above/cache").mkdir(parents=True, mode=0o700)
    (tmp_path / "above/cache").chmod(0o700)
    os.chown(tmp_path / "above" / ("" if whose == "above" else "cache"), 12345, 12345)
    assert_only_slower(served, tmp_path, Cache(f"{tmp_path}/above/cache", 1 << 30), "belongs to user 12345")


def test_a_cache_that_is_a_file_or_a_link_or_of_size_0_is_not_used(served: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_only_slower(served, tmp_path, Cache(f"{tmp_path}/file", 1 << 30), "is not a directory")
    served.asked.clear()
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert_only_slower(served, tmp_path, Cache(f"{tmp_path}/link", 1 << 30), "is not a directory")
    served.asked.clear()
    assert_only_slower(served, tmp_path, Cache(f"{tmp_path}/none", 0), "set to 0")
    assert not (tmp_path / "none").exists()


@pytest.mark.root
def test_a_cache_on_a_read_only_disk_costs_speed_only(served: Server, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=755", "disk", str(tmp_path / "disk")], check=True)
    try:
        assert_only_slower(served, tmp_path, Cache(f"{tmp_path}/disk/cache", 1 << 30), "Read-only file system")
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def test_a_cache_that_is_removed_while_it_is_used_costs_speed_only(served: Server, tmp_path: Path) -> None:
    cache = Cache(f"{tmp_path}/cache", 1 << 30)
    take(served, 0, tmp_path, cache)
    subprocess.run(["rm", "-r", cache.path], check=True)
    take(served, 0, tmp_path, cache)
    assert served.gets("/0") == 2


def test_what_a_killed_process_was_writing_is_swept(served: Server, tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom jobjar.fetching.cache import Cache\n"
        "part = Cache(sys.argv[1], 1 << 30).begin()\npart.write(b'half')\nprint(flush=True)\nsys.stdin.read()\n"
    )
    words = [sys.executable, "-c", script, f"{tmp_path}/cache"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        alive = Cache(f"{tmp_path}/cache", 1 << 30)
        assert alive.why_not() is None and len(kept(alive)) == 1  # not that of a living one
        process.send_signal(signal.SIGKILL)
    later = Cache(f"{tmp_path}/cache", 1 << 30)
    assert later.why_not() is None and kept(later) == set()


def test_sums_are_remembered_whole_or_not_at_all(tmp_path: Path) -> None:
    cache = Cache(f"{tmp_path}/cache", 1 << 30)
    cache.remember_sum("at-1", "0f" * 32)
    assert Cache(f"{tmp_path}/cache", 1 << 30).recall_sum("at-1") == "0f" * 32
    Path(f"{cache.path}/sums/at-1").write_text("0f" * 20)
    assert cache.recall_sum("at-1") is None
    assert cache.recall_sum("at-2") is None
