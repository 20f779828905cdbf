"""Questions to a large jar: they read what is kept, and look at what is small. Sizes are made small here, nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobjar.jar import Jar
from jobjar.ledger import large_looks, looks
from jobjar.ledger.counts import count_minutes, count_new_jobs, find_wrong_counts, forget_minutes
from jobjar.ledger.reconcile_file import scan_category
from jobjar.ledger.reconcile_jar import reconcile_in_pieces
from jobjar.programs import list as list_program
from jobjar.reports.other_files import find_other_files
from jobjar.reports.refresh import refresh_ledger
from jobjar.reports.status import format_status, gather_status
from jobjar.selecting.named import find_job
from jobjar.stages.submit import describe_command, submit
from tests.rig import Rig, wait_until

SCRIPT = "#!/bin/sh\n"


@pytest.fixture
def large(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Jar:
    """A jar in which unclaimed/ and unclaimed/LINUX are too large for a look, and hold five jobs each."""
    jar = rig.open()
    for category in ("", "LINUX"):
        for priority in range(5):
            submit(jar, describe_command("true", priority, category or None))
    refresh_ledger(jar)
    for module in (large_looks, looks):
        monkeypatch.setattr(module, "SMALL", 3)
    monkeypatch.setattr(looks, "_LOOK_S", 0.0)
    return jar


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The directories that are listed."""
    paths: list[str] = []
    scandir = os.scandir

    def noting(path: Any = ".") -> Any:
        paths.append(os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noting)
    yield paths


def scan(jar: Jar, *categories: str) -> None:
    """What a worker that asks for these categories does."""
    with jar.ledger.writing() as connection:
        for category in categories:
            scan_category(connection, jar.layout, category)


def age(path: Any) -> None:
    """Have a directory seem to have been changed a while ago: what changes it next does so at another time."""
    os.utime(path, (time.time() - 60, time.time() - 60))


def test_a_status_lists_no_large_directory_and_looks_at_none_of_its_files(large: Jar, listed: list[str]) -> None:
    status = gather_status(large)
    unclaimed = large.layout.unclaimed
    assert unclaimed not in listed and f"{unclaimed}/LINUX" not in listed
    assert large.layout.limbo in listed
    assert status["jobs"]["unclaimed"] == 10
    assert [(row["category"], row["priority"], row["waiting"]) for row in status["categories"]] == [
        (category, priority, 1) for category in ("", "LINUX") for priority in range(4, -1, -1)
    ]
    assert [directory["place"] for directory in status["unseen"]] == ["unclaimed", "unclaimed/LINUX"]
    text = format_status(large, status, "simple")
    assert "unclaimed/LINUX/ (5 jobs) is too large to be looked through here; it was not yet compared" in text


def test_a_directory_that_was_compared_and_has_not_changed_since_is_not_spoken_of(rig: Rig, large: Jar) -> None:
    for path in (rig.home / "unclaimed", rig.home / "unclaimed/LINUX"):
        age(path)
    scan(large, "")
    assert [directory.place for directory in refresh_ledger(large)] == ["unclaimed/LINUX"]
    reconcile_in_pieces(large.ledger, large.layout)
    assert refresh_ledger(large) == []
    rig.submit("true")
    (directory,) = refresh_ledger(large)
    assert (directory.place, directory.jobs, directory.is_by_hand) == ("unclaimed", 6, False)
    assert directory.compared_at is not None


def test_what_a_hand_puts_into_a_large_directory_is_told_and_taken_in_by_a_worker_s_scan(rig: Rig, large: Jar) -> None:
    for path in (rig.home / "unclaimed", rig.home / "unclaimed/LINUX"):
        age(path)
    scan(large, "", "LINUX")
    rig.drop("by-hand", SCRIPT, "LINUX")
    rig.drop("text", "", "LINUX", mode=0o644)
    # As if no program had said anything for a while.
    for name in os.listdir(large.layout.journals):
        age(f"{large.layout.journals}/{name}")
    status = gather_status(large)
    assert status["jobs"]["unclaimed"] == 10
    (warning,) = [line for line in status["warnings"] if "by hand" in line]
    [counted] = [row for row in status["standing"] if row["cause"] == "unseen"]
    assert counted["jobs"] == 5 and "recover_jobs" in counted["do"]
    assert warning.startswith("unclaimed/LINUX/ (5 jobs) was changed by hand at ") and "was last compared" in warning
    age(rig.home / "unclaimed/LINUX")
    scan(large, "LINUX")
    status = gather_status(large)
    assert status["jobs"]["unclaimed"] == 11
    assert "unclaimed/LINUX/text is not a job: it is not executable; chmod +x it, if it is to run" in status["warnings"]
    assert not [line for line in status["warnings"] if "by hand" in line]
    (rig.home / "unclaimed/LINUX/text").unlink()
    scan(large, "LINUX")
    assert find_other_files(large, large=["unclaimed", "unclaimed/LINUX"]) == []


def test_a_scan_that_finds_a_job_gone_does_not_say_that_the_two_agree(rig: Rig, large: Jar) -> None:
    (rig.home / "unclaimed" / rig.names("unclaimed")[0]).unlink()
    age(rig.home / "unclaimed")
    scan(large, "")
    assert "unclaimed" in [directory.place for directory in refresh_ledger(large)]


def test_a_directory_that_a_hand_filled_is_left_out_before_all_of_it_is_read(rig: Rig, large: Jar) -> None:
    for number in range(3):
        (rig.home / f"limbo/job-{number}").write_text(SCRIPT)
        (rig.home / f"limbo/job-{number}").chmod(0o755)
    status = gather_status(large)
    assert status["jobs"]["limbo"] == 0
    assert {directory["place"]: directory["jobs"] for directory in status["unseen"]}["limbo"] == 0


def test_a_named_job_is_looked_for_in_large_directories_and_a_move_into_one_is_seen(rig: Rig, large: Jar) -> None:
    rig.drop("by-hand", SCRIPT, "LINUX")
    assert find_job(large, "by-hand").place == "unclaimed/LINUX/by-hand"
    rig.drop("another", SCRIPT, "LINUX")
    assert find_job(large, f"{rig.home}/unclaimed/LINUX/another").name == "another"
    name = rig.names("unclaimed")[0]
    path = rig.home / "unclaimed" / name
    held = path.rename(rig.home / "limbo" / name)
    refresh_ledger(large)
    assert find_job(large, name).state == "limbo"
    moved = held.rename(rig.home / "unclaimed/LINUX" / name)
    refresh_ledger(large)
    assert (find_job(large, name).place, find_job(large, name).category) == (f"unclaimed/LINUX/{name}", "LINUX")
    moved.unlink()
    refresh_ledger(large)
    assert find_job(large, name).state == "removed"
    assert find_wrong_counts(large.ledger.connection) == []


def test_questions_read_no_more_rows_of_a_hundred_times_the_jobs(
    rig: Rig, large: Jar, fill: Callable[[int, int], None]
) -> None:
    name = rig.names("unclaimed")[0]

    def count_steps() -> int:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        large.ledger.connection.set_progress_handler(count, 1)
        gather_status(large)
        find_job(large, name)
        large.ledger.connection.set_progress_handler(None, 1)
        return steps

    fill(0, 400)
    count_steps()  # the first counts what has ended
    few = count_steps()
    fill(400, 8000)
    count_steps()
    assert count_steps() < 1.5 * few


@pytest.fixture
def fill(large: Jar) -> Callable[[int, int], None]:
    """Adds jobs of which the ledger alone knows: half of them wait, half have ended."""

    def add(first: int, last: int) -> None:
        now = time.time()
        with large.ledger.writing() as connection:
            for number in range(first, last):
                uid, state = f"zz{number:010}", ("unclaimed", "completed")[number % 2]
                name = f"20260102T030405Z-{uid}-rain-1-{number}-ann.0"
                connection.execute(
                    "INSERT INTO job (uid, name, state, place, submitted_at, move_number) VALUES (?, ?, ?, ?, ?, 1)",
                    (uid, name, state, f"{state}/{name}", now),
                )
                if state == "completed":
                    connection.execute(
                        "INSERT INTO attempt (job_uid, number, worker, worker_uid, ended_at, outcome, is_final) "
                        "VALUES (?, 1, 'rain.1', 'w', ?, 'succeeded', 1)",
                        (uid, now - 600),
                    )
            forget_minutes(connection, [now - 600])
            count_new_jobs(connection)

    return add


@pytest.mark.parametrize(
    "question",
    [
        "SELECT * FROM job WHERE category = 'LINUX' AND state = 'unclaimed' ORDER BY priority DESC",
        "SELECT name FROM job WHERE state = 'unclaimed' AND category = '' ORDER BY priority DESC, submitted_at",
        "SELECT name FROM job WHERE state = 'claimed'",
    ],
)
def test_a_person_s_question_for_what_waits_uses_an_index(large: Jar, question: str) -> None:
    plan = [row[-1] for row in large.ledger.connection.execute(f"EXPLAIN QUERY PLAN {question}")]
    assert all("USING INDEX job_open" in step for step in plan), plan


def test_reports_of_what_ended_count_exactly_from_an_hour_and_a_day_ago(large: Jar) -> None:
    connection = large.ledger.connection
    (now,) = connection.execute("SELECT (julianday('now') - 2440587.5) * 86400.0").fetchone()
    ages = [10, 3500, 3590, 3700, 3710, 3700 + 60, 86300, 86390, 86500, 86700, 90000]
    with large.ledger.writing() as writing:
        forget_minutes(writing, [0.0])
        for number, age_s in enumerate(ages):
            for is_final, outcome in ((1, "succeeded"), (1, "failed"), (0, "failed")):
                writing.execute(
                    "INSERT INTO attempt (job_uid, number, worker, worker_uid, ended_at, outcome, is_final) "
                    "VALUES (?, ?, 'rain.1', ?, ?, ?, ?)",
                    (f"job{number}", 1, f"{outcome}{is_final}", now - age_s, outcome, is_final),
                )
    last_hour, last_day = (sum(age_s < window for age_s in ages) for window in (3600, 86400))
    both = [("failed", last_hour, last_day), ("succeeded", last_hour, last_day)]
    for counted in (count_minutes, lambda writing: forget_minutes(writing, [now - 3000]), count_minutes):
        assert connection.execute("SELECT * FROM outcome_report").fetchall() == both
        assert connection.execute("SELECT * FROM attempt_report").fetchall() == both[:1]
        with large.ledger.writing() as writing:
            counted(writing)
            assert find_wrong_counts(writing) == []


def test_counts_are_kept_whatever_changes_a_row_and_check_finds_one_that_is_wrong(rig: Rig, large: Jar) -> None:
    worker = rig.start_worker()
    wait_until(lambda: len(rig.names("completed")) == 5, "the end of the jobs without a category")
    rig.stop_worker(worker)
    rig.drop("x.7", SCRIPT)
    assert gather_status(large)["jobs"]["completed"] == 5  # nobody asked for LINUX
    with large.ledger.writing() as connection:
        count_new_jobs(connection, at_least=1)
        connection.execute("UPDATE job SET priority = 99, category = 'OTHER' WHERE name = 'x.7'")
        assert find_wrong_counts(connection) == []
        for _ in range(2):  # the last row's number comes again
            connection.execute("DELETE FROM job WHERE name = 'x.7'")
            connection.execute("INSERT INTO job (name, state, place) VALUES ('x.7', 'unclaimed', 'unclaimed/x.7')")
            assert find_wrong_counts(connection) == []
            states = connection.execute("SELECT * FROM state_report").fetchall()
            assert states == connection.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()
            count_new_jobs(connection, at_least=1)
        connection.execute("UPDATE job_count SET jobs = 17 WHERE state = 'completed'")
    result = rig.run("jobjar", "check", check=False)
    assert result.returncode == 1
    assert "job_count: ('completed', '', 0, '', 17) is kept, and is not what the rows come to" in result.stdout
    rig.run("jobjar", "rebuild")
    assert rig.run("jobjar", "check").stdout == ""


def test_a_list_says_which_large_directory_a_hand_has_changed(
    rig: Rig, large: Jar, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rig.environment.items():
        if name.startswith("JJ_"):
            monkeypatch.setenv(name, value)
    list_program.main(["--columns", "job"])
    assert capsys.readouterr().err == ""
    rig.drop("by-hand", SCRIPT, "LINUX")
    list_program.main(["--columns", "job"])
    printed = capsys.readouterr()
    assert "by-hand" not in printed.out and "unclaimed/LINUX/ (5 jobs) was changed by hand" in printed.err
