"""Two hosts on NFS 4.2: guests with kernels, caches and clocks of their own, ten minutes apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.rigs.nfs import NFS, why_no_nfs
from tests.hosts.storm_of_two import Host, Storm
from tests.rig import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.nfs, pytest.mark.faults]
APART_S = 600
# Guests are slow, and their clients look at other hosts' files every three seconds at best.
LONG_S = 1800.0


@pytest.fixture
def nfs(tmp_path: Path) -> Iterator[NFS]:
    reason = why_no_nfs()
    if reason is not None:
        pytest.skip(f"NFS: {reason}")
    rig = NFS(tmp_path / "nfs")
    yield rig
    rig.close()


def boot_host(rig: NFS, name: str) -> Host:
    """A host; its ledger home is gone when it is."""
    guest = rig.boot_host(name)
    guest.wait_until_up()
    if name == "rain":
        guest.run("date", "-s", f"+{APART_S} seconds")
    return Host(guest, rig.mount_point / "jar", "/run/home")


@pytest.fixture
def storm(nfs: NFS) -> Storm:
    nfs.server.wait_until_up()
    rain, snow = boot_host(nfs, "rain"), boot_host(nfs, "snow")
    apart_s = int(rain.run("date", "+%s")) - int(snow.run("date", "+%s"))
    assert abs(apart_s - APART_S) < 60
    return Storm(rain, snow, nfs.mount_point / "log")


def test_nothing_is_lost_of_a_thousand_jobs(storm: Storm, nfs: NFS) -> None:
    jobs = 1000
    for host in (storm.first, storm.second):
        host.start_workers(4)
        storm.submit(host, jobs // 4)
    storm.wait_for(jobs // 10, LONG_S)
    storm.server_goes_away(nfs.stop_server, nfs.start_server)
    storm.wait_for(jobs // 5, LONG_S)
    storm.first.kill()
    storm.submit(storm.second, jobs // 4)
    storm.first = boot_host(nfs, "rain")
    storm.first.run("recover_jobs")
    storm.first.start_workers(4)
    storm.submit(storm.first, jobs // 4)
    storm.wait_for(jobs // 2, LONG_S)
    storm.server_goes_away(nfs.stop_server, nfs.start_server)
    storm.wait_for(len(storm.names), LONG_S)
    storm.assert_nothing_lost()


def test_what_another_host_does_is_seen_without_waiting_for_a_cache(storm: Storm) -> None:
    """An NFS client believes for half a minute that a name is missing, and for longer what a directory's time is."""
    rain, snow = storm.first, storm.second
    rain.environment["JJ_PAUSE_TIME"] = "3600"
    rain.start_workers(2)
    storm.submit(snow, 1)
    storm.wait_for(1)
    workers = [name for name in snow.run("ls", f"{storm.jar}/workers").split() if name.startswith("rain.")]
    before = float(snow.run("cut", "-d ", "-f1", "/proc/uptime"))
    snow.run("touch", f"{storm.jar}/workers/{workers[0]}/STOP")
    wait_until(lambda: "ended_at" in snow.run("cat", f"{storm.jar}/workers/{workers[0]}/worker.json"), "its end", 120)
    snow.run(
        "sh",
        "-c",
        f"cd {storm.jar}; printf '#!/bin/sh\\n' > limbo/by-hand; chmod +x limbo/by-hand; mv limbo/by-hand unclaimed/",
    )
    storm.names.append("by-hand")
    wait_until(lambda: "by-hand" in storm.completed(), "the job moved by hand", 120)
    # With nothing but the caches' own times it would be more than twice as long on an idle machine.
    print(f"both seen {float(snow.run('cut', '-d ', '-f1', '/proc/uptime')) - before:.1f} s after the first")
    snow.run("touch", f"{storm.jar}/workers/STOP_ALL")
