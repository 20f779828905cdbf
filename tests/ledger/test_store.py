from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobjar.errors import LedgerBusy, LedgerCorrupt, LedgerUnavailable, NewerLedger
from jobjar.journal.entries import moved_entry
from jobjar.ledger import store
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.home import LedgerHome
from jobjar.ledger.migrate import migrate
from jobjar.ledger.rebuild import dump_ledger, fill_ledger, rebuild_ledger
from jobjar.ledger.store import Ledger, check_database, driver
from tests.rig import Rig


def count_jobs(ledger: Ledger) -> int:
    return int(ledger.connection.execute("SELECT count(*) FROM job").fetchone()[0])


@pytest.fixture
def ledger(rig: Rig) -> Ledger:
    """A ledger that knows of one job."""
    rig.submit("true")
    ledger = rig.open().ledger
    with ledger.writing() as connection:
        fold_journals(connection, ledger.layout)
    return ledger


def test_a_ledger_is_in_wal_mode_and_has_a_current_schema(ledger: Ledger) -> None:
    assert ledger.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    check_database(ledger.path)
    assert count_jobs(ledger) == 1


def test_a_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    class Stop(Exception):
        pass

    with contextlib.suppress(Stop), ledger.writing() as connection:
        connection.execute("DELETE FROM job")
        raise Stop
    assert count_jobs(ledger) == 1


def test_a_transaction_inside_another_is_part_of_it(ledger: Ledger) -> None:
    class Stop(Exception):
        pass

    with contextlib.suppress(Stop), ledger.writing() as outer:
        with ledger.writing() as inner:
            assert inner is outer
            inner.execute("DELETE FROM job")
        raise Stop
    assert count_jobs(ledger) == 1


@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_a_file_that_was_taken_away_under_an_open_connection_is_noticed_before_the_next_write(
    ledger: Ledger, what: str
) -> None:
    if what == "replaced":
        rebuild_ledger(ledger.layout, LedgerHome(ledger.home.path, ledger.home.has_other_homes))
    else:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ledger.path + suffix)
    with ledger.writing() as connection:
        fold_journals(connection, ledger.layout)
        connection.execute("UPDATE job SET held_reason = 'written later'")
    other = Ledger(ledger.layout, LedgerHome(ledger.home.path, ledger.home.has_other_homes))
    other.open()
    rows = other.connection.execute("SELECT held_reason FROM job").fetchall()
    other.close()
    assert rows == [("written later",)]


def test_a_database_removed_without_its_wal_does_not_poison_the_new_one(ledger: Ledger) -> None:
    with ledger.writing() as connection:
        connection.execute("UPDATE job SET held_reason = 'in the log alone'")
    assert os.path.getsize(f"{ledger.path}-wal") > 0
    os.unlink(ledger.path)
    with ledger.writing() as connection:
        fold_journals(connection, ledger.layout)
    assert count_jobs(ledger) == 1
    check_database(ledger.path)


def test_a_rebuilt_ledger_says_what_the_old_one_said(rig: Rig) -> None:
    rig.submit("-c", "LINUX", "true")
    name = rig.submit("false")
    worker = rig.start_worker()
    rig.run("jobjar", "wait", name, "--timeout", "60s", check=False)
    rig.stop_worker(worker)
    ledger = rig.open().ledger
    fill_ledger(ledger)
    before = dump_ledger(ledger.connection)
    inode = os.stat(ledger.path).st_ino
    rebuild_ledger(ledger.layout, ledger.home)
    assert os.stat(ledger.path).st_ino != inode
    with ledger.writing() as connection:
        assert dump_ledger(connection) == before
    assert len(before["attempt"]) == 1
    assert sorted(os.listdir(ledger.home.path)) == sorted(
        name for name in os.listdir(ledger.home.path) if ".new" not in name
    )


def test_a_ledger_that_another_program_took_out_of_wal_mode_is_refused(ledger: Ledger) -> None:
    path = ledger.path
    ledger.close()
    connection = driver.connect(path, isolation_level=None)
    assert connection.execute("PRAGMA journal_mode = delete").fetchone() == ("delete",)
    connection.close()
    with pytest.raises(LedgerUnavailable, match="journal mode is delete"):
        ledger.open()


def test_an_empty_file_is_made_into_a_ledger(ledger: Ledger) -> None:
    ledger.close()
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(ledger.path + suffix)
    Path(ledger.path).write_bytes(b"")
    ledger.open()
    fill_ledger(ledger)
    assert count_jobs(ledger) == 1


def damage(path: str, how: str) -> None:
    if how == "header":
        with open(path, "r+b") as file:
            file.write(b"this is not a database" * 10)
    elif how == "pages":
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
    elif how == "cut":
        os.truncate(path, os.path.getsize(path) // 2)


@pytest.mark.parametrize("how", ["header", "pages", "cut"])
def test_a_damaged_file_is_named_as_such_and_rebuilt(ledger: Ledger, how: str) -> None:
    ledger.close()
    damage(ledger.path, how)
    with pytest.raises(LedgerCorrupt, match="jobjar rebuild"):
        check_database(ledger.path)

    def ask() -> int:
        ledger.ensure_open()
        with ledger.writing() as connection:
            return len(connection.execute("SELECT * FROM job ORDER BY name").fetchall())

    said: list[str] = []
    assert ledger.repaired(ask, fill_ledger, said.append) == 1
    assert len(said) == 1
    assert "corrupt-" in said[0]
    check_database(ledger.path)
    aside = [name for name in os.listdir(ledger.home.path) if ".corrupt-" in name and not name.endswith(("wal", "shm"))]
    assert len(aside) == 1


def test_only_the_newest_damaged_files_are_kept(ledger: Ledger) -> None:
    for year in (2020, 2021, 2022, 2023):
        for suffix in ("", "-wal"):
            Path(f"{ledger.path}.corrupt-{year}0101T000000Z{suffix}").write_text("damaged")
    now = Path(ledger.set_aside()).name
    kept = sorted(name for name in os.listdir(ledger.home.path) if ".corrupt-" in name and name.endswith("Z"))
    assert kept == ["ledger.db.corrupt-20220101T000000Z", "ledger.db.corrupt-20230101T000000Z", now]
    assert not Path(f"{ledger.path}.corrupt-20210101T000000Z-wal").exists()


def test_tables_that_somebody_dropped_count_as_damage(ledger: Ledger) -> None:
    ledger.connection.execute("DROP TABLE attempt")
    with pytest.raises(LedgerCorrupt, match="no such table"), ledger.writing() as connection:
        connection.execute("SELECT * FROM attempt")


def test_a_newer_ledger_is_refused_and_left_alone(ledger: Ledger) -> None:
    ledger.connection.execute("INSERT INTO migration VALUES ('0099_future', 'x', 0)")
    ledger.close()
    with pytest.raises(NewerLedger, match="0099_future"):
        ledger.open()
    assert not [name for name in os.listdir(ledger.home.path) if "corrupt" in name]


def test_a_ledger_in_memory_knows_what_the_journals_say_and_touches_no_file(ledger: Ledger) -> None:
    before = sorted(os.listdir(ledger.home.path))
    private = Ledger(ledger.layout, LedgerHome(ledger.home.path, ledger.home.has_other_homes))
    private.open_memory()
    fill_ledger(private)
    assert count_jobs(private) == 1
    assert private.is_private
    private.close()
    assert sorted(os.listdir(ledger.home.path)) == before


HOLDER = """
import sys
from jobjar.ledger.home import LedgerHome
with LedgerHome(sys.argv[1], False).locked():
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def stopped_holder(ledger: Ledger) -> Iterator[subprocess.Popen[str]]:
    """A real process that has the lock and was stopped, as a debugger or a full terminal would do."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, ledger.home.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    yield process
    process.kill()
    process.communicate()


def test_a_lock_that_is_held_too_long_is_an_error_within_patience(
    ledger: Ledger, stopped_holder: subprocess.Popen[str]
) -> None:
    before, (left_s, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    assert left_s > 0, "the time-out of this test (setup.cfg) is such an alarm too"
    for _ in range(3):
        with pytest.raises(LedgerBusy, match=ledger.home.path), ledger.writing(patience_s=0.05):
            raise AssertionError("two hold one lock")
    # The alarm that the program had set for itself goes on.
    assert signal.getsignal(signal.SIGALRM) == before
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= left_s - 3 * 0.05
    stopped_holder.send_signal(signal.SIGCONT)
    stopped_holder.communicate("\n", timeout=30)
    with ledger.writing():
        assert count_jobs(ledger) == 1


def test_a_lock_is_waited_for_outside_of_the_main_thread_too(
    ledger: Ledger, stopped_holder: subprocess.Popen[str]
) -> None:
    caught: list[BaseException] = []

    def wait() -> None:
        home = LedgerHome(ledger.home.path, ledger.home.has_other_homes)
        try:
            with home.locked(patience_s=0.05):
                caught.append(AssertionError("two hold one lock"))
        except LedgerBusy as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(timeout=30)
    assert [type(error) for error in caught] == [LedgerBusy]


def test_a_lock_that_comes_free_while_waiting_is_taken(ledger: Ledger, stopped_holder: subprocess.Popen[str]) -> None:
    timer = threading.Timer(0.1, stopped_holder.kill)
    timer.start()
    with ledger.writing(patience_s=30):
        assert stopped_holder.wait(timeout=30) == -signal.SIGKILL
    timer.join()


def test_a_lock_goes_with_a_process_that_is_killed(ledger: Ledger, stopped_holder: subprocess.Popen[str]) -> None:
    stopped_holder.kill()
    stopped_holder.wait()
    with ledger.writing(patience_s=5):
        assert count_jobs(ledger) == 1


def test_a_transaction_of_a_killed_process_is_taken_back(ledger: Ledger) -> None:
    program = (
        "import os\nfrom jobjar.jar import open_jar\n"
        "with open_jar().ledger.writing() as connection:\n"
        "    connection.execute('DELETE FROM job')\n    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "JJ_HOME": ledger.layout.home}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=60).returncode == -9
    with ledger.writing():
        assert count_jobs(ledger) == 1


def test_a_ledger_that_is_removed_while_it_is_opened_is_made_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = rig.open().ledger
    removals: list[str] = []

    def remove_first(connection: Any, path: str) -> None:
        if len(removals) < 2:
            removals.append(path)
            os.unlink(path)
        migrate(connection, path)

    monkeypatch.setattr(store, "migrate", remove_first)
    with ledger.writing() as connection:
        connection.execute("INSERT INTO batch (name) VALUES ('b')")
    assert len(removals) == 2
    check_database(ledger.path)


def test_what_fails_because_the_ledger_was_removed_meanwhile_is_done_again(ledger: Ledger) -> None:
    tries: list[str] = []

    def action() -> str:
        tries.append(ledger.path)
        if len(tries) == 1:
            os.unlink(ledger.path)
            raise LedgerUnavailable(path=ledger.path, reason="attempt to write a readonly database")
        return "done"

    assert ledger.repaired(action, fill_ledger, pytest.fail) == "done" and len(tries) == 2


def test_the_process_that_made_a_ledger_parses_no_statement_of_a_fold_twice(ledger: Ledger) -> None:
    """SQLite asks the authorizer about each statement that it parses."""
    parsed: list[object] = []

    def note(*said: object) -> int:
        parsed.append(said)
        return 0

    journal = ledger.home.open_journal(ledger.layout)
    connection_of_driver: Any = ledger.connection
    connection_of_driver.set_authorizer(note)
    for number in range(3):
        name = f"20260102T030405Z-zz{number:010}-rain-1-1-ann.0"
        journal.append(
            [moved_entry(f"zz{number:010}", 2, f"limbo/{name}", f"unclaimed/{name}", 1.0, "submitted", "ann")]
        )
        parsed.clear()
        with ledger.writing() as connection:
            assert fold_journals(connection, ledger.layout) == 1
    journal.close()
    assert parsed == []
