"""Workers that end by themselves: after a time, a number of jobs, a time without jobs; and what they claim before that."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jobjar.worker.own_end import Limits, OwnEnd
from tests.rig import PATIENCE_S, Rig, wait_until

TICKS = {"JJ_POLL_TIME": "0.1"}


def worker_file(rig: Rig, worker: subprocess.Popen[str]) -> dict[str, Any]:
    [path] = (rig.home / "workers").glob(f"*.{worker.pid}/worker.json")
    said: dict[str, Any] = json.loads(path.read_text())
    return said


def end_reason(rig: Rig, worker: subprocess.Popen[str]) -> str:
    """Why a worker ended, by its journaled end; its log and its file say the same."""
    said = worker.communicate(timeout=PATIENCE_S)[1]
    assert worker.returncode == 0
    found = worker_file(rig, worker)
    with rig.open().ledger.writing() as connection:
        from jobjar.ledger.fold import fold_journals

        fold_journals(connection, rig.open().layout)
        [(reason,)] = connection.execute("SELECT end_reason FROM worker WHERE uid = ?", (found["worker_id"],))
    assert found["end_reason"] == reason and said.rstrip().endswith(f"ended: {reason}")
    return str(reason)


def test_a_worker_ends_after_so_many_jobs_or_when_it_has_had_none_for_so_long(rig: Rig) -> None:
    rig.environment.update(TICKS)
    jobs = [rig.submit("--id", name, "/bin/true") for name in "abc"]
    worker = rig.start_worker("--max-jobs", "2")
    assert end_reason(rig, worker) == "it has claimed 2 jobs (--max-jobs)"
    assert sorted(rig.names("completed")) == sorted(jobs[:2])
    worker = rig.start_worker("--idle-exit", "0.3s", "--max-jobs", "9")
    assert end_reason(rig, worker) == "it had no job for 0.3 s (--idle-exit)"
    assert sorted(rig.names("completed")) == sorted(jobs)
    rig.assert_clean()


def test_at_its_end_a_worker_gives_its_job_back_and_that_is_no_failure(rig: Rig) -> None:
    rig.environment.update(TICKS)
    job = rig.submit("/bin/sleep", "--", "60")
    worker = rig.start_worker("--for", "2s")
    assert end_reason(rig, worker) == "its time was over (--for 2.0 s)"
    shown = rig.show(job)
    assert rig.names("unclaimed") == [job]
    assert [one["outcome"] for one in shown["attempts"]] == ["interrupted"]
    assert shown["attempts"][0]["message"] == "its worker ended: its time was over (--for 2.0 s)"
    rig.assert_clean()


def test_what_does_not_fit_into_the_time_left_waits_and_says_so_and_what_fits_is_run(rig: Rig) -> None:
    rig.environment.update(TICKS)
    by_limit = rig.run("jobjar", "submit", "--time-limit", "1h", "true").stdout.strip()
    by_runtime = rig.run("jobjar", "submit", "--job-runtime", "1h", "true").stdout.strip()
    by_hand = rig.drop("by hand", "#!/bin/sh\n#JJ time_limit = 1h\n").name
    described = rig.drop("described", "#!/bin/sh\n#JJ run_command = true\n#JJ job_runtime = 1h\n").name
    limit_first = rig.run("jobjar", "submit", "--time-limit", "1m", "--job-runtime", "1h", "true").stdout.strip()
    unknown = rig.submit("/bin/true")
    worker = rig.start_worker("--for", "10m", "--idle-exit", "1h")
    wait_until(lambda: len(rig.names("completed")) == 2, "the jobs that fit")
    assert {rig.show(job)["state"] for job in (limit_first, unknown)} == {"completed"}
    for job in (by_limit, by_runtime, by_hand, described):
        [standing] = rig.explain(job)
        assert [cause["cause"] for cause in standing["causes"]] == ["no_time_left"]
        assert "no running worker has enough time left: it may take 1 h 0 m, and the last" in standing["sentence"]
    counted = [one for one in rig.status()["standing"] if one["cause"] == "no_time_left"]
    assert [one["jobs"] for one in counted] == [2]  # those of which the ledger knows it
    rig.run("stop_worker", "all")
    assert end_reason(rig, worker) == "stopped"
    rig.run_until_idle("--for", "2h")
    assert len(rig.names("completed")) == 6
    rig.assert_clean()


# A worker whose time goes with the tasks that have begun: each takes 3 of its 10 seconds.
WORKER = """
import os, sys, time
from jobjar.jar import open_jar
from jobjar.worker.loop import IDLE, Worker
from jobjar.worker.own_end import Limits
worker = Worker(open_jar(), (), print, limits=Limits(deadline=time.monotonic() + 3600))
worker.claimer.time_left.left_s = lambda: 10.0 - 3 * len(os.listdir(sys.argv[1]))
worker.start()
while worker.step() != IDLE:
    pass
worker.finish("idle")
"""


@pytest.mark.parametrize("is_long", [False, True])
def test_a_worker_gives_back_what_it_has_no_time_for_of_a_chunk(rig: Rig, tmp_path: Path, is_long: bool) -> None:
    rig.environment.update(TICKS)
    begun = tmp_path / "begun"
    begun.mkdir()
    # A long second task waits until the rest can be claimed by others.
    waits = f"while [ $1 = 2 ] && ! ls {rig.home}/unclaimed/*+3-6.0; do sleep 0.05; done" if is_long else ":"
    task = f"touch {begun}/$1; {waits}"
    words = ("--array", "1-6", "--chunk", "6", "--time-limit", "5s", task)
    array = rig.run("jobjar", "submit", *words).stdout.strip()
    subprocess.run(
        [sys.executable, "-c", WORKER, str(begun)],
        env=rig.environment,
        check=True,
        timeout=PATIENCE_S,
        capture_output=True,
    )
    [left] = rig.names("unclaimed")
    assert left.endswith("+3-6.0") and (len(rig.names("completed")) == 1 or not is_long)
    assert sorted(path.name for path in begun.iterdir()) == ["1", "2"]
    assert [one["cause"] for one in rig.status()["standing"]] == ["no_worker"]
    rig.run_until_idle()
    assert rig.run("jobjar", "wait", "--timeout", "30s", array).returncode == 0
    assert rig.show(array)["succeeded"] == 6
    rig.assert_clean()


def test_a_fresh_worker_in_the_place_of_one_whose_job_failed_has_the_same_end(rig: Rig) -> None:
    rig.environment.update(TICKS)
    rig.submit("/bin/false")
    rig.submit("/bin/true")
    worker = rig.start_worker("--max-jobs", "2", JJ_EXIT_ON_FAILURE="restart", JJ_FAILURE_PAUSE="0.1")
    assert end_reason(rig, worker) == "it has claimed 2 jobs (--max-jobs)"
    assert len(rig.names("completed")) == 2
    rig.submit("/bin/false")
    name = rig.run("start_worker", "--for", "3s", JJ_EXIT_ON_FAILURE="restart", JJ_FAILURE_PAUSE="0.1").stdout.strip()
    log = rig.home / "workers" / name / "worker.log"
    wait_until(lambda: log.read_text().rstrip().endswith("ended: its time was over (--for 3.0 s)"), "the end")
    assert "a fresh worker takes" in log.read_text() and rig.worker_ended(name)


def test_an_end_that_makes_no_sense_is_refused(rig: Rig) -> None:
    for words, why in (
        (["--for", "0"], "give a time above 0"),
        (["--for", "soon"], "is not a time"),
        (["--until", "2020-01-01"], "is over"),
        (["--for", "1h", "--until", "18:00"], "not allowed with"),
        (["--max-jobs", "0"], "is no number of 1 or more"),
    ):
        result = rig.run("start_worker", *words, check=False)
        assert result.returncode == 2 and why in result.stderr
    assert rig.names("workers") == []


def test_time_that_is_left_is_the_least_of_all_and_naps_end_with_it() -> None:
    now, here = time.time(), time.monotonic()
    assert OwnEnd().left_s() == float("inf") and OwnEnd().nap_s(7.0) == 7.0 and not OwnEnd().is_over()
    both = OwnEnd(Limits(deadline=here + 100, ends_at=now + 50))
    assert 40 < both.left_s() <= 50 and 40 < both.nap_s(60) <= 50
    over = OwnEnd(Limits(ends_at=now - 1, why="--until then"))
    assert over.is_over() and over.nap_s(5) == 0 and over.explain() == "its time was over (--until then)"
