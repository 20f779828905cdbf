"""Whoever submits, runs, shares or retries an array is killed at each write: each index runs, and ends exactly once."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.crash.case import Case, Step, kill_everywhere
from tests.crash.killer import BEFORE, Plan
from tests.crash.nursery import Nursery


class ArrayCase(Case):
    """A jar with arrays. `indexes` are those of each, `mended` makes the tasks succeed that fail."""

    def __init__(self, nursery: Nursery, template: Path, directory: Path) -> None:
        super().__init__(nursery, template, directory)
        self.mended = directory / "mended"
        self.failing: set[int] = set()
        self.indexes = list(range(1, 13))
        # Tasks that are retried, and so run again after they had ended.
        self.opened: set[int] = set()

    def task(self, then: str = "true") -> str:
        """A task that says in the log that it runs, and does `then`. Those of `failing` fail until they are mended."""
        failing = "|".join(map(str, sorted(self.failing))) or "none"
        return f'echo "$1" >> "{self.log}"; {then}; case $1 in {failing}) test -e "{self.mended}";; esac'

    def submit_tasks(self, chunk: int, then: str = "true", **attributes: Any) -> str:
        array = f"{self.indexes[0]}-{self.indexes[-1]}"
        uid: str = self.do("submit_tasks", command=self.task(then), array=array, chunk=chunk, **attributes).result
        return uid

    def ended(self) -> set[int]:
        """The tasks whose final ends are journaled."""
        rows = [
            row for entry in self.do("look").result["entries"] if entry["entry"] == "tasks" for row in entry["ended"]
        ]
        return {row[0] for row in rows if len(row) < 10 or not row[9]}

    def assert_recovered_and_done(self) -> None:
        """Recover, check, work, check; each index of each array that is there has run, and ended once; what had ended before the
        crash did not run again."""
        ended, runs = self.ended(), self.runs()
        _, different = self.do_each("recover", "check")
        assert different == []
        assert self.do("recover").result == []
        self.do("work")
        assert self.do_each("check", "recover") == [[], []]
        seen, found = self.do("look").result, self.do("look_at_tasks").result
        left = [place for place in seen["places"] if not place.startswith(("completed/", "archive/"))]
        assert left == []
        # A call that was killed before it had said who cancels leaves its directory for a day.
        assert {path.name.partition(".")[0] for path in (self.home / "limbo").rglob("*") if path.is_file()} <= {
            "order",
            "",
        }
        assert self.may_cancel or os.listdir(self.home / "limbo") == []
        assert [str(path) for path in (self.home / "workers").glob("*/sharing")] == []
        for uid in os.listdir(self.home / "batches"):
            assert sorted(os.listdir(self.home / "batches" / uid)) == ["array", "batch.json"]
            array = found[uid]
            assert sorted(map(int, array["ends"])) == self.indexes
            outcomes = Counter(array["ends"].values())
            assert array["counts"] == [outcomes["succeeded"], outcomes["failed"] + outcomes["cancelled"]]
        again = {index for index in ended - self.opened if self.runs()[str(index)] != runs[str(index)]}
        assert not again, f"ran again after their ends were journaled: {sorted(again)}"
        if os.listdir(self.home / "batches"):
            assert {int(index) for index in self.runs()} == set(self.indexes)


def an_empty_jar(case: Case) -> None:
    pass


def an_array(case: Case) -> None:
    assert isinstance(case, ArrayCase)
    case.failing = {5}
    case.submit_tasks(12)
    case.do("recover")


def an_array_of_two_chunks(case: Case) -> None:
    assert isinstance(case, ArrayCase)
    case.failing = {5}
    case.submit_tasks(6, retries="1", retry_delay="0")
    case.do("recover")


def an_array_and_what_follows_it(case: Case) -> None:
    """Task 5 fails, so that its partner in the other array is cancelled; another chunk is cancelled as a whole."""
    assert isinstance(case, ArrayCase)
    case.failing, case.may_cancel = {5, 11, 12}, True
    first = case.submit_tasks(6)
    case.do("submit_tasks", command="true", array="1-12", chunk=2, after_each=[first])
    case.do("recover")


def each_partner_has_the_end_that_it_should(case: Case) -> None:
    ends = [Counter(array["ends"].values()) for array in case.do("look_at_tasks").result.values()]
    assert sorted(map(dict, ends), key=str) == [
        {"succeeded": 9, "cancelled": 3},
        {"succeeded": 9, "failed": 3},
    ]


def an_array_that_failed(case: Case) -> None:
    an_array(case)
    case.do("work")
    assert isinstance(case, ArrayCase)
    case.mended.touch()
    case.opened = {5}


def an_array_that_was_being_shared(case: Case) -> None:
    """Its worker was killed after it had shortened the range, for the second time, and before it journaled that."""
    an_array(case)
    assert case.do("work_and_share", Plan(match='"reason":"shared"', when=BEFORE, occurrence=2)).killed


def test_a_killed_submission_is_wholly_in_or_not_at_all(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    def command(case: Case) -> str:
        assert isinstance(case, ArrayCase)
        return case.task()

    killed = kill_everywhere(
        *(nursery, template, tmp_path, an_empty_jar, "submit_tasks", 11),
        make=ArrayCase,
        command=command,
        array="1-12",
        chunk=6,
        entries=[str(index) for index in range(1, 13)],
    )
    assert killed > 8


@pytest.mark.parametrize(
    ("prepare", "scenario", "step"),
    [
        (an_array_of_two_chunks, "work_tasks", 17),
        (an_array, "work_and_share", 13),
        (an_array_that_was_being_shared, "recover", 7),
        (an_array_and_what_follows_it, "work_tasks", 29),
    ],
)
def test_a_killed_worker_or_recovery_costs_no_task_and_no_end_that_was_journaled(
    nursery: Nursery, template: Path, tmp_path: Path, prepare: Step, scenario: str, step: int
) -> None:
    more: dict[str, Any] = {}
    if prepare is an_array_and_what_follows_it:
        more["then"] = each_partner_has_the_end_that_it_should
    assert kill_everywhere(nursery, template, tmp_path, prepare, scenario, step, make=ArrayCase, **more) > 8


@pytest.mark.parametrize("order", ["STOP", "PAUSE", "SIGTERM"])
def test_a_worker_that_is_killed_while_it_gives_the_rest_back_loses_no_task(
    nursery: Nursery, template: Path, tmp_path: Path, order: str
) -> None:
    def let_go_on(case: Case) -> None:
        case.do("let_workers_start")

    prepare = {"STOP": an_array, "PAUSE": an_array_of_two_chunks, "SIGTERM": an_array}[order]
    assert (
        kill_everywhere(
            *(nursery, template, tmp_path, prepare, "work_until", 19), heal=let_go_on, make=ArrayCase, order=order
        )
        > 5
    )


class OrderCase(ArrayCase):
    """A jar with an array of which tasks are cancelled or killed: `named`, all of them or none. The others succeed."""

    named: frozenset[int] = frozenset()

    def assert_recovered_and_done(self) -> None:
        self.mended.touch()
        _, different = self.do_each("recover", "check")
        assert different == [] and self.do("recover").result == []
        self.do("work")
        assert self.do_each("check", "recover") == [[], []]
        [array] = self.do("look_at_tasks").result.values()
        assert sorted(map(int, array["ends"])) == self.indexes
        outcomes = {outcome for index, outcome in array["ends"].items() if int(index) in self.named}
        assert len(outcomes) == 1 and outcomes <= {"cancelled", "killed", "succeeded"}
        assert {outcome for index, outcome in array["ends"].items() if int(index) not in self.named} == {"succeeded"}
        # What is cancelled while it waits never runs; and nothing does whose end is recorded.
        is_cancelled = outcomes == {"cancelled"}
        assert {int(index) for index in self.runs()} >= set(self.indexes) - (self.named if is_cancelled else set())
        assert not (is_cancelled and self.runs().keys() & {str(index) for index in self.named - {3}})
        assert {path.name.partition(".")[0] for path in (self.home / "limbo").rglob("*") if path.is_file()} <= {
            "order",
            "",
        }


def test_a_killed_cancellation_of_tasks_cancels_all_of_them_or_none(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    """One chunk has none left, another has."""

    def prepare(case: Case) -> None:
        assert isinstance(case, OrderCase)
        case.named, case.may_cancel = frozenset((2, 4, *range(7, 13))), True
        case.submit_tasks(6)
        case.do("recover")

    def words(case: Case) -> list[str]:
        return [f"{os.listdir(case.home / 'batches')[0]}[2,4,7-12]"]

    killed = kill_everywhere(
        *(nursery, template, tmp_path, prepare, "steer", 5), make=OrderCase, verb="cancel", words=words
    )
    assert killed > 5


@pytest.mark.parametrize(("order", "named"), [("cancel", (3, 5)), ("kill", (3,))])
def test_a_worker_that_is_killed_while_it_obeys_an_order_about_a_task_leaves_each_with_one_end(
    nursery: Nursery, template: Path, tmp_path: Path, order: str, named: tuple[int, ...]
) -> None:
    def prepare(case: Case) -> None:
        assert isinstance(case, OrderCase)
        case.named = frozenset(named)
        case.submit_tasks(12, f"[ $1 != 3 ] || test -e {case.mended} || exec sleep 60")
        case.do("recover")

    killed = kill_everywhere(*(nursery, template, tmp_path, prepare, "work_while_told", 9), make=OrderCase, order=order)
    assert killed > 5


def test_a_killed_retry_opens_the_failed_tasks_once_or_not_at_all(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def the_array(case: Case) -> str:
        return os.listdir(case.home / "batches")[0]

    def retried_once_or_not(case: Case) -> None:
        ran = case.runs()["5"]
        assert ran in (1, 2)
        case.do("retry_failed", array=the_array(case))
        case.do("work")
        assert case.runs()["5"] == 2
        [array] = case.do("look_at_tasks").result.values()
        assert array["counts"] == [12, 0] and array["others"]["5"] == 1
        assert case.do("check").result == []

    killed = kill_everywhere(
        *(nursery, template, tmp_path, an_array_that_failed, "retry_failed", 9),
        make=ArrayCase,
        then=retried_once_or_not,
        array=the_array,
    )
    assert killed > 8
