"""abort_batch --restart of a batch of which jobs wait, run, are polled and are being stored: these are left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.described_jobs import make_package
from tests.rig import Rig, wait_until

# Each seed is in a state of its own when the batch is restarted.
SUCCEEDED, FAILED, TO_BE_STORED, BEING_STORED, POLLED, RUNNING, RETRIED, WAITING = range(1, 9)


def phases(rig: Rig) -> dict[str, int]:
    [batch] = json.loads(rig.run("batch_status", "--format", "json", "b").stdout)["batches"]
    found: dict[str, int] = batch["phases"]
    return found


def seed_states(rig: Rig) -> dict[int, list[tuple[str, str | None, int]]]:
    """(state, outcome, number of attempts) of the jobs of each seed, the older first."""
    names = [path.name for jar in ("unclaimed", "claimed", "completed") for path in (rig.home / jar).rglob("*.0")]
    found: dict[int, list[tuple[str, str | None, int]]] = {}
    for job in sorted((rig.show(name) for name in set(names)), key=lambda job: job["submitted_at"]):
        found.setdefault(job["seed"], []).append((job["state"], job["outcome"], len(job["attempts"])))
    return found


@pytest.fixture
def busy(rig: Rig, tmp_path: Path) -> Rig:
    """A jar with the batch `b`, one job in each state, and the workers that hold them."""
    command = f"""
case $JUG_SEED in
{SUCCEEDED}) true ;;
{FAILED}) test -e {tmp_path}/mended ;;
{RETRIED}) test -e {tmp_path}/mended ;;
{POLLED}) true ;;
{TO_BE_STORED}|{BEING_STORED}) echo $JUG_SEED > output/$JUG_SEED ;;
*) until test -e {tmp_path}/go; do sleep 0.05; done ;;
esac"""
    (tmp_path / "command").write_text(command)
    asked = f"if test -e {tmp_path}/go; then echo finished=1 > jug_polling.vars; fi"
    head = f'run_command = "sh {tmp_path}/command"\nretry_delay = 1h\nretries = 0\npolling_time = 0.1\n'
    jobs = {
        SUCCEEDED: "",
        FAILED: "",
        TO_BE_STORED: "storage_class = later",
        BEING_STORED: "storage_class = now",
        POLLED: f'polling_command = "{asked}"',
        RUNNING: "",
        RETRIED: "retries = 5",
        WAITING: "execution_class = NOBODY",
    }
    text = f"batch\nname = b\n{head}" + "".join(f"job\nseeds = {seed}\n{keys}\n" for seed, keys in jobs.items())
    (tmp_path / "b.jug").write_text(text)
    store = make_package(
        tmp_path / "store",
        bin__store=f"#!/bin/sh\nuntil test -e {tmp_path}/go; do sleep 0.05; done\n"
        "for file in output/*; do echo source_name=${file#output/}; done > jug_storage.log\n",
        package__commands="storage_command = $1/bin/store\n",
    )
    rig.run("submit_batch", f"{tmp_path}/b.jug")
    rig.start_worker(JJ_RUN_SLOTS="9", JJ_STAGED_AHEAD="9", JJ_POLL_TIME="0.1")
    rig.start_worker("--storage", "now", JJ_STORAGE_SOFTWARE=str(store))
    wanted = {"succeeded": 1, "failed": 1, "waiting_for_storage": 1, "store": 1, "poll": 1, "run": 1, "waiting": 2}
    wait_until(lambda: phases(rig) == wanted, "each job's state")
    return rig


UNTOUCHED = {
    SUCCEEDED: [("completed", "succeeded", 1)],
    TO_BE_STORED: [("unclaimed", None, 1)],
    BEING_STORED: [("claimed", None, 2)],
    POLLED: [("claimed", None, 1)],
    RUNNING: [("claimed", None, 1)],
    RETRIED: [("unclaimed", None, 1)],
    WAITING: [("unclaimed", None, 0)],
}


def test_a_restart_leaves_alone_what_waits_runs_is_polled_and_is_being_stored(busy: Rig, tmp_path: Path) -> None:
    rig = busy
    rig.run("pause_worker", "all")
    result = rig.run("abort_batch", "--restart", "b")
    assert result.stdout == "0 cancelled, 0 killed, 1 submitted again\n"
    told = "abort_batch: 6 jobs that wait or run were left alone (`abort_batch --restart --kill b` submits them again too)\n"
    assert result.stderr == told
    assert list(rig.home.glob("workers/*/KILL.*")) == []
    assert seed_states(rig) == {**UNTOUCHED, FAILED: [("completed", "failed", 1), ("unclaimed", None, 0)]}
    # What was submitted again is not submitted a third time.
    assert rig.run("abort_batch", "--restart", "b").stdout == "0 cancelled, 0 killed, 0 submitted again\n"
    assert len(seed_states(rig)[FAILED]) == 2
    (tmp_path / "mended").touch()
    (tmp_path / "go").touch()
    rig.run("unpause_worker", "all")
    rig.start_worker("--storage", "later")
    rest = {"succeeded": 6, "waiting": 2}
    wait_until(lambda: phases(rig) == rest, "the end of all that runs")
    assert {seed: states for seed, states in seed_states(rig).items() if len(states) > 1} == {
        FAILED: [("completed", "failed", 1), ("completed", "succeeded", 1)]
    }
    rig.run("stop_worker", "all")
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert phases(rig) == rest


def test_a_restart_that_is_to_kill_begins_anew_with_all_but_what_succeeded_and_what_is_stored(busy: Rig) -> None:
    rig = busy
    result = rig.run("abort_batch", "--restart", "--kill", "b")
    assert result.stdout == "2 cancelled, 2 killed, 5 submitted again\n"
    states = seed_states(rig)
    ended = {FAILED: "failed", POLLED: "killed", RUNNING: "killed", RETRIED: "cancelled", WAITING: "cancelled"}
    assert {seed: jobs[0][1] for seed, jobs in states.items() if len(jobs) == 2} == ended
    assert {seed: states[seed] for seed in (SUCCEEDED, TO_BE_STORED, BEING_STORED)} == {
        seed: UNTOUCHED[seed] for seed in (SUCCEEDED, TO_BE_STORED, BEING_STORED)
    }


def test_a_restart_of_an_aborted_batch_submits_again_what_was_cancelled_and_killed(busy: Rig) -> None:
    rig = busy
    assert rig.run("abort_batch", "b").stdout == "2 cancelled, 2 killed, 0 submitted again\n"
    assert rig.run("abort_batch", "--restart", "b").stdout == "0 cancelled, 0 killed, 5 submitted again\n"
    assert {seed for seed, jobs in seed_states(rig).items() if len(jobs) == 2} == {
        FAILED,
        POLLED,
        RUNNING,
        RETRIED,
        WAITING,
    }
