"""Two hosts on MooseFS, which each of them mounts for itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.rigs.moosefs import MooseFS, why_no_moosefs
from tests.hosts.storm_of_two import PATIENCE_S, Host, Machine, Storm
from tests.others import NOBODY, by_user
from tests.packing import INSTALL, pack, write_package
from tests.rig import BIN, wait_until

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
    home = str(tmp_path / f"home-{machine.name}")
    return Host(machine, rig.mount_point / tmp_path.name / "jar", home, TMPDIR=str(tmp_path))


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


@pytest.mark.faults
def test_each_index_of_twenty_thousand_ends_once(storm: Storm, moosefs: MooseFS, tmp_path: Path) -> None:
    run_array(storm, moosefs, tmp_path, tasks=20_000)


def run_array(storm: Storm, rig: MooseFS, tmp_path: Path, tasks: int) -> None:
    """An array, and one that follows its first tenth, on three hosts: the server goes away, and two hosts die, one after the
    other."""
    hosts = [storm.first, storm.second, as_host(rig.start_host("hail"), rig, tmp_path)]
    log = storm.log
    words = f"1-{tasks}", f"echo $JJ_ARRAY_INDEX >> {log}/$JJ_WORKER; test $(($JJ_ARRAY_INDEX % 100)) -ne 7"
    array = storm.first.run("jobjar", "submit", "--array", *words).strip()
    after = ("--after-each", array, "--array", f"1-{tasks // 10}", f"echo after $JJ_ARRAY_INDEX >> {log}/$JJ_WORKER")
    follower = storm.second.run("jobjar", "submit", *after).strip()

    def show(uid: str) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(storm.second.run("jobjar", "show", "--format", "json", uid))
        return shown

    def ended(uid: str) -> int:
        return sum(int(show(uid)[word]) for word in ("succeeded", "failed", "cancelled"))

    try:
        for host in hosts:
            host.start_workers(3)
        wait_until(lambda: ended(array) >= tasks // 10, "the first tenth", PATIENCE_S)
        storm.server_goes_away(rig.stop_server, rig.start_server)
        wait_until(lambda: ended(array) >= tasks // 4, "a quarter", PATIENCE_S)
        for number, name in ((0, "rain"), (2, "hail")):
            hosts[number].kill()
            hosts[number] = as_host(rig.start_host(name), rig, tmp_path)
            hosts[number].run("recover_jobs")
            hosts[number].start_workers(3)
        storm.first = hosts[0]
        wait_until(lambda: ended(array) == tasks, "all ends", PATIENCE_S)
        wait_until(lambda: ended(follower) == tasks // 10, "all ends of the tasks that follow", PATIENCE_S)
        failed = tasks // 100
        assert (show(array)["succeeded"], show(array)["failed"]) == (tasks - failed, failed)
        assert (show(follower)["succeeded"], show(follower)["cancelled"]) == (tasks // 10 - failed // 10, failed // 10)
    finally:
        for host in hosts:
            host.stop_workers()
    ran = Counter(storm.second.run("sh", "-c", f"cat {log}/*").splitlines())
    followed = [index for index in range(1, tasks // 10 + 1) if index % 100 != 7]
    assert set(ran) == {*map(str, range(1, tasks + 1)), *(f"after {index}" for index in followed)}
    # A host that dies costs the ends of its workers' last second.
    print(f"{sum(count > 1 for count in ran.values())} tasks ran more than once")
    shown = []
    for host in hosts:
        host.run("recover_jobs")
        host.run("jobjar", "check")
        shown.append([host.run("jobjar", "show", "--format", "json", uid) for uid in (array, follower)])
    assert shown[0] == shown[1] == shown[2]


LOCKS = re.compile(r"\b(flock|lockf)\(|F_(OFD_)?SETLKW?\b")


class Traces:
    """What programs lock, as the kernel is asked for it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()

    def of(self, *words: str) -> list[str]:
        """The command line that runs `words` and notes each lock that they and their children ask for."""
        number = len(list(self._directory.iterdir()))
        (self._directory / str(number)).touch()
        options = ["-f", "--seccomp-bpf", "-y", "-e", "trace=flock,fcntl", "-o", str(self._directory / str(number))]
        return ["strace", *options, *words]

    def assert_none_below(self, directory: Path, but: str) -> None:
        """No lock was asked for on the disk at `directory`; some were on the file `but`."""
        texts = [path.read_text() for path in self._directory.iterdir()]
        lines = [line for text in texts for line in text.splitlines() if LOCKS.search(line)]
        assert any(but in line for line in lines)
        assert [line for line in lines if str(directory) in line] == []


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    return Traces(tmp_path / "traces")


def test_no_lock_is_taken_on_the_network_disk(storm: Storm, moosefs: MooseFS, traces: Traces) -> None:
    rain = storm.first
    storm.submit(storm.second, 12)
    rain.run(*traces.of("submit_job", "true"))
    worker = rain.start(*traces.of("start_worker", "--foreground"))
    storm.wait_for(13)
    # Published by a worker without being asked.
    wait_until(lambda: "snapshot.db" in rain.run("ls", f"{storm.jar}/ledger"), "the snapshot")
    rain.run("stop_worker", "all")
    worker.communicate(timeout=60)
    looking = (["system_status"], ["jobjar", "show", storm.names[0]], ["jobjar", "wait", storm.names[0]])
    keeping = (["recover_jobs"], ["recover_jobs", "--nightly"], ["jobjar", "check"], ["jobjar", "rebuild"])
    for words in (*looking, *keeping):
        rain.run(*traces.of(*words))
    traces.assert_none_below(moosefs.mount_point, but=f"{rain.environment['JJ_LEDGER_HOME']}/lock")


def test_workers_with_nothing_to_do_for_long_see_what_a_hand_does_on_the_other_host(storm: Storm) -> None:
    rain, snow = storm.first, storm.second
    rain.environment |= {"JJ_CATEGORIES": "LINUX", "JJ_POLL_TIME": "0.1", "JJ_PAUSE_TIME": "0.5"}
    looks = Path(rain.environment["JJ_LEDGER_HOME"]) / "looks"

    def looked_at() -> float:
        noted = json.loads(looks.read_text()) if looks.exists() else {}
        return float(noted.get(f"{storm.jar}/unclaimed", (0, 0.0))[1])

    def wait_for_looks() -> None:
        for _ in range(8):
            before = looked_at()
            wait_until(lambda before=before: looked_at() > before, "the next look of a worker")  # type: ignore[misc]

    rain.start_workers(2)
    write = "cd $JJ_HOME && umask 022 && printf '#!/bin/sh\\n' > limbo/$0 && chmod $1 limbo/$0 && mkdir -p unclaimed/$2"
    for name, mode, category in (("first", "755", "."), ("second", "755", "LINUX"), ("third", "644", "LINUX")):
        wait_for_looks()
        snow.run("sh", "-ec", f"{write} && mv limbo/$0 unclaimed/$2", name, mode, category)
        if mode == "644":
            wait_for_looks()
            snow.run("chmod", "755", f"{storm.jar}/unclaimed/{category}/{name}")
        wait_until(lambda name=name: name in storm.completed(), "the job's end")  # type: ignore[misc]
    wait_for_looks()
    snow.run("touch", f"{storm.jar}/workers/STOP_ALL")
    rain.stop_workers()


SUBMIT_FILE = """
batch
name = "night"
seeds = "1-3"
software = "{software}"
input_files = "{input}"
run_command = "tell; cat input > output/$JJ_SEED; echo n = 1 > jug_monitor.vars"
storage_class = "tape"
"""


def test_described_jobs_batches_limits_and_storing_take_no_lock_there_either(
    storm: Storm, moosefs: MooseFS, traces: Traces, tmp_path: Path
) -> None:
    rain = storm.first
    shared = Path(storm.jar).parent
    rain.environment |= {"JJ_INPUT_CACHE": str(tmp_path / "cache"), "JJ_STORAGE_PATH": f"{shared}/tape"}
    archive = pack(write_package(tmp_path / "package", INSTALL), tmp_path / "package.tar.gz")
    (tmp_path / "input").write_text("input\n")
    (tmp_path / "night").write_text(SUBMIT_FILE.format(software=f"{shared}/package.tar.gz", input=f"{shared}/input"))
    rain.run("mkdir", f"{shared}/tape")
    rain.run("cp", str(archive), str(tmp_path / "input"), str(shared))
    rain.run(*traces.of("submit_batch", str(tmp_path / "night")))
    rain.run(*traces.of("workload_limit", "--batch", "night", "2"))
    rain.run(*traces.of("batch_edit", "night", "notes=x"))
    rain.run(*traces.of("abort_batch", "--restart", "--kill", "night"))
    workers = [rain.start(*traces.of("start_worker", "--foreground", *words)) for words in ((), ("--storage", "tape"))]
    rain.run(*traces.of("batch_status", "night"))
    wait_until(lambda: rain.run("ls", f"{shared}/tape").split() == ["1", "2", "3"], "what is stored", 90)
    storm.wait_for(6)
    rain.run("stop_worker", "all")
    for worker in workers:
        worker.communicate(timeout=60)
    rain.run(*traces.of("list_outputs", "night"))
    rain.run("jobjar", "check")
    traces.assert_none_below(moosefs.mount_point, but=f"{rain.environment['JJ_LEDGER_HOME']}/lock")


def test_the_doctors_of_two_hosts_find_nothing_that_endangers_jobs(storm: Storm) -> None:
    storm.submit(storm.first, 2)
    started = [host.start("jobjar", "doctor", "--peer", "--format", "json") for host in (storm.first, storm.second)]
    for process in started:
        output, errors = process.communicate(timeout=120)
        answer = json.loads(output)
        assert (answer["failure"], [row for row in answer["findings"] if row["verdict"] == "danger"]) == (None, [])
        assert process.returncode == 0, errors
        found = {finding["check"]: finding for finding in answer["findings"]}
        assert "fuse" in found["file system"]["measured"]
        assert found["rename races"]["measured"].startswith("50 rounds, one winner in each")


def test_who_may_only_read_the_disk_is_answered_from_the_snapshot_and_the_tails(storm: Storm, moosefs: MooseFS) -> None:
    rain, snow = storm.first, storm.second
    storm.submit(rain, 2)
    rain.start_workers(1)
    storm.wait_for(2)
    rain.run("recover_jobs", "--nightly")  # publishes
    rain.stop_workers()
    rain.run("chmod", "-R", "go+rX", str(Path(storm.jar).parent))
    storm.submit(rain, 1)  # told by the tail of a journal alone
    del snow.environment["JJ_LEDGER_HOME"]
    as_nobody = by_user(NOBODY, moosefs.mount_point)
    status = json.loads(snow.run(*as_nobody, str(BIN / "system_status"), "--format", "json"))
    assert status["source"] == "snapshot" and status["snapshot_age_s"] is not None
    assert (status["jobs"]["completed"], status["jobs"]["unclaimed"]) == (2, 1)
    assert "from the snapshot of " in snow.run(*as_nobody, str(BIN / "system_status")).splitlines()[0]
    assert storm.names[2] in snow.run(*as_nobody, str(BIN / "jobjar"), "show", storm.names[2])
    refused = snow.start(*as_nobody, str(BIN / "submit_job"), "true")
    assert "may not write to it" in refused.communicate(timeout=60)[1] and refused.returncode == 1
    assert snow.run("find", storm.jar, "-user", str(NOBODY)) == ""


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


@pytest.mark.parametrize("way", ["plainly", "by a link", "by a bind mount"])
def test_the_jar_s_own_ledger_directory_is_refused_as_a_ledger_home_by_every_program(
    storm: Storm, moosefs: MooseFS, tmp_path: Path, way: str
) -> None:
    for host in (storm.first, storm.second):
        ledger = f"{storm.jar}/ledger"
        home = ledger if way == "plainly" else f"{tmp_path}/other-{host.name}"
        if way == "by a link":
            Path(home).symlink_to(ledger)
        elif way == "by a bind mount":
            Path(home).mkdir()
            host.run("mount", "--bind", ledger, home)
        before = [name for name in host.run("ls", ledger).split() if not name.startswith("clock.")]
        batch = f"{tmp_path}/b.jug"
        Path(batch).write_text('batch { name = "b" run_command = "true" }')
        host.environment["JJ_LEDGER_HOME"] = home
        for words in (
            ["submit_job", "true"],
            ["submit_batch", batch],
            ["start_worker"],
            ["start_worker", "--foreground"],
            ["check_workers"],
            ["recover_jobs"],
            ["recover_jobs", "--nightly"],
            ["system_status"],
            ["batch_status"],
            ["jobjar", "show", "x"],
            ["jobjar", "wait", "--all"],
            ["jobjar", "check"],
            ["jobjar", "rebuild"],
        ):
            process = host.start(*words)
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 1, (words, output, errors)
            assert f"JJ_LEDGER_HOME {home} cannot be used: it is the jar's own ledger/" in output + errors, (
                words,
                output,
            )
        assert [name for name in host.run("ls", ledger).split() if not name.startswith("clock.")] == before
        assert host.run("ls", "-A", *(f"{storm.jar}/{name}" for name in ("limbo", "unclaimed", "batches"))).split() == [
            f"{storm.jar}/{name}:" for name in ("batches", "limbo", "unclaimed")
        ]
        if way == "by a bind mount":
            host.run("umount", home)
