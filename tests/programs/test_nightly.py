"""recover_jobs --nightly: what it does, what it says, two at once, from cron, beside workers, and when something is wrong."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from jobjar.host import node_name
from tests.rig import BIN, Result, Rig, wait_until

pytestmark = pytest.mark.slow

AT_ONCE = "0.000000001"
ALL_AT_ONCE = {"JJ_ARCHIVE_AFTER": AT_ONCE, "JJ_KEEP_COMPLETED": "0", "JJ_KEEP_WORKERS": "0"}


def nightly(rig: Rig, *words: str, check: bool = True, changes: dict[str, str] | None = None) -> Result:
    return rig.run("recover_jobs", "--nightly", *words, check=check, **(changes or {}))


def fill_journal(rig: Rig) -> Path:
    """Make the current journal large enough to be rotated, with entries of a kind that only later versions know."""
    path = rig.home / "ledger" / "journals" / f"{(rig.home / 'ledger' / 'writer').read_text()}.jsonl"
    entry = json.dumps({"entry": "of another version", "text": "x" * 1000})
    with path.open("ab", buffering=0) as file:
        file.write(f"\n{entry}".encode() * 4500)  # in one write, as others append meanwhile
    return path


def make_old(path: Path) -> None:
    os.utime(path, (time.time() - 2 * 86400,) * 2)


def only_open(rig: Rig, current: Path) -> bool:
    """Whether no process of the jar has another journal open than the current one."""
    found = set()
    for process in rig.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # a job that has ended meanwhile
            found |= {file.path for file in process.open_files() if file.path.endswith(".jsonl")}
    return found <= {str(current)}


def files_under(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_night_recovers_archives_compresses_checks_and_copies_and_says_so(rig: Rig) -> None:
    name = rig.submit("echo hello")
    rig.run_until_idle()
    stranded = rig.submit("sleep 60")
    worker = rig.start_worker()
    wait_until(lambda: rig.show(stranded)["state"] == "claimed", "the claim")
    worker.kill()
    worker.wait()
    journal = fill_journal(rig)
    assert (
        f"{journal.stem} ended, a new one begun; 0 compressed" in nightly(rig, changes={"JJ_ARCHIVE_AFTER": "0"}).stdout
    )
    make_old(journal)
    rig.submit("true")
    result = nightly(rig, changes=ALL_AT_ONCE)
    lines = result.stdout.splitlines()
    assert "recovery: 0 jobs returned, 0 completed" in lines  # done by the first
    assert "archive: 1 jobs and 2 workers archived, 0 jobs and 0 workers deleted" in lines
    assert any(line.startswith("journals: 1 compressed, 4") for line in lines)
    assert "checkpoint: done" in lines and "quick_check: ok" in lines
    copy = next(line.split()[1].rstrip(",") for line in lines if line.startswith("copy: "))
    assert not journal.exists() and len(list(journal.parent.glob("*.jsonl.gz"))) == 1
    assert rig.run("jobjar", "output", name).stdout == "hello\n"
    with sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True) as connection:
        states = dict(connection.execute("SELECT name, state FROM job"))
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    assert states[name] == "completed" and states[stranded] == "unclaimed" and len(states) == 3
    rig.assert_clean()
    before = rig.show(name)
    rig.run("jobjar", "rebuild")
    assert rig.show(name) == before
    rig.assert_clean()


def test_a_quiet_night_is_silent_where_there_was_nothing(rig: Rig) -> None:
    rig.submit("true")
    rig.run_until_idle()
    result = nightly(rig, "-q")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert "1 jobs and 1 workers archived" in nightly(rig, "-q", changes=ALL_AT_ONCE).stdout
    assert nightly(rig, "-q", changes=ALL_AT_ONCE).stdout == ""
    assert "quick_check: ok" in nightly(rig).stdout


def test_seven_copies_are_kept_and_half_ones_swept(rig: Rig) -> None:
    copies = rig.home / "ledger" / "copies"
    copies.mkdir()
    for day in range(1, 10):
        (copies / f"ledger-2001-01-{day:02d}.db").write_text("old")
    (copies / "ledger-2001-01-09.db.4194303.new").write_text("half")
    (copies / "mine.db").write_text("somebody's own")
    assert "removed the half-written ledger-2001-01-09.db.4194303.new" in nightly(rig).stdout
    names = files_under(copies)
    assert len(names) == 8 and names[-1] == "mine.db" and names[0] == "ledger-2001-01-04.db"
    assert (copies / names[-2]).read_bytes()[
        18:20
    ] == b"\1\1"  # not in WAL mode, in which a reader has to make two files
    nightly(rig)
    assert files_under(copies) == names


def test_the_line_of_the_crontab_does_it_in_cron_s_poor_environment(rig: Rig) -> None:
    rig.submit("true")
    rig.run_until_idle()
    lines = (rig.home / "crontabs" / "recovery.cron").read_text().splitlines()
    settings = [line for line in lines if line.startswith(("PATH=", "JJ_HOME="))]
    (line,) = (line for line in lines if line[0].isdigit())
    command = line.split(maxsplit=5)[5]
    assert "--nightly" in command
    (rig.home / "config.ini").write_text(f"[Job Jar]\nJJ_ARCHIVE_AFTER: {AT_ONCE}\n")
    outputs = []
    for _ in range(2):
        result = subprocess.run(
            ["env", "-i", f"HOME={rig.home.parent}", "LOGNAME=x", *settings, "/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
        )
        assert (result.returncode, result.stderr) == (0, "")
        outputs.append(result.stdout)
    assert "1 jobs and 1 workers archived" in outputs[0] and outputs[1] == ""
    assert len(files_under(rig.home / "ledger" / "copies")) == 1


def test_two_at_once_do_each_thing_once(rig: Rig) -> None:
    names = [rig.submit(f"echo {number}") for number in range(30)]
    rig.run_until_idle()
    journal = fill_journal(rig)
    nightly(rig, changes={"JJ_ARCHIVE_AFTER": "0"})
    make_old(journal)
    both = [
        subprocess.Popen(
            [BIN / "recover_jobs", "--nightly"],
            env={**rig.environment, **ALL_AT_ONCE},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    text = "".join(output for output, _ in outputs)
    assert text.count("30 jobs and 1 workers archived") == 1, text
    assert text.count(" 1 compressed") == 1, text
    assert len(list(rig.home.glob("archive/*/completed/*"))) == 30
    assert not (rig.home / "ledger" / "archiving").exists()
    assert [path for path in (rig.home / "ledger" / "copies").iterdir() if path.suffix != ".db"] == []
    for number in (0, 15, 29):
        assert rig.run("jobjar", "output", names[number]).stdout == f"{number}\n"
    rig.assert_clean()


@pytest.mark.slow
def test_workers_go_on_meanwhile_and_lose_nothing(rig: Rig) -> None:
    workers = [rig.start_worker() for _ in range(2)]
    names = []
    rotated = 0
    for _ in range(4):
        names.append(rig.submit("echo x"))
        names += [rig.submit("true") for _ in range(8)]
        rotated += " ended, a new one begun" in nightly(rig, changes=ALL_AT_ONCE).stdout
        current = fill_journal(rig)
        wait_until(functools.partial(only_open, rig, current), "the workers to follow to the new journal")
        for path in (rig.home / "ledger" / "journals").glob("*.jsonl"):
            if path != current:
                make_old(path)
    rig.run("jobjar", "wait", *names, "--timeout", "60s")
    nightly(rig, changes=ALL_AT_ONCE)
    assert rotated >= 2
    for worker in workers:
        rig.stop_worker(worker)
    nightly(rig, changes=ALL_AT_ONCE)
    assert sorted(path.name for path in rig.home.glob("archive/*/completed/*")) == sorted(names)
    for name in names[::9]:
        shown = rig.show(name)
        assert [attempt["outcome"] for attempt in shown["attempts"]] == ["succeeded"]
        assert shown["moves"][-1]["reason"] == "archived"
        assert rig.run("jobjar", "output", name).stdout == "x\n"
    rig.assert_clean()


def test_a_damaged_ledger_is_rebuilt_and_that_is_said(rig: Rig) -> None:
    name = rig.submit("true")
    rig.run_until_idle()
    nightly(rig)
    copy = next((rig.home / "ledger" / "copies").iterdir()).read_bytes()
    database = rig.home / "ledger" / "ledger.db"
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    database.write_bytes(os.urandom(len(copy)))
    result = nightly(rig, "-q", check=False)
    assert result.returncode == 1
    assert "warning: " in result.stdout and "is damaged" in result.stdout.splitlines()[-1]
    assert rig.show(name)["state"] == "completed"
    assert nightly(rig, "-q").stdout == ""
    rig.assert_clean()


def test_a_step_that_fails_is_said_last_and_the_others_are_done(rig: Rig) -> None:
    rig.submit("true")
    rig.run_until_idle()
    (rig.home / "archive").write_text("somebody's file")
    result = nightly(rig, "-q", check=False, changes=ALL_AT_ONCE)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].startswith("warning: archive: ")
    assert "quick_check: ok" in result.stdout
    assert len(files_under(rig.home / "ledger" / "copies")) == 1
    (rig.home / "archive").unlink()
    assert "1 jobs and 1 workers archived" in nightly(rig, changes=ALL_AT_ONCE).stdout
    rig.assert_clean()


def test_deleting_is_only_done_when_it_is_asked_for(rig: Rig) -> None:
    name = rig.submit("echo x")
    rig.run_until_idle()
    nightly(rig, changes=ALL_AT_ONCE)
    assert rig.run("jobjar", "output", name).stdout == "x\n"
    changes = {**ALL_AT_ONCE, "JJ_KEEP_COMPLETED": AT_ONCE, "JJ_KEEP_WORKERS": AT_ONCE}
    assert "1 jobs and 1 workers deleted" in nightly(rig, changes=changes).stdout
    assert rig.show(name)["state"] == "removed"
    assert list(rig.home.glob("archive/*/*/*")) == []
    rig.assert_clean()


@pytest.mark.root
@pytest.mark.slow
def test_two_nodes_with_homes_of_their_own_agree_after_a_night(rig: Rig, tmp_path: Path) -> None:
    from tests.hosts.nodes import Node

    (rig.home / "config.ini").write_text(f"[Job Jar]\nJJ_ARCHIVE_AFTER: {AT_ONCE}\n")
    nodes = [Node(rig, name, JJ_LEDGER_HOME=str(tmp_path / name)) for name in ("rain", "sun")]
    try:
        for node in nodes:
            node.start_worker()
        names = [rig.submit(f"echo {number}", JJ_LEDGER_HOME=str(tmp_path / "third")) for number in range(10)]
        nodes[0].run("jobjar", "wait", *names, "--timeout", "60s")
        for node in nodes:
            node.stop_workers()
        nights = [node.start("recover_jobs", "--nightly") for node in nodes]
        outputs = [night.communicate(timeout=60) for night in nights]
        assert [night.returncode for night in nights] == [0, 0], outputs
        nodes[0].run("recover_jobs", "--nightly")
        assert sorted(path.name for path in rig.home.glob("archive/*/completed/*")) == sorted(names)
        for node in nodes:
            assert (tmp_path / node.name / "copies").is_dir()
            shown = json.loads(node.run("jobjar", "show", "--format", "json", names[0]).stdout)
            assert shown["place"].startswith("archive/")
            assert node.run("jobjar", "check", check=False).returncode == 0
    finally:
        for node in nodes:
            node.kill()
    assert node_name() not in ("rain", "sun")
