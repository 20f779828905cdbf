"""Several jobs of one worker at once: each is ended, lost and left alone by itself; and what that rests on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jobjar.liveness import own_children
from jobjar.processes.children import Waiter, adopt_orphans, reap, reap_strays
from jobjar.processes.starting import is_open_for_writing, start_shell
from tests.described_jobs import describe, entries, said, underway
from tests.rig import Rig, wait_until

ENVIRONMENT = {b"PATH": b"/bin:/usr/bin"}


def run_shell(text: str, words: tuple[str, ...], output: Path) -> int | None:
    descriptor = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        waiter = Waiter(start_shell(text, words, descriptor, ENVIRONMENT))
    finally:
        os.close(descriptor)
    ended = waiter.wait(30, [])
    waiter.close()
    assert ended is not None
    return ended.exit_status


def test_words_reach_a_shell_as_they_are(tmp_path: Path) -> None:
    words = ("a b", "$(touch x)", "`touch x`", "'", '"', "*", "-n")
    assert run_shell('printf "%s\\n" "$@"', words, tmp_path / "out") == 0
    assert (tmp_path / "out").read_text().splitlines() == list(words)


def test_a_shell_is_started_without_moving_this_process(tmp_path: Path) -> None:
    before = os.getcwd()
    assert run_shell('cd -- "$1"; pwd', (str(tmp_path),), tmp_path / "out") == 0
    assert (tmp_path / "out").read_text() == f"{tmp_path}\n"
    assert os.getcwd() == before


def test_ended_strangers_are_reaped_and_ones_own_are_left_to_who_waits_for_them(tmp_path: Path) -> None:
    """In a process of its own, which adopts what is left behind."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            adopt_orphans()
            assert not reap_strays()
            null = os.open("/dev/null", os.O_WRONLY)
            own = start_shell("(sleep 0.05; exit 0) & exit 3", (), null, ENVIRONMENT)
            os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
            assert reap_strays()
            ended = reap(own)
            assert ended is not None and ended.exit_status == 3
            children = own_children()
            assert children is None or len(children) == 1
            deadline = time.monotonic() + 20
            while reap_strays():
                assert time.monotonic() < deadline
            assert not own_children()
            # Of a thread that has not come to waiting for it yet, while nothing else is left.
            other = start_shell("exit 4", (), null, ENVIRONMENT)
            os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)
            assert not reap_strays()
            ended = reap(other)
            assert ended is not None and ended.exit_status == 4
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_that_is_written_is_told_from_one_that_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open(path, "w", encoding="utf-8"):
        assert is_open_for_writing(str(path))
    assert not is_open_for_writing(str(path))
    assert not is_open_for_writing(str(tmp_path / "none"))


def test_a_name_of_a_job_is_no_shell_text(rig: Rig, tmp_path: Path) -> None:
    name = describe(rig, "$(touch x) `touch x` 'a\" ;b", run_command="echo fine; pwd", stage_in_command="true")
    rig.run_until_idle()
    assert said(rig, name).splitlines()[0] == "fine"
    assert said(rig, name).splitlines()[1].endswith(name)
    assert not list(rig.home.rglob("x"))


REFUSE_A_PROCESS = """
import errno, os
from jobjar.programs import start_worker
from jobjar.stages import run
def refuse(*words, **more):
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
run.start_session = refuse
start_worker.main(["--foreground"])
"""


def test_a_plain_job_for_which_there_is_no_process_goes_back_for_a_while(rig: Rig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    describe(rig, "described.9", run_command=f"while [ ! -e {go} ]; do sleep 0.01; done")
    plain = rig.drop("plain", "#!/bin/sh\necho ran\n").name
    environment = {**rig.environment, "JJ_RUN_SLOTS": "2", "JJ_PAUSE_TIME": "1"}
    with subprocess.Popen([sys.executable, "-c", REFUSE_A_PROCESS], env=environment) as worker:
        # It is taken again five seconds after its end, so what is shown then is what counts.
        shown: dict[str, Any] = {"attempts": []}

        def has_ended() -> bool:
            shown.update(rig.show(plain))
            return any(attempt["ended_at"] for attempt in shown["attempts"])

        try:
            wait_until(has_ended, "its end")
        finally:
            go.touch()
            worker.send_signal(signal.SIGUSR1)
    attempt = shown["attempts"][0]
    assert attempt["outcome"] == "interrupted"
    assert attempt["message"].startswith("cannot start a process: Resource temporarily unavailable; raise the limit")
    assert shown["not_before"] > attempt["ended_at"] + 4


def test_a_job_that_was_taken_back_is_dropped_and_the_others_go_on(rig: Rig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.01; done"
    lost = describe(rig, "lost.2", run_command="sleep 60")
    kept = describe(rig, "kept.1", run_command=wait)
    worker = rig.start_worker(JJ_RUN_SLOTS="2", JJ_LEASE_TIME="20", JJ_POLL_TIME="0.1")
    wait_until(lambda: len(entries(rig, "started")) == 2, "both running")
    [held] = rig.home.glob(f"workers/*/jobs/{lost}")
    # What who takes a job back journals before its file moves.
    [started] = entries(rig, "started", lost)
    rig.open().journal.append([{**started, "entry": "ended", "outcome": "stranded", "final": False, "ended_at": 1.0}])
    held.rename(rig.home / "limbo" / lost)
    wait_until(lambda: rig.show(lost)["attempts"][0]["outcome"] == "lost", "the loss")
    assert rig.show(kept)["state"] == "claimed"
    go.touch()
    wait_until(lambda: rig.show(kept)["state"] == "completed")
    rig.stop_worker(worker)
    assert [words for words in rig.command_lines() if "sleep" in words] == []


def test_a_plain_job_that_is_still_written_goes_back_also_among_described_ones(rig: Rig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    describe(rig, "described.2", run_command=f"while [ ! -e {go} ]; do sleep 0.01; done")
    plain = rig.drop("plain.1", "#!/bin/sh\necho ran\n")
    with open(plain, "a", encoding="utf-8"):
        worker = rig.start_worker(JJ_RUN_SLOTS="2")
        wait_until(lambda: rig.show("plain.1")["not_before"], "the job to go back")
        assert rig.show("plain.1")["attempts"][0]["outcome"] == "interrupted"
    go.touch()
    wait_until(lambda: rig.show("plain.1")["state"] == "completed", "the job to be run")
    rig.stop_worker(worker)
    assert said(rig, "plain.1").endswith("ran\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_polled_job_left_in_its_session_is_the_job_and_goes_on_without_its_worker(
    rig: Rig, tmp_path: Path, number: signal.Signals
) -> None:
    work = f"(while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo worked > result) &"
    ask = "if [ -e result ]; then echo finished = 1 > jug_polling.vars; fi; touch asked"
    name = describe(
        rig, "job", run_command=work, polling_command=ask, polling_time="0.05", stage_out_command="cat result"
    )
    worker = rig.start_worker()
    wait_until(lambda: list(rig.home.glob("underway/*/*/work/asked")), "the first poll")
    worker.send_signal(number)
    worker.wait(30)
    rig.run("recover_jobs")
    (tmp_path / "go").touch()
    rig.run_until_idle()
    assert said(rig, name) == "worked\n"
    assert len(rig.show(name)["attempts"]) == 2
    assert underway(rig) == []


def test_a_job_that_is_over_takes_what_it_left_for_polling_with_it(rig: Rig) -> None:
    name = describe(
        rig, "job", run_command="sleep 63 &", polling_command="true", polling_time="0.05", time_limit="0.3", retries=0
    )
    worker = rig.start_worker()
    wait_until(lambda: rig.show(name)["state"] == "completed")
    wait_until(lambda: not [words for words in rig.command_lines() if "sleep" in words], "the end of what it left")
    rig.stop_worker(worker)
    assert rig.show(name)["outcome"] == "timed_out"


def test_a_description_may_be_full_of_odd_things_and_harms_nobody(rig: Rig, tmp_path: Path) -> None:
    odd = describe(rig, "odd", run_command="rm -rf ../odd; mkdir ../odd; exit 0", environment="'A=$(touch /x)'")
    gone = describe(rig, "gone", run_command='rm -rf "$PWD"', stage_out_command="echo never", retries=0)
    dark = describe(rig, "dark", run_command="touch output/a; chmod 0 output .")
    rig.run_until_idle()
    assert rig.show(odd)["outcome"] == "succeeded"
    shown = rig.show(gone)
    assert (shown["outcome"], shown["exit_status"]) == ("failed", 126)
    assert rig.show(dark)["state"] == "completed"
    assert not Path("/x").exists()
    rig.assert_clean()
