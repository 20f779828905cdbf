"""A worker of several slots: it runs jobs of all kinds at once, each by itself, and loses none."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.described_jobs import describe
from tests.rig import Rig, wait_until

QUICK = {"JJ_POLL_TIME": "0.1", "JJ_PAUSE_TIME": "0.5"}


def meet(directory: Path, name: str, count: int) -> str:
    """Lines of sh that end once so many different ones have begun."""
    begun = f'[ "$(ls "{directory}" | wc -l)" -ge {count} ]'
    return f'touch "{directory}/{name}"; while ! {begun}; do sleep 0.02; done'


def stay(directory: Path, name: str) -> str:
    """Lines of sh that say that they began, and end when they are let go."""
    return f'touch "{directory}/began {name}"; while [ ! -e "{directory}/go" ]; do sleep 0.02; done; echo {name} ran'


def running(rig: Rig) -> list[str]:
    return sorted(path.name for path in rig.home.glob("workers/*/jobs/*"))


def test_jobs_of_all_kinds_run_at_once_in_one_worker(rig: Rig, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    plain = [rig.submit(meet(here, f"plain{number}", 5)) for number in range(2)]
    array = rig.run("jobjar", "submit", "--array", "1-2", "--chunk", "1", meet(here, "task$1", 5)).stdout.strip()
    described = describe(rig, "described", run_command=meet(here, "described", 5), stage_in_command="true")
    worker = rig.start_worker("--slots", "5", **QUICK)
    rig.run_forked("jobjar", "wait", "--timeout", "60s", *plain, array, described)
    rig.stop_worker(worker)
    assert {rig.show(name)["outcome"] for name in (*plain, described)} == {"succeeded"}
    rig.assert_clean()


def test_a_chunk_that_is_claimed_beside_described_jobs_runs_its_tasks(rig: Rig, tmp_path: Path) -> None:
    describe(rig, "described.9", run_command=stay(tmp_path, "described"))
    array = rig.run("jobjar", "submit", "--array", "1-3", "--chunk", "3", 'echo "task $1"').stdout.strip()
    worker = rig.start_worker(JJ_RUN_SLOTS="2", **QUICK)
    rig.run_forked("jobjar", "wait", "--timeout", "60s", array)
    assert rig.run_forked("jobjar", "output", "--all", array).stdout == "task 1\ntask 2\ntask 3\n"
    (tmp_path / "go").touch()
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_worker_shares_a_chunk_with_its_own_free_slots(rig: Rig, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    array = rig.run("jobjar", "submit", "--array", "1-3", "--chunk", "3", meet(here, "task$1", 3)).stdout.strip()
    worker = rig.start_worker("--slots", "3", **QUICK)
    rig.run_forked("jobjar", "wait", "--timeout", "60s", array)
    rig.stop_worker(worker)
    rig.assert_clean()


def test_each_job_is_seen_and_ended_by_itself_and_sigterm_gives_the_others_back(rig: Rig, tmp_path: Path) -> None:
    names = [rig.submit(stay(tmp_path, str(number))) for number in range(4)]
    array = rig.run("jobjar", "submit", "--array", "1-2", "--chunk", "2", stay(tmp_path, "task$1")).stdout.strip()
    worker = rig.start_worker("--slots", "8", **QUICK)
    wait_until(lambda: len(list(tmp_path.glob("began *"))) == 6, "all to run: the chunk is shared")
    [shown] = json.loads(rig.run_forked("jobjar", "workers", "--format", "json").stdout)["workers"]
    assert (shown["slots"], shown["holds"], shown["state"]) == (8, 6, "busy")
    listed = json.loads(rig.run_forked("jobjar", "list", "--state", "running", "--format", "json").stdout)["jobs"]
    assert len(listed) == 4
    rig.run_forked("jobjar", "kill", names[0])
    rig.run_forked("jobjar", "cancel", names[1], f"{array}[2]")
    wait_until(lambda: rig.show(names[0])["outcome"] == "killed" and rig.show(names[1])["outcome"] == "cancelled", "it")
    wait_until(lambda: len(running(rig)) == 3, "the task to be cancelled")
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert running(rig) == []
    assert sorted(name for name in rig.names("unclaimed") if name in names) == sorted(names[2:])
    (tmp_path / "go").touch()
    rig.run_until_idle("--slots", "2", **QUICK)
    assert [rig.show(name)["outcome"] for name in names] == ["killed", "cancelled", "succeeded", "succeeded"]
    assert (rig.show(array)["succeeded"], rig.show(array)["cancelled"]) == (1, 1)
    rig.assert_clean()


@pytest.mark.slow
def test_the_jobs_of_a_killed_worker_all_come_back(rig: Rig, tmp_path: Path) -> None:
    names = [rig.submit(stay(tmp_path, str(number))) for number in range(7)]
    array = rig.run("jobjar", "submit", "--array", "1", stay(tmp_path, "task$1")).stdout.strip()
    worker = rig.start_worker("--slots", "8", **QUICK)
    wait_until(lambda: len(list(tmp_path.glob("began *"))) == 8, "all to run")
    worker.kill()
    worker.wait()
    rig.run("recover_jobs")
    assert running(rig) == [] and len(rig.names("unclaimed")) == 8
    (tmp_path / "go").touch()
    rig.run_until_idle("--slots", "8", **QUICK)
    for name in names:
        assert [attempt["outcome"] for attempt in rig.show(name)["attempts"]] == ["stranded", "succeeded"]
    assert rig.show(array)["succeeded"] == 1
    rig.assert_clean()


def test_slots_are_a_number_and_a_setting(rig: Rig) -> None:
    refused = rig.run("start_worker", "--slots", "0", check=False)
    assert refused.returncode == 2 and "is not a number from 1 to 1000" in refused.stderr
    worker = rig.start_worker(JJ_SLOTS="3", **QUICK)
    [shown] = json.loads(rig.run_forked("jobjar", "workers", "--format", "json").stdout)["workers"]
    assert shown["slots"] == 3
    rig.stop_worker(worker)


def test_each_slot_has_its_next_job_as_soon_as_it_is_free(rig: Rig, tmp_path: Path) -> None:
    """The worker looks for orders, and asks again after a vain claim, once in ten minutes: a slot must not wait for that."""
    jobs = [rig.submit(stay(tmp_path, "first"))]
    jobs += [rig.submit(f"sleep 0.05; touch '{tmp_path}/{number}'") for number in range(6)]
    slow = {"JJ_POLL_TIME": "10m", "JJ_PAUSE_TIME": "10m", "JJ_HEARTBEAT_TIME": "10m"}
    worker = rig.start_worker("--slots", "3", **slow)
    wait_until(lambda: rig.names("completed") == sorted(jobs[1:]), "the others")
    (tmp_path / "go").touch()
    wait_until(lambda: rig.names("completed") == sorted(jobs), "the first")
    rig.stop_worker(worker)
    rig.assert_clean()
