from __future__ import annotations

import json
import os
import time

import pytest
import tabulate

from jobjar.errors import UsageError
from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.ledger.rebuild import fill_ledger
from jobjar.reports.other_files import find_other_files
from jobjar.reports.status import format_status, gather_status
from jobjar.reports.tables import check_format, format_table
from tests.rig import Rig

SCRIPT = "#!/bin/sh\n"


@pytest.fixture
def jar(rig: Rig) -> Jar:
    jar = rig.open()
    fill_ledger(jar.ledger)
    return jar


def test_what_is_not_a_job_is_named_with_the_reason(rig: Rig, jar: Jar) -> None:
    unclaimed = rig.home / "unclaimed"
    rig.drop("job", SCRIPT)
    rig.drop("text", "", mode=0o644)
    rig.drop("text", "", "LINUX", mode=0o644)
    rig.drop("line\nend", SCRIPT)
    rig.drop(".nfs0001", SCRIPT)
    (unclaimed / "link").symlink_to("/bin/true")
    os.mkfifo(unclaimed / "fifo", 0o700)
    (unclaimed / "LINUX/deeper").mkdir()
    (rig.home / "limbo/half").write_text("")
    (rig.home / "claimed/note").write_text("")
    found = dict(find_other_files(jar))
    assert found.pop("unclaimed/line\nend").startswith("its name")
    assert found.pop("unclaimed/.nfs0001").startswith("its name")
    assert found == {
        "unclaimed/text": "it is not executable",
        "unclaimed/LINUX/text": "it is not executable",
        "unclaimed/link": "it is a symbolic link",
        "unclaimed/fifo": "it is not a regular file",
        "unclaimed/LINUX/deeper": "it is not a regular file",
        "limbo/half": "it is not executable",
        "claimed/note": "claimed/ holds links only",
    }


def test_a_jar_of_jobs_alone_has_no_other_files(rig: Rig, jar: Jar) -> None:
    rig.submit("-c", "LINUX", "true")
    rig.drop("x.5", SCRIPT)
    assert find_other_files(jar) == []


def test_the_status_counts_jobs_by_place_category_and_priority(rig: Rig, jar: Jar) -> None:
    for words in (("-p", "5"), ("-p", "5", "-c", "A"), ("-p", "1", "-c", "A"), ("-p", "5", "-c", "A")):
        rig.submit(*words, "true")
    rig.drop("x.5", SCRIPT, "B").rename(rig.home / "limbo/x.5")
    status = gather_status(jar)
    assert status["source"] == "ledger"
    assert {name: status["jobs"][name] for name in ("limbo", "unclaimed", "claimed", "completed")} == {
        "limbo": 1,
        "unclaimed": 4,
        "claimed": 0,
        "completed": 0,
    }
    rows = [(row["category"], row["priority"], row["waiting"]) for row in status["categories"]]
    assert rows == [("", 5, 1), ("A", 5, 2), ("A", 1, 1)]
    assert "no worker is running; `start_worker` starts one" in status["warnings"]


@pytest.mark.parametrize("how", ["missing", "locked", "not a database"])
def test_without_a_ledger_the_directories_answer_and_say_so(rig: Rig, jar: Jar, how: str) -> None:
    rig.submit("-p", "5", "-c", "A", "true")
    rig.submit("true")
    expected = gather_status(jar)
    jar.close_ledger()
    database = jar.ledger_home.database
    if how == "missing":
        os.rename(database, f"{database}.away")
        status = gather_status(jar)
    elif how == "locked":
        other = rig.open()
        with pytest.MonkeyPatch.context() as patch, other.ledger_home.locked():
            patch.setattr("jobjar.reports.status._PATIENCE_S", 0.05)
            status = gather_status(jar)
    else:
        with open(database, "r+b") as file:
            file.write(b"not a database" * 100)
        status = gather_status(jar)
    assert status["source"] == "directories"
    assert status["warnings"][0].startswith("read from the directories alone")
    assert status["jobs"]["unclaimed"] == expected["jobs"]["unclaimed"] == 2
    for mine, theirs in zip(status["categories"], expected["categories"], strict=True):
        assert {**mine, "oldest_age_s": 0} == {**theirs, "oldest_age_s": 0}
    assert status["jobs"]["oldest_waiting"]["name"] == expected["jobs"]["oldest_waiting"]["name"]
    assert format_status(jar, status, "simple").startswith(f"Jar {rig.home}")


@pytest.mark.slow
def test_a_running_worker_is_counted_and_what_it_does_not_ask_for_is_warned_of(rig: Rig, jar: Jar) -> None:
    worker = rig.start_worker("A")
    rig.drop("x", SCRIPT, "B")
    status = gather_status(jar)
    (node,) = status["workers"]["nodes"]
    assert (node["node"], node["running"], node["dead"], node["unknown"]) == (node_name(), 1, 0, 0)
    (described,) = status["workers"]["workers"]
    assert (described["state"], described["categories"]) == ("idle", ["A"])
    assert (
        "1 job of category B: no worker that asks for category B is running; `start_worker B` starts one"
        in status["warnings"]
    )
    worker.kill()
    worker.wait()
    assert gather_status(jar)["workers"]["nodes"][0]["dead"] == 1


def test_the_marks_that_stop_or_pause_everything_are_warned_of(rig: Rig, jar: Jar) -> None:
    for name in ("STOP_ALL", "PAUSE_ALL"):
        (rig.home / "workers" / name).touch()
    warnings = "\n".join(gather_status(jar)["warnings"])
    assert "STOP_ALL stops every worker" in warnings
    assert "PAUSE_ALL pauses every worker" in warnings


def test_a_status_is_plain_data(rig: Rig, jar: Jar) -> None:
    rig.submit("true")
    status = gather_status(jar)
    assert json.loads(json.dumps(status)) == status
    assert {"jobs", "categories", "workers", "outcomes", "throughput", "warnings"} <= set(status)


@pytest.mark.parametrize("name", ["json", *tabulate.tabulate_formats])
def test_every_format_of_tables_is_taken(name: str) -> None:
    assert check_format(name) == name
    if name != "json":
        assert "007" in format_table([["007", "x"]], ("job", "node"), name)


def test_an_unknown_format_is_a_usage_error_that_names_the_others() -> None:
    with pytest.raises(UsageError, match=r"no format 'xls'.*json.*github"):
        check_format("xls")


def test_the_text_has_each_part_that_there_is_something_to_say_of(rig: Rig, jar: Jar) -> None:
    empty = format_status(jar, gather_status(jar), "simple")
    assert "Waiting" not in empty
    assert "Warnings" not in empty
    rig.submit("-c", "LINUX", "-p", "-3", "true")
    text = format_status(jar, gather_status(jar), "simple")
    assert f"Jar {rig.home}, seen from {node_name()}" in text
    assert "LINUX" in text
    assert "-3" in text
    assert "Waiting longest:" in text
    assert "Warnings\n- no worker is running" in text


def test_a_name_that_looks_like_a_number_or_markup_is_shown_as_it_is() -> None:
    for name in ("1e5", "007", "<b>x</b>"):
        assert name in format_table([[name]], ("job",), "simple")
    assert "<b>" not in format_table([["<b>x</b>"]], ("job",), "html")


def test_a_tab_in_a_cell_is_shown_and_separates_nothing() -> None:
    assert format_table([["a\tb", 1]], ("job", "n"), "tsv").splitlines()[1].split("\t") == ["a\\x09b", "1"]


def test_lost_leases_crashes_and_failures_are_counted_apart(rig: Rig, jar: Jar) -> None:
    now = time.time()
    for number, (outcome, final) in enumerate(
        [("lost", False)] * 3 + [("stranded", False)] * 2 + [("failed", False), ("failed", True), ("crashed", True)]
    ):
        uid = f"abcdefghjk{number:02d}"
        about = {"job": uid, "attempt": 1, "worker": "rain.7", "worker_uid": "wkr1"}
        to = f"{'completed' if final else 'unclaimed'}/x{number}"
        move = {"entry": "moved", "job": uid, "number": 1, "from": f"workers/rain.7/jobs/x{number}", "to": to}
        jar.journal.append(
            [
                {"entry": "ended", **about, "ended_at": now, "final": final, "outcome": outcome},
                {**move, "moved_at": now, "reason": "recovered", "by": "rain.7", "category": ""},
            ]
        )
        file = rig.home / to
        file.write_text(SCRIPT)
        file.chmod(0o755)
    status = rig.status()
    assert {row["outcome"]: row["last_hour"] for row in status["undecided_attempts"]} == {
        "lost": 3,
        "stranded": 2,
        "failed": 1,
    }
    assert {row["outcome"]: row["last_hour"] for row in status["outcomes"]} == {"failed": 1, "crashed": 1}
