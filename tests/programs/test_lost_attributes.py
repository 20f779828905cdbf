"""A `#JJ` line that would not count is an error at submission, by whatever way, and a warning of a job dropped by hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import jobjar
from jobjar import library
from jobjar.errors import BadScript
from tests.rig import Rig

MISPLACED = "#!/bin/sh\nset -e\n#JJ retries = 1\nexit 3\n"
SEED = "#!/bin/sh\ncat > job <<EOF\n#!/bin/sh\n#JJ retries = 1\nexit 3\nEOF\nchmod +x job\nsubmit_job -f job\n"


def write_job(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MISPLACED, "line 3: '#JJ retries = 1' does not count, because line 2 ends the comment lines"),
        ("#!/bin/sh\n# JJ retries = 1\n", "line 2: '# JJ retries = 1' does not count"),
        ("\ufeff#!/bin/sh\n#JJ retries = 1\n", "line 1: the file begins with a byte order mark (BOM)"),
        ("#!/bin/sh\r\n#JJ retries = 1\r\n", "line 1: the #! line ends with a carriage return (CR)"),
    ],
)
def test_such_a_file_is_refused_by_program_and_library(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    file = write_job(tmp_path / "job", text)
    result = rig.run("submit_job", "-f", str(file), check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{file}, {says}" in result.stderr
    monkeypatch.setenv("JJ_HOME", str(rig.home))
    with pytest.raises(BadScript) as caught:
        jobjar.submit_job_file(str(file))
    assert says in str(caught.value)
    with pytest.raises(BadScript):
        jobjar.submit_jobs(["true", {"path": str(file)}])
    library.current_jar().close()
    assert rig.names("limbo") == rig.names("unclaimed") == []


def test_a_command_of_several_lines_is_looked_at_too(rig: Rig) -> None:
    result = rig.run("submit_job", "set -e\n#JJ retries = 1\nexit 3", check=False)
    assert result.returncode == 2 and "line 3" in result.stderr
    job = rig.submit("#JJ retries = 1\nexit 3")
    assert rig.show(job)["retries"] == 1


def test_a_seed_that_writes_other_jobs_is_submitted_and_their_lines_count(rig: Rig, tmp_path: Path) -> None:
    seed = rig.submit("-f", str(write_job(tmp_path / "seed", SEED)))
    rig.run_until_idle()
    shown = rig.show(seed)
    assert (shown["outcome"], shown["attempts"][0]["warnings"]) == ("succeeded", [])
    [written] = [name for name in rig.names("completed") if name != seed]
    assert len(rig.show(written)["attempts"]) == 2
    rig.assert_clean()


def test_a_job_dropped_by_hand_runs_and_says_what_did_not_count(rig: Rig) -> None:
    rig.drop("x", MISPLACED)
    rig.drop("named", "#!/bin/sh\n\n#JJ retries = 1\nexit 3\n")
    said = rig.run_until_idle()
    [attempt] = rig.show("x")["attempts"]
    [warning] = attempt["warnings"]
    assert "line 3 of its file" in warning and "does not count" in warning
    text = rig.run("jobjar", "show", "x").stdout
    assert "Warnings of attempt 1" in text and "does not count" in text
    assert warning in said or warning in (next(rig.home.glob("workers/*/worker.log"))).read_text()
    assert [attempt["warnings"] for attempt in rig.show("named")["attempts"]] == [[], []]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert rig.show("x")["attempts"][0]["warnings"] == [warning]
    rig.assert_clean()


def test_a_described_job_dropped_by_hand_keeps_both_kinds_of_warnings(rig: Rig) -> None:
    text = "#!/bin/sh\n#JJ described = yes\n#JJ run_command = echo nonsense > jug_monitor.vars\nexit 2\n#JJ seed = 3\n"
    rig.drop("d", text)
    rig.run_until_idle()
    shown = rig.show("d")
    assert (shown["outcome"], shown["seed"]) == ("succeeded", None)
    first, second = shown["attempts"][0]["warnings"]
    assert "line 5 of its file" in first and "jug_monitor.vars" in second
    rig.assert_clean()


def test_a_job_dropped_by_hand_with_a_byte_order_mark_is_held_with_the_reason(rig: Rig) -> None:
    rig.drop("marked", "\ufeff#!/bin/sh\n#JJ retries = 1\n")
    rig.drop("fine", "#!/bin/sh\n")
    rig.run_until_idle()
    assert rig.names("completed") == ["fine"]
    assert "byte order mark" in rig.show("marked")["held_reason"]
    rig.assert_clean()


def test_a_script_of_windows_dropped_by_hand_fails_with_a_word_on_its_carriage_returns(rig: Rig) -> None:
    rig.drop("windows", "#!/bin/sh\r\necho\r\n")
    rig.drop("missing", "#!/no/such/interpreter -x\n")
    rig.run_until_idle()
    [attempt] = rig.show("windows")["attempts"]
    assert attempt["exit_status"] == 127
    assert "carriage return (CR)" in attempt["message"] and r"'/bin/sh\\r'" in repr(attempt["message"])
    assert "'/no/such/interpreter'" in rig.show("missing")["attempts"][0]["message"]
    rig.assert_clean()


def test_a_binary_is_submitted_whatever_is_in_it(rig: Rig, tmp_path: Path) -> None:
    program = tmp_path / "true"
    program.write_bytes(Path("/bin/true").read_bytes() + b"\n#JJ retries = 2\n# JJ retries = 2\n")
    program.chmod(0o755)
    assert subprocess.run([str(program)]).returncode == 0
    job = rig.submit("-f", str(program))
    rig.run_until_idle()
    assert rig.show(job)["outcome"] == "succeeded"
