"""Many processes that want one package, or one file, at the same time; some of them killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobjar.fetching.sources import Cache, fetch
from jobjar.job_file.description import parse_source
from tests.packing import INSTALL, pack, sha256_of, write_package
from tests.rig import wait_until
from tests.serving import Server, http_server

PROCESSES = 12
# Waits at the gate, so that all begin at once.
_BEGIN = (
    "import os, sys\nfrom jobjar.job_file.description import parse_source\nfrom jobjar.fetching.sources import Cache, fetch\n"
    "from jobjar.packages.install import install\ncache = Cache(sys.argv[1], int(sys.argv[2]))\n"
    "print('ready', flush=True)\nsys.stdin.readline()\n"
)
INSTALLER = _BEGIN + "print(install(sys.argv[3], parse_source(sys.argv[4]), cache, lambda line: None).location)\n"
FETCHER = _BEGIN + "for location in sys.argv[4:]:\n    fetch(parse_source(location), sys.argv[3], cache)\n"


def start_all(script: str, words: list[list[str]]) -> list[subprocess.Popen[str]]:
    """Processes that have all come to their gate, and are let through."""
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, "-c", script, *own], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for own in words
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return started


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    with http_server(tmp_path / "served") as server:
        yield server


@pytest.mark.slow
def test_many_processes_that_want_one_package_install_it_once(tmp_path: Path) -> None:
    """Each with a cache of its own, as on as many nodes."""
    archive = pack(write_package(tmp_path / "made", f'echo run >> "{tmp_path}/runs"; {INSTALL}'), tmp_path / "p.tgz")
    place = tmp_path / "software"
    place.mkdir()
    started = start_all(
        INSTALLER, [[f"{tmp_path}/cache-{number}", "1000000", str(place), str(archive)] for number in range(PROCESSES)]
    )
    results = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES, results
    assert {out.strip() for out, _ in results} == {f"{place}/{sha256_of(archive)}"}
    assert (tmp_path / "runs").read_text() == "run\n"
    assert sorted(os.listdir(place)) == [sha256_of(archive), f"{sha256_of(archive)}.ready"]


def read_claimer(place: Path) -> str:
    for path in place.glob("*.building/claimer.*"):
        with contextlib.suppress(FileNotFoundError):  # it is done
            return path.read_text()
    return ""


@pytest.mark.slow
def test_installers_killed_at_random_leave_the_package_to_the_others(tmp_path: Path) -> None:
    """However many are killed, at whatever instant: the rest come to one whole package."""
    chance = random.Random(8)
    for turn in range(4):
        made = write_package(tmp_path / "made", f"sleep 0.05; {INSTALL}", **{"bin/turn": str(turn)})
        archive = pack(made, tmp_path / f"p{turn}.tgz")
        place = tmp_path / f"software-{turn}"
        place.mkdir()
        started = start_all(
            INSTALLER, [[f"{tmp_path}/cache", "1000000", str(place), str(archive)] for number in range(PROCESSES)]
        )
        victims, living = started[: PROCESSES // 2], started[PROCESSES // 2 :]
        for victim in victims:
            # Whoever has the claim now is the one to kill, mostly; where it is none of these, the next in line.
            claimer = read_claimer(place) if chance.random() < 0.8 else ""
            chosen = [process for process in victims if f'"pid": {process.pid},' in claimer]
            os.kill((chosen or [victim])[0].pid, signal.SIGKILL)
        for victim in victims:
            victim.kill()
            victim.communicate()
        results = [process.communicate(timeout=60) for process in living]
        assert [process.returncode for process in living] == [0] * len(living), results
        location = f"{place}/{sha256_of(archive)}"
        assert {out.strip() for out, _ in results} == {location}
        assert subprocess.run([f"{location}/bin/tell"], capture_output=True, text=True).stdout == f"at {location}\n"


@pytest.mark.slow
def test_the_processes_of_a_node_fetch_a_file_once(tmp_path: Path, served: Server) -> None:
    (tmp_path / "served/big").write_bytes(os.urandom(1 << 20) * 8)
    os.utime(tmp_path / "served/big", (1e9, 1e9))
    started = start_all(
        FETCHER,
        [
            [f"{tmp_path}/cache", str(1 << 30), f"{tmp_path}/taken-{number}", f"{served.address}/big"]
            for number in range(PROCESSES)
        ],
    )
    results = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES, results
    assert served.gets("/big") == 1
    wanted = (tmp_path / "served/big").read_bytes()
    assert all((tmp_path / f"taken-{number}").read_bytes() == wanted for number in range(PROCESSES))


@pytest.mark.slow
def test_a_small_cache_that_many_use_and_some_are_killed_in_gives_no_wrong_file(tmp_path: Path, served: Server) -> None:
    """Files come and go all the time: room for four of ten. Each fetch verifies its sum, and fails where it is wrong."""
    locations = []
    for number in range(10):
        path = tmp_path / f"served/{number}"
        path.write_bytes(os.urandom(50_000 + number))
        locations.append(f"{served.address}/{number}#sha256={sha256_of(path)}")
    chance = random.Random(3)
    words = [
        [f"{tmp_path}/cache", "220000", f"{tmp_path}/taken-{number}", *chance.choices(locations, k=40)]
        for number in range(PROCESSES)
    ]
    started = start_all(FETCHER, words)
    for number, victim in enumerate(started[: PROCESSES // 3]):
        wait_until((tmp_path / f"taken-{number}").exists, "its first file")
        victim.kill()
    results = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started[PROCESSES // 3 :]] == [0] * (PROCESSES - PROCESSES // 3), results
    cache = Cache(f"{tmp_path}/cache", 220_000)
    for location in locations:
        fetch(parse_source(location), f"{tmp_path}/taken", cache)
    kept = list(os.scandir(f"{cache.path}/files"))
    assert all(entry.name.startswith("sha256-") for entry in kept)
    assert sum(entry.stat().st_size for entry in kept) <= 220_000
