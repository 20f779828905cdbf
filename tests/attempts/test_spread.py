"""Workers on a network disk that do not reach for the same jobs; within one category and priority only."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobjar.attempts.attempt import Claimer
from jobjar.attempts.spread import EPOCH_S, spread
from jobjar.jar import open_jar
from jobjar.job_file.names import new_id
from jobjar.ledger.ask_claiming import Candidate, claim_candidates
from jobjar.stages.complete import give_back
from jobjar.stages.submit import describe_command, submit_all
from tests.claiming import claim_in_turns
from tests.rig import Rig

NOW = 4e9
WORKERS = ("rain.1", "rain.2", "snow.1")


def make_candidates(*priorities: int, category: str = "") -> list[Candidate]:
    return [
        Candidate(row, f"u{row}", f"job-{category}-{row}", "", category, priority, "", 0, None, None, None, 1, 0.0, 0)
        for row, priority in enumerate(priorities)
    ]


def firsts(order: list[Candidate], count: int) -> set[str]:
    return {candidate.name for candidate in order[:count]}


def test_each_worker_begins_with_jobs_that_no_other_begins_with() -> None:
    candidates = make_candidates(*[0] * 90)
    orders = {worker: spread(candidates, WORKERS, worker, NOW) for worker in WORKERS}
    for worker, order in orders.items():
        assert sorted(order) == candidates
        for other in WORKERS:
            assert worker == other or not firsts(order, 15) & firsts(orders[other], 15)


def test_a_worker_takes_its_own_jobs_oldest_first() -> None:
    order = spread(make_candidates(*[0] * 90), WORKERS, "rain.2", NOW)
    rows = [candidate.row for candidate in order[:15]]
    assert rows == sorted(rows)


def test_priorities_and_categories_keep_their_order() -> None:
    candidates = make_candidates(*[9] * 5, *[4] * 20, *[-1] * 5, category="FIRST") + make_candidates(7, 7, 7, 0)
    for worker in WORKERS:
        order = spread(candidates, WORKERS, worker, NOW)
        assert [(one.category, one.priority) for one in order] == [(one.category, one.priority) for one in candidates]


def test_a_worker_that_is_alone_takes_all_oldest_first() -> None:
    candidates = make_candidates(*[0] * 50)
    assert spread(candidates, ["rain.1"], "rain.1", NOW) == candidates


def test_a_job_is_not_left_to_the_same_worker_for_long() -> None:
    candidates = make_candidates(*[0] * 90)
    first_of_all = set()
    for number in range(40):
        order = spread(candidates, WORKERS, "rain.1", NOW + number * EPOCH_S)
        first_of_all |= firsts(order, 20)
    assert firsts(candidates, 40) <= first_of_all


def make_claimer(rig: Rig, name: str, home: Path) -> Claimer:
    """A claimer with a ledger home of its own, as on another node of a network disk."""
    jar = open_jar(environment={**rig.environment, "JJ_POLL_TIME": "3600", "JJ_LEDGER_HOME": str(home)})
    paths = jar.layout.worker(name)
    for path in (paths.path, paths.jobs):
        Path(path).mkdir()
    return Claimer(jar, new_id(), paths, ("",))


def test_a_try_that_finds_the_job_gone_is_counted(rig: Rig, tmp_path: Path) -> None:
    rain, snow = (make_claimer(rig, name, tmp_path / name) for name in ("rain.1", "snow.1"))
    submit_all(rain.jar, [describe_command("true")] * 3)
    with snow.jar.ledger.writing() as connection:
        assert claim_candidates(connection, "", NOW, 9) == []
    got = claim_in_turns(snow, NOW, print)
    assert got is not None
    first = claim_in_turns(rain, NOW, print)
    assert first is not None
    # What snow knows is from before; the oldest of it is rain's now.
    while claim_in_turns(snow, NOW, print):
        pass
    assert (rain.claims, snow.claims) == (1, 2)
    assert snow.lost_tries + rain.lost_tries >= 1
    assert [path.name for path in Path(snow.paths.jobs).iterdir()].count(first.name) == 0
    for claimer in (rain, snow):
        claimer.jar.close()


def test_a_worker_that_finds_jobs_gone_looks_soon_at_what_the_others_did(rig: Rig, tmp_path: Path) -> None:
    rain, snow = (make_claimer(rig, name, tmp_path / name) for name in ("rain.1", "snow.1"))
    submit_all(rain.jar, [describe_command("true")] * 30)
    assert claim_in_turns(snow, NOW, print) is not None
    while claim_in_turns(rain, NOW, print):
        pass
    assert claim_in_turns(snow, NOW, print) is None
    assert rain.claims + snow.claims == 30
    assert snow.lost_tries <= 3
    for claimer in (rain, snow):
        claimer.jar.close()


def test_a_job_that_came_back_from_another_home_counts_its_attempts_on_where_times_are_whole_seconds(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobjar.shared_disk import clock
    from jobjar.stages import claim, complete

    def whole(status: object) -> float:
        return 3.9e9

    for module in (clock, claim, complete):
        monkeypatch.setattr(module, "disk_time", whole)
    rain, snow = (make_claimer(rig, name, tmp_path / name) for name in ("rain.1", "snow.1"))
    submit_all(rain.jar, [describe_command("true", priority=priority) for priority in (1, 0)])
    # Snow knows both from now on, and looks at rain's journal no more for an hour.
    assert claim_in_turns(snow, 3.9e9, print) is not None
    got = claim_in_turns(rain, 3.9e9, print)
    assert got is not None
    give_back(rain, got, "for a test")
    again = claim_in_turns(snow, 3.9e9, print)
    assert again is not None and (again.uid, again.attempt) == (got.uid, 2)
    for claimer in (rain, snow):
        claimer.jar.close()
