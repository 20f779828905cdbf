"""What plain jobs say of themselves in files of their directory is kept, as it is of described ones."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.described_jobs import describe, entries
from tests.rig import Rig

SAY = (
    "printf 'work_done = 3\\nmodel = a b\\nnonsense\\n' > jug_monitor.vars; "
    "printf 'source_name = x.dat\\nstorage_size = 5\\nstorage_url = https://example.org/x\\n' > jug_stage_out.log; "
)


def attempt(rig: Rig, name: str) -> dict[str, Any]:
    (found,) = rig.show(name)["attempts"]
    return dict(found)


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -9 $$", "sleep 100"])
def test_variables_and_stored_files_of_a_plain_job_are_kept_however_it_ends(rig: Rig, end: str) -> None:
    name = rig.submit("--time-limit", "1s", f"{SAY} {end}")
    rig.run_until_idle()
    said = attempt(rig, name)
    assert said["variables"] == {"work_done": "3", "model": "a b"}
    assert [(file["source_name"], file["size"], file["url"]) for file in said["stored_files"]] == [
        ("x.dat", 5, "https://example.org/x")
    ]
    assert said["warnings"] == ["jug_monitor.vars, line 3: not of the form key = value: 'nonsense'"]
    shown = rig.run("jobjar", "show", name).stdout
    assert "work_done" in shown and "x.dat" in shown and "nonsense" in shown
    rig.assert_clean()


def test_a_plain_job_that_is_run_beside_described_ones_is_read_too(rig: Rig) -> None:
    describe(rig, "described", run_command="while ! test -e $JJ_HOME/seen; do sleep 0.05; done")
    name = rig.submit(f"{SAY} touch $JJ_HOME/seen")
    rig.run_until_idle(JJ_RUN_SLOTS="2")
    assert attempt(rig, name)["variables"]["work_done"] == "3"
    assert len(attempt(rig, name)["stored_files"]) == 1
    rig.assert_clean()


def test_each_attempt_of_a_plain_job_has_its_own_words_and_a_silent_one_none(rig: Rig) -> None:
    name = rig.submit(
        "--retries", "1", "--retry-delay", "0", "test $JJ_ATTEMPT = 2 || echo n = 1 > jug_monitor.vars; exit 1"
    )
    rig.run_until_idle()
    assert [attempt["variables"] for attempt in rig.show(name)["attempts"]] == [{"n": "1"}, {}]
    assert len(entries(rig, "variables", name)) == 1


@pytest.mark.parametrize(("command", "is_read"), [("echo silent", False), ("echo n = 1 > other", True)])
def test_a_directory_is_looked_into_only_where_it_was_touched(rig: Rig, command: str, is_read: bool) -> None:
    rig.submit("-p", "2", command)
    rig.submit("-p", "1", "stop_worker all")
    said = rig.run(sys.executable, "-c", _TELLS_LOOKS).stdout
    assert said.count("looked") == (1 if is_read else 0)


_TELLS_LOOKS = """
from jobjar.publishing import results
from jobjar.programs.start_worker import main
read = results.read_results
def look(directory):
    print("looked")
    return read(directory)
results.read_results = look
main(["--foreground"])
"""
