"""How long looking through a whole jar keeps others from its ledger: not at all while it reads, for a piece where it writes."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobjar.jar import Jar
from jobjar.ledger import fold, reconcile_jar
from jobjar.ledger.home import LedgerHome
from jobjar.ledger.rebuild import fill_ledger, rebuild_ledger
from jobjar.recovery.recover import recover_node
from jobjar.reports import check
from jobjar.reports.check import check_jar
from jobjar.stages.submit import describe_command, submit_all
from tests.rig import Rig, wait_until

KNOWN, NEW, BY_HAND, REMOVED = 1_200, 1_800, 200, 200

# Takes the lock again and again, as workers do; each byte in the file is a time that it had it.
_OTHER = """
import os, sys, time
from jobjar.jar import open_jar
jar = open_jar()
jar.ledger.open()
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while True:
    with jar.ledger.writing() as connection:
        connection.execute("UPDATE journal_position SET offset = offset WHERE 0")
    os.write(file, b".")
    time.sleep(0.001)
"""


def fill(rig: Rig) -> Jar:
    """A jar of which its ledger knows a part: others were submitted since, put there by hand, or removed."""
    jar = rig.open()
    commands = [describe_command("true") for _ in range(max(KNOWN, NEW))]
    names = submit_all(jar, commands[:KNOWN])
    fill_ledger(jar.ledger)
    with jar.ledger_home.locked():  # else these would be folded at once
        submit_all(jar, commands[:NEW])
    for number in range(BY_HAND):
        path = rig.home / "unclaimed" / f"byhand-{number}"
        path.write_text("#!/bin/sh\n")
        path.chmod(0o700)
    for name in names[:REMOVED]:
        (rig.home / "unclaimed" / name).unlink()
    return jar


class Holds:
    """What this process does while it holds a home's lock."""

    def __init__(self, home: LedgerHome, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_held = False
        self.rows: list[int] = []
        self.listed = 0
        self._home = home
        self._locked = LedgerHome.locked
        monkeypatch.setattr(LedgerHome, "locked", lambda home, *words, **named: self._hold(home, *words, **named))
        self._count(monkeypatch, fold, "apply_entries", lambda connection, entries: len(entries))
        self._count(monkeypatch, reconcile_jar, "compare_file", lambda *words: 1)
        self._count(monkeypatch, reconcile_jar, "compare_rows", lambda connection, layout, rows, *words: len(rows))
        for module in (reconcile_jar, check):
            self._note_listing(monkeypatch, module)

    @contextlib.contextmanager
    def _hold(self, home: LedgerHome, *words: Any, **named: Any) -> Iterator[None]:
        with self._locked(home, *words, **named):
            is_outer = home.database == self._home.database and not self.is_held
            if is_outer:
                self.is_held = True
                self.rows.append(0)
            try:
                yield
            finally:
                self.is_held = self.is_held and not is_outer

    def _count(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, size: Callable[..., int]) -> None:
        action = getattr(module, name)

        def counted(*words: Any, **named: Any) -> Any:
            if self.is_held:
                self.rows[-1] += size(*words)
            return action(*words, **named)

        monkeypatch.setattr(module, name, counted)

    def _note_listing(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        action = module.list_jars

        def noted(*words: Any, **named: Any) -> Any:
            self.listed += self.is_held
            return action(*words, **named)

        monkeypatch.setattr(module, "list_jars", noted)


@pytest.fixture
def other(rig: Rig, tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Another process that wants the lock all the time; tells how often it had it so far."""
    count = tmp_path / "had"

    def had() -> int:
        return count.stat().st_size if count.exists() else 0

    jar = fill(rig)
    jar.close_ledger()
    jar.journal.close()
    environment = {**os.environ, "JJ_HOME": str(rig.home)}
    process = subprocess.Popen([sys.executable, "-c", _OTHER, str(count)], env=environment)
    try:
        wait_until(lambda: had() > 0, "another process with the lock")
        yield had
    finally:
        process.kill()
        process.wait()


def test_others_have_the_lock_many_times_while_a_jar_is_checked_recovered_and_its_ledger_rebuilt(
    rig: Rig, other: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = rig.open()
    jar.ledger.open()
    holds = Holds(jar.ledger_home, monkeypatch)
    most = max(reconcile_jar.PIECE, fold._PIECE_BYTES // 100)

    def do(action: Callable[[], Any]) -> Any:
        before = other()
        result = action()
        assert other() - before >= 5
        assert not holds.listed and max(holds.rows) <= most
        return result

    lines = do(lambda: check_jar(jar))
    assert len(lines) == BY_HAND + REMOVED
    # What is read, is read without the lock; what is looked at or folded under it comes in many pieces.
    # What is new the submissions may have folded themselves.
    assert sum(holds.rows) >= BY_HAND + REMOVED and len(holds.rows) > sum(holds.rows) / most
    recovery = do(lambda: recover_node(jar))
    assert len(recovery.lines) == BY_HAND + REMOVED
    submit_all(jar, [describe_command("true") for _ in range(100)])
    holds.rows = [0]
    do(lambda: rebuild_ledger(jar.layout, jar.ledger_home))
    assert sum(holds.rows) == 0  # nothing came meanwhile that is not in the new one already
    assert do(lambda: check_jar(jar)) == []
    jar.close()


def test_how_far_a_check_is_is_seen_on_a_terminal_and_nowhere_else(rig: Rig) -> None:
    jar = rig.open()
    submit_all(jar, [describe_command("true") for _ in range(20)])
    fill_ledger(jar.ledger)
    jar.close()
    for program in ("jobjar check", "jobjar rebuild", "recover_jobs"):
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 100))
        command = [f"{rig.home}/bin/{program.split()[0]}", *program.split()[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
        os.close(theirs)
        shown = ""
        with contextlib.suppress(OSError):  # EIO: all is read
            while data := os.read(ours, 65536):
                shown += data.decode()
        os.close(ours)
        assert "\rfolding the journals" in shown and "\rlisting the directories" in shown, program
        # The line is gone when the answer comes, and the answer has nothing of it.
        assert "\n" not in shown and shown.endswith("\r") and not shown.split("\r")[-2].strip(), program
        assert "folding" not in done.stdout
        piped = subprocess.run(command, capture_output=True, text=True, check=True)
        assert piped.stderr == "", program
