"""Two nodes cancel, hold, release and claim one job at once: each job ends once, and none is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.nodes import Node, outputs_of
from tests.hosts.test_two_homes import all_ended, fold_and_dump, submit_from
from tests.rig import Rig

pytestmark = [pytest.mark.root, pytest.mark.slow]
JOBS = 8
# Does a verb to one job after the other, each time at the same moment as the other processes.
_STEER = """
import sys, time
from pathlib import Path
import jobjar

marks, me, others, verb, *jobs = sys.argv[1:]
for number, job in enumerate(jobs):
    Path(marks, f"{number}.{me}").touch()
    until = time.monotonic() + 60
    while len(list(Path(marks).glob(f"{number}.*"))) < int(others):
        assert time.monotonic() < until, "the others do not come"
    done = getattr(jobjar, verb)([job])
    print(*(one.was for one in done.jobs), *(error for error in done.errors), sep="; ", flush=True)
"""


def test_two_nodes_that_cancel_hold_release_and_claim_one_job_end_it_once(
    rig: Rig, make_node: Callable[..., Node], tmp_path: Path
) -> None:
    homes = {name: tmp_path / f"home of {name}" for name in ("rain", "snow")}
    rain, snow = (make_node(name, JJ_LEDGER_HOME=str(home), JJ_PAUSE_TIME="1") for name, home in homes.items())
    log, marks = tmp_path / "log", tmp_path / "marks"
    log.touch()
    marks.mkdir()
    jobs = submit_from(rain, [{"command": f"echo $JJ_JOB >> {log}"}] * JOBS)
    rain.run("jobjar", "hold", *jobs[::2])
    for node in (rain, snow):
        node.start_worker()
    verbs = ((rain, "cancel"), (snow, "cancel"), (snow, "release"), (rain, "hold"))
    racing = [
        node.start("python", "-c", _STEER, str(marks), f"{node.name}-{verb}", str(len(verbs)), verb, *jobs)
        for node, verb in verbs
    ]
    said = [process.communicate(timeout=120) for process in racing]
    assert [process.returncode for process in racing] == [0] * len(verbs), said
    # What a hold came last to is held, and goes on when it is released.
    snow.run("jobjar", "release", "--state", "held", check=False)
    all_ended(rig, JOBS)
    for node in (rain, snow):
        node.stop_workers()
    for node in (rain, snow):
        assert "0 jobs returned, 0 completed" in node.run("recover_jobs").stdout
    assert rig.names("completed") == sorted(jobs) and rig.names("limbo") == []
    assert [path.name for path in (rig.home / "limbo").iterdir()] == []
    dumps = [fold_and_dump(rig, home) for home in homes.values()]
    assert dumps[0] == dumps[1]
    finals = Counter(row[0] for row in dumps[0]["attempt"] if row[9])
    assert sorted(finals.values()) == [1] * JOBS
    ran = Counter(outputs_of(log))
    outcomes = {name: rig.show(name)["outcome"] for name in jobs}
    assert set(outcomes.values()) <= {"succeeded", "cancelled"}, outcomes
    for name, outcome in outcomes.items():
        assert ran[name] == 1 or (outcome == "cancelled" and ran[name] == 0), (name, outcome, ran[name])
    for node in (rain, snow):
        assert node.run("jobjar", "check", check=False).returncode == 0
