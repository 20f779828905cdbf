"""How far a wait or long work is: a bar on a terminal, lines elsewhere; a wait that leaves at the first failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import jobjar
from jobjar.reports.progress import Progress, format_progress
from tests.follower import PROMPT
from tests.recovery.test_lease import claim, make_worker
from tests.rig import Rig
from tests.terminal import OnTerminal


@pytest.mark.usefixtures("own_library")
def test_a_wait_shows_on_a_terminal_how_far_it_is_and_may_leave_at_the_first_failure(rig: Rig, tmp_path: Path) -> None:
    bad = rig.submit("-p", "2", "exit 3")
    slow = rig.submit("-p", "1", PROMPT.format(tmp_path, "go"))
    last = rig.submit("true")
    waits = OnTerminal(rig, "jobjar", "wait", "--all")
    named = OnTerminal(rig, "jobjar", "wait", bad, slow, last)
    for terminal in (waits, named):
        terminal.wait_for("0/3 [", "0 failed, 0 running")
    # Why they stand still is said beside the bar.
    waits.wait_for("no worker that asks for uncategorized jobs is running")
    worker = rig.start_worker()
    for terminal in (waits, named):
        terminal.wait_for("1/3 [", "1 failed, 1 running")
    fast = rig.run("jobjar", "wait", "--fail-fast", "--all", check=False)
    uid = rig.show(bad)["id"]
    assert fast.returncode == 1 and "/3 [" not in fast.stderr
    assert fast.stderr.splitlines()[-2:] == [
        f"jobjar wait: 1 of 3 failed: {uid} (`jobjar show {uid}` says why)",
        "jobjar wait: not waited for any longer: 2 of 3, which go on",
    ]
    assert jobjar.wait([slow, bad], fail_fast=True) == {uid: "failed"}
    assert rig.run("jobjar", "wait", "--fail-fast", "--timeout", "0.1s", last, check=False).returncode == 124
    (tmp_path / "go").touch()
    for terminal in (waits, named):
        status, line = terminal.end()
        assert status == 1 and line.endswith(f"1 of 3 failed: {uid} (`jobjar show {uid}` says why)")
    rig.stop_worker(worker)
    assert rig.run("jobjar", "wait", "--fail-fast", last).stderr == "jobjar wait: 1 of 1 succeeded\n"


def test_lines_of_progress_say_all_that_a_bar_says() -> None:
    first = Progress(100, 10, 0, 4)
    assert format_progress(first, first, 0.0) == "10 of 100 ended; 4 run"
    told = format_progress(Progress(100, 40, 2, 1), first, 60.0)
    assert told == "40 of 100 ended, 2 of them unsuccessfully; 1 runs; 30/min; about 2 m 0 s left"


def test_a_batch_of_many_jobs_shows_on_a_terminal_how_far_its_submission_is(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "b.jug").write_text("batch\nname = many\nseeds = 1-1200\nrun_command = true\n")
    terminal = OnTerminal(rig, "submit_batch", str(tmp_path / "b.jug"))
    assert terminal.end() == (0, "")  # nothing of the bars is left
    text = terminal.read()
    assert "writing the jobs" in text and "submitting them" in text and "/1200 [" in text
    terminal = OnTerminal(rig, "jobjar", "cancel", "--batch", "many")
    assert terminal.end() == (0, "")
    assert "cancelled: " in (text := terminal.read()) and "/1200 [" in text
    assert "folding" not in rig.run("jobjar", "rebuild").stderr
    for program, words in (("jobjar", ["rebuild"]), ("jobjar", ["check"]), ("recover_jobs", [])):
        terminal = OnTerminal(rig, program, *words)
        assert terminal.end()[0] == 0
        assert "folding the journals" in terminal.read() or program == "recover_jobs"


def test_a_job_that_is_submitted_to_be_waited_for_shows_on_a_terminal_how_far_it_is(rig: Rig, tmp_path: Path) -> None:
    terminal = OnTerminal(rig, "jobjar", "submit", "--wait", f"{PROMPT.format(tmp_path, 'go')}; exit 3")
    terminal.wait_for("0/1 [", "0 failed, 0 running")
    worker = rig.start_worker()
    terminal.wait_for("0 failed, 1 running")
    (tmp_path / "go").touch()
    status, line = terminal.end()
    assert status == 3 and line.startswith("jobjar submit: 1 of 1 failed: ")
    rig.stop_worker(worker)


def test_a_recovery_that_watches_silent_workers_shows_on_a_terminal_how_far_it_is(rig: Rig) -> None:
    rig.environment["JJ_LEASE_TIME"] = "2"
    silent = make_worker(rig, "rain.7")
    name = rig.submit("true")
    claim(silent)
    os.utime(silent.paths.heartbeat, (1e9, 1e9))
    terminal = OnTerminal(rig, "recover_jobs", "--quiet")
    terminal.wait_for("watching rain.7 for 2.0 s", "watching silent workers", "/2 [")
    assert terminal.end() == (0, "")
    assert rig.names("unclaimed") == [name]
