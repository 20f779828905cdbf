"""What a stage waits for and never comes: a server, another host, an installer, a lock. A worker that is told to end goes all
the same, and so does an attempt that is killed or has reached its time limit; nothing of it is left.

The grace time is so long in these tests that nothing but being given up by its own thread can be in time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobjar.liveness import this_process
from tests.described_jobs import describe, entries, phases
from tests.packing import pack, sha256_of, write_package
from tests.rig import Rig, wait_until
from tests.serving import ssh_server

LONG_GRACE = {"JJ_GRACE_TIME": "600"}
SUM = f"#name=file&sha256={'0' * 64}"
# What a job is to wait for: what its description says, whether it waits by now, and its worker's environment.
Hanging = tuple[dict[str, str], Callable[[], bool], dict[str, str]]


@contextlib.contextmanager
def silent_server(beginning: bytes) -> Iterator[tuple[str, Callable[[], bool]]]:
    """A server that takes connections, says this much, and nothing more; its address, and whether it was asked."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as connections:
        asked = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):  # it was shut down
                while True:
                    connection = connections.enter_context(server.accept()[0])
                    connection.recv(1000)
                    connection.sendall(beginning)
                    asked.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/file", asked.is_set
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def install_that_hangs(rig: Rig, tmp_path: Path) -> tuple[Path, Path]:
    """An archive whose package/install never ends, and where it writes its process id."""
    started = tmp_path / "installing"
    text = f'echo $$ > "{started}.new"; mv "{started}.new" "{started}"; exec sleep 1000'
    return pack(write_package(tmp_path / "made", text), tmp_path / "p.tgz"), started


@contextlib.contextmanager
def hang(kind: str, rig: Rig, tmp_path: Path) -> Iterator[Hanging]:
    cache = {"JJ_INPUT_CACHE": str(tmp_path / "cache")}

    def has_begun() -> bool:
        return bool(entries(rig, "phase"))

    if kind.endswith("_command"):
        yield {kind: "sleep 1000"}, has_begun, cache
    elif kind in ("software", "workware"):
        archive, started = install_that_hangs(rig, tmp_path)
        yield {kind: str(archive)}, started.exists, cache
    elif kind in ("server", "server midway"):
        text = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome" if kind == "server midway" else b""
        with silent_server(text) as (address, is_asked):
            yield {"input_files": address}, is_asked, cache
    elif kind == "other host":
        (tmp_path / "ssh").mkdir()
        with ssh_server(tmp_path / "ssh", f"ForceCommand touch {tmp_path}/there; sleep 1000") as programs:
            path = f"{programs}:{os.environ['PATH']}"
            yield {"input_files": "far:/data/file"}, (tmp_path / "there").exists, {**cache, "PATH": path}
    elif kind == "claim of another host":
        archive = pack(write_package(tmp_path / "made"), tmp_path / "p.tgz")
        directory = rig.home / "software" / f"{sha256_of(archive)}.building"
        directory.mkdir(parents=True)
        (directory / "claimer.0").write_text(json.dumps({**this_process()._asdict(), "node": "elsewhere"}))
        yield {"software": str(archive)}, has_begun, cache
        shutil.rmtree(directory)
    elif kind == "lock of another process":
        (tmp_path / "cache/locks").mkdir(parents=True)
        with contextlib.ExitStack() as files, silent_server(b"") as (address, _):
            for number in range(256):
                file = files.enter_context(open(tmp_path / f"cache/locks/{number}", "w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield {"input_files": address + SUM}, has_begun, cache
    else:
        assert kind == "endless file"
        with open(tmp_path / "endless", "wb") as sparse:
            sparse.truncate(1 << 40)
        yield {"software": str(tmp_path / "endless")}, has_begun, cache


NEEDS_SSHD = [
    pytest.mark.skipif(not shutil.which("/usr/sbin/sshd"), reason="needs sshd: `make packages`"),
    pytest.mark.root,
]
KINDS = [
    "software",
    "workware",
    "server",
    "server midway",
    pytest.param("other host", marks=NEEDS_SSHD),
    "claim of another host",
    "lock of another process",
    "endless file",
]


def assert_nothing_left(rig: Rig, tmp_path: Path, workers: int = 0) -> None:
    """No process but the workers', no half package, no half file, no working directory."""
    wait_until(lambda: len(rig.processes()) == workers, "the end of all processes but the workers")
    software = rig.home / "software"
    assert not software.exists() or [path for path in software.iterdir() if not path.name.startswith(".clock.")] == []
    assert [path for path in rig.home.glob("workers/*/scratch/*") if any(path.iterdir())] == []
    assert list(tmp_path.glob("cache/files/.*")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_is_told_to_end_goes_whatever_its_job_waits_for(rig: Rig, tmp_path: Path, kind: str) -> None:
    with hang(kind, rig, tmp_path) as (said, is_waiting, environment):
        name = describe(rig, "job", run_command="true", **said)
        worker = rig.start_worker(**LONG_GRACE, **environment)
        wait_until(is_waiting, "the job to wait")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert rig.names("unclaimed") == [name]
    assert_nothing_left(rig, tmp_path)
    assert rig.show(name)["attempts"][0]["outcome"] == "interrupted"
    rig.assert_clean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_job_leaves_its_worker_to_others_whatever_it_waited_for(rig: Rig, tmp_path: Path, kind: str) -> None:
    with hang(kind, rig, tmp_path) as (said, is_waiting, environment):
        name = describe(rig, "job.2", run_command="true", **said)
        next_one = rig.drop("next.1", "#!/bin/sh\n")
        rig.start_worker(**LONG_GRACE, **environment, JJ_STAGED_AHEAD="0")
        wait_until(is_waiting, "the job to wait")
        rig.run("jobjar", "kill", name)
        wait_until(lambda: rig.names("completed") == [name, next_one.name], "the end of both jobs")
    assert rig.show(name)["outcome"] == "killed"
    assert_nothing_left(rig, tmp_path, workers=1)


@pytest.mark.parametrize("kind", ["software", "server midway", "stage_in_command", "stage_out_command"])
def test_the_time_limit_is_of_staging_in_and_out_too(rig: Rig, tmp_path: Path, kind: str) -> None:
    with hang(kind, rig, tmp_path) as (said, _, environment):
        name = describe(rig, "job", time_limit="1.5s", retries="0", **{"run_command": "true", **said})
        rig.start_worker(**environment)
        wait_until(lambda: rig.names("completed") == [name], "the job's end")
    assert rig.show(name)["outcome"] == "timed_out"
    stage = "stage_out" if kind == "stage_out_command" else "stage_in"
    assert rig.show(name)["attempts"][0]["message"] == f"{stage}: ended at its time limit of 1.5 s"
    assert phases(rig, name)[-1][0] == stage
    assert_nothing_left(rig, tmp_path, workers=1)


def test_the_time_limit_begins_anew_with_each_stage(rig: Rig) -> None:
    """A job is not to blame for what it waited for before."""
    slow = {f"{stage}_command": "sleep 1" for stage in ("stage_in", "run", "stage_out")}
    name = describe(rig, "job", time_limit="2.5s", retries="0", **slow)
    rig.run_until_idle()
    assert rig.show(name)["outcome"] == "succeeded"


@pytest.mark.parametrize("way", ["kill", "SIGTERM", "SIGKILL", "STOP"])
def test_workers_that_wait_for_an_install_take_it_over_when_it_is_ended(rig: Rig, tmp_path: Path, way: str) -> None:
    """Two of them; of these one is told to end too."""
    started, go = tmp_path / "installing", tmp_path / "go"
    install = f'echo run >> "{tmp_path}/runs"; test -e "{go}" && exit; touch "{started}"; exec sleep 1000'
    archive = pack(write_package(tmp_path / "made", install), tmp_path / "p.tgz")
    first = describe(rig, "first", "A", run_command="true", software=str(archive))
    installing = rig.start_worker("A", **LONG_GRACE)
    wait_until(started.exists, "the install")
    workers = []
    for category in "BC":
        describe(rig, category, category, run_command="true", software=str(archive))
        workers.append(rig.start_worker(category, **LONG_GRACE))
    wait_until(lambda: len([e for e in entries(rig, "phase") if "ended_at" not in e]) == 3, "all three to stage in")
    workers[0].terminate()
    assert workers[0].wait(30) == 0
    go.touch()
    if way == "STOP":  # what is under way is brought to its end: it takes a kill too
        rig.run("stop_worker", "all")
    if way in ("kill", "STOP"):
        rig.run("jobjar", "kill", first)
    else:
        installing.send_signal(getattr(signal, way))
    wait_until(lambda: "C" in rig.names("completed"), "the other's job")
    assert rig.show("C")["outcome"] == "succeeded"
    assert (tmp_path / "runs").read_text() == "run\nrun\n"
    assert [path.name for path in (rig.home / "software").iterdir() if "." not in path.name] == [sha256_of(archive)]


# A worker in whose threads the fetching of files hangs as nothing does that can be given up.
STUCK = (
    "import sys, threading\nfrom jobjar.described import stage_in\nfrom jobjar.programs.start_worker import main\n"
    "stage_in.fetch = lambda *words: threading.Event().wait()\n"
    "sys.exit(main(['--foreground']))\n"
)


@pytest.mark.parametrize("outcome", ["interrupted", "killed", "timed_out"])
def test_a_thread_that_cannot_be_ended_is_left_alone_after_the_grace_time(
    rig: Rig, tmp_path: Path, outcome: str
) -> None:
    limit = {"time_limit": "1s", "retries": "0"} if outcome == "timed_out" else {}
    name = describe(rig, "job.2", run_command="true", input_files="/etc/passwd", **limit)
    next_one = rig.drop("next.1", "#!/bin/sh\n")
    environment = {**rig.environment, "JJ_STAGED_AHEAD": "0"}
    with subprocess.Popen([sys.executable, "-c", STUCK], env=environment, stdout=subprocess.PIPE) as worker:
        wait_until(lambda: entries(rig, "phase"), "the job to wait")
        if outcome == "interrupted":
            worker.terminate()
        else:
            if outcome == "killed":
                rig.run("jobjar", "kill", name)
            wait_until(lambda: rig.names("completed") == [name, next_one.name], "the end of both jobs")
            worker.send_signal(signal.SIGUSR1)
        assert worker.wait(30) == 0
    assert rig.show(name)["attempts"][0]["outcome"] == outcome


@pytest.mark.parametrize("kind", ["fifo", "device", "fifo in software", "fifo in workware", "device in workware"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(rig: Rig, tmp_path: Path, kind: str) -> None:
    made = write_package(tmp_path / "made")
    odd = tmp_path / "odd"
    if kind == "fifo in software":
        odd = made / "package/commands"
        odd.unlink()
    elif "in" in kind:
        odd = made / "bin/odd"
    if "fifo" in kind:
        os.mkfifo(odd)
    elif "in" in kind:
        try:
            os.mknod(odd, 0o600 | 0o020000, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("no device can be made here")
    key = next((key for key in ("software", "workware") if key in kind), "input_files")
    path = str(made) if "in" in kind else "/dev/zero" if kind == "device" else str(odd)
    name = describe(rig, "job", run_command="true", retries="0", **{key: path})
    rig.run_until_idle()
    message = rig.show(name)["attempts"][0]["message"]
    assert "not a regular file" in message and (path in message or str(odd) in message)


def test_a_silent_host_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a silent server is; by an ssh that says nothing."""
    from jobjar.errors import CannotFetch
    from jobjar.fetching import remote
    from jobjar.fetching.sources import fetch
    from jobjar.job_file.description import Source

    (tmp_path / "ssh").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(remote, "SILENCE_S", 0.1)
    with pytest.raises(CannotFetch, match=r"silent for 0\.1 s"):
        fetch(Source("far:/file", "file"), str(tmp_path / "file"), None)
    assert not (tmp_path / "file").exists()
