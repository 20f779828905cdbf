"""Other nodes are told which journals on a network disk have grown, and open no others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from jobjar.journal.growth import MarkedJournal, marked_sizes
from jobjar.ledger.fold import fold_journals
from jobjar.nightly.rotation import compress_journals
from tests.rig import Rig

# Appends as a worker does that goes on: it syncs now and then, and ends, or is killed.
WRITER = """
import os, signal, sys
from jobjar.journal.growth import MarkedJournal
path, told, count, is_killed = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:] == ["killed"]
journal = MarkedJournal(path, lambda: path, lambda unfit: path, told)
for number in range(count):
    journal.append([{"entry": "nothing", "by": os.getpid(), "number": number}])
    journal.sync()
if is_killed:
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Home:
    """The journal of a home of another node."""

    def __init__(self, rig: Rig, node: str) -> None:
        self.directory = rig.home / "ledger/journals"
        self.path = self.directory / f"{node}.aaaaaaaa.jsonl"
        self.newest_mark_file = rig.home.parent / f"newest_mark-{node}"

    def start(self, count: int, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WRITER, str(self.path), str(self.newest_mark_file), str(count), *words]
        return subprocess.Popen(command)

    def open(self) -> MarkedJournal:
        path = str(self.path)
        return MarkedJournal(path, lambda: path, lambda unfit: path, str(self.newest_mark_file))

    def told(self) -> int | None:
        return marked_sizes(os.listdir(self.directory)).get(self.path.name)

    def marks(self) -> list[str]:
        return [name for name in os.listdir(self.directory) if name.startswith(f".{self.path.name}.")]


def test_what_all_processes_of_a_home_appended_is_told_when_the_last_has_ended(rig: Rig) -> None:
    home = Home(rig, "rain")
    writers = [home.start(40) for _ in range(4)]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    lines = [json.loads(line) for line in home.path.read_text().splitlines() if line]
    assert len(lines) == 160
    # The last to end may have met another that was just telling: the next one tells it all.
    assert home.start(1).wait(timeout=60) == 0
    assert home.told() == home.path.stat().st_size
    assert len(home.marks()) == 1, home.marks()


def test_only_what_is_told_to_have_grown_is_opened_and_nothing_is_missed_by_who_opens_all(rig: Rig) -> None:
    rain, snow = Home(rig, "rain"), Home(rig, "snow")
    for home in (rain, snow):
        assert home.start(2).wait(timeout=60) == 0
    jar = rig.open()
    with jar.ledger.writing() as connection:
        assert fold_journals(connection, jar.layout, opens_all=False) == 4
        assert fold_journals(connection, jar.layout, opens_all=False) == 0
        assert rain.start(3).wait(timeout=60) == 0
        assert fold_journals(connection, jar.layout, opens_all=False) == 3
        # Killed before it told of everything, or of anything: its home had told less than a second before.
        assert snow.start(3, "killed").wait(timeout=60) == -signal.SIGKILL
        seen = fold_journals(connection, jar.layout, opens_all=False)
        assert seen + fold_journals(connection, jar.layout) == 3
        with open(snow.path, "ab") as file:
            file.write(b'\n{"entry":"nothing"}')
        assert fold_journals(connection, jar.layout, opens_all=False) == 0
        assert fold_journals(connection, jar.layout) == 1


def test_a_journal_of_which_nobody_tells_is_opened(rig: Rig) -> None:
    old = Home(rig, "old")
    old.path.write_text('\n{"entry":"nothing"}')
    jar = rig.open()
    with jar.ledger.writing() as connection:
        assert fold_journals(connection, jar.layout, opens_all=False) == 1
        with open(old.path, "ab") as file:
            file.write(b'\n{"entry":"nothing"}')
        assert fold_journals(connection, jar.layout, opens_all=False) == 1


def test_what_cannot_be_told_keeps_nobody_from_appending(rig: Rig) -> None:
    home = Home(rig, "rain")
    home.newest_mark_file.mkdir()
    journal = home.open()
    journal.append([{"entry": "nothing"}], durable=True)
    journal.close()
    assert home.told() is None and home.path.stat().st_size > 0


def test_a_mark_goes_with_its_journal_when_that_is_compressed(rig: Rig, tmp_path: Path) -> None:
    rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "home")
    rig.submit("true")
    jar = rig.open()
    first = jar.ledger_home.journal_name()
    assert any(name.startswith(f".{first}.jsonl.") for name in os.listdir(jar.layout.journals))
    with jar.ledger_home.locked():
        jar.ledger_home.name_next_journal(jar.ledger_home.following_journal(jar.layout, first))
    old_s = 86400.0
    status = os.stat(f"{jar.layout.journals}/{first}.jsonl")
    os.utime(f"{jar.layout.journals}/{first}.jsonl", (status.st_mtime - old_s, status.st_mtime - old_s))
    assert compress_journals(jar, status.st_mtime).journals == 1
    assert [name for name in os.listdir(jar.layout.journals) if name.startswith(f".{first}.")] == []
    rig.assert_clean()
