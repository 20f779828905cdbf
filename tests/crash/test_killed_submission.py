"""A submission that is killed before and after each of its writes leaves a whole job, or one that nobody can claim."""

from __future__ import annotations

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
    assert killed > 20


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
    assert killed > 25
