"""Tasks of arrays are cancelled and killed, whole arrays are steered, by real workers (arrays/orders.py, steering/tasks.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.rig import Rig, wait_until

pytestmark = pytest.mark.timeout(120)
QUICK = {"JJ_POLL_TIME": "0.1", "JJ_PAUSE_TIME": "1"}


def submit(rig: Rig, *words: str) -> str:
    return rig.run_forked("jobjar", "submit", *words).stdout.strip()


def outcome(rig: Rig, array: str, index: int) -> tuple[str, str | None]:
    said = rig.show(f"{array}[{index}]")
    return said["state"], said.get("outcome")


def top(rig: Rig) -> str:
    return rig.run_forked("jobjar", "top", "--once").stdout


def ran(directory: Path) -> list[int]:
    return sorted(int(word) for word in (directory / "ran").read_text().split())


def test_waiting_tasks_are_cancelled_at_once_and_the_others_run(rig: Rig, tmp_path: Path) -> None:
    array = submit(rig, "--array", "1-20", "--chunk", "5", f"echo $1 >> {tmp_path}/ran")
    would = rig.run("jobjar", "cancel", "--dry-run", f"{array}[1-5,7,18]").stdout
    assert would == f"would cancel 7 waiting tasks of {array}\n" and rig.show(array)["cancelled"] == 0
    done = rig.run("jobjar", "cancel", "--reason", "a typing error", f"{array}[1-5,7,18]")
    assert done.stdout == f"cancelled 7 waiting tasks of {array}\n" and not done.stderr
    task = rig.show(f"{array}[7]")
    assert (task["state"], task["outcome"], task["exit_status"]) == ("ended", "cancelled", None)
    assert task["message"] == "cancelled by root: a typing error"
    # The chunk that has no task left is over.
    assert len(rig.names("completed")) == 1 and len(rig.names("unclaimed")) == 3
    again = rig.run("jobjar", "cancel", f"{array}[7]", check=False)
    assert again.returncode == 1 and again.stdout == "cancelled no job\n"
    assert again.stderr == f"jobjar cancel: {array}[7] was not cancelled: it has ended (cancelled)\n"
    rig.assert_clean()
    rig.run_until_idle(**QUICK)
    left = [index for index in range(1, 21) if index not in (1, 2, 3, 4, 5, 7, 18)]
    assert ran(tmp_path) == left
    said = rig.show(array)
    assert (said["succeeded"], said["failed"], said["cancelled"], said["not_run"]) == (13, 0, 7, 0)
    assert rig.run("jobjar", "wait", array, check=False).returncode == 1
    rig.assert_clean()
    # They can run again all the same: the order was for their first life.
    retried = rig.run("jobjar", "retry", f"{array}[7,18]").stdout
    assert retried == f"retried 2 tasks of {array}\n"
    rig.run_until_idle(**QUICK)
    assert ran(tmp_path) == sorted([*left, 7, 18])
    rig.assert_clean()


def test_a_running_task_is_cancelled_by_its_worker_and_the_rest_of_its_chunk_goes_on(rig: Rig, tmp_path: Path) -> None:
    script = f"echo $1 >> {tmp_path}/ran; case $1 in 2|4) exec sleep 60;; esac"
    array = submit(rig, "--array", "1-6", "--chunk", "6", "--retries", "2", script)
    worker = rig.start_worker(**QUICK)
    wait_until(lambda: (tmp_path / "ran").exists() and ran(tmp_path) == [1, 2], "the second task")
    wait_until(lambda: outcome(rig, array, 2) == ("running", None), "the first task's end in the ledger")
    done = rig.run("jobjar", "cancel", f"{array}[2,5]").stdout
    assert done == f"cancelled 1 waiting and 1 running tasks of {array}\n"
    wait_until(lambda: ran(tmp_path) == [1, 2, 3, 4], "the fourth task")
    wait_until(lambda: outcome(rig, array, 4) == ("running", None), "the third task's end")
    assert outcome(rig, array, 6) == ("waiting", None)
    [working] = [one for one in rig.status()["workers"]["workers"] if one["job"]]
    assert working["task"] == f"{array}[4]"
    assert f"{array}[4]" in rig.run_forked("jobjar", "workers").stdout
    explained = rig.explain(f"{array}[1-6]")
    assert [(one["id"], one["state"], one["outcome"]) for one in explained] == [
        (f"{array}[1,3]", "ended", "succeeded"),
        (f"{array}[2,5]", "ended", "cancelled"),
        (f"{array}[4]", "running", None),
        (f"{array}[6]", "waiting", None),
    ]
    [whole] = rig.explain(array)
    assert f"runs {array}[4]" in whole["sentence"] and "4 of 6 tasks have ended" in whole["sentence"]
    assert f"Tasks    1 waiting, 1 running, 4 ended in the last hour\n         {array}: 4 of 6" in top(rig)
    for words, status in ((f"{array}[1,3]", 0), (f"{array}[1-3]", 1), (f"{array}[1,6]", 124)):
        waited = rig.run_forked("jobjar", "wait", "--timeout", "0.2", words, check=False)
        assert waited.returncode == status, waited.stderr
    assert rig.run("jobjar", "kill", f"{array}[4]").stdout.strip() == working["worker"]
    rig.run_forked("jobjar", "wait", "--timeout", "60s", array, check=False)
    assert ran(tmp_path) == [1, 2, 3, 4, 6]
    outcomes = [outcome(rig, array, index)[1] for index in range(1, 7)]
    assert outcomes == ["succeeded", "cancelled", "succeeded", "killed", "cancelled", "succeeded"]
    tasks = rig.status()["tasks"]
    assert (tasks["waiting"], tasks["running"]) == (0, 0)
    assert {one["outcome"]: one["last_hour"] for one in tasks["outcomes"]} == {
        "succeeded": 3,
        "killed": 1,
        "cancelled": 2,
    }
    stats = json.loads(rig.run_forked("jobjar", "stats", "--format", "json", array).stdout)
    assert stats["all"]["outcomes"] == {"succeeded": 3, "killed": 1, "cancelled": 2} and stats["all"]["run_time_s"]
    assert [(one["jobs"], one["newest"]) for one in stats["failures"]] == [(1, f"{array}[4]")]
    listed = json.loads(rig.run_forked("jobjar", "list", "--format", "json", array, f"{array}[3-4]").stdout)
    assert [one["id"] for one in listed["arrays"]] == [array] and listed["jobs"] == []
    assert [one["outcome"] for one in listed["tasks"]] == ["succeeded", "killed"]
    chunks = json.loads(rig.run_forked("jobjar", "list", "--format", "json", "--chunks", array).stdout)["jobs"]
    assert [one["batch"] for one in chunks] == [array]
    events = json.loads(rig.run_forked("jobjar", "history", "--format", "json", array).stdout)["events"]
    assert events[0]["event"] == "submitted"
    # Its last chunk completes in the same millisecond.
    assert "last task ended" in [one["event"] for one in events[-2:]]
    not_running = rig.run("jobjar", "kill", f"{array}[4]", check=False)
    assert not_running.returncode == 1 and "it is ended (killed)" in not_running.stderr
    rig.stop_worker(worker)
    rig.assert_clean()


def test_an_order_outlives_the_worker_and_whoever_gave_it(rig: Rig, tmp_path: Path) -> None:
    array = submit(rig, "--array", "1-4", "--chunk", "4", f"echo $1 >> {tmp_path}/ran; [ $1 != 1 ] || exec sleep 60")
    worker = rig.start_worker(**QUICK)
    wait_until(lambda: (tmp_path / "ran").exists(), "the first task")
    worker.kill()
    worker.wait()
    # The chunk is stranded: the dead worker of this node is recovered, and the tasks end without one.
    done = rig.run("jobjar", "cancel", f"{array}[1,3]")
    assert done.stdout == f"cancelled 1 waiting and 1 running tasks of {array}\n"
    assert [outcome(rig, array, index)[1] for index in (1, 2, 3)] == ["cancelled", None, "cancelled"]
    rig.run_until_idle(**QUICK)
    assert ran(tmp_path) == [1, 2, 4]
    # An order that nobody carried out: whoever holds the chunk does.
    later = submit(rig, "--array", "1-3", "--chunk", "3", f"echo $1 >> {tmp_path}/later")
    orders = rig.home / "batches" / later / "array" / "orders"
    orders.mkdir()
    (orders / "anything").write_text(json.dumps({"ranges": [[2, 2]], "life": 0, "message": "by hand"}))
    (orders / "torn").write_text('{"ranges": [[3')
    rig.run_until_idle(**QUICK)
    assert (tmp_path / "later").read_text().split() == ["1", "3"]
    assert rig.show(f"{later}[2]")["message"] == "by hand"
    rig.assert_clean()


def test_whole_arrays_are_held_released_moved_and_removed_while_they_run(rig: Rig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    array = submit(rig, "--array", "1-12", "--chunk", "4", f"until test -e {go}; do sleep 0.05; done")
    worker = rig.start_worker(**QUICK)
    wait_until(lambda: rig.show(array)["state"] == "running", "the first task")
    held = rig.run("jobjar", "hold", array)
    assert held.stdout == "held 1 array (2 waiting chunks; 1 that runs goes on to its end)\n" and not held.stderr
    assert rig.show(array)["chunks"] == {"waiting": 0, "running": 1, "held": 2, "dependent": 0, "ended": 0}
    again = rig.run("jobjar", "hold", array, check=False)
    assert again.returncode == 1 and f"{array} was not held: it has 2 held and 1 running chunks" in again.stderr
    assert "2 held" in rig.run("jobjar", "priority", array, "5").stdout
    assert rig.run("jobjar", "move", array, "NIGHT").stdout.startswith("moved 1 array (2 held")
    assert rig.run("jobjar", "release", array).stdout.startswith("released 1 array (2 held chunks")
    assert len(rig.names("unclaimed/NIGHT")) == 2
    refused = rig.run("jobjar", "hold", f"{array}[3]", check=False)
    assert refused.returncode == 1 and f"name the array, {array}" in refused.stderr
    early = rig.run("jobjar", "remove", array, check=False)
    assert early.returncode == 1 and "it has not ended" in early.stderr
    listed = json.loads(rig.run_forked("jobjar", "list", "--format", "json", "--category", "NIGHT").stdout)
    assert [one["id"] for one in listed["arrays"]] == [array]
    none = rig.run_forked("jobjar", "list", "--category", "DAY", check=False)
    assert none.returncode == 1 and array not in none.stdout
    night = rig.start_worker("NIGHT", **QUICK)
    go.touch()
    rig.run_forked("jobjar", "wait", "--timeout", "60s", array)
    for one in (worker, night):
        rig.stop_worker(one)
    removed = rig.run("jobjar", "remove", array).stdout
    assert removed.startswith("removed 1 array (") and not rig.names("completed")
    rig.assert_clean()
