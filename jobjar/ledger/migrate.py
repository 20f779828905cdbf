"""Bring a ledger's schema up to the newest migration.

Reads `schema/NNNN_name.sql` in order; each is applied in one transaction together with the record of it (name and
sha256). What is applied is read again inside BEGIN IMMEDIATE, so that two processes never apply one twice.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any, NamedTuple

from jobjar.errors import LedgerUnavailable, NewerLedger

SCHEMA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "schema")
_RECORD = """CREATE TABLE IF NOT EXISTS migration (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, applied_at REAL NOT NULL)"""


class Migration(NamedTuple):
    name: str
    sql: str
    sha256: str


# What `keep_migrations` read, by the directory.
_kept: dict[str, list[Migration]] = {}


def keep_migrations() -> None:
    """Go on with the migrations that are there now, for the life of this process: they may be moved away, or become those of
    another version than its code."""
    _kept[SCHEMA] = known_migrations()


def known_migrations() -> list[Migration]:
    """The migrations that this version ships, in order."""
    if SCHEMA in _kept:
        return _kept[SCHEMA]
    found = []
    for name in sorted(os.listdir(SCHEMA)):
        if name.endswith(".sql"):
            with open(f"{SCHEMA}/{name}", encoding="utf-8") as file:
                text = file.read()
            found.append(Migration(name[:-4], text, hashlib.sha256(text.encode()).hexdigest()))
    return found


def applied_migrations(connection: Any) -> dict[str, str]:
    """Name and sha256 of each migration that the database has."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'migration'").fetchone()[0]
    return dict(connection.execute("SELECT name, sha256 FROM migration")) if tables else {}


def check_version(connection: Any, path: str) -> None:
    """Raise NewerLedger where the database has a migration that this version does not know, LedgerUnavailable where one
    was changed after it was applied."""
    known = {migration.name: migration.sha256 for migration in known_migrations()}
    for name, sha256 in sorted(applied_migrations(connection).items()):
        if name not in known:
            raise NewerLedger(path=path, migration=name)
        if known[name] != sha256:
            raise LedgerUnavailable(path=path, reason=f"its migration {name} differs from the one shipped here")


def migrate(connection: Any, path: str) -> None:
    """Apply what is missing. The caller holds the home's lock. Raises as `check_version`."""
    check_version(connection, path)
    applied = applied_migrations(connection)
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
            connection.execute("ROLLBACK")
            raise


def split_statements(sql: str) -> list[str]:
    """The statements of a script one by one: `executescript` would commit between them."""
    import sqlite3

    statements = []
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
