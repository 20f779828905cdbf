"""A submission that is killed before and after each of its writes leaves a whole job, or one that nobody can claim."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.case import Case, kill_everywhere
from tests.crash.nursery import Nursery


def nothing(case: Case) -> None:
    """A new jar."""


def one_job_before(case: Case) -> None:
    """A jar with a journal and a ledger, and a job that waits."""
    case.submit()
    case.do("recover")


def a_file(case: Case) -> str:
    path = case.directory / "job.sh"
    path.write_text(f"#!/bin/sh\n#JJ retries = 2\n{case.command()}\n")
    path.chmod(0o755)
    return str(path)


def three_commands(case: Case) -> list[str]:
    return [case.command()] * 3


def test_a_killed_submission_of_a_command_leaves_a_whole_job_or_none(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    kill_everywhere(nursery, template, tmp_path, one_job_before, "submit_command", 3, command=Case.command)


@pytest.mark.slow
def test_a_submission_into_a_new_jar_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    killed = kill_everywhere(nursery, template, tmp_path, nothing, "submit_command", 1, command=Case.command)
    assert killed > 10


@pytest.mark.slow
def test_a_submission_of_a_file_with_category_and_attributes_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "category": "SOME",
        "priority": 5,
        "identifier": "mine",
        "attributes": {"time_limit": "1h"},
    }
    killed = kill_everywhere(nursery, template, tmp_path, one_job_before, "submit_file", 1, path=a_file, **options)
    assert killed > 12


@pytest.mark.slow
def test_a_submission_of_three_jobs_at_once_may_be_killed_at_every_write(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    killed = kill_everywhere(nursery, template, tmp_path, one_job_before, "submit_commands", 1, commands=three_commands)
    assert killed > 10


def test_a_killed_submission_for_later_leaves_a_job_that_begins_then_or_none(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def begins_in_time(case: Case) -> None:
        begun = (case.directory / "begun").read_text().split() if (case.directory / "begun").exists() else []
        assert all(float(moment) >= begin_at for moment in begun)

    begin_at = time.time() + 3  # over for the last cases, which then show no more than that the job is not lost
    killed = kill_everywhere(
        *(nursery, template, tmp_path, one_job_before, "submit_typed", 3),
        then=begins_in_time,
        line=lambda case: case.command(f"date +%s.%N >> {case.directory}/begun"),
        begin=begin_at,
        env={"A": "1"},
        tag=["x"],
    )
    assert killed > 5


def test_a_killed_submission_that_is_to_be_held_leaves_a_held_job_or_none(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def is_held_or_unknown(case: Case) -> None:
        seen = case.do("look").result
        entries = [entry for entry in seen["entries"] if entry["entry"] == "moved" and "held_reason" in entry]
        waiting = [place for place in seen["places"] if place.startswith("limbo/")]
        assert [place for place in seen["places"] if place.startswith("unclaimed/")] == []
        assert {entry["to"] for entry in entries} <= set(waiting)
        assert all(entry["held_reason"].startswith("held by ") for entry in entries)

    killed = kill_everywhere(
        *(nursery, template, tmp_path, one_job_before, "submit_typed", 3),
        then=is_held_or_unknown,
        line=Case.command,
        hold=True,
    )
    assert killed > 4


def test_a_killed_submission_of_an_array_that_is_to_be_held_leaves_all_its_chunks_held_or_none(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    def are_held_or_none(case: Case) -> None:
        seen = case.do("look").result
        chunks = [place for place in seen["places"] if "+" in place]
        assert len(chunks) in (0, 2) and all(place.startswith("limbo/") for place in chunks)
        moves = [entry for entry in seen["entries"] if entry["entry"] == "moved" and entry["to"] in chunks]
        assert {entry["to"] for entry in moves} == set(chunks)
        assert all(entry["held_reason"].startswith("held by ") for entry in moves)

    killed = kill_everywhere(
        *(nursery, template, tmp_path, one_job_before, "submit_held_array", 5),
        then=are_held_or_none,
        line=Case.command,
    )
    assert killed > 10
