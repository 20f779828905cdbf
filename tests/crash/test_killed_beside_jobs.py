"""Killed at every write: what is done beside the jobs. Making a jar, control files, a worker's start and end, snapshots, a
directory set aside, delayed retries."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.case import Case, kill_everywhere
from tests.crash.nursery import Nursery
from tests.crash.test_killed_recovery import dead_workers

Step = Callable[[Case], None]


def no_jar(case: Case) -> None:
    shutil.rmtree(case.home)


def a_waiting_job(case: Case) -> None:
    case.submit()
    case.do("recover")


def two_running_workers(case: Case) -> None:
    case.submit()
    case.do("make_two_workers")


def two_paused_workers(case: Case) -> None:
    two_running_workers(case)
    assert len(case.do("control_workers", verb="pause").result) == 2


def a_ledger_outside(case: Case) -> None:
    case.submit()
    assert case.do("publish").result


def a_job_that_fails_twice(case: Case) -> None:
    mark = case.directory / "failed"
    attributes = {"retries": 9, "retry_delay": "0.05"}
    case.submit(
        f"test -e {mark}.2 && exit; test -e {mark} && touch {mark}.2; touch {mark}; exit 3", attributes=attributes
    )
    case.do("recover")


def five_dropped_jobs(case: Case) -> None:
    for number in range(5):
        case.drop(f"dropped {number}.{number}")
        case.dropped.append(f"dropped {number}.{number}")


def make_it_again(case: Case) -> None:
    """init once more, and a job in the jar that it makes."""
    case.do("make_jar")
    assert list(case.home.rglob("*.new")) == []
    case.submitted.clear()
    case.submit()


def take_workers_away(case: Case) -> None:
    """Nobody was behind them."""
    shutil.rmtree(case.home / "workers")
    (case.home / "workers").mkdir(0o700)
    for link in (case.home / "claimed").iterdir():
        link.unlink()


def pause_and_go_on(case: Case) -> None:
    for verb in ("pause", "unpause"):
        assert len(case.do("control_workers", verb=verb).result) == 2
    workers = sorted((case.home / "workers").iterdir())
    assert [path.name for worker in workers for path in worker.iterdir() if path.name == "PAUSE"] == []
    take_workers_away(case)


def stop_again(case: Case) -> None:
    case.do("control_workers", verb="stop")
    assert len(list((case.home / "workers").glob("*/STOP"))) == 2
    take_workers_away(case)


@pytest.mark.slow
def test_init_may_be_killed_at_every_write(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    assert kill_everywhere(nursery, template, tmp_path, no_jar, "make_jar", 19, heal=make_it_again) > 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "prepare", "heal"),
    [
        ("pause", two_running_workers, pause_and_go_on),
        ("unpause", two_paused_workers, pause_and_go_on),
        ("stop", two_running_workers, stop_again),
    ],
)
def test_a_program_that_controls_workers_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path, verb: str, prepare: Step, heal: Step
) -> None:
    assert kill_everywhere(nursery, template, tmp_path, prepare, "control_workers", 1, heal, verb=verb) > 3


@pytest.mark.slow
def test_a_worker_that_starts_and_stops_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def heal(case: Case) -> None:
        case.do("let_workers_start")

    killed = kill_everywhere(nursery, template, tmp_path, a_waiting_job, "be_a_worker_that_is_stopped", 7, heal)
    assert killed > 5


@pytest.mark.slow
def test_setting_a_dead_worker_aside_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    assert kill_everywhere(nursery, template, tmp_path, dead_workers, "set_dead_workers_aside", 13) > 4


@pytest.mark.slow
def test_the_publication_of_a_snapshot_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def heal(case: Case) -> None:
        assert case.do("publish_again").result

    assert kill_everywhere(nursery, template, tmp_path, a_ledger_outside, "publish", 3, heal) > 3


@pytest.mark.slow
def test_a_worker_may_be_killed_while_a_job_s_delayed_retries_are_due(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    assert kill_everywhere(nursery, template, tmp_path, a_job_that_fails_twice, "work", 17) > 7


@pytest.mark.slow
def test_a_worker_may_be_killed_while_it_takes_what_was_dropped_by_hand(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    assert kill_everywhere(nursery, template, tmp_path, five_dropped_jobs, "work", 23) > 7
