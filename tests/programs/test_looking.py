"""show, output, wait, check, rebuild; help and usage of every program."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from jobjar import create
from tests.rig import BIN, Rig, wait_until

PROGRAMS = [name for name in create.PROGRAMS if name != "jobjar"]
VERBS = [
    *PROGRAMS,
    "init",
    "config",
    "list",
    "history",
    "workers",
    "show",
    "output",
    "wait",
    "stats",
    "completion",
    "kill",
    "check",
    "rebuild",
]


@pytest.mark.parametrize("words", [[name] for name in PROGRAMS] + [["jobjar", verb] for verb in VERBS], ids=" ".join)
def test_every_program_has_help_and_refuses_what_it_does_not_know(rig: Rig, words: list[str]) -> None:
    result = rig.run(*words, "--help")
    assert result.stdout.startswith(f"usage: {' '.join(words)}")
    result = rig.run(*words, "--no-such-option", check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "usage:" in result.stderr
    assert rig.run(*words, "--version").stdout.startswith("Job Jar ")


def test_jobjar_lists_its_verbs_and_refuses_others(rig: Rig) -> None:
    listed = rig.run("jobjar", "--help").stdout
    assert all(f"  {verb} " in listed for verb in VERBS)
    for words in ([], ["no_such_verb"], ["--no-such-option"]):
        result = rig.run("jobjar", *words, check=False)
        assert (result.returncode, result.stdout) == (2, "")
    assert rig.run("jobjar", "submit-job", "true").stdout


def test_show_tells_all_of_a_job(rig: Rig) -> None:
    name = rig.submit("-c", "LINUX", "-p", "4", "--retries", "1", "echo hello; exit 2")
    waiting = rig.show(name)
    assert (waiting["state"], waiting["outcome"], waiting["attempts"]) == ("unclaimed", None, [])
    rig.run_until_idle("LINUX")
    shown = rig.show(name)
    assert {
        "name": name,
        "id": waiting["id"],
        "state": "completed",
        "outcome": "failed",
        "exit_status": 2,
        "category": "LINUX",
        "priority": 4,
        "submitter": rig.shell("id -un").stdout.strip(),
        "submitted_at": waiting["submitted_at"],
    }.items() <= shown.items()
    assert len(shown["attempts"]) == 2
    keys = "worker started_at ended_at exit_status signal user_cpu_s system_cpu_s max_rss_kib output_path"
    for attempt in shown["attempts"]:
        assert set(keys.split()) <= set(attempt)
    assert [move["to"].partition("/")[0] for move in shown["moves"]] == [
        "unclaimed",
        "workers",
        "unclaimed",
        "workers",
        "completed",
    ]
    # By its name, its id, the beginning of its id, its place and its path.
    for word in (shown["id"], shown["id"][:8], f"completed/{name}", f"{rig.home}/completed/{name}"):
        assert rig.show(word)["name"] == name
    text = rig.run("jobjar", "show", name).stdout
    assert "Attempt 2" in text and "Moves" in text and "failed" in text
    assert rig.run("jobjar", "output", "--attempt", "1", name).stdout == "hello\n"


def test_unknown_and_ambiguous_jobs_are_errors_that_say_what_to_do(rig: Rig) -> None:
    for words in (["show"], ["output"], ["wait"], ["kill"]):
        result = rig.run("jobjar", *words, "nothing", check=False)
        assert result.returncode == 1
        assert "nothing: no job of this name or id" in result.stderr
    rig.drop("twin", "#!/bin/sh\n")
    rig.drop("twin", "#!/bin/sh\n", category="LINUX")
    result = rig.run("jobjar", "show", "twin", check=False)
    assert result.returncode == 1
    assert "unclaimed/twin" in result.stderr and "unclaimed/LINUX/twin" in result.stderr
    assert rig.show("unclaimed/LINUX/twin")["category"] == "LINUX"


def test_output_that_is_not_there_yet_is_an_error_and_a_running_job_s_is_shown(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    name = rig.submit(f"echo so far; read line < {gate}")
    result = rig.run("jobjar", "output", name, check=False)
    assert result.returncode == 1
    assert "has not been run yet" in result.stderr
    worker = rig.start_worker()
    wait_until(lambda: any(path.stat().st_size for path in rig.home.glob("workers/*/output/*.out")), "the output")
    assert rig.run("jobjar", "output", name).stdout == "so far\n"
    result = rig.run("jobjar", "output", "--attempt", "7", name, check=False)
    assert result.returncode == 1 and "no attempt 7" in result.stderr
    gate.write_text("on\n")
    rig.stop_worker(worker)


def open_files(pid: int) -> list[str]:
    """What a process has open, as /proc tells it."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(path))
    return found


@pytest.mark.slow
def test_wait_tells_success_failure_and_the_end_of_its_patience(rig: Rig, tmp_path: Path) -> None:
    fine, failing = rig.submit("true"), rig.submit("false")
    result = rig.run("jobjar", "wait", fine, "--timeout", "0.2", check=False)
    assert result.returncode == 124
    assert "within 0.2 s" in result.stderr
    assert rig.run("jobjar", "wait", "--all", "--timeout", "0.2s", check=False).returncode == 124
    worker = rig.start_worker()
    assert rig.run("jobjar", "wait", fine).returncode == 0
    assert rig.run("jobjar", "wait", fine, failing, check=False).returncode == 1
    assert rig.run("jobjar", "wait", "--all", check=False).returncode == 1
    assert rig.run("jobjar", "wait", "--all", "--since", "0").returncode == 0
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    late = rig.submit(f"read line < {gate}; false")
    waiting = subprocess.Popen([BIN / "jobjar", "wait", "--all"], env=rig.environment)
    # It watches the directory once it knows for what it waits.
    wait_until(lambda: "anon_inode:inotify" in open_files(waiting.pid), "the wait")
    gate.write_text("on\n")
    assert waiting.wait(timeout=60) == 1
    assert rig.names("completed") == sorted([fine, failing, late])
    rig.stop_worker(worker)
    for words in ([], ["--all", fine], ["--timeout", "soon", fine]):
        assert rig.run("jobjar", "wait", *words, check=False).returncode == 2


def test_wait_for_a_hand_made_job_is_not_for_an_earlier_one_of_its_name(rig: Rig) -> None:
    rig.drop("again", "#!/bin/sh\nexit 1\n")
    rig.run_until_idle()
    again = rig.drop("again", "#!/bin/sh\n")
    for words in (["--all"], ["unclaimed/again"]):
        assert rig.run("jobjar", "wait", *words, "--timeout", "0.2", check=False).returncode == 124
    worker = rig.start_worker()
    wait_until(lambda: not again.exists(), "the claim")
    rig.stop_worker(worker)
    third = rig.drop("again", "#!/bin/sh\n")
    third.unlink()
    assert rig.run("jobjar", "wait", "completed/again~2").returncode == 0


def test_check_prints_each_difference_and_changes_nothing(rig: Rig) -> None:
    result = rig.run("jobjar", "check", check=False)
    assert result.returncode == 1
    assert "there is none yet" in result.stderr
    names = [rig.submit("true"), rig.submit("true")]
    rig.run_until_idle()
    rig.assert_clean()
    moved = rig.home / "completed" / names[0]
    moved.rename(rig.home / "limbo" / names[0])
    (rig.home / "claimed" / "stale").symlink_to(rig.home / "nowhere")
    for _ in range(2):
        result = rig.run("jobjar", "check", check=False)
        assert result.returncode == 1
        assert names[0] in result.stdout
        assert "claimed/stale" in result.stdout
        assert names[1] not in result.stdout
    result = rig.run("recover_jobs")
    assert "stale" in result.stdout
    rig.assert_clean()


@pytest.mark.slow
def test_rebuild_gives_the_same_answers(rig: Rig) -> None:
    names = [rig.submit("--retries", "1", "-p", str(number), f"exit {number}") for number in range(3)]
    rig.drop("by_hand.4", "#!/bin/sh\necho hello\n")
    rig.run_until_idle()
    names.append("by_hand.4")
    waiting = rig.submit("-c", "LATER", "true")
    before = [rig.show(name) for name in [*names, waiting]]
    database = rig.home / "ledger" / "ledger.db"
    inode = database.stat().st_ino
    assert rig.run("jobjar", "rebuild").stdout.strip() == str(database)
    assert database.stat().st_ino != inode
    assert [rig.show(name) for name in [*names, waiting]] == before
    rig.assert_clean()
    assert sorted(path.name for path in database.parent.glob("*.new*")) == []
