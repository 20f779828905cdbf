"""Each attempt tells the time and the usage that were its own, so that sums count nothing twice; each move, who made it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from jobjar.host import login, node_name
from tests.described_jobs import describe, make_package, outcome
from tests.rig import Rig, wait_until

USAGE = ("wall_time_s", "user_cpu_s", "system_cpu_s", "max_rss_kib")
# Takes memory and time of its own, so that no other attempt has the same by chance.
BUSY = f"{sys.executable} -c 'sum(range(10**6))'"
PERSON = f"{login()}@{node_name()}"


def usage(attempt: dict[str, Any]) -> list[float | None]:
    return [attempt[name] for name in USAGE]


def move_of(rig: Rig, name: str, reason: str) -> tuple[str, str]:
    """From where, and by whom, a job was moved for a reason."""
    [move] = [move for move in rig.show(name)["moves"] if move["reason"] == reason]
    return move["from"], move["by"]


def worker_of(rig: Rig, name: str) -> str:
    return str(rig.show(name)["worker"])


@pytest.mark.parametrize("is_by_package", [False, True])
def test_a_stored_attempt_has_the_time_and_usage_of_the_storing(rig: Rig, tmp_path: Path, is_by_package: bool) -> None:
    """The stock handler starts no process: what it used is unknown."""
    package = make_package(
        tmp_path / "keep",
        package__commands=f"storage_command = {BUSY} && echo source_name = a > jug_storage.log\n",
    )
    name = describe(rig, "job", run_command=f"{BUSY}; echo a > output/a", storage_class="own")
    storage = {"JJ_STORAGE_SOFTWARE": str(package)} if is_by_package else {}
    workers = [rig.start_worker(), rig.start_worker("--storage", "own", **storage)]
    wait_until(lambda: rig.show(name)["state"] == "completed", "the job to be stored")
    for worker in workers:
        rig.stop_worker(worker)
    ran, stored = rig.show(name)["attempts"]
    assert [ran["outcome"], stored["outcome"], stored["exit_status"]] == ["published", "succeeded", 0]
    assert None not in usage(ran) and 0 < stored["wall_time_s"] != ran["wall_time_s"]
    if is_by_package:
        assert None not in usage(stored) and usage(stored)[1:3] != usage(ran)[1:3]
    else:
        assert usage(stored)[1:] == [None] * 3
    rig.assert_clean()


def test_what_a_job_used_is_told_of_the_attempt_that_ran_it_also_where_its_worker_died(
    rig: Rig, tmp_path: Path
) -> None:
    """It had published its outputs, and another worker stores them."""
    wait = f"touch {tmp_path}/there; while ! test -e {tmp_path}/go; do sleep 0.02; done"
    package = make_package(
        tmp_path / "keep", package__commands=f"storage_command = {wait}; echo source_name = a > jug_storage.log\n"
    )
    name = describe(rig, "job", run_command=f"{BUSY}; echo a > output/a")
    first = rig.start_worker(JJ_STORAGE_SOFTWARE=str(package))
    wait_until((tmp_path / "there").exists, "the storing")
    died, place = worker_of(rig, name), rig.show(name)["place"]
    first.send_signal(signal.SIGKILL)
    first.wait()
    rig.run("recover_jobs")
    assert move_of(rig, name, "recovered") == (place, PERSON) and died in place
    (tmp_path / "go").touch()
    rig.run_until_idle(JJ_STORAGE_SOFTWARE=str(package))
    ran, stored = rig.show(name)["attempts"]
    assert [ran["outcome"], stored["outcome"]] == ["interrupted", "succeeded"]
    assert None not in usage(ran) and usage(stored)[:3] != usage(ran)[:3]
    rig.assert_clean()


def test_of_a_polled_job_each_attempt_tells_its_own_share(rig: Rig, tmp_path: Path) -> None:
    """The limit is of both: that the first took its part is known to the second."""
    ask = f"[ ! -e {tmp_path}/go ] || echo finished = 1 > jug_polling.vars"
    name = describe(rig, "job", run_command=BUSY, polling_command=ask, polling_time="0.05")
    first = rig.start_worker()
    wait_until(lambda: any(phase["name"] == "poll" for phase in phases_of(rig, name)), "the polling")
    first.terminate()
    first.wait()
    [before] = rig.show(name)["attempts"]
    (tmp_path / "go").touch()
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "succeeded", 0, 2)
    after = rig.show(name)["attempts"][1]
    # By its own span: the time of before is not in it.
    assert before["outcome"] == "interrupted" and after["wall_time_s"] <= after["ended_at"] - after["started_at"] + 0.05
    assert before["wall_time_s"] > 0 and usage(before)[1:3] != usage(after)[1:3]
    rig.assert_clean()


def phases_of(rig: Rig, name: str) -> list[dict[str, Any]]:
    return [phase for attempt in rig.show(name)["attempts"] for phase in attempt["phases"]]


def test_a_recovered_job_was_moved_by_who_recovered_it(rig: Rig, tmp_path: Path) -> None:
    """And what a dead worker had done before it died was done by it."""
    name = rig.submit(f"touch {tmp_path}/there; sleep 100")
    worker = rig.start_worker()
    wait_until((tmp_path / "there").exists, "the job")
    died = worker_of(rig, name)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    rig.run("recover_jobs")
    assert move_of(rig, name, "claimed")[1] == died
    assert move_of(rig, name, "recovered") == (f"workers/{died}/jobs/{name}", PERSON)
    assert f"its worker {died} died" in rig.show(name)["attempts"][0]["message"]
    assert PERSON in rig.run("jobjar", "show", name).stdout
    rig.assert_clean()
