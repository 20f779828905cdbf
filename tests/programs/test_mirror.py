"""The ledger is a mirror: who opens it by itself finds there what was moved, with nobody else at work."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.jar import open_jar
from jobjar.ledger import fold, mirror
from tests.rig import Rig, wait_until

SUBMITTER = """
import os, jobjar
for _ in range(30):
    print(jobjar.submit_job("true"), flush=True)
child = os.fork()
if child == 0:  # a pool of processes that submit, say
    print(jobjar.submit_job("true"))
else:
    os.waitpid(child, 0)
    print(jobjar.submit_job("true"))
"""
_ASK = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]))"
SOME = 'batch\nname = "some"\nseeds = "1-3"\nrun_command = "true"\n'


def ask(rig: Rig, query: str, home: Path | None = None) -> list[tuple[Any, ...]]:
    """What the ledger's own file says, as a person would ask it: nothing is folded for that."""
    connection = sqlite3.connect((home or rig.home / "ledger") / "ledger.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def states(rig: Rig, home: Path | None = None) -> dict[str, str]:
    return dict(ask(rig, "SELECT name, state FROM job", home))


def make_ledger(rig: Rig) -> None:
    rig.run("jobjar", "rebuild")
    assert states(rig) == {}


def test_submissions_are_in_the_ledger_when_the_program_or_call_is_over(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = rig.submit("true")
    assert not (rig.home / "ledger" / "ledger.db").exists(), "a submission makes no ledger"
    rig.run("jobjar", "rebuild")
    names = [first, rig.submit("-c", "LINUX", "--retries", "2", "true")]
    assert states(rig) == dict.fromkeys(names, "unclaimed")
    script = tmp_path / "script.py"
    script.write_text(SUBMITTER)
    names += rig.run("python", str(script)).stdout.split()
    assert states(rig) == dict.fromkeys(names, "unclaimed")

    monkeypatch.setenv("JJ_HOME", str(rig.home))
    names += jobjar.submit_jobs(["true"] * 450)
    assert states(rig) == dict.fromkeys(names, "unclaimed")
    submitted: list[str] = []
    threads = [threading.Thread(target=lambda: submitted.append(jobjar.submit_job("true"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names += [*submitted, *jobjar.submit_jobs(["true"])]
    assert states(rig) == dict.fromkeys(names, "unclaimed")
    assert jobjar.job(names[-1]).state == "unclaimed"  # opens the ledger otherwise
    names += jobjar.submit_jobs(["true"])
    assert states(rig) == dict.fromkeys(names, "unclaimed")
    rig.assert_clean()


def test_what_a_busy_worker_claimed_and_what_comes_meanwhile_is_in_the_ledger(rig: Rig) -> None:
    make_ledger(rig)
    rig.environment["JJ_POLL_TIME"] = "0.2"
    worker = rig.start_worker()
    running = rig.submit("sleep 600")
    wait_until(lambda: states(rig).get(running) == "claimed", "the claim in the ledger")
    wait_until(lambda: ask(rig, "SELECT pid FROM attempt WHERE pid IS NOT NULL"), "the start in the ledger")
    waiting = rig.submit("true")
    # At once, unless the worker has the lock just then: it folds that then.
    wait_until(lambda: states(rig) == {running: "claimed", waiting: "unclaimed"}, "the submission in the ledger")
    rig.run("jobjar", "kill", running)
    wait_until(lambda: states(rig) == {running: "completed", waiting: "completed"}, "both ends in the ledger")
    rig.stop_worker(worker)
    assert ask(rig, "SELECT end_reason FROM worker") == [("stopped",)]
    rig.assert_clean()


def test_what_people_steer_is_in_the_ledger_when_the_call_is_over(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    make_ledger(rig)
    monkeypatch.setenv("JJ_HOME", str(rig.home))
    name = jobjar.submit_job("true")
    uid = jobjar.job(name).id
    assert uid is not None

    def after(steered: jobjar.Steered) -> str:
        assert [job.id for job in steered.jobs] == [uid]
        # Another process asks: SQLite's locks are those of a process, and this one has the ledger open by another SQLite.
        query = "SELECT state, category, priority, count(*) FROM job JOIN move ON job_uid = uid"
        return rig.run("python", "-c", _ASK, str(rig.home / "ledger" / "ledger.db"), query).stdout.strip()

    assert after(jobjar.hold(uid)) == "('limbo', '', 0, 2)"
    assert after(jobjar.release(uid)) == "('unclaimed', '', 0, 3)"
    assert after(jobjar.set_priority(uid, 7)) == "('unclaimed', '', 7, 4)"
    assert after(jobjar.move(uid, "GPU")) == "('unclaimed', 'GPU', 7, 5)"
    assert after(jobjar.cancel(uid)) == "('completed', 'GPU', 7, 6)"
    assert after(jobjar.retry(uid)) == "('unclaimed', 'GPU', 7, 7)"
    assert after(jobjar.cancel(uid)) == "('completed', 'GPU', 7, 8)"
    assert after(jobjar.remove(uid)) == "('removed', 'GPU', 7, 9)"
    rig.assert_clean()


def test_what_batches_and_recoveries_move_is_in_the_ledger_when_they_are_over(rig: Rig, tmp_path: Path) -> None:
    make_ledger(rig)
    file = tmp_path / "some.jug"
    file.write_text(SOME)
    rig.run("submit_batch", str(file))
    assert list(states(rig).values()) == ["unclaimed"] * 3
    rig.run("batch_edit", "some", "priority=7", "seeds=1-4")
    assert sorted(ask(rig, "SELECT priority, state FROM job")) == [(7, "unclaimed")] * 4
    rig.run("abort_batch", "some")
    assert list(states(rig).values()) == ["completed"] * 4
    assert ask(rig, "SELECT is_aborted FROM batch") == [(1,)]

    worker = rig.start_worker()
    job = rig.submit("sleep 600")
    wait_until(lambda: rig.names("claimed") == [job] and rig.show(job)["attempts"], "a claimed job")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    rig.run("recover_jobs")
    assert states(rig)[job] == "unclaimed"
    assert ("recovered",) in ask(rig, "SELECT reason FROM move")
    rig.assert_clean()


def test_nobody_waits_for_a_ledger_that_is_not_to_be_had(rig: Rig) -> None:
    make_ledger(rig)
    ledger, names = rig.home / "ledger", []

    def submit() -> None:
        result = rig.run("submit_job", "true")
        assert result.stderr == ""
        names.append(result.stdout.strip())

    with open(ledger / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        submit()
        assert states(rig) == {}
        fcntl.flock(lock, fcntl.LOCK_UN)
    writer = sqlite3.connect(ledger / "ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")  # somebody's who looked, and forgot a window
    submit()
    writer.execute("ROLLBACK")
    writer.execute("INSERT INTO migration VALUES ('9999_of_tomorrow', '', 0)")
    submit()
    assert states(rig) == {}
    writer.execute("DELETE FROM migration WHERE name = '9999_of_tomorrow'")
    submit()
    assert states(rig) == dict.fromkeys(names, "unclaimed"), "what others could not fold this one does"
    writer.close()
    before = (ledger / "ledger.db").read_bytes()
    for damaged in (b"no database", b""):
        (ledger / "ledger.db").write_bytes(damaged)
        submit()
        assert (ledger / "ledger.db").read_bytes() == damaged
    (ledger / "ledger.db").unlink()
    (ledger / "ledger.db").mkdir()
    submit()
    (ledger / "ledger.db").rmdir()
    for beside in ("ledger.db-wal", "ledger.db-shm"):
        (ledger / beside).unlink(missing_ok=True)
    (ledger / "ledger.db").write_bytes(before)
    submit()
    assert rig.status()["jobs"]["unclaimed"] == len(names)
    rig.assert_clean()


def test_who_went_without_the_lock_is_seen_by_who_had_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    make_ledger(rig)
    jar = open_jar(environment=rig.environment)
    names: list[str] = []
    fold_piece = fold.fold_piece

    def submit_meanwhile(connection: Any, path: str) -> int:
        end = fold_piece(connection, path)
        if len(names) < 2:
            names.append(rig.submit("true"))  # the lock is held here
        return end

    monkeypatch.setattr(mirror, "fold_piece", submit_meanwhile)
    jar.journal.append([])
    names.append(rig.submit("true"))
    monkeypatch.setattr(mirror, "fold_piece", submit_meanwhile)
    jar.mirror()
    jar.close()
    assert len(names) == 2
    assert states(rig) == dict.fromkeys(names, "unclaimed")


def test_each_node_has_its_own_moves_in_its_own_home(rig: Rig, tmp_path: Path) -> None:
    homes = [tmp_path / "rain", tmp_path / "snow"]
    for home in homes:
        rig.run("jobjar", "rebuild", JJ_LEDGER_HOME=str(home))
    here = rig.submit("true", JJ_LEDGER_HOME=str(homes[0]))
    assert [states(rig, home) for home in homes] == [{here: "unclaimed"}, {}]
    # A busy worker's home has what the other's did, too.
    worker = rig.start_worker(JJ_LEDGER_HOME=str(homes[1]), JJ_POLL_TIME="0.2")
    running = rig.submit("sleep 600", JJ_LEDGER_HOME=str(homes[1]))
    wait_until(lambda: states(rig, homes[1]).get(running) == "claimed", "the claim in its worker's home")
    there = rig.submit("true", JJ_LEDGER_HOME=str(homes[0]))
    wait_until(lambda: states(rig, homes[1]).get(there) == "unclaimed", "another home's submission")
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert states(rig, homes[1])[running] == "unclaimed"
