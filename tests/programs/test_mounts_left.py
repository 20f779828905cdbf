"""A job that leaves something mounted in its directory: no data behind that is removed, whatever ends the job; it is said in
the log and on the job, once; and what stays is removed when it is unmounted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.described_jobs import describe
from tests.programs.spaces import SpaceRig
from tests.rig import PATIENCE_S, Rig, wait_until

pytestmark = pytest.mark.root
MOUNTED = "something is mounted there"
BIND = "mkdir d; mount --bind {data} d; echo ran"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data that are no job's."""
    directory = tmp_path / "data"
    (directory / "inner").mkdir(parents=True)
    for path in (directory / "file", directory / "inner" / "file"):
        path.write_text("text")
    return directory


def is_whole(data: Path) -> bool:
    return (data / "file").read_text() == (data / "inner" / "file").read_text() == "text"


def left(rig: Rig, where: str = "workers/*/scratch") -> list[str]:
    """What lies in scratch directories."""
    return sorted(path.name for path in rig.home.glob(f"{where}/*"))


def warnings(rig: Rig, job: str) -> list[str]:
    """All warnings of a job."""
    return [text for attempt in rig.show(job)["attempts"] for text in attempt["warnings"]]


def unmount(space: SpaceRig) -> None:
    """Unmount all that jobs left below the jar."""
    space.root_shell(
        f"awk '{{print $5}}' /proc/self/mountinfo | grep '^{space.home}/' | tac | while read p; do umount -l \"$p\"; done"
    )


def assert_told_and_removed_later(space: SpaceRig, name: str, log: str, data: Path) -> None:
    """It is on the job and in the log, once, however often recovery is run; then, unmounted, it goes."""
    assert is_whole(data)
    (warning,) = warnings(space, name)
    assert MOUNTED in warning and name in warning
    assert log.count(MOUNTED) == 1
    assert MOUNTED in space.run("jobjar", "show", name).stdout
    assert left(space) == [name]
    for _ in range(2):
        assert MOUNTED not in space.run("recover_jobs").stdout
    assert warnings(space, name) == [warning]
    space.assert_clean()
    unmount(space)
    space.run("recover_jobs")
    assert left(space) == []
    assert is_whole(data)
    space.assert_clean()


def run_logged(space: SpaceRig, tmp_path: Path, name: str, **changes: str) -> str:
    """Run a job by a worker that leaves after it; returns the worker's log."""
    log = tmp_path / "log"
    worker = space.start_logged_worker(log, **changes)
    space.run("jobjar", "wait", "--timeout", "60s", name, check=False)
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(timeout=PATIENCE_S) == 0
    return log.read_text()


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -9 $$"])
def test_data_that_a_job_binds_into_its_directory_stay(space: SpaceRig, tmp_path: Path, data: Path, end: str) -> None:
    name = space.submit(f"{BIND.format(data=data)}; {end}")
    log = run_logged(space, tmp_path, name)
    assert_told_and_removed_later(space, name, log, data)


def test_data_that_a_job_binds_stay_at_its_time_limit(space: SpaceRig, tmp_path: Path, data: Path) -> None:
    name = space.submit("--time-limit", "3s", f"{BIND.format(data=data)}; sleep 100")
    log = run_logged(space, tmp_path, name)
    assert space.show(name)["outcome"] == "timed_out"
    assert_told_and_removed_later(space, name, log, data)


def test_data_that_a_job_binds_stay_when_it_is_killed(space: SpaceRig, tmp_path: Path, data: Path) -> None:
    name = space.submit(f"{BIND.format(data=data)}; touch {tmp_path}/bound; sleep 100")
    log = tmp_path / "log"
    worker = space.start_logged_worker(log)
    wait_until((tmp_path / "bound").exists, "the mount")
    space.run("jobjar", "kill", name)
    space.run("jobjar", "wait", "--timeout", "60s", name, check=False)
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(timeout=PATIENCE_S) == 0
    assert space.show(name)["outcome"] == "killed"
    assert_told_and_removed_later(space, name, log.read_text(), data)


@pytest.mark.parametrize("kind", ["plain", "described"])
def test_data_that_the_job_of_a_dead_worker_bound_stay(space: SpaceRig, tmp_path: Path, data: Path, kind: str) -> None:
    command = f"{BIND.format(data=data)}; touch {tmp_path}/bound; sleep 100"
    name = space.submit(command) if kind == "plain" else describe(space, "job", run_command=command)
    worker = space.start_logged_worker(tmp_path / "log")
    wait_until((tmp_path / "bound").exists, "the mount")
    worker.kill()
    worker.wait()
    said = space.run("recover_jobs").stdout
    assert space.names("unclaimed") == [name]
    assert_told_and_removed_later(space, name, said, data)


def test_data_that_a_described_job_binds_stay(space: SpaceRig, tmp_path: Path, data: Path) -> None:
    name = describe(space, "job", run_command=BIND.format(data=data))
    log = run_logged(space, tmp_path, name)
    assert space.show(name)["outcome"] == "succeeded"
    assert_told_and_removed_later(space, name, log, data)


def test_data_that_a_polled_job_binds_stay(space: SpaceRig, tmp_path: Path, data: Path) -> None:
    poll = "echo finished = 1 > jug_polling.vars"
    name = describe(space, "job", run_command=BIND.format(data=data), polling_command=poll)
    log = run_logged(space, tmp_path, name)
    assert space.show(name)["outcome"] == "succeeded"
    (warning,) = warnings(space, name)
    assert MOUNTED in warning and "/underway/" in warning and log.count(MOUNTED) == 1
    for _ in range(2):
        assert MOUNTED not in space.run("recover_jobs").stdout
    assert len(warnings(space, name)) == 1 and is_whole(data) and left(space, "underway")
    unmount(space)
    space.run("recover_jobs")
    assert left(space, "underway") == [] and is_whole(data)
    space.assert_clean()


@pytest.mark.parametrize("place", ["output", "output/d"])
def test_what_is_mounted_where_outputs_are_wanted_is_not_published_and_fails_the_job(
    space: SpaceRig, tmp_path: Path, data: Path, place: str
) -> None:
    command = f"mkdir -p {place}; mount --bind {data} {place}; touch output/own"
    name = describe(space, "job", run_command=command, retries=0)
    log = run_logged(space, tmp_path, name)
    shown = space.show(name)
    assert shown["outcome"] == "failed"
    message = shown["attempts"][0]["message"]
    assert MOUNTED in message and f"'{place}'" in message
    assert is_whole(data) and MOUNTED in log
    assert not (space.home / "storage").exists() or not list((space.home / "storage").iterdir())


MOUNT_FUSE = """
d=$PWD
mkdir -p "$d/{place}"
(sh -c 'echo $PPID' > {tmp}/pid; cd {root}; exec {python} -m tests.fuse_disk "$d/{place}" {tmp}/removals) &
while ! test -e "$d/{place}/precious"; do sleep 0.1; done
"""


def mount_fuse(place: str, tmp_path: Path) -> str:
    """Lines of sh that have a FUSE file system at a place in their directory, served by the process that `pid` names."""
    root = Path(__file__).parent.parent.parent
    return MOUNT_FUSE.format(place=place, tmp=tmp_path, root=root, python=sys.executable)


@pytest.mark.parametrize("place", ["output", "."])
def test_the_outputs_of_a_described_job_are_not_waited_for_where_a_dead_server_has_them(
    space: SpaceRig, tmp_path: Path, place: str
) -> None:
    script = tmp_path / "script"
    script.write_text(f"{mount_fuse(place, tmp_path)}\nkill -9 $(cat {tmp_path}/pid); wait; exit 0\n")
    name = describe(space, "job", run_command=f"/bin/sh {script}", retries=0)
    log = run_logged(space, tmp_path, name)
    shown = space.show(name)
    assert shown["outcome"] == "failed" and MOUNTED in shown["attempts"][0]["message"]
    assert MOUNTED in log and not (tmp_path / "removals").exists()
    unmount(space)
    space.run("recover_jobs")
    assert left(space) == []


def test_a_dead_fuse_mount_over_the_whole_directory_of_a_job_harms_nothing(space: SpaceRig, tmp_path: Path) -> None:
    name = space.submit(f"{mount_fuse('.', tmp_path)}\nkill -9 $(cat {tmp_path}/pid); wait; exit 0\n")
    second = space.submit("ls -A; echo ran")
    log = run_logged(space, tmp_path, second)
    assert space.run("jobjar", "output", second).stdout == "ran\n"
    assert space.show(name)["outcome"] == "succeeded" and len(warnings(space, name)) == 1
    assert log.count(MOUNTED) == 1 and left(space) == [name]
    unmount(space)
    space.run("recover_jobs")
    assert left(space) == []


@pytest.mark.parametrize("end", ["exit 0", "kill -9 $(cat {tmp}/pid); wait; exit 0", "setsid"])
def test_a_fuse_mount_that_a_job_leaves_stays_and_harms_nothing(space: SpaceRig, tmp_path: Path, end: str) -> None:
    script = mount_fuse("d", tmp_path)
    if end == "setsid":  # it daemonises itself, as file systems do: it goes on when its job has ended
        script = script.replace(f"exec {sys.executable}", f"exec setsid {sys.executable}")
    name = space.submit(f"{script}\n{end.format(tmp=tmp_path).replace('setsid', 'exit 0')}\n")
    log = run_logged(space, tmp_path, name)
    assert space.show(name)["outcome"] == "succeeded"
    assert len(warnings(space, name)) == 1 and log.count(MOUNTED) == 1
    assert MOUNTED not in space.run("recover_jobs").stdout
    assert not (tmp_path / "removals").exists()
    assert left(space) == [name]
    unmount(space)
    space.run("recover_jobs")
    assert left(space) == []


def test_a_directory_that_a_job_mounted_something_onto_is_not_the_next_job_s(
    space: SpaceRig, tmp_path: Path, data: Path
) -> None:
    log = tmp_path / "log"
    worker = space.start_logged_worker(log)
    names = []
    for target in (str(data), '"$PWD"'):
        names.append(space.submit(f'mount --bind {target} "$PWD"'))
        space.run("jobjar", "wait", "--timeout", "60s", names[-1])
        second = space.submit("pwd; ls -A; touch mine")
        space.run("jobjar", "wait", "--timeout", "60s", second)
        assert space.run("jobjar", "output", second).stdout.split("/")[-1] == f"{second}\n"
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(timeout=PATIENCE_S) == 0
    assert [len(warnings(space, name)) for name in names] == [1, 1]
    assert log.read_text().count(MOUNTED) == 2
    assert left(space) == sorted(names) and is_whole(data) and not (data / "mine").exists()
    assert MOUNTED not in space.run("recover_jobs").stdout
    unmount(space)
    space.run("recover_jobs")
    assert left(space) == []
    space.assert_clean()


def test_a_directory_of_which_the_time_was_set_back_is_not_the_next_job_s(
    space: SpaceRig, tmp_path: Path, data: Path
) -> None:
    log = tmp_path / "log"
    worker = space.start_logged_worker(log)
    first = space.submit(
        f"cp -p --attributes-only -r . {tmp_path}/as; {BIND.format(data=data)}; touch -r {tmp_path}/as ."
    )
    space.run("jobjar", "wait", "--timeout", "60s", first)
    second = space.submit("ls -A")
    space.run("jobjar", "wait", "--timeout", "60s", second)
    assert space.run("jobjar", "output", second).stdout == ""
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(timeout=PATIENCE_S) == 0
    assert is_whole(data) and len(warnings(space, first)) == 1


def test_a_living_worker_removes_what_stayed_when_it_has_nothing_to_do(
    space: SpaceRig, tmp_path: Path, data: Path
) -> None:
    worker = space.start_logged_worker(tmp_path / "log", JJ_PAUSE_TIME="1")
    name = space.submit(BIND.format(data=data))
    space.run("jobjar", "wait", "--timeout", "60s", name)
    assert left(space) == [name]
    unmount(space)
    wait_until(lambda: left(space) == [], "the removal")
    assert is_whole(data)
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(timeout=PATIENCE_S) == 0


def test_a_worker_s_directory_in_which_something_is_mounted_is_not_archived_and_deletion_keeps_what_is_mounted(
    space: SpaceRig, tmp_path: Path, data: Path
) -> None:
    name = space.submit(f'{BIND.format(data=data)}; mkdir "$JJ_WORKER_DIR/m"; mount --bind {data} "$JJ_WORKER_DIR/m"')
    run_logged(space, tmp_path, name)
    night = {"JJ_ARCHIVE_AFTER": "0.000000001", "JJ_KEEP_WORKERS": "0.000000001"}
    space.run("recover_jobs", "--nightly", check=False, **night)
    assert left(space) == [name] and is_whole(data)
    unmount_scratch = f"umount {space.home}/workers/*/scratch/*/d"
    space.root_shell(unmount_scratch)
    said = [space.run("recover_jobs", "--nightly", check=False, **night).stdout for _ in range(3)]
    assert "".join(said).count(MOUNTED) == 1
    assert is_whole(data)
    (doomed,) = space.home.glob("archive/*/workers/.doomed-*")
    assert [path.name for path in doomed.iterdir()] == ["m"]
    unmount(space)
    space.run("recover_jobs", "--nightly", check=False, **night)
    assert not doomed.exists() and is_whole(data)


def test_data_that_the_installation_of_a_package_binds_stay(space: SpaceRig, tmp_path: Path, data: Path) -> None:
    package = tmp_path / "package"
    (package / "package").mkdir(parents=True)
    install = package / "package" / "install"
    install.write_text(f'#!/bin/sh\nmkdir "$1/d" && mount --bind {data} "$1/d"\nexit 1\n')
    install.chmod(0o755)
    subprocess.run(["tar", "-C", str(package), "-czf", f"{tmp_path}/p.tgz", "package"], check=True)
    name = describe(space, "job", run_command="true", software=f"{tmp_path}/p.tgz", retries=1)
    log = run_logged(space, tmp_path, name)
    assert space.show(name)["outcome"] == "failed"
    assert is_whole(data) and MOUNTED in log
    assert any(MOUNTED in text for text in warnings(space, name))
