"""What a busy worker takes ahead of its turn: only what is to be staged in, and nothing that another could run at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.described_jobs import describe, entries
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.slow
HOLD = "while [ ! -e {} ]; do sleep 0.02; done"


def start_holding(rig: Rig, name: str, go: Path, category: str = "") -> None:
    """A described job that runs until `go` is there."""
    describe(rig, name, category, run_command=HOLD.format(go))
    wait_until(lambda: phase_of(rig, name, "run"), f"{name} to run")


def phase_of(rig: Rig, name: str, phase: str) -> bool:
    attempts = rig.show(name)["attempts"]
    return bool(attempts) and any(found["name"] == phase for found in attempts[-1]["phases"])


def test_a_job_that_has_nothing_to_stage_waits_in_unclaimed_and_the_next_to_be_idle_runs_it(
    rig: Rig, tmp_path: Path
) -> None:
    rig.environment["JJ_POLL_TIME"] = "0.1"
    busy = rig.start_worker()
    start_holding(rig, "first.1", tmp_path / "go")
    described, plain = describe(rig, "described", run_command="true"), rig.submit("true")
    staged = describe(rig, "staged.-1", stage_in_command="true", run_command="true")
    # The order is kept: what comes after those is not taken in their stead.
    for job in (described, plain, staged):
        assert rig.show(job)["state"] == "unclaimed"
    idle = rig.start_worker()
    wait_until(lambda: {described, plain, staged} <= set(rig.names("completed")), "the others, by the other worker")
    assert rig.names("completed") == sorted([described, plain, staged])
    (tmp_path / "go").touch()
    wait_until(lambda: "first.1" in rig.names("completed"), "the first")
    rig.stop_worker(busy)
    rig.stop_worker(idle)
    rig.assert_clean()


def test_what_is_staged_ahead_says_behind_what_and_goes_back_when_another_worker_is_idle(
    rig: Rig, tmp_path: Path
) -> None:
    rig.environment["JJ_POLL_TIME"] = "0.1"
    busy = rig.start_worker()
    start_holding(rig, "first.1", tmp_path / "go")
    ahead = describe(rig, "ahead", stage_in_command=f"echo >> {tmp_path}/staged", run_command="true")
    wait_until((tmp_path / "staged").exists, "the staging in")
    holder = wait_until(lambda: rig.show(ahead)["worker"], "the claim")
    reason = f"it is staged behind first.1, which {holder} runs first"
    wait_until(lambda: rig.show(ahead)["waits_because"] == [reason], "the reason")
    assert rig.show("first.1")["waits_because"] is None
    [one] = rig.explain(ahead)
    assert [standing["cause"] for standing in one["causes"]] == ["ahead"]
    shown = rig.run("jobjar", "show", ahead).stdout
    assert f"waits because  {reason}" in shown and "started at" not in shown
    assert "started at" in rig.run("jobjar", "show", "first.1").stdout
    idle = rig.start_worker()
    wait_until(lambda: ahead in rig.names("completed"), "the other worker to run it")
    assert rig.names("completed") == [ahead]
    ended = [(entry["outcome"], entry.get("message")) for entry in entries(rig, "ended", ahead)]
    message = f"given back before it ran: {rig.show(ahead)['attempts'][-1]['worker']} could run it at once"
    assert ended == [("interrupted", message), ("succeeded", None)]
    (tmp_path / "go").touch()
    wait_until(lambda: "first.1" in rig.names("completed"), "the first")
    rig.stop_worker(busy)
    rig.stop_worker(idle)
    rig.assert_clean()


@pytest.mark.parametrize("how", ["idle", "paused", "other category", "dead"])
def test_nothing_is_taken_ahead_while_another_worker_could_run_it(rig: Rig, tmp_path: Path, how: str) -> None:
    rig.environment.update(JJ_POLL_TIME="0.1", JJ_PAUSE_TIME="0.1")
    busy = rig.start_worker("A")
    start_holding(rig, "first.1", tmp_path / "go", "A")
    other = rig.start_worker("B" if how == "other category" else "A")
    directory = next((rig.home / "workers").glob(f"*.{other.pid}"))
    if how == "paused":
        (directory / "PAUSE").touch()
    elif how == "dead":
        other.kill()
        other.communicate()
    job = describe(rig, "job", "A", stage_in_command=f"touch {tmp_path}/staged", run_command="true")
    if how == "idle":
        wait_until(lambda: job in rig.names("completed"), "the idle worker to run it")
        assert [attempt["worker"] for attempt in rig.show(job)["attempts"]] == [directory.name]
    else:
        wait_until((tmp_path / "staged").exists, "the busy worker to stage it in")
    (tmp_path / "go").touch()
    wait_until(lambda: {"first.1", job} <= set(rig.names("completed")), "the end of both")
    if how != "dead":
        (directory / "PAUSE").unlink(missing_ok=True)
        rig.stop_worker(other)
    rig.stop_worker(busy)
