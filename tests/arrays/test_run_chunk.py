"""Arrays from their submission to their end: real workers run the tasks (arrays/run_chunk.py, sharing.py, retry.py)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig, wait_until

pytestmark = pytest.mark.timeout(120)


def submit(rig: Rig, *words: str) -> str:
    return rig.run("jobjar", "submit", *words).stdout.strip()


def show(rig: Rig, array: str) -> dict[str, Any]:
    return rig.show(array)


def counts(rig: Rig, array: str) -> tuple[int, int, int]:
    said = show(rig, array)
    return said["succeeded"], said["failed"], said["not_run"]


def wait_for(rig: Rig, array: str, status: int = 0) -> str:
    result = rig.run_forked("jobjar", "wait", "--timeout", "60s", array, check=False)
    assert result.returncode == status, result.stderr
    return result.stderr


def test_an_array_runs_each_index_once_and_tells_each_task_who_it_is(rig: Rig, tmp_path: Path) -> None:
    said = "$JJ_ARRAY_ID $JJ_ARRAY_INDEX $JJ_ARRAY_FIRST $JJ_ARRAY_LAST $JJ_ARRAY_STEP $JJ_ARRAY_SIZE $1"
    array = submit(rig, "--array", "0-100:3", "--chunk", "10", f'echo "{said}"; touch "{tmp_path}/$1"')
    assert len(rig.names("unclaimed")) == 4 and show(rig, array)["state"] == "waiting"
    assert [one["id"] for one in rig.status()["arrays"]] == [array]
    assert "0 of 34" in rig.run_forked("system_status").stdout
    worker = rig.start_worker()
    assert f"{array}: all 34 tasks have succeeded" in wait_for(rig, array)
    indexes = list(range(0, 100, 3))
    assert sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdecimal()) == indexes
    expected = [f"{array} {index} 0 99 3 34 {index}" for index in indexes]
    assert rig.run_forked("jobjar", "output", "--all", array).stdout.splitlines() == expected
    assert rig.run_forked("jobjar", "output", f"{array}[3-9,99]").stdout.splitlines() == [
        line for line in expected if line.split()[1] in ("3", "6", "9", "99")
    ]
    assert counts(rig, array) == (34, 0, 0)
    listed = json.loads(rig.run_forked("jobjar", "list", "--format", "json").stdout)
    assert listed["jobs"] == [] and [one["id"] for one in listed["arrays"]] == [array]
    rig.stop_worker(worker)
    rig.assert_clean()


def test_entries_come_from_lines_and_from_json(rig: Rig, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes("one\ntwo words\n\n'qu\"oted' $HOME\nübung\xa0\n".encode())
    values = tmp_path / "values.json"
    values.write_text('[{"a": 1, "b": ["x", null]}, "text", 7]')
    by_line = submit(rig, "--each-line", str(lines), 'printf "<%s>\\n" "$1"; [ "$1" = "$JJ_ENTRY" ]')
    by_json = submit(rig, "--each-json", str(values), 'printf "%s\\n" "$JJ_ENTRY"')
    worker = rig.start_worker()
    wait_for(rig, by_line)
    wait_for(rig, by_json)
    printed = rig.run_forked("jobjar", "output", "--all", by_line).stdout
    assert printed == "".join(f"<{line}>\n" for line in lines.read_text().split("\n")[:-1])
    values_back = [
        json.loads(line) for line in rig.run_forked("jobjar", "output", "--all", by_json).stdout.splitlines()
    ]
    assert values_back == json.loads(values.read_text())
    rig.stop_worker(worker)


def test_a_task_that_fails_is_tried_again_and_the_failed_ones_can_be_retried(rig: Rig, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    tried = f'echo "$1" >> {tmp_path}/tried; case $1 in *7) echo "no $1"; test -e {mended} || exit 3;; esac'
    array = submit(rig, "--array", "1-40", "--chunk", "20", "--retries", "1", tried)
    worker = rig.start_worker()
    assert "4 of them failed" in wait_for(rig, array, status=1)
    assert (tmp_path / "tried").read_text().split().count("7") == 2
    assert rig.run_forked("jobjar", "output", "--failed", array).stdout.split("\n")[:2] == ["no 7", "no 17"]
    [failures] = show(rig, array)["failures"]
    assert failures == {"outcome": "failed", "status": 3, "tasks": 4, "first": 7}
    task = show(rig, f"{array}[7]")
    assert task["exit_status"] == 3 and [end["exit_status"] for end in task["earlier"]] == [3]
    mended.touch()
    assert rig.run("jobjar", "retry", "--failed", f"{array}[7]").stdout == f"retried 1 task of {array}\n"
    wait_for(rig, array, status=1)
    assert counts(rig, array) == (37, 3, 0)
    assert rig.run("jobjar", "retry", "--failed", array).stdout == f"retried 3 tasks of {array}\n"
    wait_for(rig, array)
    assert counts(rig, array) == (40, 0, 0)
    assert len((tmp_path / "tried").read_text().split()) == 40 + 4 + 4
    again = rig.run("jobjar", "retry", array, check=False)
    assert again.returncode == 1 and "none of its tasks ended without success" in again.stderr
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_killed_worker_costs_the_last_second_and_no_task_ends_twice(rig: Rig, tmp_path: Path) -> None:
    array = submit(rig, "--array", "1-300", "--chunk", "300", f"echo $1 >> {tmp_path}/ran; sleep 0.01")
    worker = rig.start_worker()
    wait_until(lambda: show(rig, array)["succeeded"] > 20, "some ends")
    worker.kill()
    worker.wait()
    rig.run("recover_jobs")
    before = show(rig, array)["succeeded"]
    [chunk] = rig.names("unclaimed")
    # A worker's death after ended tasks is no crash of the chunk.
    assert [attempt["outcome"] for attempt in rig.show(chunk)["attempts"]] == ["interrupted"]
    # What was not journaled is less than what a second can hold: each task takes longer than 10 ms.
    assert len((tmp_path / "ran").read_text().split()) - before <= 101
    worker = rig.start_worker()
    wait_for(rig, array)
    ran = (tmp_path / "ran").read_text().split()
    assert {*ran} == {str(index) for index in range(1, 301)}
    assert len(ran) <= 300 + 101 and counts(rig, array) == (300, 0, 0)
    rig.stop_worker(worker)
    rig.assert_clean()


@pytest.mark.parametrize("order", ["stop_worker", "pause_worker", "SIGTERM"])
def test_a_worker_that_is_told_to_leave_gives_the_rest_back_after_its_task(
    rig: Rig, tmp_path: Path, order: str
) -> None:
    array = submit(rig, "--array", "1-500", "--chunk", "500", f"echo $1 >> {tmp_path}/ran; sleep 0.02")
    worker = rig.start_worker(JJ_POLL_TIME="0.1")
    wait_until(lambda: (tmp_path / "ran").exists(), "the first task")
    if order == "SIGTERM":
        worker.send_signal(signal.SIGTERM)
    else:
        rig.run(order, "all")
    wait_until(lambda: len(rig.names("unclaimed")) == 1, "the rest to go back")
    [rest] = rig.names("unclaimed")
    ran = [int(word) for word in (tmp_path / "ran").read_text().split()]
    first = int(rest.rpartition("+")[2].partition("-")[0])
    # SIGTERM ends the task that runs, which then runs again.
    assert first in ((ran[-1] + 1,) if order != "SIGTERM" else (ran[-1], ran[-1] + 1)) and rest.endswith("-500.0")
    assert show(rig, array)["succeeded"] == first - 1
    if order == "pause_worker":
        rig.run("jobjar", "cancel", array)
        assert counts(rig, array) == (first - 1, 0, 500 - first + 1)
        rig.run("unpause_worker", "all")
        rig.stop_worker(worker)
    else:
        worker.communicate(timeout=60)
    rig.assert_clean()


def test_idle_workers_share_the_rest_of_a_chunk(rig: Rig, tmp_path: Path) -> None:
    array = submit(rig, "--array", "1-40", "--chunk", "40", f"echo $1 $JJ_WORKER_ID >> {tmp_path}/ran; sleep 0.25")
    workers = [rig.start_worker(JJ_POLL_TIME="0.2", JJ_PAUSE_TIME="1") for _ in range(3)]
    wait_for(rig, array)
    words = (tmp_path / "ran").read_text().split()
    assert sorted(map(int, words[::2])) == list(range(1, 41)) and len(set(words[1::2])) > 1
    ran_on = {show(rig, f"{array}[{index}]")["worker"] for index in (1, 20, 40)}
    assert all(ran_on)
    for worker in workers:
        rig.stop_worker(worker)
    rig.assert_clean()


def test_what_waits_behind_a_long_task_is_run_by_idle_workers_meanwhile(rig: Rig, tmp_path: Path) -> None:
    gate, ran = tmp_path / "gate", tmp_path / "ran"
    line = f'if [ "$1" = 2 ]; then until [ -e {gate} ]; do sleep 0.1; done; fi; echo $1 >> {ran}'
    array = submit(rig, "--array", "1-6", "--chunk", "6", "--dir", "/", line)
    workers = [rig.start_worker(JJ_POLL_TIME="0.2", JJ_PAUSE_TIME="1") for _ in range(2)]
    wait_until(lambda: ran.exists() and len(ran.read_text().split()) == 5, "all tasks but the long one")
    assert counts(rig, array)[0] <= 5
    gate.touch()
    wait_for(rig, array)
    assert sorted(ran.read_text().split()) == ["1", "2", "3", "4", "5", "6"] and ran.read_text().split()[-1] == "2"
    assert counts(rig, array) == (6, 0, 0)
    for worker in workers:
        rig.stop_worker(worker)
    rig.assert_clean()


def test_a_time_limit_ends_a_task_and_not_its_chunk(rig: Rig) -> None:
    array = submit(
        rig, "--array", "1-4", "--chunk", "4", "--time-limit", "1s", "echo begun; [ $1 != 2 ] || exec sleep 60"
    )
    worker = rig.start_worker(JJ_POLL_TIME="0.2")
    wait_for(rig, array, status=1)
    assert counts(rig, array) == (3, 1, 0)
    task = show(rig, f"{array}[2]")
    assert (task["outcome"], task["signal"]) == ("timed_out", signal.SIGTERM)
    assert rig.run_forked("jobjar", "output", f"{array}[2]").stdout == "begun\n"
    rig.stop_worker(worker)


def test_each_task_finds_an_empty_scratch_directory_and_writes_under_its_own_offset(rig: Rig) -> None:
    script = 'cd "$JJ_SCRATCH_DIR"; ls; echo "$1: $(ls | wc -l)" > /dev/stderr; mkdir d; touch d/f x; (sleep 60; touch late) &'
    array = submit(rig, "--array", "1-3", "--chunk", "3", script)
    worker = rig.start_worker()
    wait_for(rig, array)
    for index in (1, 2, 3):
        assert rig.run_forked("jobjar", "output", f"{array}[{index}]").stdout == f"{index}: 0\n"
    rig.stop_worker(worker)
    assert rig.processes() == []


def test_a_directory_that_is_missing_fails_each_task_with_the_reason(rig: Rig, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    array = submit(rig, "--array", "1-3", "--dir", str(gone), "true")
    gone.rmdir()
    worker = rig.start_worker()
    wait_for(rig, array, status=1)
    task = show(rig, f"{array}[2]")
    assert task["exit_status"] == 126 and str(gone) in task["message"]
    rig.stop_worker(worker)


def test_a_cancelled_array_ends_its_running_task_and_the_rest_never_runs(rig: Rig, tmp_path: Path) -> None:
    array = submit(rig, "--array", "1-9", "--chunk", "3", f"echo $1 >> {tmp_path}/ran; exec sleep 60")
    worker = rig.start_worker(JJ_POLL_TIME="0.2")
    wait_until(lambda: (tmp_path / "ran").exists(), "the first task")
    assert rig.run("jobjar", "cancel", array).stdout == "cancelled 1 array (2 waiting and 1 running chunks)\n"
    assert "before they ran" in wait_for(rig, array, status=1)
    assert (tmp_path / "ran").read_text().split() == ["1"]
    assert counts(rig, array) == (0, 0, 8) and show(rig, array)["cancelled"] == 1
    refused = rig.run("abort_batch", "--restart", array, check=False)
    assert refused.returncode == 2 and f"jobjar retry {array}" in refused.stderr
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_dependent_of_an_array_waits_for_its_tasks_and_is_cancelled_if_one_fails(rig: Rig, tmp_path: Path) -> None:
    good = submit(rig, "--array", "1-4", "--chunk", "2", f"echo $1 >> {tmp_path}/ran")
    bad = submit(rig, "--array", "1-4", "--chunk", "2", "test $1 != 3")
    merge = submit(rig, "--after", good, f"wc -l < {tmp_path}/ran")
    never, clean = submit(rig, "--after", bad, "true"), submit(rig, "--after-failed", bad, "true")
    worker = rig.start_worker()
    wait_for(rig, merge)
    assert rig.run_forked("jobjar", "output", merge).stdout.strip() == "4"
    wait_for(rig, clean)
    wait_for(rig, never, status=1)
    assert rig.show(never)["outcome"] == "cancelled"
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_submission_that_cannot_be_is_refused_and_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for words in (
        ["--array", "9-1", "true"],
        ["--array", "1-9", "--chunk", "0", "true"],
        ["--array", "1-9", "--each-line", str(empty), "true"],
        ["--each-line", str(empty), "true"],
        ["--each-line", str(tmp_path / "none"), "true"],
        ["--each-json", __file__, "true"],
        ["--array", "1-9", "--output", "x", "true"],
    ):
        result = rig.run("jobjar", "submit", *words, check=False)
        assert result.returncode == 2 and result.stderr and not result.stdout, words
    assert rig.names("unclaimed") == [] and os.listdir(rig.home / "batches") == []
    assert [name for name in os.listdir(rig.home / "limbo") if not name.startswith(".")] == []


def test_a_chunk_by_hand_says_what_it_is_and_one_without_its_array_is_held_with_the_reason(rig: Rig) -> None:
    array = submit(rig, "--array", "1-2", "--chunk", "2", "true")
    [name] = rig.names("unclaimed")
    ran = rig.shell(f"unclaimed/{name} && exit 9 || test $? = 2", rig.home)
    assert f"jobjar show {array}" in ran.stderr
    (rig.home / "batches" / array).rename(rig.home / "batches" / "elsewhere")
    worker = rig.start_worker()
    wait_until(lambda: rig.names("limbo") == [name], "the chunk in limbo")
    rig.stop_worker(worker)
    assert "is gone" in str(rig.show(name)["attempts"][0]["message"])
