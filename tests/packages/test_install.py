"""Software packages: used in place, or unpacked and installed once at their final place; a failed one is not left half there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jobjar.errors import BadArchive, CannotFetch, CannotInstall
from jobjar.fetching.copying import BetweenPieces, nothing
from jobjar.fetching.origins import LocalFile
from jobjar.fetching.sources import Cache, sum_of_source
from jobjar.host import node_name
from jobjar.job_file.description import Source, parse_source
from jobjar.liveness import this_process
from jobjar.packages import build_claim
from jobjar.packages.install import install, place_workware
from jobjar.packages.package import Package, find_command, shell_prefix
from jobjar.shared_disk.trees import remove_tree
from tests.packing import INSTALL, pack, sha256_of, write_package
from tests.rig import wait_until
from tests.serving import Server, http_server
from tests.shared_disk.test_trees import make_deep


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "software"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"), 1 << 30)


def get(
    place: Path,
    location: Path | str,
    cache: Cache | None = None,
    said: list[str] | None = None,
    between_pieces: BetweenPieces = nothing,
) -> Package:
    log = (said if said is not None else []).append
    return install(str(place), parse_source(str(location)), cache, log, between_pieces)


class NotWanted(Exception):
    """The work is not wanted any more."""


def run(package: Package, directory: Path) -> str:
    """What the package's run_command says, run as a worker does."""
    text = shell_prefix([package]) + find_command("run_command", None, [package])
    return subprocess.run(["/bin/sh", "-c", text], cwd=directory, capture_output=True, text=True, check=True).stdout


def names(place: Path) -> list[str]:
    """What is in software/, but for the file that the disk's clock is read by."""
    return sorted(path.name for path in place.iterdir() if not path.name.startswith(".clock."))


def assert_nothing_left(place: Path) -> None:
    assert names(place) == []


def test_a_directory_on_disk_is_used_in_place_and_not_installed(tmp_path: Path, place: Path) -> None:
    directory = write_package(tmp_path / "here", install="touch $1/installed")
    package = get(place, f"{directory}/")
    assert package.location == str(directory)
    assert package.setup == f"{directory}/package/setup.sh"
    assert not (directory / "installed").exists() and not place.exists()


def test_an_archive_is_unpacked_and_installed_at_its_final_place(tmp_path: Path, place: Path, cache: Cache) -> None:
    archive = pack(write_package(tmp_path / "made", INSTALL + '; pwd; echo "$#"'), tmp_path / "p.tgz")
    package = get(place, archive, cache)
    assert package.location == f"{place}/{sha256_of(archive)}"
    assert run(package, tmp_path) == f"at {package.location}\n"
    ready = json.loads(Path(f"{package.location}.ready").read_text())
    assert ready["output"] == f"{package.location}\n1" and ready["source"] == str(archive)
    assert names(place) == [sha256_of(archive), f"{sha256_of(archive)}.ready"]


def test_an_archive_is_installed_once_and_read_once(
    tmp_path: Path, place: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(write_package(tmp_path / "made", f'echo ran >> "{tmp_path}/runs"'), tmp_path / "p.tgz")
    os.utime(archive, (1e9, 1e9))
    first = get(place, archive, cache)
    other = tmp_path / "same.tgz"
    other.write_bytes(archive.read_bytes())
    assert get(place, other, cache) == first
    assert get(place, archive, Cache(cache.path, 1 << 30)) == first
    assert (tmp_path / "runs").read_text() == "ran\n"


def test_the_sum_of_an_archive_is_remembered_until_the_archive_changes(
    tmp_path: Path, place: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(write_package(tmp_path / "made"), tmp_path / "p.tgz")
    read: list[int] = []
    whole = LocalFile.read_all

    def read_all(file: LocalFile, take: Callable[[bytes], object]) -> None:
        read.append(1)
        whole(file, take)

    monkeypatch.setattr(LocalFile, "read_all", read_all)
    monkeypatch.setattr(LocalFile, "is_settled", lambda self, made: True)  # as if two seconds had gone by
    first = get(place, archive, cache)
    done = len(read)
    for _ in range(3):
        assert get(place, archive, cache) == first
    assert len(read) == done
    (tmp_path / "made/bin/more").touch()
    pack(tmp_path / "made", archive)
    assert get(place, archive, cache).location == f"{place}/{sha256_of(archive)}" != first.location


def test_an_archive_that_changed_just_now_is_read_again(tmp_path: Path, cache: Cache) -> None:
    """Its times may not show the next change: they tick slowly on some disks."""
    archive = tmp_path / "p.tgz"
    archive.write_bytes(b"one")
    assert sum_of_source(parse_source(str(archive)), cache) is not None
    assert cache.why_not() is None and not list(Path(cache.path).glob("sums/*[!n]"))


def test_an_archive_of_one_directory_with_the_package_in_it_is_that_package(tmp_path: Path, place: Path) -> None:
    write_package(tmp_path / "made/wc-1.2", INSTALL)
    archive = pack(tmp_path / "made", tmp_path / "p.tgz", "wc-1.2")
    package = get(place, archive)
    assert package.location == f"{place}/{sha256_of(archive)}/wc-1.2"
    assert run(package, tmp_path) == f"at {package.location}\n"


def test_a_package_without_a_package_directory_is_only_unpacked(tmp_path: Path, place: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/data").write_text("x")
    package = get(place, pack(tmp_path / "made", tmp_path / "p.tgz"))
    assert package.setup is None and package.commands == {}
    assert Path(package.location, "data").read_text() == "x"


def test_a_failed_install_is_not_left_half_there_and_its_output_is_in_the_error(tmp_path: Path, place: Path) -> None:
    archive = pack(
        write_package(tmp_path / "made", "touch $1/half; echo out; echo 'cc: not found' >&2; exit 3"),
        tmp_path / "p.tgz",
    )
    for _ in range(2):
        with pytest.raises(CannotInstall) as caught:
            get(place, archive)
        assert "failed with status 3" in str(caught.value) and "out\ncc: not found" in str(caught.value)
        assert_nothing_left(place)


def test_only_the_end_of_a_long_output_is_told(tmp_path: Path, place: Path) -> None:
    archive = pack(write_package(tmp_path / "made", "seq 1 100000; exit 1"), tmp_path / "p.tgz")
    with pytest.raises(CannotInstall) as caught:
        get(place, archive)
    assert str(caught.value).endswith("99999\n100000") and len(str(caught.value)) < 5000


def test_an_install_without_a_run_bit_or_that_is_killed_is_said(tmp_path: Path, place: Path) -> None:
    made = write_package(tmp_path / "made", "kill -TERM $$")
    with pytest.raises(CannotInstall, match="ended by signal 15, and said nothing"):
        get(place, pack(made, tmp_path / "p.tgz"))
    (made / "package/install").chmod(0o644)
    with pytest.raises(CannotInstall, match="no run bit"):
        get(place, pack(made, tmp_path / "p.tgz"))
    assert_nothing_left(place)


def test_an_install_has_no_input_and_what_it_leaves_behind_is_ended(tmp_path: Path, place: Path) -> None:
    made = write_package(tmp_path / "made", f'cat; sleep 1000 & echo $! > "{tmp_path}/pid"')
    get(place, pack(made, tmp_path / "p.tgz"))
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "its end")


def test_a_refused_or_damaged_archive_leaves_nothing(tmp_path: Path, place: Path) -> None:
    (tmp_path / "p.tgz").write_bytes(b"no archive")
    with pytest.raises(BadArchive):
        get(place, tmp_path / "p.tgz")
    (tmp_path / "made").mkdir()
    (tmp_path / "made/out").symlink_to("/etc")
    with pytest.raises(BadArchive, match="leads outside"):
        get(place, pack(tmp_path / "made", tmp_path / "p.tgz"))
    assert_nothing_left(place)


def test_sums_are_verified_before_anything_is_unpacked(tmp_path: Path, place: Path, cache: Cache) -> None:
    archive = pack(write_package(tmp_path / "made"), tmp_path / "p.tgz")
    for said in (f"sha256={'0' * 64}", f"md5={'0' * 32}"):
        with pytest.raises(CannotFetch, match="not 0000"):
            get(place, f"{archive}#{said}", cache)
        assert_nothing_left(place)
    assert get(place, f"{archive}#sha256={sha256_of(archive)}", cache).location.endswith(sha256_of(archive))
    with pytest.raises(CannotFetch, match="not 0000"):
        get(place, f"{archive}#md5={'0' * 32}", cache)  # installed from elsewhere: still not what was described
    with pytest.raises(CannotInstall, match="it is a directory"):
        get(place, f"{tmp_path}/made#md5={'0' * 32}", cache)


def test_a_package_whose_directory_was_removed_by_hand_is_installed_anew(tmp_path: Path, place: Path) -> None:
    archive = pack(write_package(tmp_path / "made", INSTALL), tmp_path / "p.tgz")
    package = get(place, archive)
    subprocess.run(["rm", "-r", package.location], check=True)
    assert run(get(place, archive), tmp_path) == f"at {package.location}\n"
    os.unlink(f"{package.location}.ready")
    Path(package.location, "bin/tell").write_text("half")
    assert run(get(place, archive), tmp_path) == f"at {package.location}\n"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    pack(write_package(tmp_path / "made", INSTALL), tmp_path / "p.tgz")
    (tmp_path / "served").mkdir()
    (tmp_path / "p.tgz").rename(tmp_path / "served/p.tgz")
    os.utime(tmp_path / "served/p.tgz", (1e9, 1e9))
    with http_server(tmp_path / "served") as server:
        yield server


def test_a_remote_archive_is_fetched_and_installed_once(
    served: Server, tmp_path: Path, place: Path, cache: Cache
) -> None:
    package = get(place, f"{served.address}/p.tgz", cache)
    assert run(package, tmp_path) == f"at {package.location}\n"
    assert get(place, f"{served.address}/p.tgz", Cache(cache.path, 1 << 30)) == package
    assert served.gets("/p.tgz") == 1
    sha256 = sha256_of(tmp_path / "served/p.tgz")
    served.asked.clear()
    assert get(place, f"{served.address}/p.tgz#sha256={sha256}", None) == package
    assert served.asked == []
    assert names(place) == [sha256, f"{sha256}.ready"]
    write_package(tmp_path / "made", INSTALL, **{"bin/new": "new"})
    pack(tmp_path / "made", tmp_path / "served/p.tgz")
    newer = get(place, f"{served.address}/p.tgz", cache)
    assert Path(newer.location, "bin/new").exists()


INSTALLER = (
    "import sys\nfrom jobjar.packages.install import install\nfrom jobjar.job_file.description import parse_source\n"
    "print(install(sys.argv[1], parse_source(sys.argv[2]), None, lambda line: None).location)\n"
)


def start_installer(place: Path, archive: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", INSTALLER, str(place), str(archive)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_a_killed_installer_s_half_package_is_discarded_and_done_anew(tmp_path: Path, place: Path) -> None:
    """Killed with its install running, whose processes end with it; the next does not wait for anything but that."""
    made = write_package(
        tmp_path / "made",
        f'mkdir "$1/half"; test -e "{tmp_path}/second" || {{ echo $$ > "{tmp_path}/pid"; sleep 1000; }}; {INSTALL}',
    )
    archive = pack(made, tmp_path / "p.tgz")
    first = start_installer(place, archive)
    pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "its install"))
    assert Path(f"{place}/{sha256_of(archive)}.building").is_dir()
    (tmp_path / "second").touch()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the end of its install")
    package = get(place, archive)
    assert run(package, tmp_path) == f"at {package.location}\n"
    assert names(place) == [sha256_of(archive), f"{sha256_of(archive)}.ready"]


POINTS = ["mkdir", "rename", "symlink", "utime", "write", "fsync", "unlink", "rmdir"]


@pytest.mark.slow
@pytest.mark.parametrize("call", POINTS)
def test_an_installer_killed_at_any_change_of_the_disk_costs_nothing(tmp_path: Path, place: Path, call: str) -> None:
    """Killed before its first, second, third … call of a kind, until one gets through; each time the next one goes on."""
    made = write_package(tmp_path / "made", INSTALL)
    (made / "bin/link").symlink_to("tell")
    archive = pack(made, tmp_path / "p.tgz")
    killer = (
        "import os, signal, sys\ncall, number = sys.argv[3], int(sys.argv[4])\nreal = getattr(os, call)\n"
        "def counting(*arguments, **options):\n    global number\n    number -= 1\n"
        "    if number == 0:\n        os.kill(os.getpid(), signal.SIGKILL)\n    return real(*arguments, **options)\n"
        "setattr(os, call, counting)\n"
    )
    number = 0
    while True:
        number += 1
        words = [sys.executable, "-c", killer + INSTALLER, str(place), str(archive), call, str(number)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        package = get(place, archive)
        assert run(package, tmp_path) == f"at {package.location}\n"
        # A claim that outlived its work is in nobody's way; the next one that installs anything removes it.
        left = [name for name in names(place) if not name.endswith(".building")]
        assert left == [sha256_of(archive), f"{sha256_of(archive)}.ready"]
        if done.returncode == 0:
            break
        os.unlink(f"{package.location}.ready")
    assert number > 1
    (made / "other").touch()
    get(place, pack(made, tmp_path / "other.tgz"))
    assert not [name for name in names(place) if name.endswith(".building")]


def test_what_killed_fetches_left_beside_packages_goes_with_the_next_build(tmp_path: Path, place: Path) -> None:
    """Whatever version of this node left it. Those of living processes, and of other nodes, stay."""
    with subprocess.Popen(["true"]) as ended:
        pass
    place.mkdir(exist_ok=True)
    left = [f".jobjar.{node_name()}.{ended.pid}.{end}" for end in ("1.new", "0123456789abcdef.new")]
    left += [f".archive.{node_name()}.{ended.pid}.0123abcd.fetched"]
    kept = [f".jobjar.{node_name()}.{os.getpid()}.0123456789abcdef.new", f".jobjar.elsewhere.{ended.pid}.1.new"]
    for name in (*left, *kept):
        (place / name).touch()
    get(place, pack(write_package(tmp_path / "made"), tmp_path / "p.tgz"))
    assert [name for name in names(place) if name.startswith(".")] == sorted(kept)


def test_a_half_package_that_is_deeper_than_python_calls_itself_is_removed(tmp_path: Path, place: Path) -> None:
    """What an installer made before it failed, and what one that was killed left."""
    deep = "for number in $(seq 1500); do mkdir d; cd d; done"
    bad = pack(write_package(tmp_path / "made", f'cd "$1"; {deep}; exit 1'), tmp_path / "p.tgz")
    with pytest.raises(CannotInstall):
        get(place, bad)
    assert names(place) == []
    make_deep(place / f".{sha256_of(bad)}.elsewhere.7.0123abcd.half", 1_500, "d")
    with pytest.raises(CannotInstall):
        get(place, bad)
    assert names(place) == []


def test_workware_that_is_deeper_than_python_calls_itself_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write_package(tmp_path / "made")
    make_deep(tmp_path / "made/deep", 1_500, "d")
    (tmp_path / "work").mkdir()
    with pytest.raises(CannotInstall, match="too many directories"):
        place_workware(parse_source(f"{tmp_path}/made"), f"{tmp_path}/work", None)
    assert os.listdir(tmp_path / "work") == []
    remove_tree(f"{tmp_path}/made")


def test_an_archive_that_is_deeper_than_python_calls_itself_is_refused_and_leaves_nothing(
    tmp_path: Path, place: Path
) -> None:
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as made:
        made.addfile(tarfile.TarInfo("/".join(["d"] * 1_500)))
    with pytest.raises(BadArchive):
        get(place, tmp_path / "p.tgz")
    assert names(place) == []


def forge_claim(place: Path, archive: Path, touched_ago_s: float, **changes: object) -> Path:
    """The claim of a process of another node."""
    directory = place / f"{sha256_of(archive)}.building"
    directory.mkdir(parents=True)
    claimer = directory / "claimer.0123456789abcdef"
    claimer.write_text(json.dumps({**this_process()._asdict(), "node": "elsewhere", "boot_id": "its own", **changes}))
    os.utime(claimer, (time.time() - touched_ago_s,) * 2)
    return claimer


def test_a_claim_of_another_host_that_is_not_touched_any_more_is_taken_over(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_claim, "WATCHED_S", 0.1)
    archive = pack(write_package(tmp_path / "made", INSTALL), tmp_path / "p.tgz")
    claimer = forge_claim(place, archive, touched_ago_s=build_claim.ABANDONED_S + 60)
    half = place / sha256_of(archive)
    half.mkdir()
    (half / "half").touch()
    package = get(place, archive)
    assert run(package, tmp_path) == f"at {package.location}\n"
    assert not (half / "half").exists() and not claimer.exists()


def test_a_claim_of_another_host_that_lives_is_waited_for_and_said(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_claim, "WATCHED_S", 0.0)
    archive = pack(write_package(tmp_path / "made", INSTALL), tmp_path / "p.tgz")
    claimer = forge_claim(place, archive, touched_ago_s=0)
    said: list[str] = []
    looks: list[None] = []

    def look() -> None:
        if said:
            looks.append(None)
        if len(looks) == 5:
            raise NotWanted

    with pytest.raises(NotWanted):
        get(place, archive, None, said, look)
    assert len(said) == 1 and "waiting" in said[0]
    assert claimer.exists() and names(place) == [claimer.parent.name]


def test_a_claim_that_is_silent_but_was_not_watched_for_long_is_not_taken_over(tmp_path: Path, place: Path) -> None:
    """After an outage all claims look old for a moment."""
    archive = pack(write_package(tmp_path / "made"), tmp_path / "p.tgz")
    claimer = forge_claim(place, archive, touched_ago_s=build_claim.ABANDONED_S + 60)
    looks = iter(range(5))

    def look() -> None:
        if next(looks, None) is None:
            raise NotWanted

    with pytest.raises(NotWanted):
        get(place, archive, between_pieces=look)
    assert claimer.exists()


def test_an_installer_whose_claim_was_taken_over_publishes_nothing(tmp_path: Path, place: Path) -> None:
    """Its install takes the claim away, as somebody would who took it for dead; then it is done anew, and once right."""
    made = write_package(
        tmp_path / "made",
        f'cd "{tmp_path}"; echo run >> runs; test -e lost || {{ touch lost; rm "$1.building/"*; }}; {INSTALL}',
    )
    archive = pack(made, tmp_path / "p.tgz")
    package = get(place, archive)
    assert (tmp_path / "runs").read_text() == "run\nrun\n"
    assert run(package, tmp_path) == f"at {package.location}\n"
    assert names(place) == [sha256_of(archive), f"{sha256_of(archive)}.ready"]


def test_an_install_that_is_not_wanted_any_more_is_ended_with_all_that_it_started(tmp_path: Path, place: Path) -> None:
    text = f'trap "" TERM; sleep 1000 & echo $! > "{tmp_path}/pid"; sleep 1000'
    archive = pack(write_package(tmp_path / "made", text), tmp_path / "p.tgz")

    def look() -> None:
        with contextlib.suppress(FileNotFoundError):
            if (tmp_path / "pid").read_text().endswith("\n"):
                raise NotWanted

    with pytest.raises(NotWanted):
        get(place, archive, between_pieces=look)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert_nothing_left(place)


def test_two_threads_of_one_process_install_once(tmp_path: Path, place: Path) -> None:
    archive = pack(write_package(tmp_path / "made", f'echo run >> "{tmp_path}/runs"'), tmp_path / "p.tgz")
    found: list[Package] = []
    threads = [threading.Thread(target=lambda: found.append(get(place, archive))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({package.location for package in found}) == 1 and len(found) == 4
    assert (tmp_path / "runs").read_text() == "run\n"


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_workware_is_put_into_the_working_directory_as_the_job_s_own(tmp_path: Path, kind: str) -> None:
    made = write_package(tmp_path / "made", INSTALL)
    (made / "bin/link").symlink_to("tell")
    location = made if kind == "directory" else pack(made, tmp_path / "p.tgz")
    working = tmp_path / "work"
    (working / "bin").mkdir(parents=True)
    (working / "bin/mine").write_text("mine")
    package = place_workware(parse_source(str(location)), str(working), None)
    assert run(package, working) == f"at {working}\n"
    assert sorted(os.listdir(working)) == ["bin", "package"]
    assert (working / "bin/mine").read_text() == "mine" and (working / "bin/link").is_symlink()
    (working / "bin/tell.in").write_text("changed")
    assert "@HERE@" in (made / "bin/tell.in").read_text()


def test_workware_never_overwrites_what_is_in_the_working_directory(tmp_path: Path) -> None:
    working = tmp_path / "work"
    (working / "package").mkdir(parents=True)
    (working / "package/setup.sh").write_text("mine")
    with pytest.raises(CannotInstall, match=r"setup.sh is in the working directory already"):
        place_workware(parse_source(str(write_package(tmp_path / "made"))), str(working), None)
    assert (working / "package/setup.sh").read_text() == "mine"
    assert not [name for name in os.listdir(working) if name.startswith(".")]


def test_workware_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(CannotFetch):
        place_workware(Source("/missing.tgz", "x"), str(tmp_path / "work"), None)
    with socket.socket(socket.AF_UNIX) as odd:
        (tmp_path / "made").mkdir()
        odd.bind(str(tmp_path / "made/odd"))
        with pytest.raises(CannotInstall, match="odd"):
            place_workware(Source(str(tmp_path / "made"), "made"), str(tmp_path / "work"), None)
    assert os.listdir(tmp_path / "work") == []
