"""One damaged byte where a ledger says what its tables are: it is moved aside and rebuilt, whatever SQLite calls it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from jobjar.ledger.rebuild import fill_ledger
from tests.rig import Rig


def ledger_of(rig: Rig) -> Path:
    return rig.home / "ledger" / "ledger.db"


def damage(path: Path, before: bytes, after: bytes) -> None:
    """Change bytes of the schema, as a bad disk would: no program has the file open."""
    with opened(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    assert before in content  # in pages that are free now too
    path.write_bytes(content.replace(before, after))


def opened(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path))


DAMAGES = {
    "a name that does not decode": (b"    outcome TEXT", b"    \xffutcome TEXT"),
    "a renamed column": (b"    output_file TEXT", b"    output_filf TEXT"),
    "a renamed table": (b"CREATE TABLE attempt", b"CREATE TABLE attempu"),
    "a word that SQLite does not know": (b"CREATE TABLE attempt", b"CREATE TAB\x80E attempt"),
    "a constraint that refuses what is true": (b"'completed', 'removed'", b"'complfted', 'removed'"),
}


@pytest.mark.parametrize("where", DAMAGES)
def test_a_damaged_byte_of_the_schema_has_the_ledger_moved_aside_and_rebuilt(rig: Rig, where: str) -> None:
    name = rig.submit("exit", "3")
    rig.run_until_idle()
    damage(ledger_of(rig), *DAMAGES[where])
    other = rig.submit("true")
    said = rig.run_until_idle()
    assert "is damaged" in said and "rebuilding it" in said
    assert len([path for path in ledger_of(rig).parent.glob("ledger.db.corrupt-*") if path.name[-1] == "Z"]) == 1
    assert rig.names("completed") == sorted([name, other])
    assert [rig.show(job)["exit_status"] for job in (name, other)] == [3, 0]
    rig.assert_clean()


@pytest.mark.parametrize("program", [("system_status",), ("jobjar", "check"), ("jobjar", "show", "x")])
def test_a_program_that_looks_at_a_damaged_ledger_says_so_without_a_traceback(
    rig: Rig, program: tuple[str, ...]
) -> None:
    rig.submit("-i", "x", "exit", "3")
    rig.run_until_idle()
    damage(ledger_of(rig), *DAMAGES["a name that does not decode"])
    rig.run(*program, check=False)  # the rig looks for tracebacks
    rig.run("recover_jobs")
    rig.assert_clean()


def test_what_a_person_added_to_a_ledger_is_no_damage(rig: Rig) -> None:
    name = rig.submit("exit", "3")
    rig.run_until_idle()
    with opened(ledger_of(rig)) as connection:
        connection.execute("CREATE VIEW mine AS SELECT name FROM job")
    assert rig.run_until_idle().count("damaged") == 0
    with opened(ledger_of(rig)) as connection:
        assert connection.execute("SELECT name FROM mine").fetchall() == [(name,)]


PLACES: dict[str, Callable[[Path], None]] = {
    "a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to a file": lambda path: path.symlink_to(path.parent / "jar_id"),
    "a directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_is_no_file_where_the_ledger_belongs_is_moved_aside(rig: Rig, what: str, suffix: str) -> None:
    name = rig.submit("exit", "3")
    rig.run_until_idle()
    jar_id = (rig.home / "ledger" / "jar_id").read_bytes()
    for path in ledger_of(rig).parent.glob(f"ledger.db{suffix or '*'}"):
        path.unlink()
    PLACES[what](Path(f"{ledger_of(rig)}{suffix}"))
    jar = rig.open()
    said: list[str] = []
    jar.ledger.repaired(lambda: fill_ledger(jar.ledger), fill_ledger, said.append)
    jar.close()
    assert rig.show(name)["exit_status"] == 3
    assert (rig.home / "ledger" / "jar_id").read_bytes() == jar_id
    rig.assert_clean()
