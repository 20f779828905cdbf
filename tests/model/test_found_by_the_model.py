"""What the model found, each as the shortest history that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.faults import Fault
from tests.model.world import Body, World
from tests.rig import wait_until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.settle()
    made.close()


def check(world: World) -> None:
    world.check_jobs()
    world.check_ledgers()


def started(world: World, node: str, pid: int) -> Body:
    world.start_worker(node, pid, None)
    return world.bodies[-1]


def claimed(world: World, node: str, pid: int) -> Body:
    """A worker that was started and has claimed a job."""
    body = started(world, node, pid)
    world.claim(body, True, None)
    return body


def test_a_job_of_which_nothing_is_recorded_and_that_is_gone_is_in_no_ledger(world: World) -> None:
    world.submit("rain", "", 0, {}, None)
    [place] = world.files().values()
    name = place.rpartition("/")[2].replace("Z-", "Z-zzz", 1)
    world.drop(name[:28] + name[31:], "")  # a name made by unique_job_name, and no entry of its own
    world.reconcile("snow", True)
    world.delete_by_hand(1)
    world.reconcile("snow", True)
    check(world)
    world.delete_by_hand(0)
    check(world)


def test_a_job_that_a_hand_took_from_a_worker_before_its_claim_was_read_keeps_its_history(world: World) -> None:
    world.drop("x.5", "LINUX")
    claimed(world, "rain", 1)
    world.move_by_hand(0, "unclaimed", None)
    with world.on("snow") as jar, jar.ledger.writing() as connection:
        world.scan(connection)  # without the journals, as where a network disk does not show them yet
    check(world)
    world.reconcile("snow", True)
    check(world)


def test_a_job_seen_at_a_worker_before_its_claim_was_read_is_one_job(world: World) -> None:
    world.drop("x", "")
    claimed(world, "rain", 1)
    with world.on("snow") as jar, jar.ledger.writing() as connection:
        world.scan(connection)
    check(world)
    world.fold("snow", 0, None)
    check(world)


def test_the_category_of_a_job_that_a_hand_completed_is_that_of_its_last_recorded_place(world: World) -> None:
    world.drop("y~2.5", "LINUX")
    claimed(world, "rain", 1)
    world.move_by_hand(0, "unclaimed", None)
    world.reconcile("rain", True)
    world.move_by_hand(0, "completed", None)
    check(world)


def test_a_job_that_hands_moved_away_and_back_came_there_when_its_recorded_move_says(world: World) -> None:
    world.submit("rain", "LINUX", 0, {}, None)
    world.move_by_hand(0, "limbo", None)
    world.reconcile("snow", True)
    world.move_by_hand(0, "unclaimed/LINUX", None)
    world.reconcile("snow", True)
    check(world)


def test_a_completed_job_that_a_hand_put_back_runs_and_completes_again(world: World) -> None:
    world.submit("rain", "", 0, {}, None)
    first = claimed(world, "rain", 1)
    assert world.complete(first, "succeeded", None)
    check(world)
    world.move_by_hand(0, "unclaimed", None)
    check(world)
    second = claimed(world, "snow", 11)
    assert second.job is not None and second.job.attempt == 2
    check(world)
    world.reconcile("rain", True)
    assert world.complete(second, "failed", None)
    check(world)


def test_an_unnamed_job_that_is_gone_where_a_named_one_of_its_name_is_gone_too_is_forgotten(world: World) -> None:
    world.drop("x", "")
    claimed(world, "rain", 1)
    world.drop("x", "LINUX")
    world.reconcile("snow", True)
    world.delete_by_hand(0)
    world.delete_by_hand(0)
    check(world)


def test_a_job_that_hands_completed_and_put_back_is_where_its_claim_took_it(world: World) -> None:
    world.submit("rain", "", 0, {}, None)
    world.move_by_hand(0, "completed", None)
    world.reconcile("wind", True)
    world.move_by_hand(0, "unclaimed/LINUX", None)
    body = claimed(world, "snow", 11)
    assert body.job is not None
    world.reconcile("wind", True)
    check(world)


@pytest.mark.parametrize("at", range(6))
def test_a_name_held_for_a_move_that_was_killed_is_no_second_job(tmp_path: Path, at: int) -> None:
    world = World(tmp_path, can_refuse=False)
    world.submit("rain", "", 0, {}, Fault("killed", at))
    world.submit("rain", "", 0, {}, None)
    body = started(world, "snow", 11)
    world.claim(body, True, Fault("killed", at))
    check(world)
    world.settle()
    assert not any((tmp_path / "jar/workers/snow.11/jobs").iterdir())
    assert not [name for name in (tmp_path / "jar/unclaimed").iterdir() if "~2" in name.name]
    world.close()


@pytest.mark.parametrize("at", range(8))
def test_a_rebuild_that_is_killed_leaves_those_who_have_the_ledger_open_and_others_one_ledger(
    world: World, at: int
) -> None:
    world.submit("rain", "", 0, {}, None)
    claimed(world, "rain", 1)
    world.fold("rain", 0, None)
    world.rebuild("rain", Fault("killed", at))
    check(world)
    world.submit("rain", "", 0, {}, None)
    world.reconcile("rain", True)
    claimed(world, "rain", 2)
    check(world)


def test_a_file_that_may_be_a_job_s_is_that_job_in_ledgers_that_knew_it_as_another_without_an_id_too(
    world: World,
) -> None:
    world.drop("y~2.5", "LINUX")
    claimed(world, "wind", 21)
    world.move_by_hand(0, "unclaimed/LINUX", None)
    world.drop("y~2.5", "")
    world.reconcile("wind", True)
    world.move_by_hand(1, "completed", None)
    world.delete_by_hand(0)
    check(world)


@pytest.mark.parametrize("at", range(8, 11))
def test_a_job_of_the_name_of_one_that_completed_without_its_file_is_another(world: World, at: int) -> None:
    world.drop("y", "")
    body = claimed(world, "rain", 1)
    world.delete_by_hand(0)
    world.complete(body, "succeeded", None)
    world.drop("y", "")
    world.claim(started(world, "snow", 11), True, Fault("killed", at))
    world.reconcile("rain", True)
    world.recover("snow", None)
    check(world)


@pytest.mark.parametrize("at", range(5, 8))
def test_a_removal_of_a_job_whose_completion_was_found_is_the_last_of_its_moves(world: World, at: int) -> None:
    world.submit("rain", "", 0, {}, None)
    world.complete(claimed(world, "rain", 1), "succeeded", Fault("killed", at))
    world.reconcile("rain", True)
    world.delete_by_hand(0)
    world.reconcile("rain", True)
    check(world)


def test_a_file_that_came_to_limbo_before_a_job_of_its_name_was_claimed_is_another(world: World) -> None:
    world.drop("x", "LINUX")
    world.drop("x", "")
    world.move_by_hand(1, "limbo", None)
    moved_at = world.now()
    wait_until(lambda: world.now() > moved_at, "the disk's clock to go on")
    claimed(world, "snow", 11)
    world.delete_by_hand(0)
    world.reconcile("snow", True)
    check(world)
    world.delete_by_hand(0)
    check(world)


@pytest.mark.parametrize("at", range(16, 19))
def test_a_submission_that_a_hand_moved_back_before_its_move_was_journaled_keeps_its_category(
    world: World, at: int
) -> None:
    world.submit("rain", "LINUX", 0, {"retries": "1"}, Fault("killed", at))
    world.reconcile("rain", True)
    world.move_by_hand(0, "limbo", None)
    world.reconcile("rain", True)
    check(world)
