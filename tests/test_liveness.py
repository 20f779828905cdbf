from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobjar.host import node_name
from jobjar.liveness import (
    ALIVE,
    DEAD,
    MARK,
    UNKNOWN,
    ProcessIdentity,
    boot_id,
    is_here,
    is_maker_dead,
    liveness,
    mark,
    own_nodes,
    pid_namespace,
    process_start,
    processes_of_jobs,
    session_processes,
    this_process,
)
from jobjar.shared_disk.creating import TEMPORARY, temporary_path
from jobjar.shared_disk.leftovers import remove_leftovers
from tests.rig import wait_until


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["sleep", "600"], start_new_session=True, env={**os.environ, "JJ_WORKER_ID": "w1", "JJ_JOB_ID": "j1"}
    )
    yield process
    process.kill()
    process.wait()


def identity_of(pid: int) -> ProcessIdentity:
    started = process_start(pid)
    assert started is not None
    return this_process()._replace(pid=pid, started=started)


def test_this_process_is_alive() -> None:
    assert liveness(this_process()) == ALIVE


def test_a_process_is_alive_until_it_ends(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity_of(sleeper.pid)
    assert liveness(process) == ALIVE
    sleeper.kill()
    sleeper.wait()
    assert process_start(sleeper.pid) is None
    assert liveness(process) == DEAD


def test_a_process_that_nobody_waited_for_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity_of(sleeper.pid)
    sleeper.kill()
    wait_until(lambda: liveness(process) == DEAD, "the death of a zombie")
    assert os.path.exists(f"/proc/{sleeper.pid}")


def test_a_process_that_has_the_id_of_an_earlier_one_is_not_it(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity_of(sleeper.pid)
    assert liveness(process._replace(started=process.started - 1)) == DEAD


def test_a_process_of_an_earlier_boot_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    assert liveness(identity_of(sleeper.pid)._replace(boot_id="earlier")) == DEAD


def test_a_process_of_another_node_is_unknown_whatever_is_known_of_it(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity_of(sleeper.pid)._replace(node="somewhere-else", boot_id="its own")
    assert liveness(process) == UNKNOWN
    assert liveness(process._replace(pid=2**22 + 1)) == UNKNOWN


def test_a_process_of_this_boot_is_known_whatever_the_node_was_called_then(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity_of(sleeper.pid)._replace(node="laptop")
    assert is_here(process) and liveness(process) == ALIVE
    sleeper.kill()
    sleeper.wait()
    assert liveness(process) == DEAD
    assert liveness(process._replace(pid_namespace="")) == UNKNOWN  # an earlier release wrote this


def test_a_process_of_another_pid_namespace_is_unknown(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity_of(sleeper.pid)._replace(pid_namespace="1")
    assert not is_here(process) and liveness(process) == UNKNOWN
    assert liveness(process._replace(pid=2**22 + 1)) == UNKNOWN
    assert liveness(process._replace(boot_id="earlier")) == DEAD


def test_what_an_earlier_release_wrote_is_taken_for_one_of_the_first_pid_namespace(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = identity_of(sleeper.pid)._replace(pid_namespace="")
    monkeypatch.setattr("jobjar.liveness.pid_namespace", lambda: "4026531836")
    assert liveness(process) == ALIVE and liveness(process._replace(started=1.0)) == DEAD
    monkeypatch.setattr("jobjar.liveness.pid_namespace", lambda: "4026532179")
    assert liveness(process) == liveness(process._replace(started=1.0)) == UNKNOWN


def test_a_temporary_name_s_maker_is_gone_only_where_its_namespace_is_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["true"]) as process:
        ended = process.pid

    def is_left_by(text: str) -> bool:
        found = re.fullmatch(rf"(?:{own_nodes()}\.)?{MARK}", text)
        return found is not None and is_maker_dead(found)

    assert re.fullmatch(MARK, mark()) and not is_left_by(mark()) and not is_left_by(f"{node_name()}.{mark()}")
    assert is_left_by(f"{ended}+{pid_namespace()}") and is_left_by(f"{ended}")
    assert not is_left_by(f"{ended}+1") and not is_left_by(f"rain.{ended}")
    monkeypatch.setattr("jobjar.liveness.gone_nodes", {"rain"})
    assert is_left_by(f"rain.{ended}") and is_left_by(f"rain.{mark()}") and not is_left_by(f"{node_name()}.{mark()}")


def test_what_any_version_called_a_half_written_file_is_removed_when_its_maker_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        ended = process.pid
    left = [
        f"{maker}{more}" for maker in (f"{ended}", f"{ended}+{pid_namespace()}") for more in ("", ".0123456789abcdef")
    ]
    kept = [str(os.getpid()), mark(), f"{mark()}.0123456789abcdef", f"{ended}+1.0123456789abcdef", f"{ended}.0123"]
    for middle in (*left, *kept):
        (tmp_path / f"x.{middle}.new").touch()
    own = temporary_path(str(tmp_path / "x"))
    Path(own).touch()
    assert sorted(remove_leftovers(str(tmp_path), "x" + TEMPORARY)) == sorted(f"x.{middle}.new" for middle in left)
    assert sorted(os.listdir(tmp_path)) == sorted([os.path.basename(own), *(f"x.{middle}.new" for middle in kept)])


@pytest.mark.root
def test_nobody_is_judged_where_proc_shows_other_processes() -> None:
    code = (
        "from jobjar.liveness import *; import re; me = this_process(); "
        "left = re.fullmatch(MARK, f'{2**22 - 1}+{pid_namespace()}'); print(sees_processes(), liveness(me), is_maker_dead(left))"
    )
    for words, said in ((["--mount-proc"], "True alive True"), ([], "False unknown False")):
        command = ["unshare", "--pid", "--fork", *words, sys.executable, "-c", code]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == said


def test_the_start_of_a_process_does_not_change(sleeper: subprocess.Popen[bytes]) -> None:
    assert process_start(sleeper.pid) == process_start(sleeper.pid)
    assert process_start(sleeper.pid) != process_start(1)
    assert boot_id() == boot_id() != ""


def test_a_program_s_name_cannot_mislead_the_reader_of_its_start(tmp_path: os.PathLike[str]) -> None:
    program = f"{tmp_path}/x) Z 1 (y"
    os.symlink("/bin/sleep", program)
    process = subprocess.Popen([program, "600"])
    try:
        assert liveness(identity_of(process.pid)) == ALIVE
    finally:
        process.kill()
        process.wait()


def test_a_session_is_all_processes_that_its_leader_started() -> None:
    process = subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600 & wait"], start_new_session=True)
    try:
        found = wait_until(
            lambda: pids if len(pids := session_processes(process.pid)) == 3 else None, "three processes"
        )
        assert process.pid in found
        assert os.getpid() not in found
    finally:
        for pid in session_processes(process.pid):
            os.kill(pid, 9)
        process.wait()
    wait_until(lambda: not session_processes(process.pid), "the end of the session")


def test_the_processes_of_a_job_are_found_by_their_environment(sleeper: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: sleeper.pid in processes_of_jobs("w1", {"j1", "j2"}), "the process")
    assert processes_of_jobs("w1", {"j2"}) == []
    assert processes_of_jobs("w2", {"j1"}) == []
