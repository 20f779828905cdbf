"""jobjar history: what happened to a job. jobjar workers: what each worker does."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
from pathlib import Path

import pytest

import jobjar
from tests.described_jobs import describe
from tests.rig import Rig, wait_until


@pytest.mark.usefixtures("own_library")
def test_history_tells_each_move_attempt_and_phase_once_and_in_order(rig: Rig) -> None:
    name = rig.submit("--retries", "1", "--retry-delay", "0", "--id", "twice", "exit 3")
    described = describe(rig, "described", run_command="true")
    rig.run_until_idle()
    again = rig.home / "limbo" / name
    (rig.home / "completed" / name).rename(again)
    again.rename(rig.home / "completed" / name)
    told = json.loads(rig.run("jobjar", "history", "--format", "json", "twice").stdout)
    events = told["events"]
    worker = events[1]["by"]
    assert [(event["event"], event["attempt"], event["by"]) for event in events] == [
        ("submitted", None, events[0]["by"]),
        ("claimed", None, worker),
        ("began", 1, worker),
        ("ended", 1, worker),
        ("retried", None, worker),
        ("claimed", None, worker),
        ("began", 2, worker),
        ("ended", 2, worker),
        ("completed", None, worker),
    ]
    assert events[0]["details"] == "limbo to unclaimed" and events[1]["details"] == f"unclaimed to {worker}"
    assert events[3]["details"].startswith("failed, exit status 3, ") and told["source"] == "ledger"
    moments = [datetime.datetime.fromisoformat(event["at"]) for event in events]
    assert moments == sorted(moments) and moments[0].tzinfo == datetime.UTC
    assert [event.event for event in jobjar.history("twice")] == [event["event"] for event in events]
    lines = rig.run("jobjar", "history", name).stdout.splitlines()
    assert len(lines) == 11 and lines[0].split() == ["when", "event", "by", "attempt"]
    rows = list(csv.DictReader(io.StringIO(rig.run("jobjar", "history", "--format", "csv", "twice").stdout)))
    assert [row["event"] for row in rows] == [event["event"] for event in events]
    phases = [event.details.partition(",")[0] for event in jobjar.history(described) if event.event == "phase"]
    assert phases == ["run"]

    # A move by hand has nobody's name.
    waiting = rig.submit("-c", "LATER", "true")
    rig.run("jobjar", "list")
    (rig.home / "unclaimed/LATER" / waiting).rename(rig.home / "limbo" / waiting)
    last = jobjar.history("@1")[-1]
    assert (last.event, last.by, last.details) == ("moved by hand", None, "unclaimed/LATER to limbo")
    for words, status, said in (
        (["nothing"], 1, "no job of this name"),
        ([], 2, "JOB"),
        (["--format", "xml", name], 2, "xml"),
    ):
        result = rig.run("jobjar", "history", *words, check=False)
        assert (result.returncode, result.stdout) == (status, "") and said in result.stderr


@pytest.mark.usefixtures("own_library")
def test_workers_tells_what_each_runs_and_when_it_was_heard_of(rig: Rig, tmp_path: Path) -> None:
    none = rig.run("jobjar", "workers")
    assert none.stdout == "" and "no worker is running" in none.stderr
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    name = rig.submit("--id", "gated", f"read line < {gate}")
    busy = rig.start_worker(JJ_NODE="rain")
    wait_until(lambda: jobjar.list_workers()[0].job, "the claim")
    idle = rig.start_worker("LINUX", JJ_NODE="sun")
    one, other = jobjar.list_workers()
    uid = rig.show(name)["id"]
    assert (one.name, one.node, one.state, one.slots, one.job, one.job_name) == (
        *(f"rain.{busy.pid}", "rain", "busy", 1, uid, "gated"),
    )
    assert (other.node, other.state, other.job, other.categories[0], other.holds) == ("sun", "idle", None, "LINUX", 0)
    assert one.heartbeat_age_s is not None and 0 <= one.heartbeat_age_s < 60 and one.job_since
    lines = rig.run("jobjar", "workers").stdout.splitlines()
    assert len(lines) == 4 and lines[2].split()[:3] == [one.name, "busy", "1/1"] and lines[2].endswith("gated")
    assert uid in lines[2] and "0/1" in lines[3]
    told = json.loads(rig.run("jobjar", "workers", "--format", "json").stdout)
    assert [worker["job"] for worker in told["workers"]] == [uid, None]
    assert datetime.datetime.fromisoformat(told["workers"][0]["job_since"]).tzinfo == datetime.UTC
    assert rig.run("jobjar", "workers", "--format", "xml", check=False).returncode == 2
    gate.write_text("on\n")
    for process in (busy, idle):
        rig.stop_worker(process)
    assert jobjar.list_workers() == []
