"""Input files: copied from wherever they are, verified, there as a whole or not at all; each once a node."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobjar.errors import CannotFetch
from jobjar.fetching import origins, sources
from jobjar.fetching.sources import Cache, fetch
from jobjar.host import node_name
from jobjar.job_file.description import Source, parse_source
from tests.rig import wait_until
from tests.serving import Server, http_server, ssh_server

CONTENT = bytes(range(256)) * 9000 + b"end\n"
LONG_AGO = 1_600_000_000


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/a.txt").write_bytes(CONTENT)
    os.utime(tmp_path / "served/a.txt", (LONG_AGO, LONG_AGO))
    with http_server(tmp_path / "served") as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(str(tmp_path / "cache"), 1 << 30)
    assert made.why_not() is None
    return made


def take(location: str, destination: Path, cache: Cache | None = None) -> bytes:
    fetch(parse_source(location), str(destination), cache)
    return destination.read_bytes()


def sums(content: bytes) -> tuple[str, str]:
    return hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()


def assert_not_fetched(location: str, directory: Path, reason: str, cache: Cache | None = None) -> None:
    before = sorted(directory.iterdir())
    with pytest.raises(CannotFetch) as caught:
        take(location, directory / "taken", cache)
    assert reason in str(caught.value), str(caught.value)
    assert sorted(directory.iterdir()) == before


def test_a_path_is_copied_with_its_run_bit_and_may_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(CONTENT)
    (tmp_path / "data").chmod(0o444)
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    assert take(f"{tmp_path}/data", tmp_path / "taken") == CONTENT
    assert (tmp_path / "taken").stat().st_mode & 0o777 == 0o644
    take(f"{tmp_path}/program", tmp_path / "taken")
    assert os.access(tmp_path / "taken", os.X_OK)
    assert (tmp_path / "taken").stat().st_nlink == 1


@pytest.mark.parametrize("form", ["file://{}", "file:{}", "file://localhost{}", "localhost:{}", f"{node_name()}:{{}}"])
def test_a_file_address_and_a_path_of_this_host_are_paths(tmp_path: Path, form: str) -> None:
    (tmp_path / "two words").write_bytes(CONTENT)
    path = f"{tmp_path}/two words"
    location = form.format(path.replace(" ", "%20") if form.startswith("file") else path)
    fetch(Source(location, "taken"), str(tmp_path / "taken"), None)
    assert (tmp_path / "taken").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("file:///data/two%20words.txt", "two words.txt"),
        ("file:/data/100%25", "100%"),
        ("file://far/data/a%23b%3Fc", "a#b?c"),
        ("FILE://localhost/data%2Fa%C3%A4/", "aä"),
        ("file:///data/a%20b#name=c%20d", "c d"),
        ("/data/two%20words?", "two%20words?"),
        ("far:/data/a?b", "a?b"),
        ("https://host/dir/a.txt?version=/2", "a.txt"),
    ],
)
def test_a_file_is_called_what_it_is_called_at_its_place(text: str, name: str) -> None:
    assert parse_source(text).name == name


@pytest.mark.parametrize("text", ["file:data/a", "file://host", "file:///data/a%00b", "file:///%2e%2e", "file:///"])
def test_a_file_address_without_a_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="file:"):
        parse_source(text)


def test_an_http_address_is_fetched_through_redirections(served: Server, tmp_path: Path) -> None:
    assert take(f"{served.address}/a.txt", tmp_path / "taken") == CONTENT
    assert take(f"{served.address}/moved/a.txt?x=1", tmp_path / "taken") == CONTENT


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/says/302", "the server answers 302 Found: it does not say where the file went"),
        ("/says/301", "the server answers 301 Moved Permanently: it does not say where the file went"),
        ("/says/300", "the server answers 300 Multiple Choices: it does not say where the file went"),
        ("/says/304", "the server answers 304 Not Modified: it does not say where the file went"),
        (
            "/says/206",
            "the server answers 206 Partial Content: that is a part of the file, and the whole was asked for",
        ),
        ("/says/204", "the server answers 204 No Content: that is no file"),
        ("/says/202", "the server answers 202 Accepted: that is no file"),
        ("/says/302//says/302", "the server answers 302 Found: it does not say where the file went"),
        ("/says/302//says/206", "the server answers 206 Partial Content: that is a part of the file"),
        ("/says/302//circle", "it is redirected in a circle, or too often (10 times, last http://"),
        (
            "/says/302/file:///etc/passwd",
            "it is redirected to file:///etc/passwd, where http cannot follow",
        ),
        ("/says/302/http://:x/", "where http cannot follow"),
        ("/says/404", "the server has no such file (404)"),
        ("/says/503", "the server answers 503 Service Unavailable"),
    ],
)
def test_an_answer_that_is_not_the_whole_file_is_an_error_by_name(
    served: Server, tmp_path: Path, cache: Cache, path: str, said: str
) -> None:
    for place in (None, cache):
        assert_not_fetched(f"{served.address}{path}", tmp_path, said, place)
    assert os.listdir(f"{cache.path}/files") == []


def test_what_a_server_calls_gzip_encoded_stays_as_it_is_stored(served: Server, tmp_path: Path) -> None:
    subprocess.run(["gzip", "-k", "a.txt"], cwd=tmp_path / "served", check=True)
    served.says_encoded = True
    assert take(f"{served.address}/a.txt.gz", tmp_path / "taken") == (tmp_path / "served/a.txt.gz").read_bytes()


def test_md5_and_sha256_are_verified_and_a_mismatch_names_both(served: Server, tmp_path: Path, cache: Cache) -> None:
    md5, sha256 = sums(CONTENT)
    (tmp_path / "data").write_bytes(CONTENT)
    for location in (f"{tmp_path}/data", f"{served.address}/a.txt"):
        take(f"{location}#md5={md5}&sha256={sha256.upper()}", tmp_path / "taken")
        (tmp_path / "taken").unlink()
        for place in (None, cache):
            assert_not_fetched(
                f"{location}#md5={'0' * 32}",
                tmp_path,
                f"its md5 is {md5}, not {'0' * 32} as the description says; correct",
                place,
            )
            assert_not_fetched(f"{location}#sha256={'1' * 64}", tmp_path, f"is {sha256}, not {'1' * 64}", place)
    assert [name for name in os.listdir(cache.path + "/files") if "0000" in name or "1111" in name] == []


def test_what_cannot_be_fetched_is_said_and_leaves_nothing(
    served: Server, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place in (None, cache):
        assert_not_fetched(f"{tmp_path}/missing", tmp_path, "No such file", place)
        assert_not_fetched(f"{tmp_path}/served", tmp_path, "is a directory; name the files in it", place)
        assert_not_fetched(f"{tmp_path}/fifo", tmp_path, "not a regular file", place)
        assert_not_fetched("data/a.txt", tmp_path, "not an absolute path", place)
        assert_not_fetched("s3://bucket/key", tmp_path, "http:, https: and host:/path", place)
        assert_not_fetched(f"{served.address}/missing", tmp_path, "404", place)
        assert_not_fetched(f"{served.address}/broken", tmp_path, "500 Broken here", place)
        assert_not_fetched(f"{served.address}/cut", tmp_path, "", place)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        said = f"no connection to 127.0.0.1:{port}: Connection refused; see whether that server runs, or to the network"
        assert_not_fetched(f"http://127.0.0.1:{port}/x", tmp_path, said)
    assert_not_fetched("http://nowhere.invalid/x", tmp_path, "no connection to nowhere.invalid:80: ")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert_not_fetched("far:/x", tmp_path, "ssh: No such file")


def test_a_password_in_an_address_is_not_told(served: Server, tmp_path: Path) -> None:
    with pytest.raises(CannotFetch) as caught:
        take(f"{served.address.replace('//', '//me:secret@')}/missing", tmp_path / "taken")
    assert "secret" not in str(caught.value) and "…@127.0.0.1" in str(caught.value)


def test_a_host_that_looks_like_an_option_never_reaches_ssh() -> None:
    with pytest.raises(CannotFetch, match="not an absolute path"):
        origins.find_origin("-oProxyCommand=touch${IFS}x:/etc/passwd")


def test_a_disk_that_refuses_is_an_oserror_and_leaves_nothing(served: Server, tmp_path: Path) -> None:
    """By a limit to the size of files: the error comes from write(2) as that of a full disk does."""
    (tmp_path / "data").write_bytes(CONTENT)
    (tmp_path / "out").mkdir()
    script = (
        "import resource, signal, sys\n"
        "from jobjar.fetching.sources import Cache, fetch\n"
        "from jobjar.job_file.description import parse_source\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "cache = Cache(sys.argv[3], 1 << 30) if sys.argv[3] else None\n"
        "try:\n    fetch(parse_source(sys.argv[1]), sys.argv[2], cache)\n"
        "except OSError as error:\n    sys.exit(error.errno)\n"
    )
    for location in (f"{tmp_path}/data", f"{served.address}/a.txt"):
        for path in ("", f"{tmp_path}/cache"):
            words = [sys.executable, "-c", script, location, f"{tmp_path}/out/taken", path]
            result = subprocess.run(words, capture_output=True, text=True, timeout=60)
            assert result.returncode == errno.EFBIG, result.stderr
            assert list((tmp_path / "out").iterdir()) == []
    assert os.listdir(tmp_path / "cache/files") == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100000


@pytest.mark.root
def test_a_full_disk_is_an_oserror_and_a_full_cache_disk_is_none(served: Server, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "small", str(small)], check=True)
    try:
        with pytest.raises(OSError) as caught:
            take(f"{served.address}/a.txt", small / "taken")
        assert caught.value.errno == errno.ENOSPC and list(small.iterdir()) == []
        cache = Cache(f"{small}/cache", 1 << 30)
        assert take(f"{served.address}/a.txt", tmp_path / "taken", cache) == CONTENT
        assert cache.why_not() is None and list((small / "cache/files").iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.write_bytes(CONTENT)
    write = sources.Sink.write

    def write_and_change(sink: sources.Sink, chunk: bytes) -> int:
        with data.open("ab") as file:
            file.write(b"more")
        return write(sink, chunk)

    monkeypatch.setattr(sources.Sink, "write", write_and_change)
    monkeypatch.setattr(origins, "_CHUNK", 1 << 21)
    assert_not_fetched(str(data), tmp_path, "changed while it was read")


def test_a_second_fetch_of_the_same_content_asks_nobody(served: Server, tmp_path: Path, cache: Cache) -> None:
    md5, sha256 = sums(CONTENT)
    for said in (f"md5={md5}", f"sha256={sha256}"):
        served.asked.clear()
        for number in range(3):
            assert take(f"{served.address}/a.txt#{said}", tmp_path / f"taken-{number}", cache) == CONTENT
        assert served.gets("/a.txt") == 1
    served.asked.clear()
    assert take(f"http://nowhere.invalid/a.txt#sha256={sha256}", tmp_path / "taken", cache) == CONTENT
    assert served.asked == []


def test_without_a_sum_the_server_is_asked_whether_it_changed(served: Server, tmp_path: Path, cache: Cache) -> None:
    location = f"{served.address}/a.txt"
    for number in range(3):
        assert take(location, tmp_path / f"taken-{number}", cache) == CONTENT
    assert served.gets("/a.txt") == 1
    (tmp_path / "served/a.txt").write_bytes(b"changed")
    assert take(location, tmp_path / "taken", cache) == b"changed"
    assert served.gets("/a.txt") == 2


def test_what_shows_nothing_of_its_content_is_fetched_each_time(served: Server, tmp_path: Path, cache: Cache) -> None:
    served.has_etags = False
    for number in range(2):
        take(f"{served.address}/a.txt", tmp_path / f"taken-{number}", cache)
    assert served.gets("/a.txt") == 2


@pytest.mark.parametrize("has_whole_seconds", [False, True])
def test_a_change_within_the_second_of_the_fetch_is_not_hidden_by_the_cache(
    served: Server, tmp_path: Path, cache: Cache, has_whole_seconds: bool
) -> None:
    """Last-Modified, and what nginx makes of it for an ETag, are the same before and after it."""
    served.has_whole_seconds = has_whole_seconds
    served.clock = LONG_AGO + 0.5
    for content in (b"one", b"two"):
        (tmp_path / "served/a.txt").write_bytes(content)
        os.utime(tmp_path / "served/a.txt", (LONG_AGO, LONG_AGO))
        assert take(f"{served.address}/a.txt", tmp_path / "taken", cache) == content
    served.clock = LONG_AGO + 10
    served.asked.clear()
    for number in range(3):
        assert take(f"{served.address}/a.txt", tmp_path / f"taken-{number}", cache) == b"two"
    assert served.gets("/a.txt") == 1


def test_what_a_server_without_a_clock_shows_is_kept_once_it_has_shown_it_for_a_while(
    served: Server, tmp_path: Path, cache: Cache
) -> None:
    served.clock = 0.0  # before the file was changed: it says nothing
    take(f"{served.address}/a.txt", tmp_path / "taken", cache)
    assert os.listdir(cache.path + "/files") == []
    wait_until_kept(f"{served.address}/a.txt", tmp_path / "taken", cache)


def wait_until_kept(location: str, destination: Path, cache: Cache) -> None:
    before = len(os.listdir(cache.path + "/files"))

    def is_kept() -> bool:
        take(location, destination, cache)
        return len(os.listdir(cache.path + "/files")) > before

    wait_until(is_kept, "a copy in the cache")


def test_no_clock_of_this_node_says_how_old_a_file_of_a_network_disk_is(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").write_bytes(CONTENT)
    monkeypatch.setattr(origins, "_is_on_local_disk", lambda path, disk: False)
    monkeypatch.setattr("time.time", lambda: LONG_AGO)
    assert sources.sum_of_source(parse_source(f"{tmp_path}/data"), cache) == sums(CONTENT)[1]
    assert take(f"{tmp_path}/data", tmp_path / "taken", cache) == CONTENT
    assert cache.why_not() is None and os.listdir(cache.path + "/files") == []
    assert [name for name in os.listdir(cache.path + "/sums") if not name.endswith(".seen")] == []


def test_a_place_that_showed_the_same_to_another_process_a_while_ago_has_settled(tmp_path: Path, cache: Cache) -> None:
    assert cache.note_first_look("at-1", 5.0) == 5.0
    assert Cache(cache.path, 1 << 30).note_first_look("at-1", 9.0) == 5.0
    (tmp_path / "cache/sums/at-1.seen").write_text("another-boot 1.0")
    assert cache.note_first_look("at-1", 9.0) == 9.0
    assert cache.note_first_look("at-1", 11.0) == 9.0


def test_a_path_of_a_network_disk_is_kept_and_one_of_a_local_disk_is_not(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").write_bytes(CONTENT)
    assert take(f"{tmp_path}/data", tmp_path / "taken", cache) == CONTENT
    assert os.listdir(cache.path + "/files") == []
    # Told that the disk is a network one, which this machine need not have.
    monkeypatch.setattr(origins, "_is_on_local_disk", lambda path, disk: False)
    wait_until_kept(f"{tmp_path}/data", tmp_path / "taken", cache)
    assert take(f"{tmp_path}/data", tmp_path / "taken", cache) == CONTENT
    assert len(os.listdir(cache.path + "/files")) == 1
    (tmp_path / "data").write_bytes(b"changed")
    assert take(f"{tmp_path}/data", tmp_path / "taken", cache) == b"changed"
    assert len(os.listdir(cache.path + "/files")) == 1
    wait_until_kept(f"{tmp_path}/data", tmp_path / "taken", cache)


@pytest.mark.skipif(not shutil.which("/usr/sbin/sshd"), reason="needs sshd: `make packages`")
@pytest.mark.root
def test_a_file_of_another_host_comes_by_ssh_and_is_kept(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'far side\'s "data" $HOME `x`;').write_bytes(CONTENT)
    path = f'{tmp_path}/far side\'s "data" $HOME `x`;'
    quoted = f"{tmp_path}/far%20side%27s%20%22data%22%20$HOME%20%60x%60;"
    (tmp_path / "ssh").mkdir()
    with ssh_server(tmp_path / "ssh") as programs:
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        source = Source(f"far:{path}", "taken")
        for place in (None, cache):
            fetch(source, str(tmp_path / "taken"), place)
            assert (tmp_path / "taken").read_bytes() == CONTENT

        def is_kept() -> bool:
            fetch(source, str(tmp_path / "taken"), cache)
            return bool(os.listdir(cache.path + "/files"))

        wait_until(is_kept, "a copy in the cache")
        fetch(source, str(tmp_path / "taken"), cache)
        assert len(os.listdir(cache.path + "/files")) == 1
        os.chmod(path, 0o755)
        fetch(
            Source(f"file://far{quoted}", "taken"),
            f"{tmp_path}/taken",
            None,
        )
        assert os.access(tmp_path / "taken", os.X_OK)
        assert_not_fetched(f"far:{tmp_path}/missing", tmp_path, "no such file", cache)
        assert_not_fetched(f"far:{tmp_path}/ssh", tmp_path, "not a regular one", cache)
    assert_not_fetched(f"far:{path}", tmp_path, "onnection refused", cache)


def test_a_fetch_that_is_killed_leaves_no_file_of_the_real_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "gate")
    script = (
        "import sys\nfrom jobjar.fetching import sources\nfrom jobjar.job_file.description import parse_source\n"
        "write = sources.Sink.write\n"
        "def stop(sink, data):\n    write(sink, data)\n    open(sys.argv[3], 'w').close()\n    open(sys.argv[3]).read()\n"
        "sources.Sink.write = stop\n"
        "sources.fetch(parse_source(sys.argv[1]), sys.argv[2], None)\n"
    )
    (tmp_path / "data").write_bytes(CONTENT)
    words = [sys.executable, "-c", script, f"{tmp_path}/data", f"{tmp_path}/out/taken", f"{tmp_path}/gate"]
    with subprocess.Popen(words) as process:
        (tmp_path / "gate").read_bytes()  # it has written a part
        process.send_signal(signal.SIGKILL)
    assert [path.name.startswith(".jobjar.") for path in (tmp_path / "out").iterdir()] == [True]


def test_the_libraries_for_http_are_loaded_only_where_something_is_fetched_by_it(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(CONTENT)
    script = (
        "import sys\nfrom jobjar.packages.install import install\nfrom jobjar.fetching.sources import Cache, fetch\n"
        "from jobjar.job_file.description import parse_source\n"
        "fetch(parse_source(sys.argv[1]), sys.argv[2], Cache(sys.argv[3], 1 << 20))\n"
        "print([name for name in ('fsspec', 'aiohttp', 'asyncio') if name in sys.modules])\n"
    )
    words = [sys.executable, "-c", script, f"{tmp_path}/data", f"{tmp_path}/taken", f"{tmp_path}/cache"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_thread_that_fetches_takes_no_signals_from_the_worker(served: Server, tmp_path: Path) -> None:
    """A signal to the process has to reach the main thread, which waits for it."""
    script = (
        "import os, signal, sys, threading\nfrom jobjar.fetching.sources import fetch\n"
        "from jobjar.job_file.description import parse_source\n"
        "before = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "fetch(parse_source(sys.argv[1]), sys.argv[2], None)\n"
        "assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before\n"
        "for number in os.listdir('/proc/self/task'):\n"
        "    fields = dict(line.split(':\\t') for line in open(f'/proc/self/task/{number}/status') if ':\\t' in line)\n"
        "    takes = not int(fields['SigBlk'], 16) & 1 << signal.SIGTERM - 1\n"
        "    print('main' if int(number) == os.getpid() else 'other', takes)\n"
    )
    words = [sys.executable, "-c", script, f"{served.address}/a.txt", f"{tmp_path}/taken"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(told) == {"main True", "other False"}
