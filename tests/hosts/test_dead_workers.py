"""What dead workers leave on their own node: jobs that kill workers, and processes without a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobjar.liveness import process_start
from tests.hosts.nodes import outputs_of, wait_for_lines
from tests.rig import PATIENCE_S, Rig, wait_until

pytestmark = pytest.mark.slow


def test_a_job_that_kills_its_workers_completes_as_crashed_in_the_end(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    name = rig.submit(f"echo $JJ_ATTEMPT >> {log}; kill -9 ${{JJ_WORKER##*.}}; sleep 300")
    rig.environment["JJ_CRASH_LIMIT"] = "3"
    for number in (1, 2, 3):
        assert rig.names("unclaimed") == [name]
        worker = rig.start_worker()
        assert worker.wait(PATIENCE_S) == -9
        said = rig.run("recover_jobs").stdout
        assert ("1 jobs returned, 0 completed" if number < 3 else "0 jobs returned, 1 completed") in said
        assert not rig.processes()
    assert outputs_of(log) == ["1", "2", "3"]
    assert rig.names("completed") == [name] and rig.names("unclaimed") == []
    shown = rig.show(name)
    assert shown["state"] == "completed" and shown["outcome"] == "crashed"
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["stranded", "stranded", "crashed"]
    rig.assert_clean()


def test_a_dead_worker_s_job_is_ended_with_all_its_processes_before_it_is_returned(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = tmp_path / "stubborn.sh"
    script.write_text(f"#!/bin/sh\ntrap '' TERM\nsleep 300 &\necho started >> {log}\nsleep 300\nsleep 300\n")
    script.chmod(0o755)
    name = rig.submit("-f", str(script))
    worker = rig.start_worker()
    wait_for_lines(log, 1)
    worker.kill()
    worker.wait()
    assert wait_until(rig.processes, "the orphans")
    said = rig.run("recover_jobs").stdout
    assert "orphaned" in said and "1 jobs returned" in said
    assert not rig.processes()
    assert rig.names("unclaimed") == [name]
    rig.assert_clean()


def test_what_another_worker_runs_is_not_ended_with_a_dead_worker_s_jobs(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = f"echo $JJ_WORKER $$ >> {log}; exec sleep 300"
    names = [rig.submit(command) for _ in range(2)]
    workers = {f"{process.pid}": process for process in (rig.start_worker(), rig.start_worker())}
    lines = wait_for_lines(log, 2)
    (dead, orphan), (alive, job) = (line.split() for line in lines)
    workers[dead.split(".")[-1]].kill()
    workers[dead.split(".")[-1]].wait()
    assert "1 jobs returned" in rig.run("recover_jobs").stdout
    assert process_start(int(orphan)) is None
    assert process_start(int(job)) is not None
    assert len(rig.names(f"workers/{alive}/jobs")) == 1
    assert len(rig.names("unclaimed")) == 1 and rig.names("unclaimed")[0] in names
