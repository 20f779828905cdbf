"""Submissions that cannot be: each is refused with a word on what, where and what next, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import Rig

VANISHING = """
import os, sys
from jobjar.jar import open_jar
from jobjar.programs.command import complain
from jobjar.errors import JarError
from jobjar.stages import submit
described = submit.describe_file(sys.argv[1])
{between}
try:
    submit.submit(open_jar(), described)
except JarError as error:
    complain("submit_job", error)
    sys.exit(error.exit_status)
"""


def assert_refused(rig: Rig, *words: str, status: int, says: tuple[str, ...], program: str = "submit_job") -> None:
    result = rig.run(program, *words, check=False)
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    for text in says:
        assert text in result.stderr
    assert rig.names("limbo") == rig.names("unclaimed") == []


@pytest.mark.parametrize("priority", ["high", "1.5", "", "1000000000", "-1000000000", "1e3", "0x10"])
def test_a_bad_priority_is_a_usage_error(rig: Rig, priority: str) -> None:
    says = (f"priority {priority!r}" if not priority.strip("-").startswith("1000") else priority, "integer")
    assert_refused(rig, "-p", priority, "true", status=2, says=says)


@pytest.mark.parametrize("category", ["a/b", "..", ".hidden", "a b", "a\nb", "-x", "ü", "x" * 129])
def test_a_bad_category_is_a_usage_error_and_makes_no_directory(rig: Rig, category: str) -> None:
    assert_refused(rig, f"--category={category}", "true", status=2, says=("category", "use letters, digits"))
    assert list((rig.home / "unclaimed").iterdir()) == []


def test_workers_refuse_bad_categories_too(rig: Rig) -> None:
    assert_refused(rig, "../x", status=2, says=("'../x'", "use letters"), program="start_worker")


@pytest.mark.parametrize("identifier", ["a/b", "a b", "a\nb", "x" * 81, "é"])
def test_a_bad_identifier_is_a_usage_error(rig: Rig, identifier: str) -> None:
    assert_refused(rig, "-i", identifier, "true", status=2, says=("identifier", "use up to 80 letters"))
    result = rig.run("unique_job_name", "-i", identifier, check=False)
    assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--retries", "-1", "true"], "retries"),
        (["--retries=many", "true"], "retries"),
        (["--time-limit", "soon", "true"], "time_limit"),
        (["--retry-delay=5 parsecs", "true"], "retry_delay"),
        ([], "give either a COMMAND or -f FILE"),
        (["-f", "/bin/true", "echo"], "give either a COMMAND or -f FILE"),
        (["--no-such-option", "true"], "--no-such-option"),
        (["   "], "it is empty"),
    ],
)
def test_bad_options_are_usage_errors(rig: Rig, words: list[str], says: str) -> None:
    assert_refused(rig, *words, status=2, says=(says,))


def test_a_file_that_is_not_executable_is_refused(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "data.txt"
    file.write_text("1 2 3\n")
    assert_refused(rig, "-f", str(file), status=1, says=(str(file), "not executable", f"chmod +x {file}"))


def test_a_missing_file_and_a_directory_are_refused(rig: Rig, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert_refused(rig, "-f", missing, status=1, says=(missing, "No such file", "nothing was submitted"))
    assert_refused(rig, "-f", str(tmp_path), status=1, says=(str(tmp_path), "not a regular file"))
    assert_refused(rig, "-f", "/dev/null", status=1, says=("/dev/null", "not a regular file"))


@pytest.mark.parametrize(
    ("between", "says"),
    [("os.unlink(sys.argv[1])", "No such file"), ("os.chmod(sys.argv[1], 0o644)", "not executable")],
)
def test_a_file_that_changes_between_the_look_and_the_copy_is_refused(
    rig: Rig, tmp_path: Path, between: str, says: str
) -> None:
    file = tmp_path / "job"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    script = VANISHING.format(between=between)
    result = subprocess.run(
        [sys.executable, "-c", script, str(file)], env=rig.environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert str(file) in result.stderr and says in result.stderr and "Traceback" not in result.stderr
    assert rig.names("limbo") == rig.names("unclaimed") == []
    rig.submit("true")


def test_an_unknown_attribute_in_a_file_is_refused_with_its_line(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "job"
    file.write_text("#!/bin/sh\n#JJ retries = 1\n#JJ colour = red\n")
    file.chmod(0o755)
    assert_refused(rig, "-f", str(file), status=2, says=(f"{file}, line 3", "'colour'", "retries, retry_delay"))
    file.write_text("#!/bin/sh\n#JJ retries 1\n")
    assert_refused(rig, "-f", str(file), status=2, says=(f"{file}, line 2", "#JJ name = value"))


def test_an_unknown_attribute_in_a_hand_made_job_holds_it_in_limbo_with_the_reason(rig: Rig) -> None:
    rig.drop("odd.7", "#!/bin/sh\n#JJ colour = red\n")
    rig.drop("fine", "#!/bin/sh\n")
    rig.run_until_idle()
    assert rig.names("limbo") == ["odd.7"]
    assert rig.names("completed") == ["fine"]
    [held] = [line for line in rig.status()["warnings"] if "odd.7" in line]
    assert "held in limbo" in held and "line 2" in held and "'colour'" in held
    shown = rig.show("odd.7")
    assert shown["state"] == "limbo"
    assert "'colour'" in shown["held_reason"]
    rig.assert_clean()
    # Put right and moved on by hand, it runs.
    job = rig.home / "limbo" / "odd.7"
    job.write_text("#!/bin/sh\n")
    job.rename(rig.home / "unclaimed" / "odd.7")
    rig.run_until_idle()
    assert rig.names("completed") == ["fine", "odd.7"]
    assert rig.show("odd.7")["outcome"] == "succeeded"
    rig.assert_clean()


def test_two_jobs_of_one_name_both_run_and_neither_overwrites_the_other(rig: Rig) -> None:
    rig.drop("x.15", "#!/bin/sh\necho first\n")
    rig.drop("x.15", "#!/bin/sh\necho second\n", category="LINUX")
    rig.run_until_idle("LINUX")
    assert rig.names("completed") == ["x.15", "x~2.15"]
    # The worker asks LINUX first.
    assert "second" in (rig.home / "completed" / "x.15").read_text()
    rig.drop("x.15", "#!/bin/sh\necho third\n")
    rig.run_until_idle()
    assert rig.names("completed") == ["x.15", "x~2.15", "x~3.15"]
    outputs = [rig.run("jobjar", "output", f"completed/{name}").stdout for name in rig.names("completed")]
    assert sorted(outputs) == ["first\n", "second\n", "third\n"]
    result = rig.run("jobjar", "show", "x.15", check=False)
    assert result.returncode in (0, 1)
    rig.assert_clean()


def test_odd_names_are_reported_left_and_never_run(rig: Rig, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = f"#!/bin/sh\necho ran >> '{marker}'\n"
    odd = ["line\nend", ".hidden", "x" * 250]
    for name in odd:
        rig.drop(name, text)
    (rig.home / "unclaimed" / os_bytes(b"not-utf8-\xff")).write_text(text)
    (rig.home / "unclaimed" / os_bytes(b"not-utf8-\xff")).chmod(0o755)
    rig.drop("with spaces in it.3", "#!/bin/sh\necho fine\n")
    rig.run_until_idle()
    assert not marker.exists()
    assert len(rig.names("unclaimed")) == 4
    assert rig.names("completed") == ["with spaces in it.3"]
    assert rig.run("jobjar", "output", "with spaces in it.3").stdout == "fine\n"
    assert rig.show("with spaces in it.3")["priority"] == 3
    warnings = rig.status()["warnings"]
    assert len([line for line in warnings if "is not a job" in line]) == 4
    text = rig.run("system_status", PYTHONIOENCODING="utf-8:strict").stdout
    assert r"unclaimed/line\nend is not a job" in text
    rig.run("recover_jobs", PYTHONIOENCODING="utf-8:strict")
    assert len(rig.names("unclaimed")) == 4
    rig.assert_clean()


def os_bytes(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def test_what_is_no_job_is_reported_left_and_never_run(rig: Rig, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    target = tmp_path / "elsewhere"
    target.write_text(f"#!/bin/sh\necho ran >> '{marker}'\n")
    target.chmod(0o755)
    rig.drop("data", "just data\n", mode=0o644)
    (rig.home / "unclaimed" / "link").symlink_to(target)
    (rig.home / "claimed" / "stray").write_text("")
    (rig.home / "limbo" / "directory").mkdir()
    rig.drop("job", "#!/bin/sh\n")
    rig.run_until_idle()
    assert not marker.exists()
    assert rig.names("unclaimed") == ["data", "link"]
    assert rig.names("completed") == ["job"]
    text = "\n".join(rig.status()["warnings"])
    for said in (
        "unclaimed/data is not a job: it is not executable",
        "unclaimed/link is not a job: it is a symbolic link",
        "claimed/stray is not a job",
        "limbo/directory is not a job",
    ):
        assert said in text
