"""What a person types who does not know the words: help in groups, hyphens, words that are spelled wrongly, versions."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

from jobjar.ledger.database import driver
from jobjar.programs.jobjar import GROUPS, VERBS
from jobjar.version import VERSION
from tests.rig import Rig


def test_every_verb_is_once_in_the_help_and_in_a_group(rig: Rig) -> None:
    text = rig.run("jobjar", "--help").stdout
    assert re.findall(r"(?m)^(\w+):$", text) == list(GROUPS)
    assert sorted(re.findall(r"(?m)^  ([a-z_]+) ", text)) == sorted(VERBS)
    assert rig.run("jobjar", "help").stdout == text
    assert rig.run("jobjar", "help", "system-status").stdout.startswith("usage: jobjar system_status")
    # A hyphen stands for an underscore in each.
    for verb in VERBS:
        if "_" in verb:
            shown = rig.run("jobjar", verb.replace("_", "-"), "--help").stdout
            assert shown.startswith(f"usage: jobjar {verb}")


def test_words_that_are_spelled_wrongly_are_guessed(rig: Rig) -> None:
    rig.submit("--id", "training", "-c", "LINUX", "true")
    rig.shell("printf 'batch\nname = nightly\nrun_command = true\n' > b.jug && submit_batch b.jug")
    for words, status, meant in (
        (["lsit"], 2, "jobjar: there is no verb 'lsit'; did you mean list?; `jobjar help` lists them"),
        (["status"], 2, "did you mean system_status or batch_status?"),
        (["list", "--catgory", "LINUX"], 2, "unrecognized arguments: --catgory; did you mean --category?"),
        (["system-status", "--formt=json"], 2, "did you mean --format?"),
        (["show", "trainign"], 1, "did you mean training ("),
        (["output", "-f", "trainign"], 1, "did you mean training ("),
        (["wait", "trainign"], 1, "; did you mean training ("),
        (["wait", "nightyl"], 1, "; did you mean nightly?"),
        (["wait", "--batch", "nightyl"], 1, "there is no batch nightyl in {home}; did you mean nightly?"),
        (["list", "--batch", "nightyl"], 1, "did you mean nightly?"),
        (["batch_status", "nightyl"], 1, "did you mean nightly?"),
        (["list-outputs", "--help"], 0, ""),
        (["list", "--category", "LINIX"], 1, "there is no category 'LINIX'; did you mean LINUX?"),
        (
            ["wait", "--category", "LINIX"],
            0,
            "there is no category LINIX: no unclaimed/LINIX, and no job of it; did you",
        ),
    ):
        result = rig.run("jobjar", *words, check=False)
        assert result.returncode == status and meant.format(home=rig.home) in result.stderr, (words, result.stderr)
    assert "did you mean" not in rig.run("jobjar", "xyzzy", check=False).stderr


def test_python_m_jobjar_is_the_program_and_says_its_versions(rig: Rig, tmp_path: Path) -> None:
    def module(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobjar", *words],
            env={**rig.environment, **changes},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )

    uid = module("submit", "true").stdout.strip()
    assert module("list", "--columns", "id", "--format", "plain").stdout.split() == ["id", uid]
    result = module("show", "no-such-job")
    assert result.returncode == 1 and result.stderr.startswith("jobjar show: no-such-job: ")
    known = [
        f"Job Jar {VERSION}",
        f"Python {platform.python_version()}, SQLite {driver.sqlite_version} ({driver.__name__.partition('.')[0]})",
    ]
    ledger = f"ledger of {rig.home}: {rig.home}/ledger/ledger.db, the jar's own, in WAL mode"
    for shown in (module("--version").stdout, rig.run("jobjar", "--version").stdout):
        assert shown.splitlines() == [*known, ledger]
    # Every program says so, of the jar that it is told to use.
    place = f"{tmp_path}/home/ledger.db"
    words = ("--home", str(rig.home), "--version")
    shown = rig.run("system_status", *words, JJ_HOME="", JJ_LEDGER_HOME=f"{tmp_path}/home").stdout
    assert shown.splitlines()[2] == f"ledger of {rig.home}: {place}, this node's own; it will be made when it is needed"
    assert rig.run("jobjar", "--version", JJ_HOME="").stdout.splitlines() == known
    lost = rig.run("jobjar", "--version", JJ_HOME=f"{tmp_path}/nowhere").stdout.splitlines()
    assert lost[:2] == known and lost[2].startswith("no ledger: ") and "nowhere" in lost[2]
