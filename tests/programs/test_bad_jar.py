"""Jars that cannot be used, and configuration that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.others import UNNAMED, by_user, open_place
from tests.rig import Rig, wait_until

PROGRAMS: list[list[str]] = [
    ["submit_job", "true"],
    ["unique_job_name"],
    ["start_worker"],
    ["start_worker", "--foreground"],
    ["check_workers"],
    ["stop_worker", "all"],
    ["pause_worker", "all"],
    ["unpause_worker", "all"],
    ["system_status"],
    ["recover_jobs"],
    ["jobjar", "check"],
    ["jobjar", "rebuild"],
    ["jobjar", "doctor"],
    ["jobjar", "doctor", "--peer"],
    ["jobjar", "show", "x"],
    ["jobjar", "output", "x"],
    ["jobjar", "wait", "x"],
    ["jobjar", "kill", "x"],
]


@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_every_program_says_that_no_jar_is_named_or_that_it_is_missing(tmp_path: Path, words: list[str]) -> None:
    rig = Rig(tmp_path / "missing", make=False)
    result = rig.run(*words, check=False)
    assert result.returncode == 1
    assert f"{tmp_path}/missing" in result.stderr
    assert "no such directory" in result.stderr
    assert f"jobjar init {tmp_path}/missing" in result.stderr
    result = rig.run(*words, check=False, JJ_HOME="")
    assert result.returncode == 1
    assert "JJ_HOME" in result.stderr and "jobjar init" in result.stderr
    assert not (tmp_path / "missing").exists()


def test_a_directory_that_is_no_jar_and_a_file_are_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path, make=False)
    result = rig.run("submit_job", "true", check=False)
    assert result.returncode == 1
    assert f"{tmp_path} is not a jar" in result.stderr
    file = tmp_path / "file"
    file.write_text("")
    result = rig.run("submit_job", "--home", str(file), "true", check=False)
    assert result.returncode == 1
    assert f"{file} is not a jar" in result.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_a_jar_that_lost_a_directory_says_which(rig: Rig) -> None:
    (rig.home / "claimed").rmdir()
    result = rig.run("submit_job", "true", check=False)
    assert result.returncode == 1
    assert "claimed" in result.stderr
    rig.run("jobjar", "init", str(rig.home))
    rig.submit("true")


def test_init_refuses_a_directory_with_other_things_and_changes_nothing(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    (place / "precious").write_text("1")
    rig = Rig(tmp_path / "jar", make=False)
    result = rig.run("jobjar", "init", str(place), check=False)
    assert result.returncode == 1
    assert str(place) in result.stderr and "not empty" in result.stderr
    assert [path.name for path in place.iterdir()] == ["precious"]
    result = rig.run("jobjar", "init", str(place / "precious"), check=False)
    assert result.returncode == 1
    assert (place / "precious").read_text() == "1"
    assert rig.run("jobjar", "init", check=False).returncode == 2


def contents(directory: Path) -> list[tuple[Path, int, bytes]]:
    """Everything under a directory but the ledger, which follows its journal: path, mode, and what a file holds."""
    paths = sorted(path for path in directory.rglob("*") if not path.name.startswith("ledger.db"))
    return [(path, path.stat().st_mode, path.read_bytes() if path.is_file() else b"") for path in paths]


def test_init_twice_changes_nothing_and_keeps_jobs_and_configuration(rig: Rig) -> None:
    rig.run("jobjar", "init", str(rig.home))
    name = rig.submit("true")
    (rig.home / "config.ini").write_text("[Job Jar]\nJJ_PAUSE_TIME: 7\n")
    before = contents(rig.home)
    assert rig.run("jobjar", "init", str(rig.home)).stdout.strip() == str(rig.home)
    assert contents(rig.home) == before
    assert rig.names("unclaimed") == [name]


def test_init_makes_a_private_jar_and_with_group_a_group_s(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "own", make=False)
    rig.run("jobjar", "init", str(tmp_path / "own"))
    rig.run("jobjar", "init", "--group", str(tmp_path / "group"))
    for name in ("", "unclaimed", "limbo", "completed", "ledger", "workers"):
        assert (tmp_path / "own" / name).stat().st_mode & 0o7777 == 0o700
        assert (tmp_path / "group" / name).stat().st_mode & 0o7777 == 0o2770
    group = Rig(tmp_path / "group", make=False)
    name = group.submit("-c", "LINUX", "true")
    assert (group.home / "unclaimed" / "LINUX").stat().st_mode & 0o7777 == 0o2770
    assert (group.home / "unclaimed" / "LINUX" / name).stat().st_mode & 0o777 == 0o770
    group.run_until_idle("--as-root-for-group", "LINUX")
    assert group.names("completed") == [name]
    group.end_everything()


@pytest.mark.parametrize("place", [".", "unclaimed", "unclaimed/LINUX", "limbo", "ledger", "config.ini"])
def test_workers_refuse_a_jar_that_others_can_write_to(rig: Rig, place: str) -> None:
    (rig.home / "unclaimed" / "LINUX").mkdir()
    path = rig.home / place
    path.chmod(0o777)
    shown = str(path).removesuffix("/.")
    for words in (["start_worker", "--foreground", "LINUX"], ["start_worker"], ["check_workers"]):
        result = rig.run(*words, check=False)
        assert result.returncode == 1
        assert f"{shown} is writable by others (mode 0777)" in result.stderr
        assert f"chmod o-w {shown}" in result.stderr
    assert any("writable by others" in line for line in rig.status()["warnings"])
    assert list((rig.home / "workers").iterdir()) == []


def test_a_category_that_becomes_writable_by_others_is_not_claimed_from(rig: Rig, tmp_path: Path) -> None:
    (rig.home / "unclaimed" / "LINUX").mkdir()
    (rig.home / "unclaimed" / "LINUX").chmod(0o777)
    result = rig.run("submit_job", "-c", "LINUX", "true", check=False)
    assert result.returncode == 1
    assert "writable by others" in result.stderr
    assert rig.names("limbo") == rig.names("unclaimed/LINUX") == []
    (rig.home / "unclaimed" / "LINUX").chmod(0o700)
    worker = rig.start_worker("LINUX", JJ_POLL_TIME="0.1", JJ_PAUSE_TIME="0.2")
    (rig.home / "unclaimed" / "LINUX").chmod(0o777)
    rig.drop("x.1", "#!/bin/sh\n", "LINUX")
    [log] = rig.home.glob("workers/*/worker.log")
    wait_until(lambda: worker.poll() is not None or "writable by others" in log.read_text(), "the refusal")
    assert rig.names("unclaimed/LINUX") == ["x.1"] and rig.names("completed") == []


@pytest.mark.root
def test_an_outsider_finds_neither_a_port_nor_an_open_jar(tmp_path: Path) -> None:
    with open_place() as place:
        rig = Rig(place / "own", make=False)
        rig.run("jobjar", "init", str(rig.home))
        try:
            rig.start_worker()
            own = rig.processes()
            assert own and not any(one.net_connections() for one in own)
            rig.before, rig.directory = by_user(UNNAMED), "/"
            for words in (["submit_job", "true"], ["system_status"], ["recover_jobs"], ["jobjar", "show", "x"]):
                result = rig.run(*words, check=False)
                assert result.returncode == 1 and str(rig.home) in result.stderr, (words, result.stderr)
            rig.before = []
            assert rig.names("unclaimed") == []
        finally:
            rig.end_everything()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("JJ_PAUSE_TIME: 5\n", 1, "[Job Jar]"),
        ("# fine\n\n[Job Jam]\n", 3, "[Job Jar]"),
        ("[Job Jar]\nJJ_PAUSE_TIME: soon\n", 2, "JJ_PAUSE_TIME: "),
        ("[Job Jar]\nJJ_PAUSE_TIME: 5\nJJ_POSE_TIME: 5\n", 3, "no setting JJ_POSE_TIME"),
        ("[Job Jar]\n\nnonsense\n", 3, "'nonsense' is not of the form"),
        ("[Job Jar]\nJJ_MAX_WORKERS: -1\n", 2, "JJ_MAX_WORKERS: "),
        ("[Job Jar]\nJJ_WORKER_HOME: here\n", 2, "not an absolute path"),
        ("[Job Jar]\nJJ_CATEGORIES: a/b\n", 2, "a/b"),
        ("[Job Jar]\nJJ_CONFIG_FILE: /x\n", 2, "environment only"),
        ("[Job Jar]\nJJ_UMASK: 999\n", 2, "'999'"),
        ("[Job Jar]\nJJ_EXIT_ON_FAILURE: perhaps\n", 2, "neither yes nor no"),
    ],
)
def test_a_bad_line_in_a_configuration_file_is_named_by_file_and_line(
    rig: Rig, tmp_path: Path, text: str, line: int, says: str
) -> None:
    for path, changes in (
        (rig.home / "config.ini", {}),
        (tmp_path / "mine.ini", {"JJ_CONFIG_FILE": str(tmp_path / "mine.ini")}),
    ):
        path.write_text(text)
        result = rig.run("submit_job", "true", check=False, **changes)
        assert result.returncode == 1
        assert f"{path}, line {line}: " in result.stderr
        assert says in result.stderr
        path.unlink()
    assert rig.names("limbo") == rig.names("unclaimed") == []


def test_a_bad_value_in_the_environment_and_a_missing_named_file_are_errors(rig: Rig, tmp_path: Path) -> None:
    result = rig.run("submit_job", "true", check=False, JJ_POLL_TIME="never")
    assert result.returncode == 1
    assert "environment: JJ_POLL_TIME: " in result.stderr
    result = rig.run("submit_job", "true", check=False, JJ_HOME="jar")
    assert result.returncode == 1
    assert "JJ_HOME" in result.stderr and "not an absolute path" in result.stderr
    result = rig.run("submit_job", "true", check=False, JJ_CONFIG_FILE=str(tmp_path / "none.ini"))
    assert result.returncode == 1
    assert f"{tmp_path}/none.ini" in result.stderr
    (rig.home / "config.ini").write_bytes(b"[Job Jar]\n\xff\xfe\n")
    result = rig.run("submit_job", "true", check=False)
    assert result.returncode == 1
    assert f"{rig.home}/config.ini" in result.stderr
