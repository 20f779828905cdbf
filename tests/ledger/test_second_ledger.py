"""A ledger compared with one beside it: what differs, and by which steps SQLite finds it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from jobjar.ledger.driver import Connection
from jobjar.ledger.rebuild import _DUMPS, _kept, differing_rows, differing_tables
from jobjar.ledger.second_ledger import open_second_ledger
from tests.rig import Rig

BESIDE = "beside"
OF_ARRAYS = ("array_life", "task", "task_attempt", "task_outcome")
TABLES = [table for table in _DUMPS if table != "removed job"]


@pytest.fixture
def both(rig: Rig) -> Iterator[Connection]:
    """A ledger with another beside it. Both have one row in each table, and a job without an id. Nothing is kept."""
    jar = rig.open()
    jar.ledger.ensure_open()
    with open_second_ledger(jar.ledger) as second:
        second.fold()
        with second.compared() as connection:
            for table in TABLES:
                add_row(connection, table)
            add_row(connection, "chunk_run")  # shown with the tasks that ended in it
            add_row(connection, "job", uid=None, name="byhand")
            yield connection


def add_row(connection: Connection, table: str, **values: object) -> None:
    """Add the same row to both."""
    types = {column: kind for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({table})")}
    row = {column: "x" if kind == "TEXT" else 1 for column, kind in types.items() if column != "id"}
    if table == "job":
        row["state"] = "unclaimed"
    row.update(values)  # type: ignore[arg-type]
    for ledger in ("main", BESIDE):
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO {ledger}.{table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


@contextlib.contextmanager
def taken_back(connection: Connection) -> Iterator[None]:
    connection.execute("SAVEPOINT trial")
    yield
    connection.execute("ROLLBACK TO trial")


def differs(connection: Connection, table: str) -> bool:
    """Whether a difference was found in a table, and in no other but those that are shown with what `array` has."""
    found = differing_tables(connection, BESIDE)
    return table in found and set(found) <= {table, *(OF_ARRAYS if table == "array" else ())}


def test_a_difference_in_any_column_is_found_and_equal_ledgers_have_none(both: Connection) -> None:
    assert differing_tables(both, BESIDE) == []
    for table in TABLES:
        own = {column for _, column, *_ in both.execute(f"PRAGMA table_info({table})")}
        compared = [column[0].removesuffix("_number") for column in both.execute(_kept(table)).description]
        assert len(own & {*compared}) >= 2
        for column in compared:
            if column not in own:
                continue  # it is of a table that is shown with this one
            other = {"state": "limbo", "place": "workers/rain.1/jobs/x"}.get(column, 7)
            with taken_back(both):
                rows = f"{compared[0]} IS NOT NULL" if compared[0] in own else "1"
                both.execute(f"UPDATE {BESIDE}.{table} SET {column} = ? WHERE {rows}", (other,))
                assert differs(both, table), (table, column)
        with taken_back(both):
            both.execute(f"DELETE FROM {BESIDE}.{table}")
            assert differs(both, table)
        with taken_back(both):
            both.execute(f"DELETE FROM main.{table}")
            assert differs(both, table)
    with taken_back(both):
        both.execute(f"UPDATE {BESIDE}.job SET category = 'GPU' WHERE uid IS NULL")
        assert differing_tables(both, BESIDE) == ["job"]
        ours, theirs = differing_rows(both, BESIDE, "job")
        assert [(row[1], row[4]) for row in (*ours, *theirs)] == [("byhand", "x"), ("byhand", "GPU")]


def test_rows_are_looked_up_by_their_keys_and_not_sorted(both: Connection) -> None:
    statements: list[str] = []
    both.execute("UPDATE main.job SET uid = 'y' WHERE uid IS NULL")
    both.execute(f"UPDATE {BESIDE}.job SET uid = 'y' WHERE uid IS NULL")
    both.set_trace_callback(statements.append)
    assert differing_tables(both, BESIDE) == []
    both.set_trace_callback(None)
    steps = [
        step[3]
        for statement in statements
        if f"{BESIDE}." in statement and statement.count("SELECT") > 2
        for step in both.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
    ]
    assert sum(step.startswith(f"SEARCH {BESIDE}.") for step in steps) >= len(_DUMPS)
    assert not [step for step in steps if "TEMP B-TREE" in step]
