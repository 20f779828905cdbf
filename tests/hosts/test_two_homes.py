"""Two nodes with a ledger home each, as on a network disk: what they know of each other they read in the journals."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobjar.jar import Jar, open_jar
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.rebuild import dump_ledger
from jobjar.ledger.snapshot import publish_snapshot
from tests.hosts.nodes import Node, outputs_of, wait_for_lines
from tests.rig import Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
MakeNode = Callable[..., Node]


def open_with_home(rig: Rig, home: Path) -> Jar:
    return open_jar(environment={**rig.environment, "JJ_LEDGER_HOME": str(home)})


def fold_and_dump(rig: Rig, home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that the ledger of a home says, once it has folded what there is."""
    jar = open_with_home(rig, home)
    try:
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            return dump_ledger(connection)
    finally:
        jar.close()


def submit_from(node: Node, jobs: list[dict[str, Any]]) -> list[str]:
    """submit_jobs on a node; returns the names."""
    code = f"import jobjar\nprint('\\n'.join(jobjar.submit_jobs({jobs!r})))"
    return node.run("python", "-c", code).stdout.split()


def all_ended(rig: Rig, count: int) -> None:
    wait_until(lambda: len(os.listdir(rig.home / "completed")) >= count, f"{count} completed jobs", 90)


def test_two_homes_run_each_job_once_and_agree_in_the_end(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    homes = {name: tmp_path / f"home of {name}" for name in ("rain", "snow")}
    rain, snow = (make_node(name, JJ_LEDGER_HOME=str(home), JJ_PAUSE_TIME="1") for name, home in homes.items())
    log = tmp_path / "log"
    good = {"command": f"echo $JJ_JOB >> {log}"}
    bad = {"command": f"echo $JJ_JOB >> {log}; exit 3", "retries": 2, "priority": 4}
    other = {"command": f"echo $JJ_JOB >> {log}", "category": "OTHER", "priority": -2}
    for node in (rain, snow, rain, snow):
        node.start_worker("OTHER")
    once: list[str] = []
    thrice: list[str] = []
    for number in range(3):
        for node in (rain, snow):
            names = submit_from(node, [good, bad, other] * 8)
            once += [name for place, name in enumerate(names) if place % 3 != 1]
            thrice += names[1::3]
            dropped = f"dropped-{number}-{node.name}.7"
            rig.drop(dropped, f"#!/bin/sh\necho $JJ_JOB >> {log}\n")
            once.append(dropped)
        for node in (rain, snow):
            assert "0 jobs returned, 0 completed" in node.run("recover_jobs").stdout
    all_ended(rig, len(once) + len(thrice))
    for node in (rain, snow):
        node.stop_workers()
    ran = Counter(outputs_of(log))
    assert {name: ran[name] for name in once} == dict.fromkeys(once, 1)
    assert {name: ran[name] for name in thrice} == dict.fromkeys(thrice, 3)
    _assert_homes_agree(rig, (rain, snow), tmp_path)


def test_the_jobs_of_a_killed_worker_go_on_at_the_other_home(rig: Rig, make_node: MakeNode, tmp_path: Path) -> None:
    rain = make_node("rain", JJ_LEDGER_HOME=str(tmp_path / "home of rain"))
    snow = make_node("snow", JJ_LEDGER_HOME=str(tmp_path / "home of snow"), JJ_PAUSE_TIME="1")
    log = tmp_path / "log"
    mark = tmp_path / "second time"
    rain.start_worker()
    [name] = submit_from(rain, [{"command": f"echo $JJ_WORKER >> {log}; test -e '{mark}' || sleep 300"}])
    [first] = wait_for_lines(log, 1)
    mark.touch()
    worker = next(
        process for process in rig.processes() if process.environ().get("JJ_NODE") is None and _is_worker(process)
    )
    os.kill(worker.pid, signal.SIGKILL)
    assert "1 jobs returned" in rain.run("recover_jobs").stdout
    second = snow.start_worker()
    all_ended(rig, 1)
    snow.stop_workers()
    assert outputs_of(log) == [first, second]
    shown = rig.run("jobjar", "show", name, JJ_LEDGER_HOME=str(tmp_path / "home of snow")).stdout
    assert "stranded" in shown and "succeeded" in shown
    _assert_homes_agree(rig, (rain, snow), tmp_path)


def _is_worker(process: Any) -> bool:
    return any(word.endswith("start_worker") for word in process.cmdline()) and "nsenter" not in process.cmdline()[0]


def _assert_homes_agree(rig: Rig, nodes: tuple[Node, Node], tmp_path: Path) -> None:
    """Each home's check is clean, they say the same, and a third that starts from the snapshot says it too."""
    dumps = [fold_and_dump(rig, Path(node.environment["JJ_LEDGER_HOME"])) for node in nodes]
    for table, rows in dumps[0].items():
        assert rows == dumps[1][table], table
    for node in nodes:
        result = node.run("jobjar", "check", check=False)
        assert result.returncode == 0, f"{node.name}: {result.stdout}"
    jar = open_with_home(rig, Path(nodes[0].environment["JJ_LEDGER_HOME"]))
    assert publish_snapshot(jar.ledger, older_than_s=0)
    jar.close()
    third = open_with_home(rig, tmp_path / "third home")
    third.ledger.open()
    jobs = third.ledger.connection.execute("SELECT count(*) FROM job").fetchone()[0]
    third.close()
    assert jobs == len(dumps[0]["job"]) + len(dumps[0]["removed job"])
    assert fold_and_dump(rig, tmp_path / "third home") == dumps[0]
