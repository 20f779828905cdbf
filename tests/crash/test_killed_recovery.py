"""Recovery, rebuild and the repair of a damaged ledger may be killed anywhere, and are done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.case import Case, kill_everywhere
from tests.crash.killer import AFTER, BEFORE, Plan
from tests.crash.nursery import Nursery
from tests.rig import wait_until


def kill_worker(case: Case, match: str, when: str) -> None:
    assert case.do("work", Plan(match=match, when=when)).killed, match


def dead_workers(case: Case) -> None:
    """Five of them: one died while its job ran, one had claimed and not journaled it, one had a hand-dropped job,
    one had journaled the outcome but not moved the job, one had moved a failed job back and not journaled that."""
    case.submit()
    kill_worker(case, "^posix_spawn", BEFORE)
    case.submit(category="SOME")
    kill_worker(case, "^renameat2 .*/unclaimed/SOME/", AFTER)
    case.drop("dropped")
    case.dropped.append("dropped")
    kill_worker(case, "^renameat2 .*/unclaimed/dropped", AFTER)
    case.submit("exit 0", priority=9)
    kill_worker(case, "^renameat2 .*/completed/", BEFORE)
    mark = case.directory / "failed"
    case.submit(f"test -e {mark} || {{ touch {mark}; exit 3; }}", priority=11, attributes={"retries": 9})
    kill_worker(case, "^renameat2 .*/jobs/.*/unclaimed/", AFTER)


def a_ledger_with_history(case: Case) -> None:
    case.submit()
    case.submit("exit 3", category="SOME")
    case.do("work")
    case.submit()


def a_damaged_ledger(case: Case) -> None:
    a_ledger_with_history(case)
    case.do("damage_ledger")


def test_a_killed_recovery_is_done_again(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    kill_everywhere(nursery, template, tmp_path, dead_workers, "recover", 37)


def test_a_killed_rebuild_leaves_the_old_ledger_or_none(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    kill_everywhere(nursery, template, tmp_path, a_ledger_with_history, "rebuild", 5)


def test_a_recovery_killed_while_it_ends_an_orphan_is_done_again(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    for occurrence in (1, 2):
        case = Case(nursery, template, tmp_path / f"case {occurrence}")
        mark = tmp_path / f"mark {occurrence}"
        case.submit(f"test -e '{mark}' || sleep 60")
        kill_worker(case, "^posix_spawn", AFTER)
        wait_until(case.runs, "the start of the job")
        mark.touch()
        assert case.do("recover", Plan(match="^kill", when=AFTER, occurrence=occurrence)).killed
        case.assert_recovered_and_done()
        assert case.do("processes").result == []
        assert case.runs()[case.submitted[0]] == 2


@pytest.mark.slow
def test_recovery_may_be_killed_at_every_write(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    assert kill_everywhere(nursery, template, tmp_path, dead_workers, "recover", 2) > 10


@pytest.mark.slow
def test_a_rebuild_may_be_killed_at_every_write(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    assert kill_everywhere(nursery, template, tmp_path, a_ledger_with_history, "rebuild", 2) > 15


@pytest.mark.slow
def test_the_repair_of_a_damaged_ledger_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    assert kill_everywhere(nursery, template, tmp_path, a_damaged_ledger, "recover", 2) > 10
