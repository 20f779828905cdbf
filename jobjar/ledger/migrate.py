"""Bring a ledger's schema up to the newest migration.

Reads `schema/NNNN_name.sql` in order; each is applied in one transaction together with the record of it (name and
sha256). What is applied is read again inside BEGIN IMMEDIATE, so that two processes never apply one twice.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any, NamedTuple

from jobjar.errors import NewerLedger, OtherVersion
from jobjar.version import VERSION

SCHEMA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "schema")
_RECORD = """CREATE TABLE IF NOT EXISTS migration (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, applied_at REAL NOT NULL)"""


class Migration(NamedTuple):
    name: str
    sql: str
    sha256: str


def known_migrations() -> list[Migration]:
    """The migrations that this version ships, in order."""
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
    """Raise NewerLedger where the database has a migration that this version does not know, OtherVersion where one was
    changed after it was applied."""
    known = {migration.name: migration.sha256 for migration in known_migrations()}
    for name, sha256 in sorted(applied_migrations(connection).items()):
        if name not in known:
            how = f"is that of the newer one (its migration {name} is not known here)"
            raise NewerLedger(path=path, ours=VERSION, theirs=_other_version(connection), how=how)
        if known[name] != sha256:
            how = f"is that of the other one (its migration {name} differs from the one shipped here)"
            raise OtherVersion(path=path, ours=VERSION, theirs=_other_version(connection), how=how)


def _other_version(connection: Any) -> str:
    """The version that made a ledger which this one refuses, as far as the workers in it tell."""
    try:
        versions = [
            row[0] for row in connection.execute("SELECT version FROM worker ORDER BY started_at DESC") if row[0]
        ]
    except Exception:  # whatever the driver raises: of a version's tables that is not known nothing is sure
        versions = []
    others = [version for version in versions if version != VERSION]
    if others:
        return f"version {others[0]}"
    return "another build of it" if versions else "another one"


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
            if connection.in_transaction:  # a full disk has ended it: that is the error to tell
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
