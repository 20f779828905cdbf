"""A job that opens its own standard error by name loses nothing of what it wrote before."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from jobjar.attempts.copied_output import names_its_output
from tests.described_jobs import describe
from tests.rig import Rig, wait_until

ALL = [f"line {number}" for number in range(1, 8)]
WRITES = (
    "echo line 1; echo line 2 > /dev/stderr; echo line 3 >&2; echo line 4 | tee /dev/stderr >/dev/null; "
    "echo line 5 >/dev/stdout; d=fd; echo line 6 > /dev/$d/2; echo line 7 > /proc/self/fd/1"
)


def output(rig: Rig, name: str) -> list[str]:
    return rig.run("jobjar", "output", name).stdout.splitlines()


@pytest.mark.parametrize(
    "name",
    [
        "/dev/$E",
        '"/dev/$E"',
        "/dev/std$D",
        "/dev/fd/$F",
        "/proc/self/fd/$F",
        "/proc/thread-self/fd/2",
        "/proc/$PPID/fd/1",
    ],
)
def test_a_name_that_ends_with_a_variable_counts(name: str) -> None:
    assert names_its_output(f"echo >{name}".encode())


@pytest.mark.parametrize(
    "text", ["cat /dev/stdin /dev/fd/0", "dd if=/dev/zero of=/dev/null", "ls /proc/self/fd /proc/self/fdinfo/1"]
)
def test_what_has_nothing_to_do_with_its_output_costs_no_process(text: str) -> None:
    assert not names_its_output(text.encode())


def test_nothing_is_lost_of_a_submitted_job(rig: Rig) -> None:
    name = rig.submit(WRITES)
    plain = rig.submit("echo plain >&2")
    assert (rig.home / "unclaimed" / name).stat().st_mode & stat.S_ISVTX
    assert not (rig.home / "unclaimed" / plain).stat().st_mode & stat.S_ISVTX
    rig.run_until_idle()
    assert output(rig, name) == ALL and output(rig, plain) == ["plain"]
    rig.assert_clean()


def test_nothing_is_lost_of_a_job_dropped_by_hand(rig: Rig) -> None:
    rig.drop("mine.3", f"#!/bin/sh\n{WRITES}\n")
    rig.run_until_idle()
    assert output(rig, "mine.3") == ALL


def test_nothing_is_lost_of_a_described_job(rig: Rig) -> None:
    describe(rig, "told", stage_in_command="echo line 0", run_command=WRITES)
    rig.run_until_idle()
    assert output(rig, "told") == ["line 0", *ALL]


def test_the_end_of_much_output_is_there_and_an_attempt_that_is_ended_keeps_what_it_wrote(rig: Rig) -> None:
    much = rig.submit("-p", "2", "seq 200000; echo end > /dev/stderr")
    ended = rig.submit("-p", "1", "--time-limit", "2", "echo begun > /dev/stderr; exec sleep 600")
    empty = rig.submit("-p", "0", "test /dev/stderr")
    rig.run_until_idle()
    lines = output(rig, much)
    assert len(lines) == 200001 and lines[-1] == "end"
    assert output(rig, ended) == ["begun"] and rig.show(ended)["outcome"] == "timed_out"
    assert rig.show(empty)["attempts"][0]["output_path"] is None


def test_what_left_the_session_does_not_hold_up_the_worker_for_ever(rig: Rig, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    goes = f"setsid sh -c 'echo $$ > {pid}; exec sleep 60' & until test -s {pid}; do sleep 0.05; done"
    name = rig.submit("-p", "1", f"{goes}; echo gone > /dev/stderr")
    after = rig.submit("-p", "0", "echo after")
    rig.run_until_idle()
    assert output(rig, name) == ["gone"] and output(rig, after) == ["after"]
    left = int(pid.read_text())
    assert Path(f"/proc/{left}/cmdline").read_bytes() == b"sleep\x0060\x00"
    os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("number", ["TERM", "KILL"])
def test_a_retry_is_copied_too(rig: Rig, number: str) -> None:
    name = rig.submit("--retries", "1", f"echo once > /dev/stderr; echo twice >/dev/stderr; kill -{number} $$")
    rig.run_until_idle()
    for attempt in (1, 2):
        assert rig.run("jobjar", "output", "--attempt", str(attempt), name).stdout.splitlines() == ["once", "twice"]


def test_a_job_whose_output_a_called_program_empties_is_warned(rig: Rig, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho from the tool > /dev/stderr\n")
    tool.chmod(0o755)
    wait = f"while ! test -e {tmp_path}/go; do sleep 0.05; done"
    last = rig.submit(f"{wait}; echo much that was before; {tool}")
    between = rig.submit(f"echo much that was before; {wait}; {tool}; echo after")
    silent = rig.submit(f"{wait}; true")
    worker = rig.start_worker(JJ_POLL_TIME="0.1")
    wait_until(lambda: rig.show(last)["state"] == "claimed", "the job's start")
    (tmp_path / "go").touch()
    for name in (last, between, silent):
        rig.run("jobjar", "wait", "--timeout", "60s", name)
    [attempt] = rig.show(last)["attempts"]
    assert "its output was emptied" in attempt["warnings"][0] and output(rig, last) == ["from the tool"]
    assert not rig.show(silent)["attempts"][0].get("warnings")
    assert output(rig, between) == ["from the tool", "after"]
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_task_that_empties_the_output_of_all_is_told_and_the_next_lose_nothing(rig: Rig, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho $1 > /dev/stderr\n")
    tool.chmod(0o755)
    line = f"echo before $1; test $1 -lt 3 || {tool} $1"
    array = rig.run("jobjar", "submit", "--array", "1-5", "--chunk", "5", line).stdout.strip()
    [chunk] = rig.names("unclaimed")
    rig.run_until_idle()
    [attempt] = rig.show(chunk.split("-")[1].partition("+")[0])["attempts"]
    assert len(attempt["warnings"]) == 1 and attempt["warnings"][0].startswith("task 3: its output was emptied")
    assert rig.run("jobjar", "output", f"{array}[4-5]").stdout == "before 4\n4\nbefore 5\n5\n"
    rig.assert_clean()
