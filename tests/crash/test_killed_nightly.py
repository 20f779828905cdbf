"""The nightly job may be killed anywhere, and what it left undone or half done is put right by the next night."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.crash.case import Case, kill_everywhere
from tests.crash.killer import AFTER, BEFORE, Plan
from tests.crash.nursery import Nursery

pytestmark = pytest.mark.slow


def a_jar_with_a_past(case: Case) -> None:
    """Some jobs ended and were archived, some ended since, one waits; a journal has ended; a worker died with a job
    whose outcome was journaled."""
    case.submit()
    case.do("work")
    case.do("nightly")
    case.submit("exit 3", category="SOME")
    case.submit()
    case.do("work")
    case.submit("exit 0", priority=9)
    assert case.do("work", Plan(match="^renameat2 .*/completed/", when=BEFORE)).killed
    case.submit()


def after_the_next_night(case: Case) -> None:
    """The lock that a killed night kept is an hour old by then; what the night did not do is done, and leaves no crumbs."""
    lock = case.home / "ledger" / "archiving"
    if lock.exists():
        os.utime(lock, (time.time() - 3600,) * 2)
    assert case.do("nightly").result == []
    assert case.do("check").result == []
    assert case.do("nightly").result == []
    ledger = case.home / "ledger"
    assert not lock.exists()
    assert [path.name for path in ledger.rglob("*.new*")] == []
    assert len(list((ledger / "copies").iterdir())) == 1
    keys = [path.name.split(".jsonl")[0].removesuffix(".gz") for path in (ledger / "journals").glob("*.jsonl")]
    packed = [path.name.rsplit(".", 3)[0] for path in (ledger / "journals").glob("*.jsonl.gz")]
    assert len(packed) == len(set(packed)) and not set(keys) & set(packed)


def kill_nights(nursery: Nursery, template: Path, directory: Path, step: int) -> int:
    return kill_everywhere(nursery, template, directory, a_jar_with_a_past, "nightly", step, then=after_the_next_night)


def test_a_killed_night_is_done_again(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    kill_nights(nursery, template, tmp_path, 23)


@pytest.mark.slow
def test_a_night_may_be_killed_at_every_write(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    assert kill_nights(nursery, template, tmp_path, 2) > 10


@pytest.mark.slow
def test_deleting_may_be_killed_at_every_write(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    for number in range(1, 200, 3):
        case = Case(nursery, template, tmp_path / f"case {number}")
        a_jar_with_a_past(case)
        answer = case.do("nightly", Plan(number, AFTER), keep_days="0.000000001")
        case.do("recover")
        assert case.do("check").result == []
        after_the_next_night(case)
        case.do("nightly", keep_days="0.000000001")
        seen = case.do("look").result
        assert seen["places"] == [f"unclaimed/{case.submitted[-1]}"]
        assert sum(entry["entry"] == "ended" for entry in seen["entries"]) == 4
        assert case.do("check").result == []
        if not answer.killed:
            assert number > 60
            return
    raise AssertionError("more writes than thought")


@pytest.mark.slow
def test_a_night_may_be_killed_twice(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    """First with the compressed journal beside the other, or with files archived that no journal tells of."""
    for match, when in (("^rename .*jsonl.gz", AFTER), ("^renameat2 .*/completed/.* /proc/self", AFTER)):
        for number in range(1, 40, 13):
            case = Case(nursery, template, tmp_path / f"{match[-4:-1]} {number}")
            a_jar_with_a_past(case)
            assert case.do("nightly", Plan(match=match, when=when)).killed
            case.do("nightly", Plan(number, AFTER))
            case.assert_recovered_and_done()
            after_the_next_night(case)
