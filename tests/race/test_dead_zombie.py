"""A worker that lost its lease comes back, journals how its attempt ended, and is killed before it finds its job gone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from jobjar.attempts.attempt import LOST, STRANDED, SUCCEEDED, ClaimedJob, Claimer
from jobjar.attempts.verdict import decide
from jobjar.host import node_name
from jobjar.ledger.fold import fold_journals
from jobjar.recovery.recover import recover_node
from jobjar.stages import complete
from jobjar.stages.complete import Ending
from jobjar.stages.submit import describe_command, submit
from tests.race.test_lost_races import NOW, finish, success
from tests.race.test_same_name import be_worker, claim
from tests.recovery.test_lease import make_worker, take_back
from tests.rig import Rig


@pytest.fixture
def zombie(rig: Rig) -> Claimer:
    """A worker of this node, which lives until it says that its attempt has ended."""
    rig.environment["JJ_LEASE_TIME"] = "1"
    with subprocess.Popen(["true"]) as process:
        name = f"{node_name()}.{process.pid}"
    claimer = be_worker(rig, name, is_alive=True)
    open(claimer.paths.heartbeat, "w").close()
    return claimer


def say_ended(claimer: Claimer, job: ClaimedJob) -> None:
    """Journal that the attempt succeeded and completes the job, and die; the rename would be next."""
    end = success()
    verdict = decide(job, end, 0, NOW)
    claimer.jar.journal.append([complete.entry_of_end(claimer, Ending(job, end, verdict, NOW))])
    die(claimer)


def die(claimer: Claimer) -> None:
    path = Path(claimer.paths.identity_file)
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "an earlier one"}))


def outcomes(rig: Rig, name: str) -> list[tuple[int, str | None]]:
    jar = rig.open()
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
    return [(attempt["number"], attempt["outcome"]) for attempt in rig.show(name)["attempts"]]


@pytest.mark.parametrize("how_far", ["taken back", "claimed", "completed"])
def test_its_word_does_not_count_beside_that_of_who_ran_the_job_next(rig: Rig, zombie: Claimer, how_far: str) -> None:
    other = make_worker(rig, "snow.8")
    name = submit(zombie.jar, describe_command("true"))
    late = claim(zombie)
    assert take_back(other, zombie).returned == 1
    job = claim(other) if how_far != "taken back" else None
    if job and how_far == "completed":
        assert finish(other, job)[0]
    say_ended(zombie, late)
    assert any("lost" in line for line in recover_node(rig.open()).lines)
    if job and how_far == "claimed":
        assert finish(other, job)[0]
    assert outcomes(rig, name) == [(1, LOST), (2, SUCCEEDED)][: 2 if job else 1]
    assert rig.show(name)["outcome"] == (SUCCEEDED if job else None)
    assert not any("lost" in line for line in recover_node(rig.open()).lines)
    rig.assert_clean()


def test_its_word_counts_where_the_job_was_completed_by_it(rig: Rig, zombie: Claimer) -> None:
    name = submit(zombie.jar, describe_command("true"))
    say_ended(zombie, claim(zombie))
    assert recover_node(rig.open()).completed == 1
    assert outcomes(rig, name) == [(1, SUCCEEDED)]


def test_its_word_counts_where_it_completed_the_job_and_a_hand_put_that_back(rig: Rig, zombie: Claimer) -> None:
    name = submit(zombie.jar, describe_command("true"))
    assert finish(zombie, claim(zombie))[0]
    die(zombie)
    (rig.home / "completed" / name).rename(rig.home / "unclaimed" / name)
    other = make_worker(rig, "snow.8")
    assert finish(other, claim(other))[0]
    assert not any("lost" in line for line in recover_node(rig.open()).lines)
    assert outcomes(rig, name) == [(1, SUCCEEDED), (2, SUCCEEDED)]
    assert STRANDED not in dict(outcomes(rig, name)).values()
