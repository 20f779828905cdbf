"""A command for ends: one at a time, in order, no longer than it may take, with nothing of a job's own in its environment."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from jobjar.processes.command_queue import MOST_WAITING, EndCommand
from tests.rig import Rig, wait_until


@pytest.fixture
def said() -> list[str]:
    return []


def others(rig: Rig) -> list[psutil.Process]:
    return [process for process in rig.processes() if process.pid != os.getpid()]


def test_ends_are_told_one_after_the_other_and_what_takes_too_long_is_killed(
    rig: Rig, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JJ_WORKER_ID", "of the job that started this worker")
    text = (
        f'echo "$NUMBER $PWD $JJ_HOME ${{JJ_WORKER_ID-none}}" >> {tmp_path}/told; test $NUMBER != 1 || sleep 600 & wait'
    )
    command = EndCommand(text, rig.open().layout, said.append, limit_s=0.2)
    for number in range(3):
        command.tell(f"end {number}", {"NUMBER": str(number)})
    assert not command.is_full
    wait_until(command.turn)
    assert (tmp_path / "told").read_text().splitlines() == [f"{number} / {rig.home} none" for number in range(3)]
    assert said == ["end 1: the command for ends took longer than 0.2 s, and was killed"]
    wait_until(lambda: not others(rig), "the end of its session")


def test_one_that_has_to_end_kills_the_command_and_says_how_many_ends_nobody_was_told_of(
    rig: Rig, said: list[str]
) -> None:
    command = EndCommand("sleep 600", rig.open().layout, said.append)
    for number in range(MOST_WAITING + 1):
        command.tell(f"end {number}", {})
    assert command.is_full
    command.finish(0.05)
    assert said == [f"the command for ends did not end in time: {MOST_WAITING + 1} are not told"]
    command.finish(0.0)
    wait_until(lambda: not others(rig), "the end of its session")


def test_a_command_that_cannot_be_started_is_told_to_the_log(rig: Rig, said: list[str]) -> None:
    command = EndCommand("true", rig.open().layout, said.append)
    command.tell("end 1", {"LONG": "x" * 10_000_000})
    command.finish(1.0)
    assert len(said) == 1 and said[0].startswith("end 1: the command for ends could not be run: ")
