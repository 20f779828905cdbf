"""system_status: its formats, its keys, and each of its warnings."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.rig import Rig, wait_until

NODE = os.uname().nodename


def test_the_status_of_a_jar_in_use(rig: Rig, tmp_path: Path) -> None:
    rig.submit("true")
    rig.submit("exit", "4")
    rig.run_until_idle()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    running = rig.submit("-c", "LINUX", f"read line < {gate}")
    worker = rig.start_worker("LINUX")
    wait_until(lambda: rig.names("claimed") == [running], "the job's start")
    oldest = rig.submit("-p", "3", "-c", "SUN", "true")
    rig.submit("-p", "3", "-c", "SUN", "true")
    rig.submit("-p", "1", "-c", "SUN", "true")
    status = rig.status()
    assert set(status) == {
        "arrays",
        "source",
        "snapshot_age_s",
        "jobs",
        "phases",
        "categories",
        "workers",
        "limits",
        "renamed",
        "unseen",
        "returned",
        "throttled",
        "outcomes",
        "undecided_attempts",
        "throughput",
        "tasks",
        "warnings",
        "standing",
    }
    assert status["source"] == "ledger"
    counts = {state: status["jobs"][state] for state in ("limbo", "unclaimed", "claimed", "completed")}
    assert counts == {"limbo": 0, "unclaimed": 3, "claimed": 1, "completed": 2}
    [claimed] = status["jobs"]["claimed_jobs"]
    assert (claimed["name"], claimed["category"], claimed["worker"]) == (running, "LINUX", f"{NODE}.{worker.pid}")
    assert claimed["age_s"] >= 0 and claimed["stranded"] is False
    assert status["jobs"]["oldest_waiting"]["name"] == oldest
    rows = [(row["category"], row["priority"], row["waiting"]) for row in status["categories"]]
    assert rows == [("SUN", 3, 2), ("SUN", 1, 1)]
    [node] = status["workers"]["nodes"]
    assert node == {"node": NODE, "running": 1, "busy": 1, "paused": 0, "dead": 0, "silent": 0, "unknown": 0}
    [listed] = status["workers"]["workers"]
    assert (listed["state"], listed["job"], listed["categories"]) == ("busy", running, ["LINUX"])
    assert [(row["outcome"], row["last_hour"], row["last_day"]) for row in status["outcomes"]] == [
        ("failed", 1, 1),
        ("succeeded", 1, 1),
    ]
    assert status["throughput"]["completed_last_hour"] == 2
    assert status["warnings"] == [
        "3 jobs of category SUN: no worker that asks for category SUN is running; `start_worker SUN` starts one"
    ]
    gate.write_text("on\n")
    rig.stop_worker(worker)


@pytest.mark.parametrize("table_format", ["simple", "plain", "github", "html", "tsv", "latex"])
def test_the_status_in_formats_of_tabulate(rig: Rig, table_format: str) -> None:
    rig.submit("-c", "LINUX", "true")
    text = rig.run("system_status", "--format", table_format).stdout
    assert "LINUX" in text and str(rig.home) in text
    if table_format == "html":
        assert "<table>" in text


def test_an_unknown_format_is_a_usage_error_that_lists_the_formats(rig: Rig) -> None:
    result = rig.run("system_status", "--format", "fancy", check=False)
    assert result.returncode == 2
    assert "'fancy'" in result.stderr and "json" in result.stderr and "github" in result.stderr


def test_an_empty_jar_has_a_status_without_warnings(rig: Rig) -> None:
    rig.run("recover_jobs")
    status = rig.status()
    assert status["warnings"] == []
    assert status["source"] == "ledger"
    assert status["jobs"]["oldest_waiting"] is None
    assert rig.run("system_status").stdout


def test_jobs_without_any_worker_are_a_warning(rig: Rig) -> None:
    rig.submit("true")
    assert any("no worker is running" in line for line in rig.status()["warnings"])


def test_a_stranded_job_and_its_dead_worker_are_named_until_recovered(rig: Rig, tmp_path: Path) -> None:
    started = tmp_path / "started"
    worker = rig.start_worker()
    name = rig.submit(f"echo $$ >> {started}; exec sleep 600")
    wait_until(lambda: started.exists() and started.read_text(), "the job's start")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    status = rig.status()
    assert status["jobs"]["claimed_jobs"][0]["stranded"] is True
    assert status["workers"]["nodes"][0]["dead"] == 1
    [line] = [line for line in status["warnings"] if "stranded" in line]
    assert name in line and f"{NODE}.{worker.pid}" in line and "recover_jobs" in line
    assert "1 jobs returned" in rig.run("recover_jobs").stdout.replace("1 job returned", "1 jobs returned")
    status = rig.status()
    assert not any("stranded" in line for line in status["warnings"])
    assert status["workers"]["workers"] == []
    assert rig.names("unclaimed") == [name]
    wait_until(lambda: not Path(f"/proc/{started.read_text().strip()}").exists(), "the end of the orphaned job")
    rig.assert_clean()


def test_output_cut_short_by_its_reader_is_no_error(rig: Rig) -> None:
    for number in range(30):
        rig.drop(f"file{number}", "x", mode=0o644)
    for program in ("system_status", "jobjar config"):
        result = rig.shell(f"{program} | head -n 1; {program} | true")
        assert len(result.stdout.splitlines()) == 1
        assert result.stderr == ""


def test_a_name_that_would_clear_the_screen_is_shown_and_does_not(rig: Rig) -> None:
    name = "evil\x1b[2J.5"
    rig.drop(name, "#!/bin/sh\n")
    rig.drop(name + "x", "not a job", mode=0o644)
    said = rig.run("system_status").stdout + rig.run_until_idle() + rig.run("jobjar", "show", name).stdout
    said += next(rig.home.glob("workers/*/worker.log")).read_text()
    assert "evil\\x1b[2J.5" in said and "\x1b" not in said
    assert rig.names("completed") == [name]


def test_in_format_tsv_cells_are_separated_by_tabs_and_nothing_moves_the_cursor(rig: Rig) -> None:
    rig.drop("a\tb\x1b[2J", "#!/bin/sh\n", "LINUX")
    rig.submit("-c", "LINUX", "true")
    rig.status()
    text = rig.run("system_status", "--format", "tsv").stdout
    (waiting,) = [line for line in text.splitlines() if line.startswith("LINUX")]
    assert [cell.strip() for cell in waiting.split("\t")][:3] == ["LINUX", "0", "2"]
    assert "\\x1b[2J" in text and "\x1b" not in text
