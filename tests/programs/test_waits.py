"""`jobjar wait`, and the library's: for jobs, batches, categories, patterns, all; the verdict; what is told meanwhile."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

import jobjar
from jobjar.errors import AmbiguousTarget, TimedOut, UnknownTarget, UsageError
from tests.described_jobs import describe
from tests.rig import BIN, Result, Rig, wait_until


def wait(rig: Rig, *words: str, timeout: str = "60s") -> Result:
    return rig.run("jobjar", "wait", "--timeout", timeout, *words, check=False)


def verdict(result: Result) -> str:
    assert result.stdout == ""
    return result.stderr.splitlines()[-1].removeprefix("jobjar wait: ")


def ids(rig: Rig, *names: str) -> list[str]:
    return [rig.show(name)["id"] for name in names]


def submit_file(rig: Rig, name: str, *lines: str) -> None:
    path = rig.home.parent / f"{name}.jug"
    path.write_text("\n".join(("batch", f"name = {name}", "retries = 0", *lines)) + "\n")
    rig.run("submit_batch", str(path))


# The verdict


def test_the_last_line_says_how_many_failed_which_and_what_to_type_next(rig: Rig) -> None:
    good = [rig.submit("true") for _ in range(2)]
    bad = [rig.submit("exit 3") for _ in range(7)]
    rig.run_until_idle()
    result = wait(rig, good[0])
    assert (result.returncode, verdict(result)) == (0, "1 of 1 succeeded")
    result = wait(rig, *good, bad[0])
    [failed] = ids(rig, bad[0])
    assert (result.returncode, verdict(result)) == (1, f"1 of 3 failed: {failed} (`jobjar show {failed}` says why)")
    first = sorted(ids(rig, *bad))
    told = f"7 of 9 failed: {', '.join(first[:5])} and 2 more (`jobjar show {first[0]}` says why)"
    assert verdict(wait(rig, *good, *bad)) == told


def test_whatever_is_no_success_is_named_by_its_kind(rig: Rig) -> None:
    names = {
        "failed": rig.submit("exit 3"),
        "timed out": rig.submit("--time-limit", "0.1s", "sleep 60"),
        "killed": rig.submit("sleep 60"),
        "removed": rig.submit("-c", "NOBODY", "true"),
    }
    rig.drop("odd.-1", "#!/bin/sh\n#JJ colour = red\n")
    worker = rig.start_worker()
    wait_until(lambda: rig.show(names["killed"])["attempts"], "its start")
    rig.run("jobjar", "kill", names["killed"])
    known = dict(zip(names, ids(rig, *names.values()), strict=True))
    waiting = subprocess.Popen(
        [BIN / "jobjar", "wait", "odd.-1", *known.values()], env=rig.environment, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(rig.names("completed")) == 3 and rig.names("limbo"), "their ends")
    (rig.home / "unclaimed" / "NOBODY" / names["removed"]).unlink()
    said = waiting.communicate(timeout=60)[1].splitlines()
    assert waiting.returncode == 1
    [known["held"]] = ids(rig, "odd.-1")
    parts = [f"1 of 5 failed: {known['failed']}"]
    parts += [f"1 {kind}: {known[kind]}" for kind in ("timed out", "killed", "held", "removed")]
    assert said[-1].startswith(f"jobjar wait: {'; '.join(parts)} (`jobjar show ") and said[-1].endswith("` says why)")
    [at_once] = [line for line in said if "is held in limbo" in line]
    assert at_once.startswith(f"jobjar wait: {known['held']} (odd.-1) is held in limbo: ")
    assert "'colour'" in at_once and at_once.endswith(
        f"correct {rig.home}/limbo/odd.-1, then `jobjar release {known['held']}` lets it go on"
    )
    rig.stop_worker(worker)


def test_a_held_job_is_told_at_once_and_nothing_else_to_wait_for_is_no_reason_to_wait(rig: Rig) -> None:
    rig.drop("odd", "#!/bin/sh\n#JJ colour = red\n")
    rig.run_until_idle()
    for words in (["odd"], ["--all"]):
        result = wait(rig, *words)
        [uid] = ids(rig, "odd")
        assert result.returncode == 1
        assert verdict(result) == f"1 of 1 held: {uid} (`jobjar show {uid}` says why)"
        assert f"{uid} (odd) is held in limbo: " in result.stderr.splitlines()[0]


def test_a_held_job_that_is_corrected_while_others_run_is_waited_for_again(rig: Rig, tmp_path: Path) -> None:
    rig.drop("odd", "#!/bin/sh\n#JJ colour = red\n")
    long = rig.submit(f"until test -e {tmp_path}/go; do sleep 0.05; done")
    worker = rig.start_worker()
    waiting = subprocess.Popen(
        [BIN / "jobjar", "wait", "odd", long], env=rig.environment, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: rig.names("limbo"), "the hold")
    assert waiting.stderr is not None and "is held in limbo" in waiting.stderr.readline()
    (rig.home / "limbo" / "odd").write_text("#!/bin/sh\nexit 0\n")
    (rig.home / "limbo" / "odd").rename(rig.home / "unclaimed" / "odd")
    (tmp_path / "go").touch()
    assert waiting.communicate(timeout=60)[1].splitlines()[-1] == "jobjar wait: 2 of 2 succeeded"
    assert waiting.returncode == 0
    rig.stop_worker(worker)


# What is waited for


def test_all_counts_what_failed_before_it_began_to_look(rig: Rig) -> None:
    """So that `jobjar wait --all && submit_job merge` merges nothing that is not there."""
    assert verdict(wait(rig, "--all")) == "there was no job to wait for"
    bad = rig.submit("exit 3")
    rig.submit("true")
    rig.run_until_idle()
    [uid] = ids(rig, bad)
    result = wait(rig, "--all")
    assert (result.returncode, verdict(result)) == (1, f"1 of 2 failed: {uid} (`jobjar show {uid}` says why)")
    ended_at = rig.show(bad)["attempts"][0]["ended_at"]
    wait_until(lambda: time.time() > ended_at + 0.3)
    rig.submit("true")
    rig.run_until_idle()
    later = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(ended_at)) + f"{ended_at % 1 + 0.2:.6f}"[1:]
    if ended_at % 1 < 0.7:
        result = wait(rig, "--all", "--since", later)
        assert result.returncode == 0
        assert "jobjar wait: not looked at: " in result.stderr and "(--since says another time)" in result.stderr
    assert wait(rig, "--all", "--since", "1h").returncode == 1
    assert wait(rig, "--all", "--since", "0").returncode == 0


def test_all_waits_for_what_is_submitted_meanwhile_and_counts_it(rig: Rig) -> None:
    seed = rig.submit("sleep 0.3; for i in 1 2 3; do submit_job 'exit 1'; done")
    worker = rig.start_worker()
    result = wait(rig, "--all")
    assert result.returncode == 1 and verdict(result).startswith("3 of 4 failed: ")
    assert rig.show(seed)["outcome"] == "succeeded"
    rig.stop_worker(worker)


def test_a_batch_is_waited_for_until_none_of_its_jobs_is_open_and_counts_as_its_status_does(
    rig: Rig, tmp_path: Path
) -> None:
    submit_file(rig, "wc", "seeds = 1-4", f'run_command = "test -e {tmp_path}/go || test $JUG_SEED -gt 1"')
    rig.submit("exit 1")
    assert wait(rig, "wc", timeout="0").returncode == 124
    worker = rig.start_worker()
    for words in (["wc"], ["--batch", "wc"], ["w*"]):
        result = wait(rig, *words)
        assert result.returncode == 1
        told = re.fullmatch(
            r"1 of 4 failed: (\w{12}) \(`batch_status wc` says why, `abort_batch --restart wc` submits what failed again\)",
            verdict(result),
        )
        assert told and rig.show(told[1])["seed"] == 1
    (tmp_path / "go").touch()
    rig.run("abort_batch", "--restart", "wc")
    result = wait(rig, "wc")
    assert (result.returncode, verdict(result)) == (0, "4 of 4 succeeded")
    rig.stop_worker(worker)


def test_a_category_and_a_pattern_are_waited_for(rig: Rig) -> None:
    for number in (1, 2):
        rig.submit("-c", "LINUX", "-i", f"night{number}", f"exit {number - 1}")
    rig.submit("exit 1")
    rig.submit("-c", "OTHER", "-i", "day", "true")
    worker = rig.start_worker("LINUX")
    for words in (["LINUX"], ["--category", "LINUX"], ["*night*"]):
        result = wait(rig, *words)
        assert result.returncode == 1 and verdict(result).startswith("1 of 2 failed: "), words
    assert verdict(wait(rig, "--category", "")).startswith("1 of 1 failed: ")
    unknown = wait(rig, "--category", "UNK")
    assert "there is no category UNK: no unclaimed/UNK, and no job of it" in unknown.stderr
    for words in (["--category", "UNK"], ["--batch", "b"], ["LINUX"]):
        both = wait(rig, "--all", *words)
        assert both.returncode == 2 and "--all waits for every job of the jar; leave it out" in both.stderr, words
    assert "name what to wait for, or use --all" in wait(rig).stderr
    assert verdict(wait(rig, "*night1*")) == "1 of 1 succeeded"
    assert verdict(wait(rig, "LINUX", "*-day.*", timeout="0.1")) == "the end of 1 of 3 jobs did not happen within 0.1 s"
    rig.stop_worker(worker)


def test_a_job_of_a_batch_that_a_hand_put_into_limbo_is_waited_for(rig: Rig) -> None:
    submit_file(rig, "wc", "seeds = 1-2", "run_command = true")
    name = rig.names("unclaimed")[0]
    (rig.home / "unclaimed" / name).rename(rig.home / "limbo" / name)
    rig.run_until_idle()
    result = wait(rig, "wc", timeout="0.1")
    assert result.returncode == 124
    assert f"it is in limbo, where no worker looks; move it to {rig.home}/unclaimed" in result.stderr
    assert "not looked at: 1 job in limbo" in wait(rig, "--all").stderr


def test_a_word_that_means_several_things_is_an_error_that_says_how_to_choose(rig: Rig) -> None:
    submit_file(rig, "wc", "seeds = 1-2", "run_command = true")
    rig.drop("wc", "#!/bin/sh\n", "OTHER")
    rig.submit("-c", "wc", "true")
    result = wait(rig, "wc")
    assert result.returncode == 1
    ways = "--batch wc or --category wc or unclaimed/OTHER/wc for the job"
    assert verdict(result) == f"wc is a batch and a category and a job: say {ways}"
    rig.run_until_idle("wc", "OTHER")
    assert verdict(wait(rig, "--batch", "wc")) == "2 of 2 succeeded"
    assert verdict(wait(rig, *ids(rig, "wc"))) == "1 of 1 succeeded"
    for word in ("nobody", "no*body"):
        result = wait(rig, word)
        assert (
            result.returncode == 1 and f"{word}: no job of this name or id, and no batch or category" in result.stderr
        )
    assert "there is no batch nobody" in wait(rig, "--batch", "nobody").stderr
    for words in (["--all", "wc"], [], ["--all", "--since", "soon"], [*ids(rig, "wc"), "--since", "1h"]):
        assert wait(rig, *words).returncode == 2, words


# What is told meanwhile


def test_after_some_seconds_it_says_why_jobs_stand_still_a_line_a_cause(rig: Rig) -> None:
    for _ in range(3):
        rig.submit("-c", "SPECIAL", "true")
    rig.submit("true")
    process = subprocess.Popen(
        [BIN / "jobjar", "wait", "--all"], env=rig.environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = sorted(re.sub(r"\b[0-9a-z]{12}\b", "ID", process.stderr.readline()) for _ in range(2))
    assert said == [
        "jobjar wait: ID and 2 more: no worker that asks for category SPECIAL is running; `start_worker SPECIAL` starts one\n",
        "jobjar wait: ID: no worker that asks for uncategorized jobs is running; `start_worker` starts one\n",
    ]
    worker = rig.start_worker("SPECIAL")
    assert process.communicate(timeout=60)[1].splitlines()[-1] == "jobjar wait: 4 of 4 succeeded"
    rig.stop_worker(worker)


def test_when_the_time_is_over_it_says_what_failed_what_stands_still_and_how_much_is_left(rig: Rig) -> None:
    bad = rig.submit("exit 1")
    rig.run_until_idle()
    stuck = rig.submit("-c", "SPECIAL", "true")
    result = wait(rig, bad, stuck, timeout="0.2")
    assert result.returncode == 124
    failed, open_job = ids(rig, bad, stuck)
    assert result.stderr.splitlines() == [
        f"jobjar wait: {open_job}: no worker that asks for category SPECIAL is running; `start_worker SPECIAL` starts one",
        f"jobjar wait: 1 of 2 failed: {failed} (`jobjar show {failed}` says why)",
        "jobjar wait: the end of 1 of 2 jobs did not happen within 0.2 s",
    ]


def test_a_batch_whose_submission_is_not_finished_is_not_taken_for_done(rig: Rig) -> None:
    submit_file(rig, "wc", "seeds = 1-3", "run_command = true")
    jar = rig.open()
    state = (rig.home / "batches/wc/batch.json").read_text()
    # What the journal of a node says whose jobs nobody has seen yet.
    jar.journal.append(
        [
            {
                "entry": "batch",
                "batch": "wc",
                "submitter": "ann",
                "submitted_at": 1.0,
                "description": "",
                "changed_at": 9e9,
                "jobs": 5,
            }
        ]
    )
    rig.run_until_idle()
    result = wait(rig, "wc", timeout="0.1")
    assert state and result.returncode == 124
    assert "2 jobs were submitted, and are not in the jar yet (`recover_jobs` goes on with that)" in result.stderr


# The library


@pytest.mark.usefixtures("own_library")
def test_the_library_waits_for_the_same(rig: Rig) -> None:
    submit_file(rig, "wc", "seeds = 1-2", 'run_command = "test $JUG_SEED = 1"')
    special = jobjar.submit_job("true", category="SPECIAL")
    rig.drop("odd", "#!/bin/sh\n#JJ colour = red\n")
    worker = rig.start_worker()
    assert sorted(map(str, jobjar.wait("wc", timeout=60).values())) == ["failed", "succeeded"]
    assert sorted(map(str, jobjar.wait(batch="wc").values())) == ["failed", "succeeded"]
    told: list[str] = []
    with pytest.raises(TimedOut, match="the end of 1 of 1 jobs"):
        jobjar.wait(category="SPECIAL", timeout=0, log=told.append)
    assert told[-1].endswith("; `start_worker SPECIAL` starts one")
    with pytest.raises(UnknownTarget):
        jobjar.wait("nobody*")
    rig.stop_worker(worker)
    rig.run_until_idle("SPECIAL")
    [held] = ids(rig, "odd")
    outcomes = jobjar.wait(all=True, timeout=60, log=told.append)
    assert (
        sorted(map(str, outcomes.values())) == ["None", "failed", "succeeded", "succeeded"] and outcomes[held] is None
    )
    assert f"{held} (odd) is held in limbo" in told[-1]
    assert jobjar.wait(all=True, since=time.time()) == {held: None}
    assert jobjar.wait([]) == jobjar.wait(None) == {}
    assert jobjar.wait(None, all=True, since=time.time()) == {held: None}
    with pytest.raises(UsageError, match="all=True waits for every job of the jar; leave it out"):
        jobjar.wait(all=True, category="SPECIAL")
    describe(rig, "SPECIAL", "OTHER", run_command="true")
    with pytest.raises(
        AmbiguousTarget, match="SPECIAL is a category and a job: say --category SPECIAL or unclaimed/OTHER/SPECIAL"
    ):
        jobjar.wait("SPECIAL")
    assert jobjar.wait(special) == {ids(rig, special)[0]: "succeeded"}
