"""The open ledger: one SQLite database in WAL mode, written by one process of its home at a time.

Reads and writes `<home>/ledger.db`. Every write holds the home's lock and is one transaction. Killed midway, SQLite
takes the transaction back, the lock goes with the process, and the next fold starts from the recorded positions.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import peewee

from jobjar.disk import open_common_file
from jobjar.errors import JarError, LedgerBusy, LedgerCorrupt, LedgerUnavailable
from jobjar.layout import Layout
from jobjar.ledger.home import LOCK_PATIENCE_S, LedgerHome
from jobjar.ledger.migrate import check_version, migrate

driver: Any = vars(peewee)["sqlite3"]  # the newer of pysqlite3 and Python's own
T = TypeVar("T")
# How often a ledger that somebody removes while it is opened is opened again.
_TRIES = 3

# Primary result codes of SQLite (sqlite3.h).
_CORRUPT, _NOT_A_DATABASE = 11, 26
_PRAGMAS = {
    "synchronous": "normal",
    "busy_timeout": 5000,
    "temp_store": "memory",
    "cache_size": -16000,
}


class Ledger:
    """A ledger home's database. Not for sharing between threads."""

    def __init__(self, layout: Layout, home: LedgerHome) -> None:
        self.layout = layout
        self.home = home
        self.path = home.database
        self.database = peewee.SqliteDatabase(None)
        self._identity: tuple[int, int] | None = None
        self._turn_connection: Any = None

    @property
    def connection(self) -> Any:
        """The driver's connection. Raises LedgerUnavailable where the ledger is not open."""
        connect: Any = self.database.connection
        return connect()

    def open(self, patience_s: float = LOCK_PATIENCE_S) -> None:
        """Open the ledger for reading and writing; make it, from the published snapshot if there is one, where missing.

        Raises LedgerBusy, LedgerCorrupt, NewerLedger, LedgerUnavailable.
        """
        with self.home.locked(patience_s), self.errors_named():
            self._open_locked()

    def ensure_open(self) -> None:
        """Open the ledger if it is not, or if its file was replaced. Raises as `open`."""
        if not self.in_memory and self._was_replaced():
            self.open()

    def _open_locked(self) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                self._open_file()
                return
            except OSError as error:
                raise LedgerUnavailable(path=self.path, reason=error.strerror or str(error)) from error
            except (driver.Error, peewee.PeeweeException):
                # SQLite does not write to a file that somebody removed after it was opened; there is another now.
                if not tries_left or not self._was_replaced():
                    raise

    def _open_file(self) -> None:
        self.close()
        is_new = not os.path.exists(self.path)
        if is_new:
            # Left by whoever removed the database by hand: their content is not that of the one that is made here.
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path + suffix)
            self._start_from_snapshot()
        # Made before SQLite opens it, so that the members of a group jar can all write to it.
        descriptor = open_common_file(self.path, os.O_RDWR)
        status = os.fstat(descriptor)
        os.close(descriptor)
        self.database.init(self.path, pragmas=_PRAGMAS, check_same_thread=False)
        self.database.connect()
        self._identity = (status.st_dev, status.st_ino)
        check_version(self.connection, self.path)
        mode = self.connection.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal":
            if status.st_size and not is_new:
                raise LedgerUnavailable(path=self.path, reason=f"its journal mode is {mode}, not wal")
            mode = self.connection.execute("PRAGMA journal_mode = wal").fetchone()[0]
            if mode != "wal":
                raise LedgerUnavailable(path=self.path, reason=f"SQLite cannot use WAL here (answers {mode})")
        migrate(self.connection, self.path)

    def _start_from_snapshot(self) -> None:
        if self.home.shared or not os.path.exists(self.layout.snapshot):
            return
        temporary = f"{self.path}.{os.getpid()}.new"
        try:
            with open(self.layout.snapshot, "rb") as source, open(temporary, "wb") as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
            check_database(temporary)
            os.rename(temporary, self.path)
        except LedgerUnavailable:
            pass  # A damaged or newer snapshot is no reason not to start: the journals have everything.
        finally:
            for suffix in ("", "-wal", "-shm"):  # reading a WAL database makes the last two
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary + suffix)

    def open_memory(self) -> None:
        """Open an empty private ledger in memory: what a worker folds into while its home cannot be used."""
        self.close()
        self.path = ":memory:"
        self.database.init(":memory:", pragmas=_PRAGMAS, check_same_thread=False)
        self.database.connect()
        migrate(self.connection, self.path)

    @property
    def in_memory(self) -> bool:
        return self.path == ":memory:"

    def close(self) -> None:
        """Close the ledger. Who closes it last writes its WAL back, which is a write as any other: under the lock."""
        with contextlib.ExitStack() as stack:
            if self._identity is not None:
                with contextlib.suppress(LedgerBusy, LedgerUnavailable):
                    stack.enter_context(self.home.locked())
            if not self.database.is_closed():
                self.database.close()
            self._identity = None

    @contextlib.contextmanager
    def writing(self, patience_s: float = LOCK_PATIENCE_S) -> Iterator[Any]:
        """One transaction under the home's lock; yields the driver's connection.

        A transaction inside another is part of it. Raises LedgerBusy, LedgerCorrupt, LedgerUnavailable.
        """
        if self._turn_connection is not None:
            yield self._turn_connection
            return
        if self.in_memory:
            self.connection.execute("BEGIN")
            with self._transaction() as connection:
                yield connection
            return
        with self.home.locked(patience_s), self.errors_named():
            self._begin()
            with self._transaction() as connection:
                yield connection

    def _begin(self) -> None:
        """Begin a transaction in the file that is there now."""
        for tries_left in reversed(range(_TRIES)):
            if self._was_replaced():
                self._open_locked()
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                return
            except driver.Error:
                if not tries_left or not self._was_replaced():
                    raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        """The transaction that has begun: committed at the end, rolled back on an error."""
        connection = self.connection
        self._turn_connection = connection
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(driver.Error):  # SQLite has rolled back by itself on some errors
                connection.execute("ROLLBACK")
            raise
        finally:
            self._turn_connection = None

    def _was_replaced(self) -> bool:
        """Whether another process deleted, moved aside or rebuilt the file that we have open."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    @contextlib.contextmanager
    def errors_named(self) -> Iterator[None]:
        """SQLite's errors become ours. Others, of a body that moves files, stay what they are."""
        try:
            yield
        except (driver.Error, peewee.PeeweeException) as error:
            raise name_error(error, self.path) from error

    def repaired(self, action: Callable[[], T], rebuild: Callable[[Ledger], None], say: Callable[[str], None]) -> T:
        """`action()`; where the ledger turns out to be damaged, move it aside, rebuild it, say so, and do it again."""
        try:
            return action()
        except LedgerCorrupt as error:
            if self.in_memory:
                raise
            aside = self.set_aside()
            say(f"{error}. It was moved to {aside}; rebuilding it from the journals and the directories")
            rebuild(self)
            return action()

    def set_aside(self) -> str:
        """Move the database out of the way, under the lock, and open a new one. Returns where the old one is."""
        with self.home.locked(), self.errors_named():
            self.close()
            aside = f"{self.path}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            # The WAL goes first: a database without its WAL is only older, a new database beside an old WAL is damaged.
            for suffix in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self.path + suffix, aside + suffix)
            self._open_locked()
        return aside


def check_database(path: str) -> None:
    """Run SQLite's quick_check and compare the schema's version. Raises LedgerCorrupt, NewerLedger."""
    connection = None
    try:
        connection = driver.connect(f"file:{_quote(path)}?mode=ro", uri=True)
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise LedgerCorrupt(path=path, reason=answer)
        check_version(connection, path)
    except driver.Error as error:
        raise name_error(error, path) from error
    finally:
        if connection is not None:
            connection.close()


def name_error(error: Exception, path: str) -> JarError:
    """The error of ours that says what one of SQLite's or peewee's means."""
    cause = error.__cause__ if isinstance(error, peewee.PeeweeException) and error.__cause__ else error
    code = getattr(cause, "sqlite_errorcode", None)
    reason = str(error)
    damaged = code is not None and code & 0xFF in (_CORRUPT, _NOT_A_DATABASE)
    if damaged or "malformed" in reason or "not a database" in reason or "no such table" in reason:
        return LedgerCorrupt(path=path, reason=reason)
    return LedgerUnavailable(path=path, reason=reason)


def _quote(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
