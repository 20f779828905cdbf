"""`jobjar show` says of a job that does not run why that is, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

from tests.described_jobs import describe
from tests.rig import Rig, wait_until


def why(rig: Rig, job: str) -> list[str]:
    return list(rig.show(job)["waits_because"] or [])


def test_a_job_that_no_running_worker_asks_for_is_told_which_worker_is_missing(rig: Rig) -> None:
    plain = describe(rig, "plain", run_command="true")
    special = describe(rig, "special", "SPECIAL", run_command="true")
    stored = describe(rig, "stored", "STORAGE-tape", run_command="true")
    wanted = {
        plain: "no worker that asks for uncategorized jobs is running; `start_worker` starts one",
        special: "no worker that asks for category SPECIAL is running; `start_worker SPECIAL` starts one",
        stored: "no storage worker of class tape is running; `start_worker --storage tape` starts one",
    }
    assert {job: why(rig, job) for job in wanted} == {job: [line] for job, line in wanted.items()}
    # A storage worker asks for nothing but its class.
    worker = rig.start_worker("--storage", "disk")
    assert why(rig, plain) == [wanted[plain]]
    assert f"1 uncategorized job: {wanted[plain]}" in rig.status()["warnings"]
    rig.stop_worker(worker)
    (rig.home / "workers" / "STOP_ALL").touch()
    stop_all = f"{rig.home}/workers/STOP_ALL"
    told = f"no worker that asks for uncategorized jobs is running, and {stop_all} keeps all from starting"
    assert why(rig, plain) == [f"{told}; remove {stop_all}; `start_worker` starts one"]


def test_a_job_whose_workers_are_paused_says_so(rig: Rig) -> None:
    # A worker that starts under PAUSE_ALL claims nothing. One that is paused later may be in the midst of a claim.
    pause_all = rig.home / "workers" / "PAUSE_ALL"
    pause_all.touch()
    rig.start_worker()
    job = describe(rig, "job", run_command="true")
    assert why(rig, job) == [f"the workers that ask for it are paused; remove {pause_all}"]
    rig.run("pause_worker", "all")
    pause_all.unlink()
    assert why(rig, job) == ["the workers that ask for it are paused; `unpause_worker all`"]
    rig.run("unpause_worker", "all")
    rig.run("jobjar", "wait", "--timeout", "60s", job)
    assert why(rig, job) == []


def test_a_job_whose_workers_are_busy_says_so_until_one_is_not(rig: Rig, tmp_path: Path) -> None:
    rest = f"until test -e {tmp_path}/go; do sleep 0.02; done"
    first = rig.submit(rest)
    worker = rig.start_worker()
    wait_until(lambda: rig.show(first)["state"] == "claimed", "the claim")
    waiting, special = rig.submit("true"), rig.submit("-c", "SPECIAL", "true")
    other = "no other worker that asks for uncategorized jobs is running; `start_worker` starts one"
    name = f"{os.uname().nodename}.{worker.pid}"
    assert why(rig, waiting) == [f"its turn has not come: worker {name} is busy with other jobs, and {other}"]
    assert why(rig, first) == [] and "asks for category SPECIAL is running" in why(rig, special)[0]
    polled = describe(
        rig, "polled.9", "SPECIAL", run_command="true", polling_command=f"{rest}; false", polling_time="1"
    )
    second = rig.start_worker("SPECIAL")
    wait_until(lambda: rig.show(polled)["state"] == "claimed", "the claim")
    assert why(rig, waiting) == [f"its turn has not come: all 2 workers are busy with other jobs, and {other}"]
    assert f"worker {os.uname().nodename}.{second.pid} is busy" in why(rig, special)[0]
    assert "`start_worker SPECIAL` starts one" in why(rig, special)[0]
    (tmp_path / "go").touch()
    rig.run("jobjar", "wait", "--timeout", "60s", waiting, special)
    assert why(rig, waiting) == []


def test_a_job_that_is_to_be_tried_again_says_when_and_a_command_that_is_missing_is_named_so(rig: Rig) -> None:
    job = describe(rig, "job", batch="b", run_command="no-such-command", retries="2", retry_delay="1h")
    worker = rig.start_worker()
    wait_until(lambda: rig.show(job)["not_before"], "the failure")
    due, cause = why(rig, job)
    assert due.startswith("it is not to be tried again before ")
    assert cause == "its attempt 1 failed: run: exit status 127 (a command was not found)"
    assert rig.show(job)["attempts"][0]["message"] == "run: exit status 127 (a command was not found)"
    rig.stop_worker(worker)


def test_a_job_in_limbo_says_what_to_do_with_it(rig: Rig) -> None:
    job = describe(rig, "job", run_command="true")
    (rig.home / "unclaimed" / job).rename(rig.home / "limbo" / job)
    assert why(rig, job) == [f"it is in limbo, where no worker looks; move it to {rig.home}/unclaimed"]
    wrong = describe(rig, "wrong", run_command="true", colour="red")
    rig.run_until_idle()
    shown = rig.show(wrong)
    reason = shown["held_reason"]
    told = f"correct {rig.home}/limbo/{shown['name']}, then `jobjar release {shown['id']}` lets it go on"
    assert why(rig, wrong) == [f"it is held in limbo: {reason}; {told}"] and "'colour'" in reason


def test_a_job_that_a_dead_worker_holds_says_where_to_recover_it(rig: Rig) -> None:
    job = describe(rig, "job", run_command="sleep 60")
    worker = rig.start_worker()
    wait_until(lambda: rig.show(job)["state"] == "claimed", "the claim")
    assert why(rig, job) == []
    worker.kill()
    worker.wait()
    [line] = why(rig, job)
    assert f".{worker.pid}; run `recover_jobs` on node " in line and line.startswith(
        "it is stranded with the dead worker "
    )
    rig.run("recover_jobs")
    line, cause = why(rig, job)
    assert cause.startswith("its attempt 1 was stranded: its worker ")
    assert line.startswith("no worker that asks for uncategorized jobs is running; ")
