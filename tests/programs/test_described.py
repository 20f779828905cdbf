"""Described jobs, by a real worker: what goes wrong, polling, overlap, and what a person may do meanwhile.

What the two documents that they come from say stands sentence by sentence in `test_contract.py` and `test_cycle.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.described_jobs import describe, entries, make_package, outcome, pack, phases, said, script, underway
from tests.rig import Rig, wait_until

NODE = os.uname().nodename


def is_completed(rig: Rig, name: str) -> bool:
    return bool(rig.show(name)["state"] == "completed")


# The working directory


def test_a_fresh_working_directory_is_where_every_stage_starts(rig: Rig) -> None:
    command = 'pwd; ls -A; touch "$JJ_PHASE"'
    name = describe(rig, "job", run_command=command, stage_in_command=command, stage_out_command=command)
    rig.run_until_idle()
    claim = next(entry for entry in entries(rig, "moved", name) if entry["reason"] == "claimed")
    scratch = claim["to"].replace("/jobs/", "/scratch/")
    here = f"{rig.home}/{scratch}"
    assert said(rig, name).splitlines() == [
        here,
        "output",
        here,
        "output",
        "stage_in",
        here,
        "output",
        "run",
        "stage_in",
    ]
    assert not Path(here).exists()
    rig.assert_clean()


def test_input_files_are_there_before_the_job_starts(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    sums = hashlib.md5(b"two", usedforsecurity=False).hexdigest()
    sources = f"{tmp_path}/a.txt {tmp_path}/b.txt#name=c&md5={sums}"
    name = describe(rig, "job", run_command="cat a.txt c", stage_in_command="cat c a.txt", input_files=sources)
    rig.run_until_idle(JJ_INPUT_CACHE=str(tmp_path / "cache"))
    assert said(rig, name) == "twooneonetwo"
    assert (tmp_path / "a.txt").read_text() == "one"
    assert [phase[:2] for phase in phases(rig, name)] == [("stage_in", 0), ("run", 0)]


def test_an_input_file_with_another_sum_fails_the_stage_in_and_says_so(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    name = describe(rig, "job", run_command="echo ran", input_files=f"{tmp_path}/a.txt#md5={'0' * 32}", retries=1)
    rig.run_until_idle(JJ_INPUT_CACHE=str(tmp_path / "cache"))
    shown = rig.show(name)
    assert (shown["outcome"], len(shown["attempts"])) == ("failed", 2)
    for attempt in shown["attempts"]:
        assert attempt["message"].startswith("stage_in: ") and "a.txt" in attempt["message"]
        assert "0" * 32 in attempt["message"]
    assert [phase[0] for phase in phases(rig, name)] == ["stage_in", "stage_in"]
    assert said(rig, name) == ""


# Environment and software


def test_the_environment_is_the_workers_then_the_descriptions_then_that_of_the_packages(
    rig: Rig, tmp_path: Path
) -> None:
    package = make_package(tmp_path / "p", package__setup_sh='C="$C setup:$1"\nexport C\nD=$PWD; export D\n')
    name = describe(
        rig,
        "job",
        software=package,
        environment="B=description 'C=two words' JJ_JOB_ID=mine",
        seed=7,
        batch="night",
        run_command='echo "$A/$B/$C"; [ "$D" = "$PWD" ] && echo here; echo $JUG_SEED $JJ_SEED $JJ_BATCH $JJ_PHASE $JJ_JOB_ID',
    )
    rig.run_until_idle(A="worker", B="worker")
    uid = rig.show(name)["id"]
    assert said(rig, name).splitlines() == [
        f"worker/description/two words setup:{package}",
        "here",
        f"7 7 night run {uid}",
    ]


def test_a_package_is_unpacked_and_installed_once_and_its_commands_and_setup_are_used(rig: Rig, tmp_path: Path) -> None:
    package = make_package(
        tmp_path / "p",
        bin__tool='#!/bin/sh\necho "tool $(cat "$(dirname "$0")/../place")"\n',
        package__install='#!/bin/sh\necho "$1" > "$1/place"; echo installed >> "$COUNT"\n',
        package__setup_sh="PATH=$1/bin:$PATH\nexport PATH\n",
        package__commands="run_command = tool\nstage_in_command = echo in $1\nstage_out_command = echo out\n",
    )
    archive = pack(package)
    names = [describe(rig, f"job{number}", software=archive) for number in range(3)]
    rig.run_until_idle(COUNT=str(tmp_path / "count"), JJ_INPUT_CACHE=str(tmp_path / "cache"))
    [place] = [path for path in (rig.home / "software").iterdir() if path.is_dir()]
    for name in names:
        assert said(rig, name).splitlines() == [f"in {place}", f"tool {place}", "out"]
    assert (tmp_path / "count").read_text() == "installed\n"


def test_without_a_command_jug_run_is_run_and_jug_stage_in_and_out_where_setup_sets_them(
    rig: Rig, tmp_path: Path
) -> None:
    named = make_package(
        tmp_path / "named",
        package__setup_sh="JUG_RUN='echo named run'; JUG_STAGE_IN='echo named in'; JUG_STAGE_OUT='echo named out'\n",
    )
    default = make_package(
        tmp_path / "default", bin__jug_run="#!/bin/sh\necho jug_run\n", package__setup_sh="PATH=$1/bin:$PATH\n"
    )
    by_name = describe(rig, "named", software=named)
    by_default = describe(rig, "default", software=default)
    by_both = describe(rig, "both", software=named, run_command="echo described")
    rig.run_until_idle()
    assert said(rig, by_name).splitlines() == ["named in", "named run", "named out"]
    assert said(rig, by_default).splitlines() == ["jug_run"]
    assert said(rig, by_both).splitlines() == ["named in", "described", "named out"]


def test_a_setup_can_put_something_in_front_of_the_command_that_is_run_without_it(rig: Rig, tmp_path: Path) -> None:
    wrapping = make_package(
        tmp_path / "wrapping",
        bin__jug_run="#!/bin/sh\necho jug_run $(nice)\n",
        package__setup_sh='PATH=$1/bin:$PATH; JUG_RUN="nice -n 7 $JUG_RUN"; JUG_STAGE_OUT="echo out; $JUG_STAGE_OUT"\n',
    )
    by_default = describe(rig, "default", software=wrapping)
    missing = describe(
        rig,
        "missing",
        software=make_package(tmp_path / "bad", package__setup_sh='JUG_RUN="nice $JUG_RUN"\n'),
        retries=0,
    )
    named = describe(rig, "named", software=wrapping, environment="JUG_RUN='sh -c \"echo own; nice\"'")
    before = int(subprocess.run(["nice"], capture_output=True, text=True, check=True).stdout)
    rig.run_until_idle()
    assert said(rig, by_default).splitlines() == [f"jug_run {min(before + 7, 19)}", "out"]
    assert outcome(rig, missing) == ("completed", "failed", 127, 1)
    assert said(rig, named).splitlines() == ["own", str(min(before + 7, 19)), "out"]


def test_what_the_description_s_environment_says_goes_before_the_commands_of_a_package(
    rig: Rig, tmp_path: Path
) -> None:
    package = make_package(
        tmp_path / "p",
        package__commands="run_command = echo package run\nstage_in_command = echo package in\n"
        "stage_out_command = echo package out\n",
    )
    environment = "'JUG_RUN=echo own run' 'JUG_STAGE_IN=echo own in' JUG_STAGE_OUT="
    own = describe(rig, "own", software=package, environment=environment)
    command = describe(rig, "command", software=package, environment=environment, run_command="echo described")
    nothing = describe(rig, "nothing", software=package, environment="JUG_RUN=")
    rig.run_until_idle(JUG_RUN="echo worker run", JUG_STAGE_IN="echo worker in", JUG_STAGE_OUT="echo worker out")
    assert said(rig, own).splitlines() == ["own in", "own run"]
    assert said(rig, command).splitlines() == ["own in", "described"]
    assert said(rig, nothing).splitlines() == ["package in", "package run", "package out"]


def test_workware_has_its_setup_and_its_commands_used_after_those_of_software(rig: Rig, tmp_path: Path) -> None:
    software = make_package(
        tmp_path / "soft",
        package__setup_sh='export TOLD="$TOLD soft" OWN=soft\n',
        package__commands="stage_in_command = echo in by soft\n",
    )
    workware = make_package(
        tmp_path / "work",
        package__setup_sh='export TOLD="$TOLD work" WHERE=$1\n',
        package__commands="stage_in_command = echo in by work\nrun_command = . $1/script; echo ran by work\n"
        "stage_out_command = echo out by work $TOLD\n",
        script='test "$WHERE" = "$PWD" && echo "$OWN:$TOLD"\n',
    )
    both = describe(rig, "both", software=software, workware=workware)
    alone = describe(rig, "alone", workware=workware)
    own = describe(rig, "own", workware=workware, run_command="echo mine", stage_in_command="echo my in")
    rig.run_until_idle()
    assert said(rig, both) == "in by soft\nsoft: soft work\nran by work\nout by work soft work\n"
    assert said(rig, alone) == "in by work\n: work\nran by work\nout by work work\n"
    assert said(rig, own) == "my in\nmine\nout by work work\n"
    rig.assert_clean()


def test_workware_of_a_polled_job_is_used_by_the_worker_that_goes_on_with_it(rig: Rig, tmp_path: Path) -> None:
    workware = make_package(
        tmp_path / "work",
        package__setup_sh="export WHERE=$1\n",
        package__commands="run_command = echo ran\npolling_command = $1/ask\n"
        "stage_out_command = echo out in $WHERE; test -d $WHERE\n",
        ask=f"#!/bin/sh\ntest ! -e {tmp_path}/go || echo finished = 1 > jug_polling.vars\ntouch {tmp_path}/asked\n",
    )
    name = describe(rig, "polled", workware=workware, polling_time="0.05")
    first = rig.start_worker()
    wait_until(lambda: (tmp_path / "asked").exists(), "a poll")
    first.kill()
    first.communicate()
    rig.run("recover_jobs")
    (tmp_path / "go").touch()
    rig.run_until_idle()
    assert outcome(rig, name)[:2] == ("completed", "succeeded")
    assert "out in /" in said(rig, name)
    rig.assert_clean()


def test_workware_whose_commands_cannot_be_read_is_an_error_with_the_line(rig: Rig, tmp_path: Path) -> None:
    workware = make_package(tmp_path / "work", package__commands="no command\n")
    name = describe(rig, "job", workware=workware, run_command="true")
    rig.run_until_idle()
    assert rig.show(name)["outcome"] == "failed"
    assert "package/commands, line 1" in rig.show(name)["attempts"][0]["message"]


def test_workware_is_put_into_the_working_directory(rig: Rig, tmp_path: Path) -> None:
    package = make_package(tmp_path / "p", data__table="rows\n")
    name = describe(rig, "job", workware=package, run_command="cat data/table; echo more >> data/table")
    rig.run_until_idle()
    assert said(rig, name) == "rows\n"
    assert (package / "data" / "table").read_text() == "rows\n"


# Failures


@pytest.mark.parametrize("stage", ["stage_in", "run", "stage_out"])
def test_a_status_other_than_0_at_any_stage_has_the_job_run_again(rig: Rig, tmp_path: Path, stage: str) -> None:
    flag = tmp_path / "failed"
    command = f"[ -e {flag} ] || {{ touch {flag}; exit 5; }}"
    said_of_it = {"run_command": "true", f"{stage}_command": command}
    name = describe(rig, "job", **said_of_it)
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "succeeded", 0, 2)
    first = rig.show(name)["attempts"][0]
    assert (first["outcome"], first["exit_status"]) == ("failed", 5)
    assert first["message"] == f"{stage}: exit status 5"
    assert (stage, 5, f"{stage}: exit status 5") in phases(rig, name)
    rig.assert_clean()


def test_a_job_is_run_again_three_times_with_doubled_delays_and_then_fails(rig: Rig) -> None:
    name = describe(rig, "job", run_command="date +%s.%N; exit 3", retry_delay="0.1")
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "failed", 3, 4)
    times = [float(line) for line in said(rig, name).splitlines()]
    for number, (earlier, later) in enumerate(itertools.pairwise(times)):
        assert later - earlier >= 0.1 * 2**number


def test_a_worker_leaves_after_a_failure_where_it_is_told_to(rig: Rig) -> None:
    failing = describe(rig, "a.2", run_command="exit 1", retries=0)
    under_way = describe(rig, "b.1", run_command="true")
    later = describe(rig, "c", run_command="true")
    settings = {"JJ_EXIT_ON_FAILURE": "yes", "JJ_STAGED_AHEAD": "1"}
    worker = rig.start_worker(**settings)
    assert worker.wait(30) == 0
    assert outcome(rig, failing)[:2] == ("completed", "failed")
    # What was staged ahead is finished; nothing else is claimed.
    assert rig.show(under_way)["state"] in ("completed", "unclaimed")
    assert rig.show(later)["state"] == "unclaimed"


def test_an_input_file_of_an_encoded_address_has_its_own_name(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "100% two words.txt").write_text("content\n")
    name = describe(
        rig, "job", run_command="cat '100% two words.txt'", input_files=f"file://{tmp_path}/100%25%20two%20words.txt"
    )
    rig.run_until_idle()
    assert said(rig, name) == "content\n"


def test_a_description_edited_by_hand_counts_at_the_next_attempt_and_a_wrong_one_is_held(rig: Rig) -> None:
    name = describe(rig, "job", run_command="echo one; exit 1", retry_delay="2s")
    worker = rig.start_worker()
    wait_until(lambda: rig.show(name)["not_before"], "the first attempt's end")
    rig.stop_worker(worker)
    job = rig.home / "unclaimed" / name
    job.write_text(script(run_command="echo two"))
    rig.run_until_idle()
    assert said(rig, name) == "one\ntwo\n"
    assert outcome(rig, name) == ("completed", "succeeded", 0, 2)
    wrong = describe(rig, "wrong", run_command="true", polling_time="never")
    rig.run_until_idle()
    shown = rig.show(wrong)
    assert shown["state"] == "limbo" and "polling_time" in shown["held_reason"]


def test_a_job_that_runs_too_long_is_ended_at_its_limit(rig: Rig) -> None:
    name = describe(rig, "job", run_command="sleep 60", time_limit="0.2", retries=0)
    rig.run_until_idle()
    shown = rig.show(name)
    assert (shown["outcome"], shown["signal"]) == ("timed_out", signal.SIGTERM)
    assert shown["attempts"][0]["message"] == "ended at its time limit of 0.2 s"


def test_a_job_is_killed_on_request_whatever_stage_it_is_in(rig: Rig) -> None:
    names = [describe(rig, "running.2", run_command="sleep 60"), describe(rig, "ahead.1", stage_in_command="sleep 60")]
    worker = rig.start_worker()
    wait_until(lambda: len([e for e in entries(rig, "phase") if "ended_at" not in e]) == 2, "both under way")
    for name in names:
        rig.run("jobjar", "kill", name)
        wait_until(partial(is_completed, rig, name), "the end")
    rig.stop_worker(worker)
    assert [rig.show(name)["outcome"] for name in names] == ["killed", "killed"]
    assert [words for words in rig.command_lines() if "sleep" in words] == []


# What a job says of itself, and its outputs


def test_monitored_variables_are_kept_and_odd_lines_are_warnings(rig: Rig) -> None:
    name = describe(rig, "job", run_command="printf 'work_done = 12\\nodd\\nname = a b\\n' > jug_monitor.vars")
    rig.run_until_idle()
    assert [entry["variables"] for entry in entries(rig, "variables", name)] == [{"work_done": "12", "name": "a b"}]
    [warned] = entries(rig, "warned", name)
    assert len(warned["warnings"]) == 1 and "line 2" in warned["warnings"][0]
    rig.assert_clean()


def test_variables_are_read_while_the_job_runs_when_they_change(rig: Rig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = f"echo n = 1 > jug_monitor.vars; while [ ! -e {go} ]; do sleep 0.02; done; echo n = 2 > jug_monitor.vars"
    name = describe(rig, "job", run_command=command)
    worker = rig.start_worker(JJ_PROGRESS_TIME="0.1")
    seen = wait_until(lambda: entries(rig, "variables"), "the progress")
    assert [entry["variables"] for entry in seen] == [{"n": "1"}]
    go.touch()
    wait_until(lambda: rig.show(name)["state"] == "completed")
    rig.stop_worker(worker)
    assert [entry["variables"] for entry in entries(rig, "variables", name)] == [{"n": "1"}, {"n": "2"}]


def test_files_that_the_job_stored_itself_are_recorded(rig: Rig) -> None:
    log = "printf 'source_name = a/b\\nstorage_size = 3\\nstorage_hfn = host:/x/a/b\\nsource_name = c\\n' > jug_stage_out.log"
    name = describe(rig, "job", run_command="true", stage_out_command=log)
    rig.run_until_idle()
    stored = [(entry["source_name"], entry.get("storage_size")) for entry in entries(rig, "stored", name)]
    assert stored == [("a/b", 3), ("c", None)]


def test_without_a_storage_class_the_worker_stores_what_is_below_output(rig: Rig) -> None:
    command = "mkdir -p output/deep; echo a > output/a; echo b > output/deep/b"
    name = describe(rig, "job", run_command=command, output_path="runs/1")
    rig.run_until_idle()
    storage = rig.home / "storage" / "runs" / "1"
    assert (storage / "a").read_text() == "a\n" and (storage / "deep" / "b").read_text() == "b\n"
    assert outcome(rig, name) == ("completed", "succeeded", 0, 1)
    stored = entries(rig, "stored", name)
    assert {entry["source_name"]: entry["storage_md5"] for entry in stored} == {
        "a": hashlib.md5(b"a\n", usedforsecurity=False).hexdigest(),
        "deep/b": hashlib.md5(b"b\n", usedforsecurity=False).hexdigest(),
    }
    assert stored[0]["storage_hfn"] == f"{NODE}:{storage}/a"
    assert underway(rig) == []
    rig.assert_clean()


def test_with_a_storage_class_the_job_is_committed_only_when_storage_workers_stored_all(
    rig: Rig, tmp_path: Path
) -> None:
    command = "echo a > output/a; echo b > output/b; exit 0"
    name = describe(rig, "job", run_command=command, storage_class="tape", output_path="x")
    worker = rig.start_worker()
    wait_until(lambda: rig.names("unclaimed/STORAGE-tape") == [name], "the job to be published")
    rig.stop_worker(worker)
    assert rig.show(name)["state"] == "unclaimed"
    place = tmp_path / "tape"
    place.mkdir()
    other = rig.start_worker("--storage", "disk", JJ_STORAGE_PATH=str(place))
    storage = rig.start_worker("--storage", "tape", JJ_STORAGE_PATH=str(place))
    wait_until(lambda: rig.show(name)["state"] == "completed", "the job to be stored")
    rig.stop_worker(storage)
    rig.stop_worker(other)
    assert sorted(path.name for path in (place / "x").iterdir()) == ["a", "b"]
    shown = rig.show(name)
    assert (shown["outcome"], shown["exit_status"], shown["category"]) == ("succeeded", 0, None)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["published", "succeeded"]
    assert shown["attempts"][1]["worker"] == f"{NODE}.{storage.pid}"
    assert [phase[0] for phase in phases(rig, name)] == ["run", "store"]
    assert underway(rig) == []
    rig.assert_clean()


def test_a_storage_worker_asks_for_its_classes_alone(rig: Rig) -> None:
    plain = rig.submit("true")
    worker = rig.start_worker("--storage", "tape")
    [state] = rig.home.glob("workers/*/worker.json")
    assert json.loads(state.read_text())["categories"] == ["STORAGE-tape"]
    rig.stop_worker(worker)
    assert rig.show(plain)["state"] == "unclaimed"
    refused = rig.run("start_worker", "--storage", check=False)
    assert refused.returncode == 2 and "storage classes" in refused.stderr


def test_a_storage_disk_that_refuses_has_the_job_wait_and_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    place = tmp_path / "away"
    name = describe(rig, "job", run_command="echo a > output/a")
    worker = rig.start_worker(JJ_STORAGE_PATH=str(place))

    def is_back() -> dict[str, Any] | None:
        shown = rig.show(name)
        return shown if shown["not_before"] and shown["state"] == "unclaimed" else None

    shown = wait_until(is_back, "the job to be sent back")
    assert shown["attempts"][0]["outcome"] == "interrupted"
    cause = f"store: {place}: No such file or directory; make it, or mount the disk that it lies on"
    assert shown["attempts"][0]["message"].startswith(cause)
    due = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(shown["not_before"]))
    assert shown["waits_because"][0] == f"it is not to be tried again before {due}"
    assert cause in shown["waits_because"][1]
    assert 3 < shown["not_before"] - shown["attempts"][0]["ended_at"] <= 5.1
    place.mkdir()
    wait_until(lambda: rig.show(name)["state"] == "completed", "the job to be stored")
    rig.stop_worker(worker)
    assert (place / "a").read_text() == "a\n"
    assert len(entries(rig, "started", name)) <= 1 and [phase[0] for phase in phases(rig, name)][:1] == ["run"]
    assert outcome(rig, name)[:3] == ("completed", "succeeded", 0)
    # It is tried every five seconds, and the disk is back when a slow machine has come so far.
    assert {attempt["outcome"] for attempt in rig.show(name)["attempts"][:-1]} == {"interrupted"}
    rig.assert_clean()


def test_a_name_taken_by_other_content_fails_the_job_and_keeps_its_files(rig: Rig) -> None:
    taken = rig.home / "storage" / "a"
    taken.parent.mkdir()
    taken.write_text("other")
    name = describe(rig, "job", run_command="echo a > output/a")
    rig.run_until_idle()
    shown = rig.show(name)
    assert outcome(rig, name) == ("completed", "failed", 0, 1)
    message = shown["attempts"][0]["message"]
    [kept] = list((rig.home / "underway").rglob("output"))
    assert "'a'" in message and str(kept.parent) in message
    assert (kept / "a").read_text() == "a\n" and taken.read_text() == "other"
    rig.run("recover_jobs")
    assert (kept / "a").exists()
    rig.assert_clean()


def test_a_link_in_output_is_no_output_and_is_named(rig: Rig) -> None:
    name = describe(rig, "job", run_command="ln -s /etc/passwd output/link", retries=0)
    rig.run_until_idle()
    assert outcome(rig, name)[:2] == ("completed", "failed")
    assert "stage_out: " in rig.show(name)["attempts"][0]["message"]
    assert "'link' is a symbolic link" in rig.show(name)["attempts"][0]["message"]
    assert not (rig.home / "storage").exists() or not list((rig.home / "storage").iterdir())


def test_what_a_job_left_that_failed_for_good_goes_where_failures_go(rig: Rig, tmp_path: Path) -> None:
    command = "echo core > output/core; exit 9"
    stored = describe(rig, "a", run_command=command, err_output_path="failed", output_path="good", retries=1)
    published = describe(rig, "b", run_command=command, err_storage_class="scrap", retries=0)
    dropped = describe(rig, "c", run_command=command, retries=0)
    worker = rig.start_worker()
    wait_until(lambda: rig.names("unclaimed/STORAGE-scrap") == ["b"] and len(rig.names("completed")) == 2)
    rig.stop_worker(worker)
    rig.run_until_idle("--storage", "scrap", JJ_STORAGE_PATH=str(tmp_path))
    assert (rig.home / "storage" / "failed" / "core").read_text() == "core\n"
    assert (tmp_path / "core").read_text() == "core\n"
    assert outcome(rig, stored) == ("completed", "failed", 9, 2)
    assert outcome(rig, published) == ("completed", "failed", 9, 2)
    assert outcome(rig, dropped) == ("completed", "failed", 9, 1)
    assert len(list((rig.home / "storage").rglob("core"))) == 1
    assert underway(rig) == []
    rig.assert_clean()


def test_what_a_job_left_goes_where_failures_go_whatever_it_failed_of(rig: Rig) -> None:
    leave = "echo $JJ_PHASE > output/left"
    ends = {
        "stage_in": {"stage_in_command": f"{leave}; exit 2"},
        "stage_out": {"run_command": "true", "stage_out_command": f"{leave}; exit 2"},
        "poll": {
            "run_command": leave,
            "polling_command": "printf 'finished = 1\\nexit_status = 2\\n' > jug_polling.vars",
        },
        "limit": {"run_command": f"{leave}; sleep 60", "time_limit": "0.2"},
    }
    names = [describe(rig, name, err_output_path=name, retries=0, **commands) for name, commands in ends.items()]
    rig.run_until_idle()
    assert [outcome(rig, name)[1] for name in names] == ["failed", "failed", "failed", "timed_out"]
    left = [(rig.home / "storage" / name / "left").read_text() for name in names]
    assert left == ["stage_in\n", "stage_out\n", "run\n", "run\n"]
    assert underway(rig) == []
    rig.assert_clean()


def test_a_storage_package_of_ones_own_stores_the_files(rig: Rig, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    package = make_package(
        tmp_path / "storage",
        bin__keep=(
            '#!/bin/sh\nset -e\ncd output\nfor name in *; do cp "$name" "$1/$name"\n'
            'echo "source_name = $name"; echo "storage_hfn = vault:$1/$name"; done > ../jug_storage.log\n'
        ),
        package__commands=f"storage_command = $1/bin/keep {vault}\n",
    )
    name = describe(rig, "job", run_command="echo a > output/a; echo b > output/b", storage_class="own")
    worker = rig.start_worker()
    storage = rig.start_worker("--storage", "own", JJ_STORAGE_SOFTWARE=str(package))
    wait_until(lambda: rig.show(name)["state"] == "completed", "the job to be stored")
    rig.stop_worker(worker)
    rig.stop_worker(storage)
    assert outcome(rig, name)[:2] == ("completed", "succeeded")
    assert (vault / "b").read_text() == "b\n"
    assert [(e["source_name"], e["storage_hfn"], e["storage_size"]) for e in entries(rig, "stored", name)] == [
        ("a", f"vault:{vault}/a", 2),
        ("b", f"vault:{vault}/b", 2),
    ]


# Polling


def polled(tmp_path: Path, end: str = "echo finished = 1 > jug_polling.vars") -> dict[str, str]:
    """A queue of the test's own making: a detached process that works until `go` is there, and a command that asks for it."""
    work = f"echo submitted >> {tmp_path}/log; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo done > result"
    ask = f"echo polled >> {tmp_path}/log; if [ -e result ]; then {end}; fi"
    return {
        "run_command": f"setsid sh -c '{work}' < /dev/null > /dev/null 2>&1 &",
        "polling_command": ask,
        "polling_time": "0.1",
        "stage_out_command": "cat result",
    }


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_for_poll(tmp_path: Path) -> None:
    """Wait until the job is asked for once more."""
    before = lines(tmp_path / "log").count("polled")
    wait_until(lambda: lines(tmp_path / "log").count("polled") > before, "a poll")


def test_a_job_is_polled_until_it_says_that_it_is_finished(rig: Rig, tmp_path: Path) -> None:
    name = describe(rig, "job", **polled(tmp_path))
    worker = rig.start_worker()
    wait_until(lambda: lines(tmp_path / "log").count("polled") >= 2, "two polls")
    assert rig.show(name)["state"] == "claimed"
    (tmp_path / "go").touch()
    wait_until(lambda: rig.show(name)["state"] == "completed")
    rig.stop_worker(worker)
    assert said(rig, name) == "done\n"
    assert lines(tmp_path / "log").count("submitted") == 1
    assert [phase[:2] for phase in phases(rig, name)] == [("run", 0), ("poll", 0), ("stage_out", 0)]
    assert underway(rig) == []
    rig.assert_clean()


def test_the_exit_status_of_a_polled_job_is_that_of_the_attempt(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    end = "printf 'finished = 1\\nexit_status = 4\\n' > jug_polling.vars"
    name = describe(rig, "job", retries=1, **polled(tmp_path, end))
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "failed", 4, 2)
    assert lines(tmp_path / "log").count("submitted") == 2
    assert underway(rig) == []
    rig.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_polled_job_goes_on_when_its_worker_ends_and_is_not_submitted_twice(
    rig: Rig, tmp_path: Path, number: signal.Signals
) -> None:
    name = describe(rig, "job", **polled(tmp_path))
    worker = rig.start_worker()
    wait_until(lambda: lines(tmp_path / "log").count("polled") >= 1, "the first poll")
    worker.send_signal(number)
    worker.wait(30)
    rig.run("recover_jobs")
    assert rig.show(name)["state"] == "unclaimed"
    second = rig.start_worker(JJ_CRASH_LIMIT="1")
    wait_for_poll(tmp_path)
    (tmp_path / "go").touch()
    wait_until(lambda: rig.show(name)["state"] == "completed")
    rig.stop_worker(second)
    assert lines(tmp_path / "log").count("submitted") == 1
    assert outcome(rig, name) == ("completed", "succeeded", 0, 2)
    assert rig.show(name)["attempts"][0]["outcome"] == "interrupted"
    assert said(rig, name) == "done\n"
    assert underway(rig) == []
    rig.assert_clean()


def test_deaths_of_its_workers_do_not_count_against_a_polled_job(rig: Rig, tmp_path: Path) -> None:
    name = describe(rig, "job", **polled(tmp_path))
    for _ in range(3):
        worker = rig.start_worker()
        wait_for_poll(tmp_path)
        worker.kill()
        worker.wait()
        rig.run("recover_jobs", JJ_CRASH_LIMIT="2")
    assert rig.show(name)["state"] == "unclaimed"
    (tmp_path / "go").touch()
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "succeeded", 0, 4)
    assert lines(tmp_path / "log").count("submitted") == 1


def test_a_polling_command_that_fails_is_asked_again_but_not_for_ever(rig: Rig, tmp_path: Path) -> None:
    command = f"echo polled >> {tmp_path}/log; exit 7"
    name = describe(rig, "job", run_command="true", polling_command=command, polling_time="0.05", retries=0)
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "failed", 7, 1)
    assert lines(tmp_path / "log") == ["polled"] * 3
    assert "3 times" in rig.show(name)["attempts"][0]["message"]


def test_a_new_attempt_goes_on_polling_where_polls_failed_and_submits_nothing_a_second_time(
    rig: Rig, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    ask = f"echo polled >> {log}; [ $(grep -c polled {log}) = 5 ] || exit 7; echo finished = 1 > jug_polling.vars"
    work = {"run_command": f"echo submitted >> {log}", "polling_command": ask, "polling_time": "0.05"}
    name = describe(rig, "job", retries=1, retry_delay=0, **work)
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "succeeded", 0, 2)
    assert lines(log) == ["submitted"] + ["polled"] * 5
    assert underway(rig) == []
    rig.assert_clean()


def test_the_time_limit_is_of_run_and_poll_together(rig: Rig, tmp_path: Path) -> None:
    name = describe(rig, "job", time_limit="0.5", retries=0, **polled(tmp_path))
    rig.run_until_idle()
    assert outcome(rig, name)[:2] == ("completed", "timed_out")
    (tmp_path / "go").touch()
    assert underway(rig) == []


# Overlap, control


def test_while_one_job_runs_the_next_is_staged_in_and_the_last_is_staged_out(rig: Rig, tmp_path: Path) -> None:
    """Each stage of one job waits until it sees the stages of its neighbours: only a worker that overlaps them ends."""

    def meet(own: str, *others: str) -> str:
        waits = "".join(f"while [ ! -e {tmp_path}/{other} ]; do sleep 0.01; done; " for other in others)
        return f"touch {tmp_path}/{own}; {waits}true"

    names = [
        describe(rig, "a.3", run_command="true", stage_out_command=meet("a-out", "b-run", "c-in")),
        describe(rig, "b.2", run_command=meet("b-run", "a-out", "c-in")),
        describe(rig, "c.1", stage_in_command=meet("c-in", "a-out", "b-run"), run_command="true"),
    ]
    rig.run_until_idle()
    assert [outcome(rig, name)[1] for name in names] == ["succeeded"] * 3
    rig.assert_clean()


def test_with_nothing_ahead_and_no_queue_nothing_overlaps(rig: Rig, tmp_path: Path) -> None:
    alone = f"mkdir {tmp_path}/busy && sleep 0.02 && rmdir {tmp_path}/busy"
    stages = {f"{stage}_command": alone for stage in ("stage_in", "run", "stage_out")}
    names = [describe(rig, f"job{number}", retries=0, **stages) for number in range(4)]
    rig.run_until_idle(JJ_STAGED_AHEAD="0", JJ_STAGE_OUT_QUEUE="0")
    assert [outcome(rig, name)[1] for name in names] == ["succeeded"] * 4


def test_more_run_slots_run_more_jobs_at_once(rig: Rig, tmp_path: Path) -> None:
    meet = f"touch {tmp_path}/$JJ_JOB; while [ $(ls {tmp_path} | grep -c '^meet') -lt 3 ]; do sleep 0.01; done"
    names = [describe(rig, f"meet{number}", run_command=meet) for number in range(3)]
    rig.run_until_idle(JJ_RUN_SLOTS="3")
    assert [outcome(rig, name)[1] for name in names] == ["succeeded"] * 3


def test_plain_jobs_between_described_ones_are_run_as_ever(rig: Rig, tmp_path: Path) -> None:
    for number in range(3):
        describe(rig, f"described{number}", run_command="sleep 0.05; echo described")
        rig.drop(f"plain{number}", '#!/bin/sh\necho "plain $PWD $JJ_SCRATCH_DIR"\nexit 3\n')
        rig.drop(f"text{number}", "echo no interpreter line\n")
    rig.run_until_idle()
    for number in range(3):
        assert outcome(rig, f"described{number}")[1] == "succeeded"
        assert outcome(rig, f"plain{number}") == ("completed", "failed", 3, 1)
        word, here, scratch = said(rig, f"plain{number}").split()
        assert (word, here) == ("plain", scratch)
        assert said(rig, f"text{number}") == "no interpreter line\n"
    rig.assert_clean()


def test_a_worker_told_to_end_gives_back_all_that_it_has(rig: Rig) -> None:
    names = [
        describe(rig, "a.3", run_command="true", stage_out_command="sleep 60"),
        describe(rig, "b.2", run_command="sleep 60"),
        describe(rig, "c.1", stage_in_command="sleep 60"),
    ]
    worker = rig.start_worker()
    wait_until(lambda: len(rig.names("claimed")) == 3 and len(rig.processes()) >= 4, "all under way")
    wait_until(lambda: sum("sleep" in " ".join(words) for words in rig.command_lines()) >= 3, "three sleeping")
    worker.terminate()
    assert worker.wait(30) == 0
    assert [rig.show(name)["state"] for name in names] == ["unclaimed"] * 3
    assert [rig.show(name)["attempts"][0]["outcome"] for name in names] == ["interrupted"] * 3
    assert rig.processes() == []
    assert underway(rig) == []
    rig.assert_clean()


def test_a_worker_told_to_stop_finishes_what_it_has_and_claims_nothing_else(rig: Rig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.01; done"
    first = describe(rig, "a.2", run_command=wait)
    worker = rig.start_worker(JJ_STAGED_AHEAD="0")
    wait_until(lambda: rig.show(first)["state"] == "claimed")
    rig.run("stop_worker", f"{NODE}.{worker.pid}")
    later = describe(rig, "b.1", run_command="true")
    go.touch()
    assert worker.wait(30) == 0
    assert (rig.show(first)["state"], rig.show(later)["state"]) == ("completed", "unclaimed")


def test_what_a_command_leaves_in_its_session_is_ended_and_what_left_it_stays(rig: Rig, tmp_path: Path) -> None:
    left = f"{tmp_path}/left"
    command = f"sleep 61 & setsid sh -c 'echo > {left}; exec sleep 62' & until [ -e {left} ]; do sleep 0.01; done"
    describe(rig, "job", run_command=command)
    worker = rig.start_worker()
    wait_until(lambda: rig.names("completed") == ["job"])

    def sleeping() -> list[psutil.Process]:
        found = []
        for process in rig.processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # it was just ended
                if process.cmdline()[:1] == ["sleep"]:
                    found.append(process)
        return found

    wait_until(lambda: [words[1] for words in rig.command_lines() if words[:1] == ["sleep"]] == ["62"])
    for process in sleeping():
        process.kill()
    rig.stop_worker(worker)


def test_a_worker_that_died_in_a_stage_has_its_commands_ended_and_the_job_begun_anew(rig: Rig, tmp_path: Path) -> None:
    name = describe(
        rig, "job", stage_in_command=f"echo in >> {tmp_path}/log; [ -e {tmp_path}/go ] || sleep 60", run_command="true"
    )
    worker = rig.start_worker()
    wait_until(lambda: lines(tmp_path / "log") == ["in"], "the stage-in")
    worker.kill()
    worker.wait()
    rig.run("recover_jobs")
    assert rig.processes() == []
    (tmp_path / "go").touch()
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "succeeded", 0, 2)
    assert rig.show(name)["attempts"][0]["outcome"] == "stranded"
    rig.assert_clean()


# What a described job finds, and leaves


def test_a_described_job_finds_a_directory_for_its_outputs_in_whatever_stage(rig: Rig) -> None:
    """Also where it is polled, and where its storage software is another one's."""
    command = 'echo "$JJ_PHASE" > output/$JJ_PHASE'
    plain = describe(rig, "plain", stage_in_command=command, run_command=command, stage_out_command=command, batch="a")
    polled = describe(
        rig,
        "polled",
        run_command=command,
        polling_command="echo finished=1 > jug_polling.vars",
        polling_time=1,
        batch="b",
    )
    rig.run_until_idle()
    for name, batch, files in ((plain, "a", ["run", "stage_in", "stage_out"]), (polled, "b", ["run"])):
        assert outcome(rig, name) == ("completed", "succeeded", 0, 1)
        listed = json.loads(rig.run("list_outputs", "--format", "json", batch).stdout)["outputs"]
        assert sorted(file["source_name"] for file in listed) == files
    rig.assert_clean()


def test_where_files_were_to_be_stored_and_there_were_none_the_batch_has_a_warning(rig: Rig) -> None:
    wrong = "echo result > ouptut-1"
    nothing = describe(rig, "nothing", batch="b", run_command=wrong, output_path="counts/3")
    empty = describe(rig, "empty", batch="b", run_command="mkdir output/d", output_path="counts/3")
    classy = describe(rig, "class", batch="b", run_command=wrong, storage_class="tape")
    quiet = [
        describe(rig, "said", batch="c", run_command="echo a > output/a", output_path="counts/3"),
        describe(rig, "own", batch="c", run_command="echo source_name=x > jug_stage_out.log", output_path="counts/3"),
        describe(rig, "none", batch="c", run_command=wrong),
        describe(rig, "failed", batch="c", run_command="false", output_path="x", retries=0),
    ]
    rig.run_until_idle()
    text = "nothing was stored: the description says {}, and the job left no file below output/"
    for name, keys in (
        (nothing, "output_path = counts/3"),
        (empty, "output_path = counts/3"),
        (classy, "storage_class = tape"),
    ):
        assert outcome(rig, name)[1] == "succeeded"
        assert rig.show(name)["attempts"][0]["warnings"] == [text.format(keys)]
    assert [rig.show(name)["attempts"][0]["warnings"] for name in quiet] == [[], [], [], []]
    [batch] = json.loads(rig.run("batch_status", "b", "--format", "json").stdout)["batches"]
    assert batch["warned_jobs"] == 3
    assert [(row["jobs"], row["text"]) for row in batch["warnings"]] == [
        (2, text.format("output_path = counts/3")),
        (1, text.format("storage_class = tape")),
    ]
    assert {row["job"] for row in batch["warnings"]} <= {nothing, empty, classy}
    shown = rig.run("batch_status", "b").stdout
    assert "Warnings" in shown and "nothing was stored: the description says output_path" in shown
    lines = {line.split()[0]: line for line in rig.run("batch_status").stdout.splitlines() if line[:1] in "bc"}
    assert "3 jobs with warnings" in lines["b"] and "warnings" not in lines["c"]
    rig.assert_clean()
