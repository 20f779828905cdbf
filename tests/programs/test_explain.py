"""jobjar explain: why a job waits, where it runs, how it ended, and what to do. Each cause of DESIGN.md's table that one node can
have is made here; the same causes are counted by `system_status` and `batch_status`."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.journal.entries import throttle_entry
from jobjar.ledger.ask_standing import count_left_in_limbo
from jobjar.reports.refresh import refresh_ledger
from tests.described_jobs import describe
from tests.rig import Rig, stop_at_rest, wait_until

NODE = os.uname().nodename


def counted(rig: Rig) -> dict[str, int]:
    """How many jobs `system_status` counts for each cause."""
    counts: dict[str, int] = {}
    for row in rig.status()["standing"]:
        counts[row["cause"]] = counts.get(row["cause"], 0) + row["jobs"]
        assert row["why"]
    return counts


def batch_counted(rig: Rig, batch: str) -> dict[str, int]:
    described = json.loads(rig.run("batch_status", "--format", "json", batch).stdout)["batches"][0]
    return {row["cause"]: row["jobs"] for row in described["standing"]}


def test_what_is_in_limbo_says_why_it_is_there_and_where_to_move_it(rig: Rig) -> None:
    rig.drop("wrong.1", "#!/bin/sh\n#JJ retires = 2\n")
    rig.run_until_idle()
    held = rig.run("jobjar", "submit", "--hold", "-c", "LINUX", "true").stdout.strip()
    moved = rig.submit("true")
    (rig.home / "unclaimed" / moved).rename(rig.home / "limbo" / moved)
    written = rig.home / "limbo" / rig.run("unique_job_name").stdout.strip().rpartition("/")[2]
    written.write_text("#!/bin/sh\n")
    written.chmod(0o755)
    explained = rig.explain("wrong.1", held, moved, written.name)
    assert [[cause["cause"] for cause in one["causes"]] for one in explained] == [
        ["faulty"],
        ["held"],
        ["in_limbo"],
        ["submitting"],
    ]
    by_whom = explained[1]["causes"][0]["why"]
    assert "'retires'" in explained[0]["sentence"] and by_whom.startswith("it is held by ")
    assert explained[1]["what_to_do"] == [f"`jobjar release {held}` lets it go on"]
    assert all(one["what_to_do"] and one["sentence"].count(" has waited for ") == 1 for one in explained)
    counts = counted(rig)
    assert (counts["faulty"], counts["held"]) == (1, 1)
    jar = rig.open()
    refresh_ledger(jar)
    left = count_left_in_limbo(jar.ledger.connection, time.time() + 60)
    assert (left.by_hand, left.submitted) == (1, 1)


def test_what_keeps_waiting_jobs_from_being_claimed_is_said_of_each_and_counted(rig: Rig) -> None:
    jobs = {cause: rig.submit("-c", "A", "true") for cause in ("no_worker", "not_a_job")}
    jobs["limit"] = rig.submit("-c", "L", "true")
    rig.run("workload_limit", "L", "0")
    jobs["begins_later"] = rig.run("jobjar", "submit", "--begin", "+1h", "true").stdout.strip()
    for batch in ("slow", "over"):
        script = f'batch\nname = {batch}\nrun_command = "true"\nseeds = 1-2\n'
        rig.shell(f"printf '%s' '{script}' | submit_batch -")
    listed = json.loads(rig.run("jobjar", "list", "--batch", "over", "--format", "json").stdout)["jobs"]
    jobs["aborted"] = listed[0]["name"]
    away = (rig.home / "unclaimed" / jobs["aborted"]).rename(rig.home / "limbo" / jobs["aborted"])
    rig.run("abort_batch", "over")
    away.rename(rig.home / "unclaimed" / away.name)
    now = time.time()
    jar = rig.open()
    jar.journal.append([throttle_entry("slow", now, now + 3600, 10)])
    jar.journal.flush()
    jobs["throttled"] = json.loads(rig.run("jobjar", "list", "--batch", "slow", "--format", "json").stdout)["jobs"][0][
        "id"
    ]
    (rig.home / "unclaimed/A" / jobs["not_a_job"]).chmod(0o644)

    explained = dict(zip(jobs, rig.explain(*jobs.values()), strict=True))
    for cause, one in explained.items():
        told = [standing["cause"] for standing in one["causes"]]
        assert told[0] == cause, (cause, told)
        assert told[1:] == ([] if cause in ("no_worker", "not_a_job") else ["no_worker"])
        assert one["what_to_do"]
    assert "workload_limit L N" in explained["limit"]["what_to_do"][0]
    assert explained["aborted"]["what_to_do"][0] == "`abort_batch --restart over` takes that back"
    assert counted(rig) == {"no_worker": 7, "limit": 1, "aborted": 1, "throttled": 2, "begins_later": 1, "not_a_job": 0}
    assert batch_counted(rig, "slow") == {"throttled": 2, "no_worker": 2}
    assert batch_counted(rig, "over") == {"aborted": 1, "no_worker": 1}
    shown = rig.run("batch_status", "slow").stdout
    assert "\nStanding still\n- 2 jobs: its batch is throttled until " in shown
    assert "no worker that asks for uncategorized jobs is running" in rig.run("batch_status").stdout

    # A file that the ledger never knew as a job is explained too.
    rig.drop("mine", "#!/bin/sh\n", mode=0o644)
    [one] = rig.explain("mine")
    assert one["causes"][0]["cause"] == "not_a_job" and one["what_to_do"] == ["chmod +x it, if it is to run"]
    stop_all = rig.home / "workers" / "STOP_ALL"
    stop_all.touch()
    (rig.home / "unclaimed").chmod(0o777)
    [one] = rig.explain(jobs["no_worker"])
    assert [standing["cause"] for standing in one["causes"]] == ["stop_all", "unsafe_jar"]
    assert one["what_to_do"][0].startswith(f"remove {stop_all}; ") and "chmod o-w" in one["what_to_do"][1]
    assert {"stop_all": 0, "unsafe_jar": 0}.items() <= counted(rig).items()


def test_what_a_worker_does_is_said_of_its_job_and_of_those_that_wait_for_it(rig: Rig, tmp_path: Path) -> None:
    def first_cause(job: str) -> Any:
        [one] = rig.explain(job)
        return one["causes"][0]["cause"] if one["causes"] else None

    rig.submit("true")
    rig.run_until_idle()
    running = rig.submit("--time-limit", "1h", f"until test -e {tmp_path}/go; do sleep 0.02; done")
    worker = rig.start_worker(JJ_HEARTBEAT_TIME="0.1")
    wait_until(lambda: rig.names("claimed") == [running], "the claim")
    others = [rig.submit("true") for _ in range(3)]
    [runs, waits] = rig.explain(running, others[2])
    name = f"{NODE}.{worker.pid}"
    assert runs["causes"] == [] and f"is with worker {name} since " in runs["sentence"]
    assert (
        "the worker was heard of " in runs["sentence"] and "its time limit of 1 h 0 m is over in " in runs["sentence"]
    )
    assert any("jobjar kill" in what for what in runs["what_to_do"])
    assert waits["causes"][0]["cause"] == "busy" and waits["jobs_before"] == 2 and waits["what_to_do"]
    assert "2 jobs are before it" in waits["sentence"] and waits["may_start_at"] is None
    assert "busy" not in counted(rig)

    rig.run("pause_worker", "all")
    assert first_cause(others[0]) == "paused" and counted(rig) == {"paused": 3}
    pause_all = rig.home / "workers" / "PAUSE_ALL"
    pause_all.touch()
    assert first_cause(others[0]) == "pause_all" and counted(rig)["pause_all"] == 3
    pause_all.unlink()
    rig.run("unpause_worker", "all")
    stop_at_rest(worker.pid)
    wait_until(lambda: first_cause(running) == "silent", "the silence")
    assert counted(rig)["silent"] == 1
    rig.run("stop_worker", "all")
    assert first_cause(others[0]) == "stopping" and counted(rig)["stopping"] == 3
    worker.kill()
    worker.wait()
    assert first_cause(running) == "stranded" and first_cause(others[0]) == "no_worker"
    assert counted(rig) == {"no_worker": 3, "stranded": 1}
    rig.run("recover_jobs")
    [back] = rig.explain(running)
    assert [standing["cause"] for standing in back["causes"]] == ["no_worker", "went_back"]

    # A worker that is free and takes nothing: it was stopped before the submission.
    (tmp_path / "go").touch()
    idle = rig.start_worker("QUIET", JJ_HEARTBEAT_TIME="0.1")
    rig.run("jobjar", "wait", "--timeout", "60s", "--all")
    stop_at_rest(idle.pid)
    new = rig.submit("-c", "QUIET", "true")
    wait_until(lambda: first_cause(new) == "silent", "the silence")
    idle.kill()
    idle.wait()


def test_a_free_worker_is_said_to_take_a_job_and_when_its_turn_comes_is_told_by_the_rate(
    rig: Rig, tmp_path: Path
) -> None:
    for _ in range(2):
        rig.submit("true")
    worker = rig.start_worker(JJ_HEARTBEAT_TIME="3600")
    rig.run("jobjar", "wait", "--timeout", "60s", "--all")
    stop_at_rest(worker.pid)
    waits = [rig.submit("-p", str(priority), "true") for priority in (0, 5)]
    rig.drop("by hand", "#!/bin/sh\n")
    low, high = rig.explain(*waits)
    for one in (low, high):
        assert [standing["cause"] for standing in one["causes"]] == ["next"]
        assert f"worker {NODE}.{worker.pid} is free" in one["sentence"] and "worker.log" in one["what_to_do"][0]
        assert one["may_start_at"] is not None
    listed = json.loads(rig.run("jobjar", "list", "--state", "waiting", "--format", "json").stdout)["jobs"]
    order = [job["name"] for job in listed]
    assert (high["jobs_before"], low["jobs_before"]) == (0, order.index(low["name"])) and len(order) == 3
    assert low["may_start_at"] > high["may_start_at"] and "by the rate of the last hour (" in low["sentence"]
    assert counted(rig) == {}
    worker.kill()
    worker.wait()


def test_a_described_job_says_what_it_waits_for_and_one_that_failed_when_it_is_tried_again(
    rig: Rig, tmp_path: Path
) -> None:
    failing = describe(rig, "failing", batch="b", run_command="exit 3", retries="1", retry_delay="1h")
    worker = rig.start_worker()
    wait_until(lambda: rig.show(failing)["not_before"], "the failure")
    staging = describe(
        rig,
        "staging",
        batch="b",
        stage_in_command=f"until test -e {tmp_path}/go; do sleep 0.02; done",
        run_command="true",
    )
    wait_until(lambda: rig.names("claimed") == [staging], "the claim")

    def staged() -> Any:
        [one] = rig.explain(staging)
        return [standing["cause"] for standing in one["causes"]] == ["staging_in"]

    wait_until(staged, "the stage")
    [one] = rig.explain(failing)
    assert [standing["cause"] for standing in one["causes"]] == ["retried_later", "went_back"]
    assert one["what_to_do"] or "`jobjar output`" in one["sentence"]
    assert counted(rig) == {"retried_later": 1} and batch_counted(rig, "b") == {"retried_later": 1}
    (tmp_path / "go").touch()
    rig.run("jobjar", "wait", "--timeout", "60s", staging)
    rig.stop_worker(worker)


@pytest.mark.usefixtures("own_library")
def test_how_a_job_ended_is_said_in_a_sentence_and_words_are_those_of_every_verb(rig: Rig) -> None:
    names = [
        rig.submit("--id", "good", "true"),
        rig.submit("--id", "bad", "--retries", "1", "--retry-delay", "0", "exit 3"),
        rig.submit("--id", "slow", "--time-limit", "0.1", "sleep 60"),
    ]
    rig.run_until_idle()
    good, bad, slow = jobjar.explain(["good", "bad", "slow"])
    assert [good.name, bad.name, slow.name] == names and good.causes == []
    ago = rf"[0-9].* ago, after [0-9].* on {NODE}[.][0-9]+"
    assert re.fullmatch(rf"{good.id} \(good\) succeeded, {ago}", good.sentence)
    assert re.fullmatch(rf"{bad.id} \(bad\) failed on the 2nd attempt, exit status 3, {ago}", bad.sentence)
    assert "ran into its time limit, signal TERM, " in slow.sentence
    assert bad.what_to_do == [
        f"`jobjar output {bad.id}` shows what it wrote",
        f"`jobjar retry {bad.id}` runs it again",
    ]
    text = rig.run("jobjar", "explain", "--outcome", "failed").stdout.splitlines()
    assert text[0].startswith(f"{bad.id} (bad) failed ") and text[0].endswith(".")
    assert text[1:] == [f"  To do: {what}." for what in bad.what_to_do]
    assert jobjar.explain(state="waiting") == []
    result = rig.run("jobjar", "explain", "--state", "ended", "--limit", "1")
    assert result.stdout.count("\n\n") == 0 and "there are more; --limit 0" in result.stderr
    for words, status, said in (
        ([], 2, "name jobs or filters"),
        (["--state", "waiting"], 1, "no job fits --state waiting"),
        (["nothing"], 1, "no job of this name"),
        (["good", "nothing"], 1, "no job of this name"),
        (["--limit", "-1", "good"], 2, "-1 is no number of jobs"),
    ):
        result = rig.run("jobjar", "explain", *words, check=False)
        assert (result.returncode, bool(result.stdout)) == (status, words[:1] == ["good"]), words
        assert said in result.stderr
    waiting = rig.home / "unclaimed" / rig.submit("true")
    rig.run("jobjar", "list")
    waiting.unlink()
    [gone] = rig.explain(waiting.name)
    assert "was removed" in gone["sentence"] and gone["what_to_do"]
