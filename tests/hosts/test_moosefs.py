"""Two hosts on MooseFS, which each of them mounts for itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.rigs.moosefs import MooseFS, why_no_moosefs
from tests.hosts.storm_of_two import Host, Machine, Storm
from tests.rig import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.moosefs]


@pytest.fixture(scope="module")
def moosefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MooseFS]:
    """A file system that two hosts have mounted; each test makes a jar of its own on it."""
    reason = why_no_moosefs()
    if reason is not None:
        pytest.skip(f"MooseFS: {reason}")
    rig = MooseFS(tmp_path_factory.mktemp("moosefs"))
    try:
        rig.start_host("rain")
        rig.start_host("snow")
        yield rig
    finally:
        rig.close()


def as_host(machine: Machine, rig: MooseFS, tmp_path: Path) -> Host:
    """A host; its ledger home is what it was before, as on the disk of a host that was started again."""
    return Host(machine, rig.mount_point / tmp_path.name / "jar", str(tmp_path / f"home-{machine.name}"))


@pytest.fixture
def storm(moosefs: MooseFS, tmp_path: Path) -> Iterator[Storm]:
    rain, snow = (as_host(moosefs.hosts[name], moosefs, tmp_path) for name in ("rain", "snow"))
    made = Storm(rain, snow, moosefs.mount_point / tmp_path.name / "log")
    yield made
    made.end_workers()


def run_storm(storm: Storm, rig: MooseFS, tmp_path: Path, jobs: int, stops: int) -> None:
    for host in (storm.first, storm.second):
        host.start_workers(4)
        storm.submit(host, jobs // 4)
    storm.wait_for(jobs // 10)
    storm.server_goes_away(rig.stop_server, rig.start_server)
    storm.wait_for(jobs // 5)
    storm.first.kill()
    storm.submit(storm.second, jobs // 4)
    storm.first = as_host(rig.start_host("rain"), rig, tmp_path)
    storm.first.run("recover_jobs")
    storm.first.start_workers(4)
    storm.submit(storm.first, jobs // 4)
    for number in range(1, stops):
        storm.wait_for(jobs // 2 + jobs // 4 * number // stops)
        storm.server_goes_away(rig.stop_server, rig.start_server)
    storm.wait_for(len(storm.names))
    storm.assert_nothing_lost()


def test_nothing_is_lost_when_the_server_goes_away_and_a_host_dies(
    storm: Storm, moosefs: MooseFS, tmp_path: Path
) -> None:
    run_storm(storm, moosefs, tmp_path, jobs=120, stops=1)


@pytest.mark.faults
def test_nothing_is_lost_of_a_thousand_jobs(storm: Storm, moosefs: MooseFS, tmp_path: Path) -> None:
    # Both hosts have one kernel and so one clock; clocks that differ are for test_nfs.py.
    run_storm(storm, moosefs, tmp_path, jobs=1000, stops=2)


LOCKS = re.compile(r"\b(flock|lockf)\(|F_(OFD_)?SETLKW?\b")


def test_no_lock_is_taken_on_the_network_disk(storm: Storm, moosefs: MooseFS, tmp_path: Path) -> None:
    rain = storm.first
    traces = tmp_path / "traces"
    traces.mkdir()
    count = 0

    def trace(*words: str) -> list[str]:
        nonlocal count
        count += 1
        options = ["-f", "--seccomp-bpf", "-y", "-e", "trace=flock,fcntl", "-o", str(traces / str(count))]
        return ["strace", *options, *words]

    storm.submit(storm.second, 12)
    rain.run(*trace("submit_job", "true"))
    worker = rain.start(*trace("start_worker", "--foreground"))
    storm.wait_for(13)
    # Published by a worker without being asked.
    wait_until(lambda: "snapshot.db" in rain.run("ls", f"{storm.jar}/ledger"), "the snapshot")
    rain.run("stop_worker", "all")
    worker.communicate(timeout=60)
    for words in (["system_status"], ["recover_jobs"], ["jobjar", "check"], ["jobjar", "rebuild"]):
        rain.run(*trace(*words))
    lines = [line for path in traces.iterdir() for line in path.read_text().splitlines() if LOCKS.search(line)]
    assert any(f"{rain.environment['JJ_LEDGER_HOME']}/lock" in line for line in lines)
    assert [line for line in lines if str(moosefs.mount_point) in line] == []


def test_a_stop_file_made_by_another_host_is_seen(storm: Storm) -> None:
    storm.first.start_workers(1)
    storm.submit(storm.second, 1)
    storm.wait_for(1)
    [worker] = [name for name in storm.second.run("ls", f"{storm.jar}/workers").split() if name.startswith("rain.")]
    storm.second.run("touch", f"{storm.jar}/workers/{worker}/STOP")
    wait_until(lambda: "ended_at" in storm.second.run("cat", f"{storm.jar}/workers/{worker}/worker.json"), "its end")


def test_submissions_within_one_second_of_the_disk_s_clock_wake_a_worker_of_another_host(storm: Storm) -> None:
    storm.first.environment["JJ_PAUSE_TIME"] = "3600"
    storm.first.start_workers(1)
    for number in range(1, 13):
        storm.submit(storm.second, 1)
        if number % 4 == 0:
            # Each comes while the worker looks, or just after it looked: the directory's time may be the same.
            storm.wait_for(number)
