"""A turn of pilots, and what may go wrong beside it: another turn, an answer that does not come, a pilot that comes too late."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from jobjar.pilots import judge, script, systems, turn
from jobjar.pilots.pilot import Pilot, open_pilots
from jobjar.pilots.queue import Plan, add_queue, read_queue
from jobjar.shared_disk import moves
from tests.pilots.stand_in import make_programs
from tests.rig import Rig

PLAN = Plan("night", "slurm", (), 120.0, 90.0, 3, 2, 60.0, 2)


@pytest.fixture
def system(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Slurm in which pilots wait, and a job for them."""
    home = rig.home.parent / "system"
    make_programs(home, "slurm")
    (home / "full").touch()
    monkeypatch.setenv("STAND_IN", str(home))
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    rig.submit("true")
    with rig.open() as jar:
        add_queue(jar, PLAN)
    return home


def take(rig: Rig, said: list[str] | None = None) -> list[Pilot]:
    """Take a turn; returns the pilots that are out."""
    lines: list[str] = [] if said is None else said
    with rig.open() as jar:
        turn.take_turns(jar, lines.append, lines.append)
        return open_pilots(jar.layout.pilot_queue("night"))


def submitted(system: Path) -> int:
    return len(list(system.glob("*/name")))


def lose_answers(system: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """Have sbatch say after a while that it got no answer; `before` that it does this."""
    (system / "sbatch").rename(system / "true_sbatch")
    (system / "sbatch").write_text(f"#!/bin/sh\n{before}\necho 'Socket timed out on send/recv operation' >&2; exit 1\n")
    (system / "sbatch").chmod(0o755)
    monkeypatch.setattr(turn, "_AT_ONCE_S", 0.0)


def test_of_two_turns_that_both_believe_to_be_alone_one_submits(
    rig: Rig, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_it(path: str, *rest: Any) -> bool:
        os.makedirs(path, exist_ok=True)
        return True

    monkeypatch.setattr(turn, "take_soft_lock", take_it)
    monkeypatch.setattr(turn, "release_soft_lock", lambda path: None)
    rename, others = moves.rename_directory, []

    def rename_late(*arguments: Any) -> bool:
        """Between the look and the rename, another turn does all of it."""
        monkeypatch.setattr(turn, "rename_directory", rename)
        others.append(take(rig))
        return rename(*arguments)

    monkeypatch.setattr(turn, "rename_directory", rename_late)
    pilots = take(rig)
    assert len(pilots) == 1 and others == [pilots] and submitted(system) == 1
    assert sorted(os.listdir(rig.home / "pilots/night/open")) == ["1"]


def test_a_turn_that_was_taken_over_submits_nothing_more(
    rig: Rig, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = script.make_request

    def make_late(*arguments: Any) -> Any:
        """The process was stopped for longer than its lock stands."""
        lock = rig.home / "pilots/night/turn"
        lock.rename(rig.home / "pilots/night/old")
        lock.mkdir()
        return make(*arguments)

    monkeypatch.setattr(turn, "make_request", make_late)
    said: list[str] = []
    [pilot] = take(rig, said)
    assert pilot.state == "intended" and submitted(system) == 0 and "another process" in said[0]


def test_an_answer_that_does_not_come_is_looked_up(rig: Rig, system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_answers(system, monkeypatch, 'true_sbatch "$@" >/dev/null')
    [pilot] = take(rig)
    assert (pilot.state, pilot.system_id) == ("waiting", "1") and submitted(system) == 1
    assert [one.name for one in take(rig)] == [pilot.name] and submitted(system) == 1


def test_what_nobody_submitted_is_given_up_and_ends_at_once_if_it_comes_late(
    rig: Rig, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_answers(system, monkeypatch, "true")
    said: list[str] = []
    [pilot] = take(rig, said)
    assert pilot.state == "intended" and "not known yet" in said[0]
    text = (rig.home / "pilots/night/open/1/script").read_text()
    assert [one.name for one in take(rig)] == [pilot.name], "it may still come, so there is no other"
    monkeypatch.setattr(judge, "LISTED_AFTER_S", 0.0)
    (system / "true_sbatch").rename(system / "sbatch")
    [other] = take(rig)
    assert other.number == 2 and other.name != pilot.name and submitted(system) == 1
    with rig.open() as jar:
        queue = read_queue(jar.layout, "night")
        assert queue is not None and queue.failures == 1 and "Socket timed out" in queue.said
    late = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert late.stdout == late.stderr == "" and os.listdir(rig.home / "workers") == []


def test_a_pilot_that_the_system_forgot_goes_on_while_its_worker_lives(
    rig: Rig, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "LISTED_AFTER_S", 0.0)
    [pilot] = take(rig)
    # As the script does: the process that has this number becomes the worker.
    words = ["sh", "-c", f'export JJ_PILOT="$$ {pilot.key}"; exec start_worker --foreground']
    environment = {**rig.environment, "PATH": f"{rig.home}/bin:{os.environ['PATH']}"}
    worker = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    name = worker.stdout.readline().strip()
    (system / "1" / "name").write_text("other")
    [out] = take(rig)
    assert out.worker == name and out.state == "waiting"
    worker.terminate()
    worker.communicate(timeout=60)
    assert take(rig) == []
    with rig.open() as jar:
        queue = read_queue(jar.layout, "night")
        assert queue is not None and queue.failures == 0


def test_old_pilots_go_as_old_workers_do(rig: Rig, system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.environment["JJ_KEEP_WORKERS"] = "1"
    ended = rig.home / "pilots/night/ended"
    for number in (1, 2, 3, 4):
        (ended / str(number)).mkdir()
        at = time.time() - (2 * 86_400 if number != 3 else 60)
        os.utime(ended / str(number), (at, at))
    [pilot] = take(rig)
    assert pilot.number == 5 and sorted(os.listdir(ended)) == ["3", "4"]


def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "LONGEST_CALL_S", 0.1)
    with pytest.raises(systems.NoAnswer, match="did not answer within"):
        systems.ask(["sleep", "60"])
    with pytest.raises(systems.NoAnswer, match="there is no program no-such-program on this node"):
        systems.ask(["no-such-program"])


def test_jars_without_pilots_are_not_asked(rig: Rig) -> None:
    with rig.open() as jar:
        turn.take_turns(jar, print, print)
        assert not (rig.home / "pilots").exists()
