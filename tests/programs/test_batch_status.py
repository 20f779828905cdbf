"""batch_status, and what system_status and `jobjar show` say of described jobs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import tabulate

from jobjar.jar import Jar
from jobjar.ledger.rebuild import fill_ledger
from jobjar.reports.batches import format_batch, format_batches, format_work, gather_batches, gather_work
from jobjar.reports.tables import check_format
from tests.journaled_jobs import OTHER_WORKER, DescribedJob, journal_batch
from tests.rig import Rig

UNASKED = "no worker that asks for uncategorized jobs is running"


@pytest.fixture
def jar(rig: Rig) -> Jar:
    """A jar with a batch: one job succeeded at its second attempt, one failed, one runs, one waits."""
    jar = rig.open()
    journal_batch(jar, "wc", jobs=4, notes="counts words")
    begun_at = time.time() - 100
    first = DescribedJob(jar, "wc", 1, begun_at).claim().log(work_done=500).retry(message="disk full")
    first.claim(OTHER_WORKER).pass_phase("stage_in", 1.5).pass_phase("run", 2.0).log(
        work_done=40, loss="0.25", host="rain"
    )
    first.journal("warned", **first.who, warnings=["jug_monitor.vars, line 9: no ="])
    first.store(
        "a.txt", 2048, storage_md5="0f" * 16, storage_hfn="rain:/data/wc/a.txt", storage_url="file:///data/wc/a.txt"
    )
    first.store("b.txt", 7).complete()
    failed = DescribedJob(jar, "wc", 2, begun_at).claim()
    failed.pass_phase("stage_in", exit_status=1, message="no such archive: wc.tgz").complete("failed", 1)
    DescribedJob(jar, "wc", 3, begun_at).claim().begin("run").log(work_done=9)
    DescribedJob(jar, "wc", 4, begun_at)
    DescribedJob(jar, "sr", 1, begun_at)
    return jar


def ask(rig: Rig, *words: str) -> list[dict[str, Any]]:
    answer = json.loads(rig.run("batch_status", "--format", "json", *words).stdout)
    assert answer["source"] == "ledger"
    batches: list[dict[str, Any]] = answer["batches"]
    return batches


def cells(line: str) -> list[str]:
    return line.split("\t")


def test_without_a_name_each_batch_is_a_line(rig: Rig, jar: Jar) -> None:
    lines = rig.run("batch_status", "--format", "tsv").stdout.splitlines()
    head, sr, wc = ([cell.strip() for cell in cells(line)] for line in lines)
    assert head[:6] == ["batch", "done", "waiting", "run", "succeeded", "failed"]
    assert sr[:6] == ["sr", "0/1", "1", "0", "0", "0"]
    row = dict(zip(head, wc, strict=True))
    assert (row["done"], row["waiting"], row["run"], row["succeeded"], row["failed"]) == ("2/4", "1", "1", "1", "1")
    assert (row["work done"], row["stored"], row["failures"]) == ("40", "2.01 KiB", "2")
    assert row["remarks"] == f"1 job with warnings; 1 uncategorized job: {UNASKED}; counts words"


def test_a_batch_is_shown_with_its_failures_and_what_is_held(rig: Rig, jar: Jar) -> None:
    text = rig.run("batch_status", "wc").stdout
    assert "2 of 4" in text and "2 files, 2.01 KiB" in text and "counts words" in text
    failed, held, warnings = text.partition("\nFailed\n")[2].split("\n\n")
    assert "no such archive: wc.tgz" in failed
    assert held.startswith("Held by workers\n") and "rain.7" in held
    assert warnings.startswith("Warnings\n") and "1" in warnings
    assert "Failed, and tried again" not in text


def test_every_key_is_in_the_answer_for_programs(rig: Rig, jar: Jar) -> None:
    page = rig.home / "documents/man/batch_status.1"
    for batch in (*ask(rig), *ask(rig, "wc")):
        for key in batch:
            assert key in page.read_text(), key
    (wc,) = ask(rig, "wc")
    assert wc["phases"] == {"waiting": 1, "run": 1, "succeeded": 1, "failed": 1}
    assert (wc["work_done"], wc["work_done_jobs"], wc["work_under_way"]) == (40, 1, 9)
    assert (wc["stored_files"], wc["stored_bytes"], wc["failures"], wc["warned_jobs"]) == (2, 2055, 2, 1)
    assert wc["rate_per_s"] > 0 and wc["eta_s"] > 0


def test_work_done_alone_is_a_line_a_batch(rig: Rig, jar: Jar) -> None:
    lines = rig.run("batch_status", "--work_done", "--format", "tsv").stdout.splitlines()
    assert [[cell.strip() for cell in cells(line)] for line in lines] == [
        ["batch", "work done", "by jobs", "under way"],
        ["sr", "-", "0", "-"],
        ["wc", "40", "1", "9"],
    ]
    assert ask(rig, "--work_done", "wc") == [{"batch": "wc", "work_done": 40, "work_done_jobs": 1, "work_under_way": 9}]


def test_an_unknown_batch_and_an_unknown_format_are_errors(rig: Rig, jar: Jar) -> None:
    result = rig.run("batch_status", "wd", check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"no batch wd in {rig.home}" in result.stderr
    result = rig.run("batch_status", "--format", "xls", check=False)
    assert result.returncode == 2 and "no format 'xls'" in result.stderr


@pytest.mark.parametrize("table_format", ["github", "html", "plain"])
def test_tables_come_in_the_formats_of_system_status(rig: Rig, jar: Jar, table_format: str) -> None:
    assert table_format in tabulate.tabulate_formats
    for words in ((), ("wc",), ("--work_done",)):
        assert "wc" in rig.run("batch_status", "--format", table_format, *words).stdout


def test_every_format_shows_each_batch_with_what_it_did_and_what_failed(rig: Rig, jar: Jar) -> None:
    batches, (detailed,), work = gather_batches(jar, None), gather_batches(jar, "wc"), gather_work(jar, None)
    for table_format in tabulate.tabulate_formats:
        check_format(table_format)
        for text in (format_batches(batches, table_format), format_work(work, table_format)):
            assert "wc" in text and "sr" in text and "40" in text, table_format
        text = format_batch(detailed, table_format)
        assert "wc" in text and "no such archive" in text and "40" in text, table_format


def test_a_jar_without_batches_has_none(rig: Rig) -> None:
    rig.submit("true")
    assert ask(rig) == []
    told = rig.run("batch_status").stderr
    assert told == f"batch_status: no batch has been submitted to {rig.home} yet (`submit_batch` does that)\n"
    assert rig.run("batch_status", "--format", "json").stderr == ""


def test_the_status_of_the_system_counts_described_jobs_by_phase(rig: Rig, jar: Jar) -> None:
    fill_ledger(jar.ledger)
    rig.submit("true")
    assert rig.status()["phases"] == {"waiting": 2, "run": 1}
    text = rig.run("system_status").stdout
    assert "Described jobs" in text and text.partition("Described jobs")[2].split()[4:6] == ["waiting", "2"]


def test_what_an_attempt_told_is_shown_with_its_job(rig: Rig, jar: Jar) -> None:
    [name] = [name for name in rig.names("completed") if "-1-1-ann" in name]
    shown = rig.show(name)
    assert (shown["batch"], shown["seed"]) == ("wc", 1)
    first, second = shown["attempts"]
    assert first["variables"] == {"work_done": "500"} and first["phases"] == []
    assert [(phase["name"], phase["exit_status"]) for phase in second["phases"]] == [("stage_in", 0), ("run", 0)]
    assert second["variables"] == {"host": "rain", "loss": "0.25", "work_done": "40"}
    assert second["warnings"] == ["jug_monitor.vars, line 9: no ="]
    assert second["stored_files"][0] == {
        "source_name": "a.txt",
        "storage_name": None,
        "size": 2048,
        "md5": "0f" * 16,
        "hfn": "rain:/data/wc/a.txt",
        "url": "file:///data/wc/a.txt",
    }
    text = rig.run("jobjar", "show", name).stdout
    for words in (
        "Phases of attempt 2",
        "2.000 s",
        "Variables of attempt 1",
        "500",
        "line 9: no =",
        "rain:/data/wc/a.txt",
    ):
        assert words in text


def test_the_error_of_a_phase_is_shown_with_its_job(rig: Rig, jar: Jar) -> None:
    [name] = [name for name in rig.names("completed") if "-1-2-ann" in name]
    [phase] = rig.show(name)["attempts"][0]["phases"]
    assert (phase["name"], phase["exit_status"], phase["message"]) == ("stage_in", 1, "no such archive: wc.tgz")
    assert "no such archive: wc.tgz" in rig.run("jobjar", "show", name).stdout


def test_a_plain_job_is_shown_without_what_described_jobs_have(rig: Rig) -> None:
    name = rig.submit("true")
    rig.run_until_idle()
    shown = rig.show(name)
    assert (shown["batch"], shown["seed"]) == (None, None)
    assert shown["attempts"][0]["phases"] == []
    assert rig.status()["phases"] == {}
    assert "Described jobs" not in rig.run("system_status").stdout
