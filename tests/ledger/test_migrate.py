from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobjar.errors import LedgerUnavailable, NewerLedger
from jobjar.ledger import migrate as module
from jobjar.ledger.migrate import applied_migrations, check_version, known_migrations, migrate, split_statements
from jobjar.ledger.store import driver


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A schema directory of this test's own, which begins as the shipped one."""
    directory = tmp_path / "schema"
    shutil.copytree(module.SCHEMA, directory)
    monkeypatch.setattr(module, "SCHEMA", str(directory))
    return directory


def connect(path: str = ":memory:") -> Any:
    return driver.connect(path, isolation_level=None)


def tables(connection: Any) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_migrations_are_numbered_without_gaps_and_applied_in_order(schema: Path) -> None:
    names = [migration.name for migration in known_migrations()]
    numbers = [int(name[:4]) for name in names]
    assert sorted({*numbers}) == list(range(1, max(numbers) + 1))
    (schema / "0097_more.sql").write_text("CREATE TABLE more (id INTEGER);\nINSERT INTO more SELECT 7;\n")
    (schema / "0098_still_more.sql").write_text("ALTER TABLE more ADD COLUMN name TEXT;\n")
    connection = connect()
    migrate(connection, ":memory:")
    assert list(applied_migrations(connection)) == [migration.name for migration in known_migrations()]
    assert connection.execute("SELECT * FROM more").fetchall() == [(7, None)]


def test_migrating_again_changes_nothing_and_an_older_ledger_gets_what_it_lacks(schema: Path) -> None:
    connection = connect()
    migrate(connection, ":memory:")
    before = connection.execute("SELECT * FROM migration").fetchall()
    migrate(connection, ":memory:")
    assert connection.execute("SELECT * FROM migration").fetchall() == before
    (schema / "0097_more.sql").write_text("CREATE TABLE more (id INTEGER);\n")
    migrate(connection, ":memory:")
    after = connection.execute("SELECT * FROM migration").fetchall()
    assert after[: len(before)] == before
    assert after[-1][0] == "0097_more"


def test_a_newer_ledger_is_refused_by_the_name_of_its_migration(schema: Path) -> None:
    (schema / "0099_from_the_future.sql").write_text("CREATE TABLE future (id INTEGER);\n")
    connection = connect()
    migrate(connection, ":memory:")
    (schema / "0099_from_the_future.sql").unlink()
    for action in (check_version, migrate):
        with pytest.raises(NewerLedger, match="0099_from_the_future") as caught:
            action(connection, "/jar/ledger/ledger.db")
        assert "/jar/ledger/ledger.db" in str(caught.value)


def test_a_migration_that_was_changed_after_it_was_applied_is_refused_by_name(schema: Path) -> None:
    connection = connect()
    migrate(connection, ":memory:")
    file = schema / f"{known_migrations()[0].name}.sql"
    file.write_text(file.read_text() + "-- a comment\n")
    with pytest.raises(LedgerUnavailable, match=f"{file.stem} differs"):
        migrate(connection, ":memory:")


def test_a_migration_that_fails_leaves_neither_its_tables_nor_a_record(schema: Path) -> None:
    (schema / "0097_bad.sql").write_text("CREATE TABLE half (id INTEGER);\nINSERT INTO no_such_table VALUES (1);\n")
    connection = connect()
    with pytest.raises(driver.Error):
        migrate(connection, ":memory:")
    assert "half" not in tables(connection)
    assert "0097_bad" not in applied_migrations(connection)
    assert not connection.in_transaction
    (schema / "0097_bad.sql").write_text("CREATE TABLE half (id INTEGER);\n")
    migrate(connection, ":memory:")
    assert "half" in tables(connection)


KILLED = """
import os, sys
from jobjar.ledger import migrate as module
from jobjar.ledger.store import driver
class Connection(driver.Connection):
    def execute(self, sql, *values):
        if "INSERT INTO migration" in sql:
            os.kill(os.getpid(), 9)
        return super().execute(sql, *values)
connection = driver.connect(sys.argv[1], isolation_level=None, factory=Connection)
module.migrate(connection, sys.argv[1])
"""


def test_killed_between_a_migration_and_its_record_neither_is_there(tmp_path: Path) -> None:
    path = f"{tmp_path}/ledger.db"
    result = subprocess.run([sys.executable, "-c", KILLED, path], timeout=60)
    assert result.returncode == -9
    connection = connect(path)
    assert tables(connection) == set()
    migrate(connection, path)
    assert "job" in tables(connection)
    connection.close()


TOGETHER = """
import sys
from jobjar.ledger import migrate as module
from jobjar.ledger.store import driver
connection = driver.connect(sys.argv[1], isolation_level=None, timeout=30)
check = module.check_version
def check_and_wait(*words):
    check(*words)
    print("looked", flush=True)  # both have seen an empty ledger before either writes
    sys.stdin.readline()
module.check_version = check_and_wait
module.migrate(connection, sys.argv[1])
"""


def test_two_processes_that_both_saw_an_old_ledger_apply_each_migration_once(tmp_path: Path) -> None:
    path = f"{tmp_path}/ledger.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "looked\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    for process in processes:
        process.communicate()
    connection = connect(path)
    assert len(applied_migrations(connection)) == len(known_migrations())
    connection.close()


def test_a_script_is_split_where_its_statements_end_and_nowhere_else() -> None:
    sql = (
        "-- a; comment\nCREATE TABLE a (x TEXT DEFAULT ';');\n\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\n"
        "  DELETE FROM a;\n  DELETE FROM a;\nEND;\nSELECT 1;\n"
    )
    statements = split_statements(sql)
    assert [statement.strip().split()[-1] for statement in statements] == ["';');", "END;", "1;"]


def test_the_shipped_migrations_are_split_into_statements_without_a_rest() -> None:
    for migration in known_migrations():
        joined = "".join(split_statements(migration.sql))
        rest = migration.sql[len(joined) :]
        assert migration.sql.startswith(joined)
        assert all(not line.strip() or line.startswith("--") for line in rest.splitlines()), rest


def test_every_shipped_file_of_the_schema_is_a_migration() -> None:
    assert all(name.endswith(".sql") for name in os.listdir(module.SCHEMA))
