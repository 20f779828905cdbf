"""Bring a ledger's schema up to the newest migration.

Reads `schema/NNNN_name.sql` in order. Each is applied in one transaction, together with its record (name and sha256).
The records are read again inside BEGIN IMMEDIATE, so that two processes never apply one twice.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jobjar.errors import LedgerCorrupt, NewerLedger, OtherVersion
from jobjar.ledger.driver import Connection
from jobjar.version import VERSION

SCHEMA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "schema")
_RECORD = """CREATE TABLE IF NOT EXISTS migration (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, applied_at REAL NOT NULL)"""


class Migration(NamedTuple):
    name: str
    sql: str
    sha256: str


# What `keep_migrations` read, by directory.
_kept: dict[str, list[Migration]] = {}


def keep_migrations() -> None:
    """Keep the present migrations for the life of this process: the files may be moved away, or become those of
    another version than its code."""
    _kept[SCHEMA] = known_migrations()


def known_migrations() -> list[Migration]:
    """The migrations that this version ships, in order."""
    if SCHEMA in _kept:
        return _kept[SCHEMA]
    import hashlib

    found = []
    for name in _names():
        with open(f"{SCHEMA}/{name}.sql", encoding="utf-8") as file:
            text = file.read()
        found.append(Migration(name, text, hashlib.sha256(text.encode()).hexdigest()))
    return found


def _names() -> list[str]:
    return sorted(name[:-4] for name in os.listdir(SCHEMA) if name.endswith(".sql"))


def is_current(connection: Connection) -> bool:
    """Whether a ledger has exactly the migrations of this version, by their names; for callers that leave it alone
    otherwise. Raises the driver's errors."""
    return [name for (name,) in connection.execute("SELECT name FROM migration ORDER BY name")] == _names()


def applied_migrations(connection: Connection) -> dict[str, str]:
    """Name and sha256 of each migration that the database has."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'migration'").fetchone()[0]
    return dict(connection.execute("SELECT name, sha256 FROM migration")) if tables else {}


def check_version(connection: Connection, path: str) -> None:
    """Raise NewerLedger if the database has a migration that this version does not know, OtherVersion if one was
    changed after it was applied."""
    known = {migration.name: migration.sha256 for migration in known_migrations()}
    for name, sha256 in sorted(applied_migrations(connection).items()):
        if name not in known:
            how = f"is that of the newer one (its migration {name} is not known here)"
            raise NewerLedger(path=path, ours=VERSION, theirs=_other_version(connection), how=how)
        if known[name] != sha256:
            how = f"is that of the other one (its migration {name} differs from the one shipped here)"
            raise OtherVersion(path=path, ours=VERSION, theirs=_other_version(connection), how=how)


def _other_version(connection: Connection) -> str:
    """The version that made a ledger which this version refuses, as far as its workers' rows say."""
    try:
        versions = [
            row[0] for row in connection.execute("SELECT version FROM worker ORDER BY started_at DESC") if row[0]
        ]
    except Exception:  # whatever the driver raises: an unknown version may have any tables
        versions = []
    others = [version for version in versions if version != VERSION]
    if others:
        return f"version {others[0]}"
    return "another build of it" if versions else "another one"


def check_schema(connection: Connection, path: str) -> None:
    """Raise LedgerCorrupt if the schema lacks something that the migrations make. A damaged byte in it may give a
    column another name, or make a constraint refuse what is true. What people added is no fault.

    `user_version` holds a checksum of the schema, so that the migrations need not be run again each time.
    """
    rows = _read_schema(connection)
    if _user_version(connection) == _sum_schema(rows) or len(applied_migrations(connection)) < len(known_migrations()):
        return
    connect: Any = type(connection)  # the same driver's
    with contextlib.closing(connect(":memory:", isolation_level=None)) as fresh:
        _apply_missing(fresh, {})
        missing = set(_read_schema(fresh)) - set(rows)
    if missing:
        names = ", ".join(sorted(name for _, name, _, _ in missing))
        raise LedgerCorrupt(path=path, reason=f"its schema is not what it was made with ({names})")


def _read_schema(connection: Connection) -> list[tuple[str, str, str, str]]:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY rowid"
    rows: list[tuple[str, str, str, str]] = connection.execute(query).fetchall()
    return rows


def _sum_schema(rows: list[tuple[str, str, str, str]]) -> int:
    return zlib.crc32(repr(rows).encode()) & 0x7FFFFFFF or 1


def _user_version(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: Connection, path: str) -> None:
    """Apply the missing migrations. The caller holds the home's lock. Raises as `check_version` and `check_schema`."""
    check_version(connection, path)
    check_schema(connection, path)
    _apply_missing(connection, applied_migrations(connection))
    schema_sum = _sum_schema(_read_schema(connection))
    if _user_version(connection) != schema_sum:
        connection.execute(f"PRAGMA user_version = {schema_sum}")


def _apply_missing(connection: Connection, applied: Mapping[str, str]) -> None:
    for migration in known_migrations():
        if migration.name in applied:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_RECORD)
            if migration.name not in applied_migrations(connection):
                for statement in split_statements(migration.sql):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO migration VALUES (?, ?, ?)", (migration.name, migration.sha256, time.time())
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it: raise that error
                connection.execute("ROLLBACK")
            raise


def split_statements(sql: str) -> list[str]:
    """The statements of a script, one by one: `executescript` would commit between them."""
    import sqlite3

    statements = []
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
