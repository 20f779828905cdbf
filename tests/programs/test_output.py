"""jobjar output: what jobs wrote, its last lines, and what comes while they run."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

import jobjar
from tests.follower import PROMPT, Follower
from tests.rig import Rig, wait_until


def test_a_job_is_followed_from_before_it_begins_through_its_retries_to_its_end(rig: Rig, tmp_path: Path) -> None:
    waits = PROMPT.format(tmp_path, "$JJ_ATTEMPT")
    name = rig.submit("--retries", "1", "--id", "twice", f"printf 'begun %s, ' $JJ_ATTEMPT; {waits}; echo over; exit 3")
    follower = Follower(rig, tmp_path, "twice")
    follower.wait_for("jobjar output: twice: has not begun: no worker that asks for uncategorized jobs is running")
    worker = rig.start_worker()
    follower.wait_for("begun 1, ")  # a line that has no end yet
    (tmp_path / "1").touch()
    follower.wait_for("begun 2, ")
    assert "exit status 3; it is to be run again" in follower.said and "twice: failed" not in follower.said
    (tmp_path / "2").touch()
    assert follower.end() == 0
    assert follower.out == "begun 1, over\nbegun 2, over\n"
    assert follower.said.splitlines()[-1] == "jobjar output: twice: failed, exit status 3"
    rig.stop_worker(worker)
    # What has ended is printed and over at once; of several attempts the one that is named.
    ended = rig.run("jobjar", "output", "-f", "--attempt", "1", name)
    assert (ended.stdout, ended.stderr) == (
        "begun 1, over\n",
        "jobjar output: twice: attempt 1: failed, exit status 3\n",
    )
    assert rig.run("jobjar", "output", "-f", name).stdout == "begun 2, over\n"
    missing = rig.run("jobjar", "output", "-f", "--attempt", "7", name, check=False)
    assert missing.returncode == 1 and "failed, exit status 3, and has no attempt 7" in missing.stderr


def test_ctrl_c_leaves_a_follower_and_its_job_as_they_are(rig: Rig, tmp_path: Path) -> None:
    emptied = f"{sys.executable} -c 'import os; os.ftruncate(1, 0)'"
    name = rig.submit(f"echo one; echo two; echo three; {PROMPT.format(tmp_path, 'go')}; {emptied}; echo anew")
    worker = rig.start_worker()
    wait_until(lambda: rig.show(name)["attempts"], "the start")
    path = Path(wait_until(lambda: rig.show(name)["attempts"][0]["output_path"], "output"))
    wait_until(lambda: "three" in path.read_text(), "three lines")
    follower = Follower(rig, tmp_path, "--tail", "2", name)
    follower.wait_for("two\nthree\n")
    follower.process.send_signal(signal.SIGINT)
    assert follower.end() == 130
    assert (follower.out, follower.said) == ("two\nthree\n", "")
    assert rig.show(name)["state"] == "claimed"
    again = Follower(rig, tmp_path, "-n", "1", name)
    again.wait_for("three\n")
    (tmp_path / "go").touch()
    assert again.end() == 0
    assert again.out == "three\nanew\n"  # the job emptied its output meanwhile
    rig.stop_worker(worker)


@pytest.mark.usefixtures("own_library")
def test_lines_of_several_jobs_have_their_names_in_front(rig: Rig, tmp_path: Path) -> None:
    first = rig.submit("--id", "first", f"echo a; {PROMPT.format(tmp_path, 'go')}; printf b")
    second = rig.submit("--id", "same", f"{PROMPT.format(tmp_path, 'go')}; seq 3; exit 1")
    third = rig.submit("--id", "same", "true")
    uids = [rig.show(name)["id"] for name in (second, third)]
    follower = Follower(rig, tmp_path, first, second, third, "no such job")
    workers = [rig.start_worker(), rig.start_worker()]
    follower.wait_for("first: a\n")
    (tmp_path / "go").touch()
    assert follower.end() == 1 and "no such job" in follower.said
    lines = [f"{uids[0]}: {number}" for number in (1, 2, 3)]
    assert sorted(follower.out.splitlines()) == sorted(["first: a", "first: b", *lines])
    said = follower.said.splitlines()
    assert f"jobjar output: {uids[0]}: failed, exit status 1" in said
    assert f"jobjar output: {uids[1]}: succeeded" in said and "jobjar output: first: succeeded" in said
    for worker in workers:
        rig.stop_worker(worker)
    result = rig.run("jobjar", "output", "--tail", "1", first, second)
    assert result.stdout == f"first: b\n{lines[2].replace(uids[0], 'same')}\n"
    assert rig.run("jobjar", "output", "--tail", "-1", first, check=False).returncode == 2
    # The same from the library.
    assert jobjar.output(second) == b"1\n2\n3\n" and jobjar.output(second, tail=1) == b"3\n"
    assert b"".join(jobjar.follow_output(first)) == b"a\nb"
    with pytest.raises(jobjar.JarError, match="no attempt 2"):
        jobjar.output(first, attempt=2)


def test_the_last_lines_of_a_long_output_are_found_from_its_end(rig: Rig) -> None:
    name = rig.submit("seq 200000; printf unfinished")
    silent = rig.submit("true")
    rig.run_until_idle()
    assert rig.run("jobjar", "output", "--tail", "2", name).stdout == "200000\nunfinished"
    whole = rig.run("jobjar", "output", name).stdout
    assert rig.run("jobjar", "output", "--tail", "150000", name).stdout == "".join(
        whole.splitlines(keepends=True)[-150000:]
    )
    assert rig.run("jobjar", "output", "--tail", "900000", name).stdout == whole
    assert rig.run("jobjar", "output", "-f", silent).stdout == ""


def test_a_job_that_never_runs_is_told_of_and_left(rig: Rig, tmp_path: Path) -> None:
    by_hand = rig.drop("byhand", "#!/bin/sh\necho mine\n")
    held = rig.submit("true")
    (rig.home / "unclaimed" / held).rename(rig.home / "limbo" / held)
    follower = Follower(rig, tmp_path, "byhand", held)
    follower.wait_for("has not begun: it is in limbo, where no worker looks")
    (rig.home / "limbo" / held).unlink()
    follower.wait_for("removed: its file was taken away")
    worker = rig.start_worker()
    assert follower.end() == 1
    assert follower.out == "byhand: mine\n" and "byhand: succeeded" in follower.said
    assert not by_hand.exists()
    rig.stop_worker(worker)
