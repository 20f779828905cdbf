"""A recovery that comes late, and a worker that got the process id, and so the directory, of the dead one meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from jobjar.attempts.attempt import STRANDED, SUCCEEDED, ClaimedJob, Claimer
from jobjar.host import node_name
from jobjar.ledger.rebuild import fill_ledger
from jobjar.liveness import this_process
from jobjar.recovery import recover
from jobjar.recovery.recover import Recovery, recover_worker, set_aside
from jobjar.roster import read_worker
from jobjar.stages.submit import describe_command, submit
from tests.race.test_lost_races import before, claim_next, finish, make_claimer
from tests.rig import Rig


def be_worker(rig: Rig, name: str, is_alive: bool) -> Claimer:
    """Somebody who claims, and who says that he is a dead worker of this node, or this process."""
    claimer = make_claimer(rig, name)
    Path(claimer.paths.discarded_links).mkdir()
    identity = this_process()._asdict() if is_alive else {**this_process()._asdict(), "boot_id": "an earlier one"}
    said = {**identity, "worker": name, "worker_id": claimer.worker_id, "process_started": identity["started"]}
    Path(claimer.paths.identity_file).write_text(json.dumps(said))
    return claimer


def claim(claimer: Claimer) -> ClaimedJob:
    fill_ledger(claimer.jar.ledger)
    job = claim_next(claimer)
    assert job is not None
    return job


POINTS = ("owner_stays", "identify_held", "end_orphans", "recover_job", "_remove_inner", "_journal_death")


@pytest.mark.parametrize("point", POINTS)
def test_a_recovery_that_comes_late_leaves_a_worker_of_the_same_name_alone(
    rig: Rig, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["true"]) as process:
        name = f"{node_name()}.{process.pid}"
    dead = be_worker(rig, name, is_alive=False)
    job_name = submit(dead.jar, describe_command("true"))
    claim(dead)
    os.mkdir(f"{dead.paths.scratch}/{job_name}")
    os.symlink("away", f"{dead.paths.discarded_links}/0")
    state = read_worker(dead.jar.layout, name)
    assert state is not None
    successors: list[tuple[Claimer, ClaimedJob]] = []

    def replace() -> None:
        set_aside(dead.jar, state)
        alive = be_worker(rig, name, is_alive=True)
        job = claim(alive)
        os.mkdir(f"{alive.paths.scratch}/{job.name}")
        successors.append((alive, job))

    before(recover, point, replace, monkeypatch)
    late = rig.open()
    recover_worker(late, state, Recovery())
    [(alive, job)] = successors
    assert rig.names(f"workers/{name}/jobs") == [job_name] and os.listdir(alive.paths.scratch) == [job_name]
    aside = Path(f"{dead.paths.path}~{dead.worker_id}")
    assert [path.name for inner in ("scratch", "spent", "jobs") for path in (aside / inner).iterdir()] == []
    assert "ended_at" not in json.loads(Path(alive.paths.identity_file).read_text())
    assert finish(alive, job)[0]
    attempts = [(attempt["number"], attempt["outcome"]) for attempt in rig.show(job_name)["attempts"]]
    assert attempts == [(1, STRANDED), (2, SUCCEEDED)]
    rig.assert_clean()
