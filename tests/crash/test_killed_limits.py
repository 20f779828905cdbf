"""Who takes tokens, gives them back, or sets limits may be killed anywhere: no token is lost, and none is there twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash.case import Case, kill_everywhere
from tests.crash.killer import AFTER, BEFORE, Plan
from tests.crash.nursery import Nursery

SETTING: dict[str, Any] = {"kind": "category", "name": "SOME", "count": 70}


def jobs_of_limited_categories(case: Case) -> None:
    """Jobs of a category and a batch, both limited to one, and others."""
    case.do("set_limit", kind="category", name="SOME", count=1)
    case.do("set_limit", kind="batch", name="wc", count=1)
    path = case.directory / "described"
    path.write_text(f"#!/bin/sh\n#JJ batch = wc\n#JJ run_command = {case.command()}\n{case.command()}\n")
    path.chmod(0o755)
    case.submitted += case.do("submit_file", path=str(path), category="SOME").result
    case.submit(category="SOME")


def dead_holders(case: Case) -> None:
    """Workers that died with a token: before their claim, after it, and after the end of their job."""
    jobs_of_limited_categories(case)
    for match, when in (("^rename .*/free/0/1", AFTER), ("^rename .*/taken/", BEFORE)):
        assert case.do("work", Plan(match=match, when=when)).killed, match
        case.do("recover")
    case.submit(category="SOME")
    assert case.do("work", Plan(match="^posix_spawn", when=BEFORE)).killed


def a_limit_of_one(case: Case) -> None:
    case.do("set_limit", kind="category", name="SOME", count=1)
    case.submit(category="SOME")


def assert_tokens_are_home(case: Case) -> None:
    """After recovery and work each token is free, at its place, once."""
    answer = case.do("look_at_limits").result
    assert answer["faults"] == []
    assert answer["taken"] == []


def assert_limits_can_be_set(case: Case) -> None:
    assert_tokens_are_home(case)
    case.do("set_limit", kind="category", name="SOME", count=70)
    answer = case.do("look_at_limits").result
    assert answer["faults"] == [] and answer["taken"] == []
    assert answer["limits"]["category.SOME"] == [70, 70]


def test_a_worker_killed_while_it_takes_or_gives_back_leaves_tokens_to_recovery(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    kill_everywhere(nursery, template, tmp_path, jobs_of_limited_categories, "work", 37, then=assert_tokens_are_home)


def test_a_setting_of_a_limit_that_is_killed_is_done_again(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    kill_everywhere(
        nursery, template, tmp_path, a_limit_of_one, "set_limit", 37, then=assert_limits_can_be_set, **SETTING
    )


@pytest.mark.slow
def test_a_worker_may_be_killed_at_every_write_of_taking_and_giving_back(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    killed = kill_everywhere(
        nursery, template, tmp_path, jobs_of_limited_categories, "work", 2, then=assert_tokens_are_home
    )
    assert killed > 10


@pytest.mark.slow
def test_a_recovery_of_tokens_may_be_killed_at_every_write(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    assert kill_everywhere(nursery, template, tmp_path, dead_holders, "recover", 2, then=assert_tokens_are_home) > 10


@pytest.mark.slow
def test_a_setting_may_be_killed_at_every_write(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    killed = kill_everywhere(
        nursery, template, tmp_path, a_limit_of_one, "set_limit", 4, then=assert_limits_can_be_set, **SETTING
    )
    assert killed > 10
