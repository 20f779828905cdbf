"""Ledgers that are damaged, deleted, newer or locked, and torn journals: jobs go on, and the answers come back."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import Rig, wait_until

HOLDER = """
import sys
from jobjar.jar import open_jar
with open_jar().ledger.writing():
    print("locked", flush=True)
    sys.stdin.read()
"""


def ledger_of(rig: Rig) -> Path:
    return rig.home / "ledger" / "ledger.db"


def make_noise(rig: Rig) -> None:
    """Overwrite the ledger in place, WAL and all, as a bad disk would."""
    for suffix in ("", "-wal"):
        path = Path(f"{ledger_of(rig)}{suffix}")
        if path.exists():
            with open(path, "r+b") as file:
                file.write(os.urandom(max(path.stat().st_size, 4096)))


def aside(rig: Rig) -> list[Path]:
    return [path for path in ledger_of(rig).parent.glob("ledger.db.corrupt-*") if path.name[-1] == "Z"]


def run_two_jobs(rig: Rig) -> list[str]:
    names = [rig.submit("echo", "one"), rig.submit("exit", "3")]
    rig.run_until_idle()
    return names


def test_a_ledger_of_noise_is_moved_aside_and_rebuilt_by_the_next_worker(rig: Rig) -> None:
    names = run_two_jobs(rig)
    make_noise(rig)
    names.append(rig.submit("echo", "three"))
    said = rig.run_until_idle()
    assert "is damaged" in said and "rebuilding it" in said
    [path] = aside(rig)
    assert str(path) in said
    assert rig.names("completed") == sorted(names)
    assert [rig.show(name)["exit_status"] for name in names] == [0, 3, 0]
    rig.assert_clean()


def test_a_ledger_of_noise_is_rebuilt_by_recover_jobs_and_by_rebuild(rig: Rig) -> None:
    names = run_two_jobs(rig)
    make_noise(rig)
    result = rig.run("jobjar", "check", check=False)
    assert result.returncode == 1
    assert "damaged" in result.stderr and "jobjar rebuild" in result.stderr
    status = rig.status()
    assert (status["source"], status["jobs"]["completed"]) == ("directories", 2)
    assert rig.show(names[1])["exit_status"] == 3
    result = rig.run("recover_jobs")
    assert "rebuilding it" in result.stderr
    assert len(aside(rig)) == 1
    rig.assert_clean()
    make_noise(rig)
    assert rig.run("jobjar", "rebuild").stdout.strip() == str(ledger_of(rig))
    rig.assert_clean()
    assert rig.show(names[1])["exit_status"] == 3


@pytest.mark.slow
def test_a_ledger_that_becomes_noise_under_a_worker_costs_no_job(rig: Rig) -> None:
    names = run_two_jobs(rig)
    worker = rig.start_worker()
    make_noise(rig)
    names += [rig.submit("echo", str(number)) for number in range(5)]
    wait_until(lambda: rig.names("completed") == sorted(names), "the jobs' end")
    rig.stop_worker(worker)
    rig.run("recover_jobs")
    rig.assert_clean()
    assert rig.show(names[1])["exit_status"] == 3
    assert all(len(rig.show(name)["attempts"]) == 1 for name in names)


def test_a_ledger_deleted_under_a_worker_comes_back_with_the_same_answers(rig: Rig) -> None:
    names = run_two_jobs(rig)
    before = rig.show(names[1])
    worker = rig.start_worker()
    for path in ledger_of(rig).parent.glob("ledger.db*"):
        path.unlink()
    names += [rig.submit("echo", str(number)) for number in range(3)]
    wait_until(lambda: rig.names("completed") == sorted(names), "the jobs' end")
    rig.stop_worker(worker)
    assert rig.show(names[1]) == before
    assert rig.status()["jobs"]["completed"] == 5
    rig.assert_clean()


def test_without_a_ledger_the_status_comes_from_the_directories(rig: Rig) -> None:
    rig.submit("-p", "4", "-c", "LINUX", "true")
    for path in ledger_of(rig).parent.glob("ledger.db*"):
        path.unlink()
    status = rig.status()
    assert status["source"] == "directories"
    assert status["categories"][0]["category"] == "LINUX"
    assert status["categories"][0]["priority"] == 4
    assert any("directories alone" in line for line in status["warnings"])
    assert [row["cause"] for row in status["standing"]] == ["ledger", "no_worker"]
    text = rig.run("system_status").stdout
    assert "LINUX" in text and "directories alone" in text


def test_a_torn_journal_line_is_passed_over_and_costs_nothing(rig: Rig) -> None:
    names = run_two_jobs(rig)
    [journal] = (rig.home / "ledger" / "journals").glob("*.jsonl")
    with open(journal, "ab") as file:
        file.write(b'\n{"entry":"moved","job":"abc","num')
    result = rig.run("jobjar", "check")
    assert journal.name in result.stderr and "not an entry" in result.stderr
    names.append(rig.submit("echo", "after"))
    rig.run_until_idle()
    assert rig.show(names[2])["outcome"] == "succeeded"
    rig.run("jobjar", "rebuild")
    assert [rig.show(name)["exit_status"] for name in names] == [0, 3, 0]
    # Said whenever it is looked for, and no difference between what journals, ledger and directories say.
    result = rig.run("jobjar", "check")
    assert "torn line at byte" in result.stderr
    assert result.stdout == ""


def add_future_migration(rig: Rig) -> None:
    with sqlite3.connect(ledger_of(rig)) as connection:
        connection.execute("INSERT INTO migration VALUES ('9999_future', 'x', 0)")
    connection.close()


@pytest.mark.slow
def test_a_newer_ledger_is_refused_by_name_and_left_alone(rig: Rig) -> None:
    names = run_two_jobs(rig)
    add_future_migration(rig)
    for words in (["jobjar", "check"], ["recover_jobs"]):
        result = rig.run(*words, check=False)
        assert result.returncode == 1
        assert "9999_future" in result.stderr and "newer" in result.stderr and str(ledger_of(rig)) in result.stderr
    status = rig.status()
    assert status["source"] == "directories"
    assert "9999_future" in status["warnings"][0]
    assert rig.show(names[1])["exit_status"] == 3
    names.append(rig.submit("echo", "three"))
    said = rig.run_until_idle()
    assert "9999_future" in said and "private ledger" in said
    assert rig.names("completed") == sorted(names)
    assert aside(rig) == []
    with sqlite3.connect(ledger_of(rig)) as connection:
        connection.execute("DELETE FROM migration WHERE name = '9999_future'")
    connection.close()
    rig.run("recover_jobs")
    rig.assert_clean()
    assert rig.show(names[2])["outcome"] == "succeeded"


@pytest.mark.slow
def test_a_stopped_process_that_holds_the_ledger_s_lock_stops_no_worker(rig: Rig) -> None:
    names = run_two_jobs(rig)
    worker = rig.start_worker()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], env=rig.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "locked\n"
        holder.send_signal(signal.SIGSTOP)
        names += [rig.submit("echo", str(number)) for number in range(3)]
        status = rig.status()
        assert status["source"] == "directories"
        assert any("locked" in line for line in status["warnings"])
        wait_until(lambda: rig.names("completed") == sorted(names), "the jobs' end", timeout_s=60)
    finally:
        holder.send_signal(signal.SIGCONT)
        holder.communicate(timeout=30)
    said = rig.stop_worker(worker)
    assert "locked" in said and "private ledger" in said
    rig.run("recover_jobs")
    rig.assert_clean()
    assert rig.show(names[-1])["outcome"] == "succeeded"


def test_nothing_of_the_jar_is_changed_where_the_ledger_home_is_refused(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "b.jug").write_text('batch { name = "b" run_command = "true" seeds = "1-2" }')
    (tmp_path / "c.jug").write_text('batch { name = "c" run_command = "true" }')
    home = Rig(tmp_path / "other jar").home / "ledger"
    rig.run("submit_batch", str(tmp_path / "b.jug"))
    gone = rig.home / "workers" / "gone.1"
    gone.mkdir()
    (gone / "worker.json").write_text(json.dumps({"node": "gone", "pid": 1, "boot_id": "x", "id": "x", "started": 1.0}))

    def files() -> dict[str, str]:
        paths = [
            path
            for top in ("batches", "limbo", "unclaimed", "limits", "workers")
            for path in (rig.home / top).rglob("*")
        ]
        return {str(path): path.read_text() if path.is_file() else "" for path in paths}

    before = files()
    for words in (
        ["submit_batch", str(tmp_path / "c.jug")],
        ["batch_edit", "b", "seeds=1-3"],
        ["abort_batch", "b"],
        ["abort_batch", "--restart", "b"],
        ["workload_limit", "X", "3"],
        ["recover_jobs", "--node", "gone", "--yes"],
    ):
        refused = rig.run(*words, check=False, JJ_LEDGER_HOME=str(home))
        assert refused.returncode == 1 and refused.stdout == "", (words, refused)
        assert f"JJ_LEDGER_HOME {home} cannot be used: it is the ledger/ of a jar" in refused.stderr, (words, refused)
        assert files() == before, words


def test_a_ledger_home_that_others_can_write_to_is_refused(rig: Rig, tmp_path: Path) -> None:
    home = tmp_path / "ledgers"
    home.mkdir()
    home.chmod(0o777)
    result = rig.run("submit_job", "true", check=False, JJ_LEDGER_HOME=str(home))
    assert result.returncode == 1
    assert str(home) in result.stderr and "writable by others" in result.stderr
    assert rig.names("limbo") == rig.names("unclaimed") == []
    result = rig.run("start_worker", "--foreground", check=False, JJ_LEDGER_HOME=str(home))
    assert result.returncode == 1
    assert str(home) in result.stderr
