"""jobjar list: for people on a terminal of some width, and for programs."""

from __future__ import annotations

import contextlib
import csv
import datetime
import fcntl
import io
import json
import os
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

import jobjar
from jobjar.reports.listing_table import cut, shown_width
from tests.rig import BIN, PATIENCE_S, Rig


def on_terminal(rig: Rig, *words: str, columns: int = 80, lines: int = 24, **changes: str) -> str:
    """What a verb prints on a terminal of this size, as the terminal gets it."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {
        name: value
        for name, value in rig.environment.items()
        if name not in ("NO_COLOR", "PAGER", "LESS", "COLUMNS", "LINES")
    }
    process = subprocess.Popen(
        [BIN / "jobjar", *words],
        env={**environment, "TERM": "xterm", "PAGER": "cat", **changes},
        stdin=its,
        stdout=its,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(its)
    parts = []
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
        while data := os.read(ours, 65536):
            parts.append(data)
    os.close(ours)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(PATIENCE_S) == 0, said
    return b"".join(parts).decode().replace("\r\n", "\n") + said


@pytest.mark.usefixtures("own_library")
def test_a_list_says_what_each_job_is_and_does(rig: Rig) -> None:
    empty = rig.run("jobjar", "list")
    assert (empty.stdout, empty.stderr) == ("", "jobjar list: no job fits: there is none\n")
    ended = jobjar.submit_job("exit 3", id="train", priority=2)
    killed = jobjar.submit_job("kill -9 $$ # " + "long " * 40)
    rig.run_until_idle()
    waiting = jobjar.submit_job("wc -l data/f1.dat", category="LINUX")
    rig.drop("odd\x1b[31m\x07name", "#!/bin/sh\n", "LINUX")
    held = jobjar.submit_job("true")
    (rig.home / "unclaimed" / held).rename(rig.home / "limbo" / held)

    # For people on a terminal of 80 columns.
    uids = {name: rig.show(name)["id"] for name in (ended, killed, waiting, held)}
    text = on_terminal(rig, "list")
    plain = re.sub(r"\x1b\[[0-9]+m", "", text)
    lines = plain.splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in plain and "\x07" not in plain
    headers = lines[0].split()
    assert headers[:6] == ["id", "state", "age", "ran", "exit", "worker"] and headers[-1] == "job"
    rows = [re.split(r"  +", line) for line in lines[2:]]
    assert [(row[0], row[1]) for row in rows] == [
        (uids[held], "limbo"),
        (uids[waiting], "waiting"),
        ("", "waiting"),
        (uids[killed], "failed"),
        (uids[ended], "failed"),
    ]
    assert [row[-1] for row in rows[:3]] == ["true", "wc -l data/f1.dat", r"odd\x1b[31m\x07name"]
    assert rows[3][-1].startswith("kill -9 $$ # long") and rows[3][-1].endswith("…") and "KILL" in rows[3]
    assert rows[4][-1] == "train" and "3" in rows[4]
    assert "\x1b[31mfailed\x1b[0m" in text
    assert "\x1b" not in on_terminal(rig, "list", NO_COLOR="1") + on_terminal(rig, "list", TERM="dumb")
    narrow = on_terminal(rig, "list", columns=40, NO_COLOR="1")
    assert max(map(len, narrow.splitlines())) <= 40 and uids[ended] in narrow and "train" in narrow
    wide = on_terminal(rig, "list", columns=200, NO_COLOR="1")
    assert wide.splitlines()[0].split()[6:] == ["category", "priority", "submitted", "ended", "job"]
    piped = rig.run("jobjar", "list").stdout
    assert "\x1b" not in piped and "long " * 40 in piped.replace("\n", " ")

    # For programs.
    described = json.loads(rig.run("jobjar", "list", "--format", "json").stdout)
    assert described["source"] == "ledger"
    by_name = {job["name"]: job for job in described["jobs"]}
    assert len(by_name) == 5
    job = by_name[ended]
    moments = [datetime.datetime.fromisoformat(job[f"{name}_at"]) for name in ("submitted", "started", "ended")]
    assert moments == sorted(moments) and all(moment.tzinfo == datetime.UTC for moment in moments)
    assert abs(moments[0].timestamp() - rig.show(ended)["submitted_at"]) < 0.002
    shown = rig.show(ended)
    assert {key: job[key] for key in shown.keys() & job.keys() if not key.endswith("_at") and key != "worker"} == {
        key: shown[key] for key in shown.keys() & job.keys() if not key.endswith("_at") and key != "worker"
    }
    assert (job["identifier"], job["exit_status"], by_name[held]["state"]) == ("train", 3, "limbo")
    rows = list(
        csv.reader(io.StringIO(rig.run("jobjar", "list", "--format", "csv", "--columns", "id,exit,ran,command").stdout))
    )
    assert rows[0] == ["id", "exit", "ran", "command"] and rows[2] == [uids[waiting], "", "", "wc -l data/f1.dat"]
    assert rows[4][1] == "KILL" and float(rows[4][2]) >= 0

    # Words, filters, sorting, and the library, in the same language.
    def ids(*words: str) -> list[str]:
        return rig.run("jobjar", "list", *words, "--columns", "id", "--format", "plain").stdout.split()[1:]

    assert ids("train", "@1") == [uids[ended], uids[held]]
    assert ids("--outcome", "failed", "--exit-status", "3", "--since", "-2h") == [uids[ended]]
    assert ids("--state", "ended", "--sort", "submitted") == [uids[ended], uids[killed]]
    assert ids("--state", "ended", "--sort", "submitted", "--reverse") == [uids[killed], uids[ended]]
    assert ids("--sort", "exit", "--limit", "1") == [uids[ended]]
    listed = jobjar.list_jobs(state="ended", sort="submitted")
    assert [(found.id, found.exit_status, found.worker) for found in listed] == [
        (uids[ended], 3, job["worker"]),
        (uids[killed], None, job["worker"]),
    ]
    assert listed[0].started_at == jobjar.job(ended).started_at and jobjar.job(ended).worker == job["worker"]
    assert jobjar.list_jobs(exit_status=7) == [] and jobjar.list_jobs("train", limit=1) == listed[:1]


@pytest.mark.usefixtures("own_library")
def test_a_long_list_is_paged_on_a_terminal_alone_and_says_what_it_leaves_out(rig: Rig, tmp_path: Path) -> None:
    jobjar.submit_jobs([{"command": "true", "id": f"number-{number:03}"} for number in range(130)])
    seen = tmp_path / "seen"
    pager = f"cat > {seen}; exit 3"
    shown = on_terminal(rig, "list", PAGER=pager)
    assert shown == "jobjar list: 30 more; --limit 0 lists all, --state and other filters fewer\n"
    page = seen.read_text().splitlines()
    assert len(page) == 102 and page[2].endswith("number-000") and "waiting" in page[2]
    seen.unlink()
    assert "number-004" in on_terminal(rig, "list", "--limit", "5", PAGER=pager) and not seen.exists()
    assert len(on_terminal(rig, "list", "--limit", "0", PAGER=f"{tmp_path}/no-such-program").splitlines()) > 132
    result = rig.run("jobjar", "list", "--limit", "0", "--name", "number-*", PAGER=pager)
    assert len(result.stdout.splitlines()) == 132 and result.stderr == "" and not seen.exists()
    result = rig.run("jobjar", "list", "--name", "*-0??")
    assert result.stderr == "" and len(result.stdout.splitlines()) == 102
    result = rig.run("jobjar", "list", "--name", "number-*")
    assert "there are more; --limit 0" in result.stderr
    assert len(json.loads(rig.run("jobjar", "list", "--format", "json").stdout)["jobs"]) == 130


def test_bad_input_is_refused_with_what_may_have_been_meant(rig: Rig) -> None:
    rig.submit("--id", "train", "-c", "LINUX", "true")
    for words, status, said in (
        (["--state", "runing"], 2, "there is no state 'runing', did you mean running?"),
        (["--outcome", ""], 2, "there is no outcome ''"),
        (["--exit-status", "x"], 2, "'x' is not a number of 0 to 255"),
        (["--since", "soon"], 2, "--since: 'soon' is neither so long ago"),
        (["--until", "9999999999d"], 2, "--until: "),
        (["--limit", "-1"], 2, "-1 is no number of jobs"),
        (["--limit", "few"], 2, "invalid int value"),
        (["--columns", "id,stat"], 2, "there is no column 'stat'; did you mean state or started?"),
        (["--columns", "id", "--format", "json"], 2, "--columns is for tables and csv"),
        (["--sort", "size"], 2, "there is no column 'size'"),
        (["--format", "xml"], 2, "there is no format 'xml'"),
        (["--all", "train"], 2, "--all means all jobs"),
        (["trian"], 1, "did you mean train ("),
        (["@2"], 1, "has not submitted so many jobs here"),
        (["--batch", "wc"], 1, "there is no batch wc"),
        (["--category", "LINUY"], 1, "did you mean LINUX?"),
        (["--state", "ended"], 1, "no job fits --state ended"),
        (["train", "--state", "ended"], 1, "no job fits --state ended among train"),
        (["\x1b[31m\n"], 1, r"\x1b[31m"),
    ):
        result = rig.run("jobjar", "list", *words, check=False)
        assert (result.returncode, result.stdout) == (status, ""), words
        assert said in result.stderr and "\x1b" not in result.stderr, (words, result.stderr)
    result = rig.run("jobjar", "list", "--state", "ended", "--format", "json", check=False)
    assert result.returncode == 1 and json.loads(result.stdout)["jobs"] == []


def test_a_cell_is_cut_by_what_a_terminal_shows() -> None:
    assert cut("abcdef", 6) == "abcdef" and cut("abcdefg", 6) == "abcde…"
    assert cut("日本語日本語", 6) == "日本…" and shown_width("e\u0301") == 1


def test_each_verb_about_a_job_knows_the_last_one_that_its_user_submitted(rig: Rig) -> None:
    names = [rig.submit("echo first"), rig.submit("echo second; exit 3")]
    result = rig.run("jobjar", "kill", "@1", "@9", check=False)
    assert result.returncode == 1 and names[1] in result.stderr and "@9: no job" in result.stderr
    rig.run_until_idle()
    assert rig.show("@2")["name"] == names[0]
    assert rig.run("jobjar", "output", "@1").stdout == "second\n"
    assert rig.run("jobjar", "wait", "@2").returncode == 0
    assert rig.run("jobjar", "wait", "@1", check=False).returncode == 1
    assert rig.run("jobjar", "wait", "@3", check=False).returncode == 1
