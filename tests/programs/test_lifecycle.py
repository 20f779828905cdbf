"""How a job's attempt ends: by itself, at its limit, on request, with its worker, or before it began."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.rig import Rig, wait_until

NODE = os.uname().nodename


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def start_and_wait(rig: Rig, started: Path, *words: str, **changes: str) -> subprocess.Popen[str]:
    """Start a worker, and wait until its job has written a line to `started`."""
    worker = rig.start_worker(*words, **changes)
    wait_until(lambda: lines(started), "the job's start")
    return worker


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def assert_ends(rig: Rig, name: str, outcome: str, status: int | None, number: int | None = None) -> None:
    shown = rig.show(name)
    assert (shown["state"], shown["outcome"], shown["exit_status"], shown["signal"]) == (
        "completed",
        outcome,
        status,
        number,
    )


def test_exit_statuses_signals_and_resources_are_recorded(rig: Rig) -> None:
    fine = rig.submit("true")
    failed = rig.submit("exit", "42")
    killed = rig.submit("kill -SEGV $$")
    missing = rig.submit("/no/such/program")
    busy = rig.submit("i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done")
    rig.run_until_idle()
    assert_ends(rig, fine, "succeeded", 0)
    assert_ends(rig, failed, "failed", 42)
    assert_ends(rig, killed, "failed", None, signal.SIGSEGV)
    assert_ends(rig, missing, "failed", 127)
    [attempt] = rig.show(busy)["attempts"]
    assert attempt["user_cpu_s"] + attempt["system_cpu_s"] > 0
    assert attempt["max_rss_kib"] > 100
    assert attempt["wall_time_s"] > 0
    assert attempt["started_at"] <= attempt["ended_at"]
    rig.assert_clean()


def test_output_and_error_come_in_order_and_as_they_are(rig: Rig) -> None:
    name = rig.submit("echo one; echo two >&2; echo three; printf '\\377\\n' >&2")
    silent = rig.submit("true")
    rig.run_until_idle()
    path = Path(rig.show(name)["attempts"][0]["output_path"])
    assert path.read_bytes() == b"one\ntwo\nthree\n\xff\n"
    assert path.parent.name == "output"
    raw = subprocess.run(
        [f"{rig.home}/bin/jobjar", "output", name], env=rig.environment, capture_output=True, timeout=60
    )
    assert raw.stdout == b"one\ntwo\nthree\n\xff\n"
    assert rig.run("jobjar", "output", silent).stdout == ""
    assert rig.show(silent)["attempts"][0]["output_path"] is None


@pytest.mark.slow
def test_a_failing_job_is_run_again_with_doubled_delays(rig: Rig, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    name = rig.submit("--retries", "2", "--retry-delay", "0.3", f"echo $JJ_ATTEMPT >> {runs}; exit 3")
    rig.run_until_idle()
    assert lines(runs) == ["1", "2", "3"]
    shown = rig.show(name)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["failed"] * 3
    assert_ends(rig, name, "failed", 3)
    ends = [attempt["ended_at"] for attempt in shown["attempts"]]
    starts = [attempt["started_at"] for attempt in shown["attempts"]]
    assert starts[1] - ends[0] >= 0.29
    assert starts[2] - ends[1] >= 0.59
    rig.assert_clean()


def test_a_retry_that_succeeds_is_the_last(rig: Rig, tmp_path: Path) -> None:
    job = "#!/bin/sh\n#JJ retries = 5\n" + f"echo x >> {tmp_path}/runs; test $(wc -l < {tmp_path}/runs) -ge 2\n"
    rig.drop("by_hand", job)
    rig.run_until_idle()
    shown = rig.show("by_hand")
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["failed", "succeeded"]
    assert shown["retries"] == 5
    rig.assert_clean()


def test_retries_of_the_settings_hold_for_jobs_that_say_nothing(rig: Rig) -> None:
    plain = rig.submit("exit 1")
    own = rig.submit("--retries", "0", "exit 1")
    rig.run_until_idle(JJ_RETRIES="1")
    assert len(rig.show(plain)["attempts"]) == 2
    assert len(rig.show(own)["attempts"]) == 1


def test_attributes_in_a_hand_made_job(rig: Rig) -> None:
    rig.drop("limited", "#!/bin/sh\n# about\n#JJ time_limit = 0.3\n:\n#JJ retries = 9\nexec sleep 60\n")
    rig.run_until_idle()
    assert_ends(rig, "limited", "timed_out", None, signal.SIGTERM)
    assert rig.show("limited")["retries"] is None
    rig.assert_clean()


@pytest.mark.slow
def test_a_time_limit_ends_the_whole_session_of_a_job_that_ignores_sigterm(rig: Rig, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 600 & echo $! >> {pids}; echo $$ >> {pids}; while :; do sleep 1; done"
    name = rig.submit("--time-limit", "2", script)
    rig.run_until_idle(JJ_GRACE_TIME="0.5")
    assert_ends(rig, name, "timed_out", None, signal.SIGKILL)
    assert "time limit of 2 s" in rig.show(name)["attempts"][0]["message"]
    assert len(lines(pids)) == 2
    assert all(is_gone(int(pid)) for pid in lines(pids))
    rig.assert_clean()


def test_a_time_limit_leaves_a_job_the_grace_time_to_tidy_up(rig: Rig) -> None:
    name = rig.submit("--time-limit", "2", "trap 'echo tidied; exit 5' TERM; sleep 600 & wait")
    rig.run_until_idle(JJ_GRACE_TIME="20")
    assert_ends(rig, name, "timed_out", 5)
    assert rig.run("jobjar", "output", name).stdout == "tidied\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_end_returns_its_job(rig: Rig, tmp_path: Path, number: signal.Signals) -> None:
    started = tmp_path / "started"
    name = rig.submit("--retries", "1", f"echo $$ >> {started}; test -e {tmp_path}/fail && exit 1; sleep 600")
    worker = start_and_wait(rig, started)
    worker.send_signal(number)
    said = worker.communicate(timeout=30)[1]
    assert worker.returncode == 0, said
    assert is_gone(int(lines(started)[0]))
    assert rig.names("unclaimed") == [name]
    assert rig.names("claimed") == []
    assert rig.show(name)["attempts"][0]["outcome"] == "interrupted"
    rig.assert_clean()
    # It has its one retry still.
    (tmp_path / "fail").touch()
    rig.run_until_idle()
    assert [attempt["outcome"] for attempt in rig.show(name)["attempts"]] == ["interrupted", "failed", "failed"]
    rig.assert_clean()


def test_sigusr1_lets_the_job_finish_and_ends_an_idle_worker(rig: Rig, tmp_path: Path) -> None:
    idle = rig.start_worker("OTHER", JJ_PAUSE_TIME="600")
    idle.send_signal(signal.SIGUSR1)
    assert idle.wait(timeout=30) == 0
    gate, started = tmp_path / "gate", tmp_path / "started"
    os.mkfifo(gate)
    name = rig.submit(f"echo $$ >> {started}; read line < {gate}")
    waiting = rig.submit("true")
    worker = start_and_wait(rig, started)
    worker.send_signal(signal.SIGUSR1)
    gate.write_text("on\n")
    assert worker.wait(timeout=30) == 0
    assert_ends(rig, name, "succeeded", 0)
    assert rig.names("unclaimed") == [waiting]


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_running_job_is_killed_on_request(rig: Rig, tmp_path: Path, by_hand: bool) -> None:
    started = tmp_path / "started"
    name = rig.submit("--retries", "3", f"echo $$ >> {started}; exec sleep 600")
    worker = start_and_wait(rig, started)
    directory = rig.home / "workers" / f"{NODE}.{worker.pid}"
    if by_hand:
        (directory / f"KILL.{name}").touch()
    else:
        assert rig.run("jobjar", "kill", rig.show(name)["id"]).stdout.strip() == directory.name
    assert rig.run("jobjar", "wait", name, check=False).returncode == 1
    assert_ends(rig, name, "killed", None, signal.SIGTERM)
    assert list(directory.glob("KILL*")) == []
    assert worker.poll() is None
    result = rig.run("jobjar", "kill", name, check=False)
    assert result.returncode == 1
    assert "completed" in result.stderr and "nothing to kill" in result.stderr
    rig.assert_clean()


@pytest.mark.slow
def test_a_file_that_is_open_for_writing_goes_back_and_runs_later(rig: Rig) -> None:
    path = rig.drop("busy", "#!/bin/sh\necho ran\n")
    with open(path, "ab"):
        worker = rig.start_worker()
        wait_until(lambda: rig.names("claimed") == ["busy"], "the claim")
        wait_until(lambda: rig.names("unclaimed") == ["busy"], "the return")
    rig.run("jobjar", "wait", "busy", "--timeout", "60s")
    assert "open for writing" in rig.stop_worker(worker)
    shown = rig.show("busy")
    assert shown["attempts"][0]["outcome"] == "interrupted"
    assert shown["attempts"][-1]["outcome"] == "succeeded"
    rig.assert_clean()


@pytest.mark.slow
def test_files_that_cannot_be_run_fail_with_the_statuses_of_a_shell(rig: Rig) -> None:
    rig.drop("vanished", "#!/no/such/interpreter\n")
    rig.drop("plain", "echo plain $0\n")
    rig.drop("binary", "")
    (rig.home / "unclaimed" / "binary").write_bytes(b"\x00\x01\x02garbage\xff" * 50)
    rig.drop("empty", "")
    rig.drop("elf", "")
    (rig.home / "unclaimed" / "elf").write_bytes(b"\x7fELF" + b"\x00" * 200)
    rig.run_until_idle()
    assert_ends(rig, "vanished", "failed", 127)
    assert "interpreter" in rig.show("vanished")["attempts"][0]["message"]
    assert_ends(rig, "plain", "succeeded", 0)
    assert rig.run("jobjar", "output", "plain").stdout.startswith("plain /")
    assert_ends(rig, "binary", "failed", 126)
    assert_ends(rig, "elf", "failed", 126)
    assert_ends(rig, "empty", "succeeded", 0)
    rig.assert_clean()


def test_what_a_job_does_to_its_scratch_directory_harms_no_other(rig: Rig) -> None:
    names = [
        rig.submit("rm -rf $JJ_SCRATCH_DIR"),
        rig.submit("mkdir -p a/b; touch a/b/c; chmod 500 a/b a .; chmod 000 ."),
        rig.submit("mv $JJ_SCRATCH_DIR $JJ_SCRATCH_DIR.moved"),
        rig.submit("rm -rf $JJ_SCRATCH_DIR; ln -s / $JJ_SCRATCH_DIR"),
        rig.submit("touch .hidden 'with space'; ls -A | wc -l"),
    ]
    rig.run_until_idle()
    assert {rig.show(name)["outcome"] for name in names} == {"succeeded"}
    assert rig.run("jobjar", "output", names[4]).stdout.strip() == "2"
    [worker] = (rig.home / "workers").iterdir()
    assert [path.name for path in (worker / "scratch").iterdir() if not path.name.endswith(".moved")] == []
    assert Path("/bin").exists()
    rig.run("recover_jobs")
    assert list((worker / "scratch").iterdir()) == []
    rig.assert_clean()


def test_background_children_end_with_the_job_unless_they_left_its_session(rig: Rig, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    name = rig.submit(
        f"sleep 600 & echo $! > {inside}; "
        f"setsid sh -c 'echo $$ > {outside}; exec sleep 600' & while [ ! -s {outside} ]; do sleep 0.01; done"
    )
    said = rig.run_until_idle()
    left = int(lines(outside)[0])
    try:
        assert_ends(rig, name, "succeeded", 0)
        assert is_gone(int(lines(inside)[0]))
        assert not is_gone(left)
        assert "background processes" in said
    finally:
        os.kill(left, signal.SIGKILL)
    rig.assert_clean()


def test_a_worker_may_leave_after_a_failure(rig: Rig) -> None:
    first = rig.submit("exit 1")
    second = rig.submit("true")
    worker = rig.start_worker(JJ_EXIT_ON_FAILURE="yes")
    assert worker.wait(timeout=30) == 0
    assert_ends(rig, first, "failed", 1)
    assert rig.names("unclaimed") == [second]
    rig.assert_clean()
