"""Arrays whose files somebody damaged, and tasks that do harm to what the others need."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jobjar.arrays.definition import is_array
from jobjar.arrays.indexes import Indexes
from tests.programs.spaces import SpaceRig
from tests.rig import PATIENCE_S, Rig, wait_until

pytestmark = pytest.mark.timeout(120)

_SOUND: dict[str, Any] = {
    "first": 1,
    "last": 10,
    "step": 1,
    "entries": "",
    "pipes_output": False,
    "name": "",
    "category": "",
    "priority": 0,
    "retries": 1,
    "time_limit_s": 2.5,
    "lives": [[1, 3, 3]],
    "given": {"arguments": ["x"]},
}


def odd(name: str, *values: Any) -> list[dict[str, Any]]:
    return [{name: value} for value in values]


_ODD: list[dict[str, Any]] = [
    {"first": 1e300},
    {"first": True},
    *odd("step", 0, -1, 4, 1.0),
    *odd("last", 0, 10**9, 10**40),
    *odd("lives", 5, None, ["x"], [[1, 2]], [[1, -5, 10]], [[1, 9, 3]]),
    *odd("given", 5, None, [], {"name": 5}, {"arguments": "x"}, {"dir": "here"}),
    *odd("retries", -1, 1.5, "1", 1e300),
    *odd("retry_delay_s", -5, 1e300, "1"),
    *odd("time_limit_s", -5, 1e300, "1"),
    *odd("entries", "nonsense", None, 5, ["lines"]),
    *odd("name", "../../x", 5, "a/b"),
    *odd("category", "../../x", ".hidden", 5),
    *odd("priority", "1", 1e300, 10**40),
    {"pipes_output": 1},
]


def submit(rig: Rig, *words: str) -> str:
    return rig.run_forked("jobjar", "submit", *words, check=True).stdout.strip()


def wait_for(rig: Rig, *words: str, status: int = 0) -> str:
    result = rig.run_forked("jobjar", "wait", "--timeout", "60s", *words, check=False)
    assert result.returncode == status, result.stderr
    return result.stderr


def damage(path: Path, **fields: Any) -> bytes:
    """Change fields of a batch.json's `array`; returns what was there."""
    before = path.read_bytes()
    said = json.loads(before)
    said["array"] |= fields
    path.write_text(json.dumps(said))
    return before


def test_what_is_no_array_is_not_taken_for_one() -> None:
    assert is_array(_SOUND)
    for fields in _ODD:
        assert not is_array({**_SOUND, **fields}), fields
    assert not any(map(is_array, ({}, [], 7, None, "x")))


def test_an_array_whose_files_are_damaged_is_held_with_the_reason_and_holds_up_no_job(rig: Rig, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo\n")
    damaged, before = [], []
    for kind in range(5):
        array = submit(rig, "--array", "1-4", "--chunk", "2", "echo $1")
        path = rig.home / "batches" / array / "batch.json"
        before.append(path.read_bytes())
        if kind == 0:
            damage(path, first=1e300)
        elif kind == 1:
            damage(path, entries="lines")
        elif kind == 2:
            path.write_bytes(before[-1][:100])
        elif kind == 3:
            path.unlink()
            os.mkfifo(path)
        else:
            damage(path, given=json.loads("[" * 20 + "]" * 20))
        damaged.append(array)
    cut = submit(rig, "--each-line", str(lines), "echo $1")
    (rig.home / "batches" / cut / "array" / "entries.at").write_bytes(b"\0" * 9)
    sound = submit(rig, "--array", "1-4", "echo $1")
    plain = rig.submit("true")
    worker = rig.start_worker(JJ_POLL_TIME="0.2")
    wait_for(rig, plain)
    wait_for(rig, sound)
    wait_until(lambda: len(rig.names("limbo")) == 12, "the chunks of the damaged arrays in limbo")
    for array in [*damaged, cut]:
        assert f"its array {array} is damaged" in rig.run_forked("jobjar", "explain", array).stdout
    refused = rig.run("jobjar", "retry", "--failed", damaged[0], check=False)
    assert refused.returncode == 1 and "does not say what an array is" in refused.stderr
    for array, content in zip(damaged, before, strict=True):
        path = rig.home / "batches" / array / "batch.json"
        path.unlink()
        path.write_bytes(content)
        rig.run_forked("jobjar", "release", array)
        assert "all 4 tasks have succeeded" in wait_for(rig, array)
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_chunk_by_hand_with_an_odd_line_is_held_and_one_of_far_too_many_tasks_runs_those_there_are(
    rig: Rig, tmp_path: Path
) -> None:
    array = submit(rig, "--array", "1-3", "--chunk", "3", f"echo $1 >>{tmp_path}/ran")
    for number, line in enumerate([f"{array} 99999999999999999999", f"{array} -1", f"../../{array}", f"{array} 1e9"]):
        rig.drop(f"odd{number}+1-3.0", f"#!/bin/sh\n#JJ array = {line}\ntouch {tmp_path}/wrong\n")
    for name in ("far+0-999999999999999.0", "beyond+50-60.0", "none.0", "backward+9-1.0", "huge+1-99999999999999999.0"):
        rig.drop(name, f"#!/bin/sh\n#JJ array = {array}\ntouch {tmp_path}/wrong\n")
    worker = rig.start_worker()
    wait_for(rig, array)
    wait_until(lambda: not rig.names("unclaimed") and len(rig.names("completed")) == 2, "the end of what runs")
    rig.stop_worker(worker)
    assert sorted({*(tmp_path / "ran").read_text().split()}) == ["1", "2", "3"]
    assert not (tmp_path / "wrong").exists()
    assert len(rig.names("limbo")) == 8
    assert rig.show(array)["succeeded"] == 3
    rig.assert_clean()


def test_a_task_and_its_worker_that_are_told_to_end_together_cost_no_task(rig: Rig, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    array = submit(rig, "--array", "1-3", "--chunk", "3", f"echo $$ >{pid_file}; sleep 600 & exec sleep 600")
    worker = rig.start_worker(JJ_POLL_TIME="50", JJ_GRACE_TIME="20")
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "the task's start")
    task = int(pid_file.read_text())
    os.kill(task, signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{task}"), "the task's end")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    shown = rig.show(array)
    assert (shown["succeeded"], shown["failed"], shown["left"]) == (0, 0, 3)
    assert len(rig.names("unclaimed")) == 1 and not rig.processes()
    rig.assert_clean()


def test_a_task_that_takes_its_script_away_ends_as_it_exited_and_so_do_the_others(rig: Rig, tmp_path: Path) -> None:
    array = submit(rig, "--array", "1-3", "--chunk", "3", 'echo $1; rm -- "$0"; test $1 != 2')
    worker = rig.start_worker()
    assert "1 of them failed" in wait_for(rig, array, status=1)
    assert rig.run_forked("jobjar", "output", "--all", array).stdout.split() == ["1", "2", "3"]
    rig.stop_worker(worker)


@pytest.mark.root
def test_what_a_task_binds_into_its_directory_stays_and_the_next_one_has_another(tmp_path: Path) -> None:
    rig = SpaceRig(tmp_path / "jar")
    try:
        data = tmp_path / "data"
        data.mkdir()
        (data / "precious").write_text("x")
        command = f'ls -A; test "$PWD" = "$JJ_SCRATCH_DIR" && mkdir d && mount --bind {data} d'
        array = submit(rig, "--scratch", "--array", "1-3", "--chunk", "3", command)
        [chunk] = rig.names("unclaimed")
        worker = rig.start_worker()
        assert "all 3 tasks have succeeded" in wait_for(rig, array)
        assert rig.run_forked("jobjar", "output", "--all", array).stdout == ""
        assert (data / "precious").read_text() == "x"
        warnings = rig.show(chunk.split("-")[1].partition("+")[0])["attempts"][-1]["warnings"]
        assert len(warnings) == 3 and all("something is mounted there" in text for text in warnings)
        worker.send_signal(signal.SIGUSR1)
        worker.wait(PATIENCE_S)
    finally:
        rig.end_everything()


def test_indexes_know_their_ends() -> None:
    assert Indexes(0, 10, 5).within(-100, 10**30) == Indexes(0, 10, 5)
