"""What hands do with jobs' files is in their history: each move once, whoever saw it first, and in a rebuilt ledger too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobjar.batches.cancel import take_waiting
from jobjar.jar import Jar
from jobjar.ledger.ask_batch_jobs import waiting_jobs
from jobjar.ledger.rebuild import rebuild_ledger
from jobjar.programs.shown_job import format_description
from jobjar.recovery.recover import recover_node
from jobjar.reports.check import check_jar
from jobjar.reports.jobs import describe_job
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.named import find_job
from jobjar.stages.submit import describe_command, submit
from tests.rig import Rig, wait_until

Moves = list[tuple[str, str | None, str | None]]


def told(shown: dict[str, Any]) -> Moves:
    """Why, whence and whither a job was moved."""
    return [(move["reason"], move["from"], move["to"]) for move in shown["moves"]]


def move(rig: Rig, origin: str, destination: str) -> None:
    (rig.home / destination).parent.mkdir(exist_ok=True)
    (rig.home / origin).rename(rig.home / destination)


def moves_of(jar: Jar, name: str) -> Moves:
    """What the ledger has of a job's moves, without a look at the directories."""
    jar.ledger.ensure_open()
    return told(describe_job(jar, find_job(jar, name)))


def rebuild(jar: Jar) -> None:
    jar.close_ledger()
    rebuild_ledger(jar.layout, jar.ledger_home)


LOOKS: dict[str, Callable[[Jar], object]] = {
    "status": refresh_ledger,
    "recovery": recover_node,
    "rebuilding": rebuild,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=list(LOOKS))
def test_each_move_by_hand_is_a_row_for_whoever_sees_it_first(rig: Rig, look: Callable[[Jar], object]) -> None:
    jar = rig.open()
    submit(jar, describe_command("true", 3))
    refresh_ledger(jar)
    [name] = rig.names("unclaimed")
    raised = name.removesuffix(".3") + ".9"
    ways = [
        f"unclaimed/A/{name}",
        f"unclaimed/B/{raised}",
        f"limbo/{raised}",
        f"unclaimed/{raised}",
        f"unclaimed/{name}",
    ]
    rows: Moves = [("submitted", f"limbo/{name}", f"unclaimed/{name}")]
    for place in ways:
        move(rig, str(rows[-1][2]), place)
        look(jar)
        rows.append(("found", rows[-1][2], place))
        assert moves_of(jar, name) == rows
    (rig.home / ways[-1]).rename(rig.home / "away")
    look(jar)
    rows.append(("found", ways[-1], None))
    assert moves_of(jar, name) == rows and find_job(jar, name).state == "removed"
    (rig.home / "away").rename(rig.home / "limbo" / name)
    look(jar)
    rows.append(("found", None, f"limbo/{name}"))
    assert moves_of(jar, name) == rows
    assert check_jar(jar) == []
    described = describe_job(jar, find_job(jar, name))["moves"]
    assert [entry["number"] for entry in described] == list(range(1, len(rows) + 1))
    assert described[-1]["by"] == "hand"
    assert abs(described[-1]["moved_at"] - (rig.home / "limbo" / name).stat().st_ctime) < 1e-5
    text = format_description(describe_job(jar, find_job(jar, name)))
    assert text.count("by hand") == len(rows) - 1 and "(removed)" in text


def test_a_worker_that_sees_a_move_first_tells_of_it_and_runs_the_job(rig: Rig) -> None:
    name = rig.submit("true")
    move(rig, f"unclaimed/{name}", f"unclaimed/B/{name}")
    rig.run_until_idle("B")
    # Before anybody else looks.
    rig.run("jobjar", "rebuild")
    reasons = [(reason, place) for reason, _, place in told(rig.show(name))][:3]
    worker = next(iter(path.name for path in (rig.home / "workers").iterdir()))
    assert reasons == [
        ("submitted", f"unclaimed/{name}"),
        ("found", f"unclaimed/B/{name}"),
        ("claimed", f"workers/{worker}/jobs/B/{name}"),
    ]
    rig.assert_clean()


def test_a_job_that_a_hand_submitted_has_that_as_its_first_move(rig: Rig) -> None:
    rig.drop("x.5", "#!/bin/sh\n", "B")
    rig.drop("wrong", "#!/bin/sh\n#JJ retries = many\n")
    rig.run_until_idle("B")
    shown = rig.show("x.5")
    assert told(shown)[0] == ("found", None, "unclaimed/B/x.5")
    assert [entry["reason"] for entry in shown["moves"]] == ["found", "claimed", "completed"]
    assert [entry["number"] for entry in shown["moves"]] == [1, 2, 3]
    # Held, corrected, and put back.
    assert told(rig.show("wrong")) == [
        ("found", None, "unclaimed/wrong"),
        ("held", "unclaimed/wrong", "limbo/wrong"),
    ]
    (rig.home / "limbo/wrong").write_text("#!/bin/sh\n")
    move(rig, "limbo/wrong", "unclaimed/wrong")
    rig.run_until_idle()
    # So is one that had completed.
    move(rig, "completed/x.5", "unclaimed/x.5")
    rig.run_until_idle()
    assert [entry["reason"] for entry in rig.show("wrong")["moves"]] == [
        "found",
        "held",
        "found",
        "claimed",
        "completed",
    ]
    again = rig.show("x.5")
    assert [entry["reason"] for entry in again["moves"]] == 2 * ["found", "claimed", "completed"]
    rig.assert_clean()


def test_two_nodes_that_see_one_move_at_once_tell_of_it_once(rig: Rig, tmp_path: Path) -> None:
    names = [rig.submit("true") for _ in range(8)]
    homes = [str(tmp_path / f"home{number}") for number in range(2)]
    for home in homes:
        rig.status(JJ_LEDGER_HOME=home)
    for number, name in enumerate(names):
        if number % 4 == 3:
            (rig.home / "unclaimed" / name).unlink()
        else:
            move(rig, f"unclaimed/{name}", ("limbo/", "unclaimed/B/", "unclaimed/C/")[number % 3] + name)
    looks = [
        subprocess.Popen(
            [sys.executable, "-c", _LOOK],
            env={**rig.environment, "JJ_LEDGER_HOME": home},
            stdin=subprocess.PIPE,
            text=True,
        )
        for home in homes
    ]
    for process in looks:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in looks:
        assert process.wait(60) == 0
    for home in homes:
        rig.status(JJ_LEDGER_HOME=home)
        rig.assert_clean(JJ_LEDGER_HOME=home)
    rig.environment["JJ_LEDGER_HOME"] = homes[0]
    rig.run("jobjar", "rebuild")
    jar = rig.open()
    with jar.ledger.writing() as connection:
        rows = connection.execute(
            "SELECT job_uid, count(*) FROM move WHERE reason = 'found' GROUP BY job_uid"
        ).fetchall()
    assert [count for _, count in rows] == [1] * len(names)


# Each has its ledger open and reads no other's journal while it looks: it sees the moves before it can know who else did.
_LOOK = """
import sys
from jobjar.jar import open_jar
from jobjar.ledger import fold
from jobjar.ledger import reconcile_jar as agree
jar = open_jar()
with jar.ledger.writing() as connection:
    fold.fold_journals(connection, jar.layout)
sys.stdin.readline()
agree.fold_journals = lambda connection, layout: 0
agree.reconcile_in_pieces(jar.ledger, jar.layout, open_journal=jar.open_journal)
jar.close()
"""


def test_a_job_that_a_worker_missed_and_a_hand_removed_has_a_row_of_that(rig: Rig) -> None:
    first = rig.submit('touch "$JJ_HOME/began"; until test -e "$JJ_HOME/go"; do sleep 0.02; done')
    names = [rig.submit("-p", "-1", "true") for _ in range(3)]
    worker = rig.start_worker()
    wait_until((rig.home / "began").exists, "the first job's start")
    (rig.home / "unclaimed" / names[0]).unlink()
    move(rig, f"unclaimed/{names[1]}", f"limbo/{names[1]}")
    (rig.home / "go").touch()
    wait_until(lambda: rig.names("completed") == sorted((first, names[2])), "the others to end")
    rig.stop_worker(worker)
    assert told(rig.show(names[0]))[1:] == [("found", f"unclaimed/{names[0]}", None)]
    assert told(rig.show(names[1]))[1:] == [("found", f"unclaimed/{names[1]}", f"limbo/{names[1]}")]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert len(told(rig.show(names[0]))) == 2


def test_completed_files_that_a_person_removed_have_rows_and_those_that_were_too_old_have_none(rig: Rig) -> None:
    names = [rig.submit("true") for _ in range(2)]
    rig.run_until_idle()
    (rig.home / "completed" / names[0]).unlink()
    rig.run("recover_jobs", "--nightly", JJ_ARCHIVE_AFTER="0.0000001")
    assert told(rig.show(names[0]))[-1] == ("found", f"completed/{names[0]}", None)
    rig.run("recover_jobs", "--nightly", JJ_KEEP_COMPLETED="0.0000001")
    shown = rig.show(names[1])
    assert shown["state"] == "removed" and told(shown)[-1][0] == "archived"
    rig.run("jobjar", "rebuild")
    assert told(rig.show(names[0]))[-1][0] == "found" and told(rig.show(names[1]))[-1][0] == "archived"
    rig.assert_clean()


_TOLD_LAST = ('"reason":"completed"', '"reason":"submitted"')


def test_what_programs_move_is_told_of_by_them_alone(rig: Rig) -> None:
    """Also where they were killed before they had said so."""
    ended, waits = rig.submit("true"), rig.submit("-c", "B", "true")
    worker = rig.start_worker()
    rig.run("jobjar", "wait", ended)
    rig.stop_worker(worker)
    (journal,) = (rig.home / "ledger/journals").iterdir()
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(line for line in lines if not any(told in line for told in _TOLD_LAST)))
    jar = rig.open()
    rebuild(jar)
    assert [reason for reason, _, _ in moves_of(jar, ended)] == ["claimed"] and moves_of(jar, waits) == []
    assert [find_job(jar, name).state for name in (ended, waits)] == ["completed", "unclaimed"]
    assert check_jar(jar) == []


def test_a_job_that_is_just_being_cancelled_is_not_taken_for_one_that_a_hand_removed(rig: Rig, tmp_path: Path) -> None:
    submit_file = tmp_path / "b.jug"
    submit_file.write_text('batch {\n  name = b\n  seeds = 4-5\n  run_command = "true"\n}\n')
    rig.run("submit_batch", str(submit_file))
    names = rig.names("unclaimed")
    jar = rig.open()
    refresh_ledger(jar)
    with jar.ledger.writing() as connection:
        jobs = waiting_jobs(connection, "b", 10)
    assert take_waiting(jar, jobs, jar.layout.staged("x")) == 2
    for look in LOOKS.values():
        look(jar)
        assert [(len(moves_of(jar, name)), find_job(jar, name).state) for name in names] == [(1, "unclaimed")] * 2
