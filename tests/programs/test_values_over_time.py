"""What jobs say of themselves while they run: each value is kept with its time, of plain jobs as of described ones."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.described_jobs import describe, entries
from tests.rig import Rig, wait_until


def values_over_time(rig: Rig, name: str) -> list[tuple[str, int]]:
    """What the ledger has of the variable `n`, as a person asks for it."""
    query = (
        "SELECT value, ordinal, told_at FROM variable_history WHERE name = 'n' AND job_uid = "
        "(SELECT uid FROM job WHERE name = ?) ORDER BY attempt, ordinal"
    )
    with contextlib.closing(sqlite3.connect(rig.home / "ledger" / "ledger.db")) as ledger:
        rows = ledger.execute(query, (name,)).fetchall()
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)
    return [(value, ordinal) for value, ordinal, _ in rows]


def says(rig: Rig, name: str, value: int) -> bool:
    """Whether the job's `n` is known to have this value now."""
    return any(attempt["variables"].get("n") == f"{value}" for attempt in rig.show(name)["attempts"])


@pytest.mark.parametrize("kind", ["described", "plain", "plain beside another"])
def test_each_value_of_a_variable_is_kept_with_its_time(rig: Rig, tmp_path: Path, kind: str) -> None:
    """Also of a plain job, while it runs. What did not change is not told again. A rebuilt ledger says the same."""
    said = "echo n = $1 > jug_monitor.vars; echo model = x >> jug_monitor.vars; " + (
        f'while ! test -e {tmp_path}/go$1; do sleep 0.02; done; test $1 = 3 || exec sh "$0" $(($1 + 1))'
    )
    (tmp_path / "say").write_text(said)
    if kind == "described":
        name = describe(rig, "job", run_command=f"sh {tmp_path}/say 1")
    else:
        name = rig.submit(f"sh {tmp_path}/say 1")
    if kind.endswith("another"):
        describe(rig, "other.1", run_command=f"while ! test -e {tmp_path}/go3; do sleep 0.02; done")
    worker = rig.start_worker(JJ_PROGRESS_TIME="0.05", JJ_POLL_TIME="0.05", JJ_RUN_SLOTS="2")
    for value in (1, 2, 3):
        wait_until(partial(says, rig, name, value), "the value")
        (tmp_path / f"go{value}").touch()
    wait_until(lambda: rig.show(name)["state"] == "completed")
    rig.stop_worker(worker)
    attempt = rig.show(name)["attempts"][0]
    assert [value["value"] for value in attempt["history"]["n"]] == ["1", "2", "3"]
    assert attempt["history"]["model"][0]["value"] == "x" and len(attempt["history"]["model"]) == 1
    assert attempt["started_at"] <= attempt["history"]["n"][0]["told_at"] <= attempt["ended_at"]
    assert "1 first, 3 values in" in rig.run("jobjar", "show", name).stdout
    asked = "import jobjar; print(len(jobjar.job('" + name + "').attempts[0]['history']['n']))"
    assert rig.run(sys.executable, "-c", asked).stdout == "3\n"
    told = [entry["variables"] for entry in entries(rig, "variables", name)]
    assert told == [{"n": "1", "model": "x"}, {"n": "2"}, {"n": "3"}]
    assert values_over_time(rig, name) == [("1", 1), ("2", 2), ("3", 3)]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert values_over_time(rig, name) == [("1", 1), ("2", 2), ("3", 3)]
