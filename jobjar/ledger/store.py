"""The open ledger: one SQLite database in WAL mode. One process of its home writes to it at a time.

Reads and writes `<home>/ledger.db`. Every write holds the home's lock and is one transaction. Killed midway, SQLite
takes the transaction back, the lock goes with the process, and the next fold starts from the recorded positions.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import peewee

from jobjar.access.refusals import explain_at
from jobjar.errors import CannotUseJar, LedgerCorrupt, LedgerDiskFull, LedgerError, LedgerUnavailable
from jobjar.layout import Layout
from jobjar.ledger.database import (
    UNREADABLE,
    check_database,
    copy_snapshot,
    driver,
    format_wal,
    is_full,
    most_is_wal,
    name_error,
    remove_database,
)
from jobjar.ledger.driver import Connection
from jobjar.ledger.home import LOCK_PATIENCE_S, LedgerHome
from jobjar.ledger.migrate import check_version, migrate
from jobjar.shared_disk.creating import temporary_path
from jobjar.shared_disk.files import free_bytes, open_common_file
from jobjar.shared_disk.regular import UnfitFile

__all__ = ["Ledger", "check_database", "driver"]

T = TypeVar("T")
# How often a ledger is opened if somebody removes it meanwhile.
_TRIES = 3
# How many damaged ledgers are kept beside the living one, for people who want to know what happened. A disk that
# damages them often must not be filled with them.
_DAMAGED_KEPT = 3

_WAL_PAGES, _KEPT_WAL_BYTES = 2000, 1 << 20
_PRAGMAS = {
    "synchronous": "normal",
    # A checkpoint at each fold of a thousand jobs would write many pages again and again.
    "wal_autocheckpoint": _WAL_PAGES,
    "journal_size_limit": _KEPT_WAL_BYTES,  # a checkpoint cuts the WAL to this; else its file keeps its size
    "busy_timeout": 5000,
    "temp_store": "memory",
    "cache_size": -16000,
    # All states come from places, by one table (apply.py). SQLite takes two fifths of a job's row to check them again.
    "ignore_check_constraints": 1,
}
# The WAL may grow to this part of the space that is free when the ledger is opened, and to at least this many pages.
_WAL_SHARE, _LEAST_WAL_PAGES, _PAGE_BYTES = 16, 32, 4096
# In KiB, for the first fold into an empty ledger. Its indexes are filled in random order; pages that do not fit are
# written again and again, which takes several times longer than the fold.
_FILLING_CACHE = -500_000
_PRIVATE_PRAGMAS = {**_PRAGMAS, "synchronous": "off", "journal_mode": "memory"}
# More statements than this version has. When pysqlite3's cache is full, each new statement takes the place of the last
# one. The migrations alone fill the usual 100, and the process that ran them would parse each statement at each fold.
_CACHED_STATEMENTS = 1000
# What a ledger was made from, besides the journals. A home's ledger is brought up to date, so it has no age.
FROM_LEDGER, FROM_SNAPSHOT, FROM_JOURNALS = "ledger", "snapshot", "journals"


class Ledger:
    """A ledger home's database, or a private one of this process. Threads must not share it.

    `log` gets what people should know about how it was made. `source` is one of the FROM_ names. `made_at` is when a
    private ledger's source was published (the disk's time); None where the source is as of now.
    """

    def __init__(self, layout: Layout, home: LedgerHome, log: Callable[[str], None] = lambda line: None) -> None:
        self.layout = layout
        self.home = home
        self.path = home.database
        self.database = peewee.SqliteDatabase(None)
        self._identity: tuple[int, int] | None = None
        self._turn_connection: Connection | None = None
        self._log = log
        self.is_private = False
        self.source = FROM_LEDGER
        self.made_at: float | None = None
        self._is_filling = False
        # How far each journal was folded when the snapshot was last seen to have all of that.
        self.published_positions: dict[str, int] = {}
        # Until then (monotonic clock) the snapshot that was seen is not too old.
        self.snapshot_due_at = 0.0

    @property
    def connection(self) -> Connection:
        """The driver's connection; peewee connects again after `close`. Raises peewee's InterfaceError before the
        first opening, which `errors_named` turns into LedgerUnavailable."""
        connect: Callable[[], Connection] = self.database.connection
        return connect()

    def open(self, patience_s: float = LOCK_PATIENCE_S) -> None:
        """Open the ledger for reading and writing. A missing one is made, from the published snapshot if there is one.

        Raises LedgerBusy, LedgerCorrupt, NewerLedger, LedgerUnavailable.
        """
        with self.home.locked(patience_s), self.errors_named():
            self._open_locked()

    @property
    def is_open(self) -> bool:
        """Whether this process has the home's ledger open."""
        return self._identity is not None

    def ensure_open(self, patience_s: float = LOCK_PATIENCE_S) -> None:
        """Open the ledger if it is not open, or if its file was replaced. Raises as `open`."""
        if not self.is_private and self._was_replaced():
            self.open(patience_s)

    def _open_locked(self, is_repair: bool = False) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                self._open_file(is_repair)
                return
            except UnfitFile as error:
                raise LedgerCorrupt(path=self.path, reason=error.strerror) from error
            except OSError as error:
                reason = explain_at(error, self.path)
                raise LedgerUnavailable(path=self.path, reason=reason, what_next="look after the disk") from error
            except (*UNREADABLE, LedgerUnavailable):
                # SQLite does not write to a file that was removed after it was opened. Another file is there now.
                if not tries_left or not self._was_replaced():
                    raise

    def _open_file(self, is_repair: bool = False) -> None:
        self.close()
        is_new = not os.path.exists(self.path) or not os.path.getsize(self.path)
        if is_new:
            # Somebody removed the database by hand and left these. Their content is not that of the new database.
            remove_database(self.path, sidecars_only=True)
            self._start_from_snapshot(thorough=is_repair)
        # Made before SQLite opens it, so that all members of a group's jar can write to it.
        descriptor = open_common_file(self.path, os.O_RDWR)
        status = os.fstat(descriptor)
        os.close(descriptor)
        self._init_database(self.path, _PRAGMAS)
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
        self._bound_wal()
        self._is_filling = is_new and not status.st_size
        if self._is_filling:
            self.connection.execute(f"PRAGMA cache_size = {_FILLING_CACHE}")
        migrate(self.connection, self.path)

    def _init_database(self, path: str, pragmas: dict[str, Any]) -> None:
        self.database.init(path, pragmas=pragmas, check_same_thread=False, cached_statements=_CACHED_STATEMENTS)

    def _bound_wal(self) -> None:
        """Make the WAL leave room on a disk that is small or nearly full, and give back the space of a large one."""
        share = free_bytes(os.path.dirname(self.path)) // _WAL_SHARE // _PAGE_BYTES
        if share < _WAL_PAGES:
            self.connection.execute(f"PRAGMA wal_autocheckpoint = {max(_LEAST_WAL_PAGES, share)}")
        with contextlib.suppress(OSError):
            if os.stat(f"{self.path}-wal").st_size > _KEPT_WAL_BYTES:
                self._empty_wal()

    def _empty_wal(self) -> None:
        """Write the WAL back and truncate it. If somebody is reading from it, that is left for the next time."""
        with contextlib.suppress(driver.Error):
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _start_from_snapshot(self, thorough: bool) -> None:
        """Put a copy of the published snapshot where the ledger is to be. Without a usable one the ledger still
        starts: the journals have everything."""
        if not self.home.has_other_homes or not os.path.exists(self.layout.snapshot):
            return
        temporary = temporary_path(self.path)
        try:
            copy_snapshot(self.layout.snapshot, temporary, thorough)
            with contextlib.closing(driver.connect(temporary)) as connection:
                connection.execute("PRAGMA synchronous = off")  # what a crash leaves of it can be made again
                connection.execute("PRAGMA journal_mode = wal")  # a living ledger is always in this mode
            os.rename(temporary, self.path)
        except (LedgerUnavailable, OSError, *UNREADABLE) as error:
            self._log(f"the snapshot is not used, which takes longer: {error}. Starting from the journals")
        finally:
            remove_database(temporary)

    def open_memory(self) -> None:
        """Open an empty private ledger in memory."""
        self._open_private(":memory:")
        self.source, self.made_at = FROM_JOURNALS, None

    def open_new(self, path: str) -> None:
        """Open an empty private ledger in the empty file at `path`, which is made if it is missing. It has no write-ahead
        log. The caller removes the file. Raises LedgerUnavailable."""
        try:
            os.close(open_common_file(path, os.O_RDWR))
        except OSError as error:
            reason = explain_at(error, path)
            raise LedgerUnavailable(path=path, reason=reason, what_next="look after the disk") from error
        self._open_private(path)
        self.source, self.made_at = FROM_JOURNALS, None

    def open_copy(self, path: str, source: str, made_at: float | None) -> None:
        """Open the copy at `path` as a private ledger, and remove its name: the copy ends with this process."""
        try:
            self._open_private(path)
        finally:
            remove_database(path)
        self.source, self.made_at = source, made_at

    def _open_private(self, path: str) -> None:
        self.close()
        self.is_private = True
        self.path = path
        with self.errors_named():
            self._init_database(path, {**_PRIVATE_PRAGMAS, "cache_size": _FILLING_CACHE})
            self.database.connect()
            migrate(self.connection, path)

    def close(self) -> None:
        """Close the ledger. The last to close it writes its WAL back. That is a write like any other, so it takes
        the lock."""
        with contextlib.ExitStack() as stack:
            if self._identity is not None:
                with contextlib.suppress(LedgerError):
                    stack.enter_context(self.home.locked())
            if not self.database.is_closed():
                self.database.close()
            self._identity = None

    @contextlib.contextmanager
    def writing(self, patience_s: float = LOCK_PATIENCE_S) -> Iterator[Connection]:
        """One transaction under the home's lock; yields the driver's connection.

        A nested call is part of the outer transaction. Raises LedgerError.
        """
        if self._turn_connection is not None:
            yield self._turn_connection
            return
        if self.is_private:
            with self.errors_named():
                self.connection.execute("BEGIN")
                with self._transaction() as connection:
                    yield connection
            return
        with self.home.locked(patience_s), self.errors_named():
            self._begin()
            with self._transaction() as connection:
                yield connection
            if self._is_filling:
                self._is_filling = False
                self.connection.execute(f"PRAGMA cache_size = {_PRAGMAS['cache_size']}")
                self._empty_wal()  # it is as large as the ledger now

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: all reads through the yielded connection of the driver see one moment. Nobody waits
        for it, but the write-ahead log grows meanwhile. The ledger has to be open. Raises LedgerCorrupt,
        LedgerUnavailable."""
        with self.errors_named():
            connection = self.connection
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def _begin(self) -> None:
        """Begin a transaction in the file that is there now."""
        for tries_left in reversed(range(_TRIES)):
            if self._was_replaced():
                self._open_locked()
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                return
            except (driver.Error, UnicodeDecodeError):
                if not tries_left or not self._was_replaced():
                    raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Run the transaction that has begun: commit it at the end, roll it back on an error."""
        connection = self.connection
        self._turn_connection = connection
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(
                driver.Error, UnicodeDecodeError
            ):  # SQLite has rolled back by itself on some errors
                connection.execute("ROLLBACK")
            if not self.is_private and isinstance(error, driver.Error) and is_full(error):
                self._empty_wal()  # the uncommitted part takes the room that the next transaction needs
            raise
        finally:
            self._turn_connection = None

    def _was_replaced(self) -> bool:
        """Whether another process deleted, moved or rebuilt the file that this process has open."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    @contextlib.contextmanager
    def errors_named(self) -> Iterator[None]:
        """Turn SQLite's errors into ours. Other errors of the body pass through."""
        try:
            yield
        except UNREADABLE as error:
            raise name_error(error, self.path) from error

    def _do_again_if_replaced(self, action: Callable[[], T]) -> T:
        """Run `action()`, and again if it failed because somebody removed or rebuilt the file meanwhile."""
        try:
            return action()
        except LedgerUnavailable:
            if self.is_private or not self._was_replaced():
                raise
        return action()

    def repaired(self, action: Callable[[], T], rebuild: Callable[[Ledger], None], log: Callable[[str], None]) -> T:
        """Run `action()`. If the ledger is damaged, move it aside, rebuild it, log that, and run `action()` again.

        If its disk is full, and its write-ahead log is larger than the ledger or the ledger is to be filled yet, remove
        both, rebuild it in that room, and run `action()` again. The journal may be what first finds the disk full.
        """
        try:
            return self._do_again_if_replaced(action)
        except (LedgerDiskFull, CannotUseJar, OSError) as error:
            if self.is_private or not _says_disk_is_full(error) or not (self._is_filling or most_is_wal(self.path)):
                raise
            is_told = isinstance(error, LedgerDiskFull) or not most_is_wal(self.path)
            why = "" if is_told else f" The disk is full, {format_wal(self.path)}."
            log(f"{error}.{why} Rebuilding the ledger from the journals and the directories, without that")
            with self.home.locked():
                self.close()
                remove_database(self.path)
            rebuild(self)
            return action()
        except LedgerCorrupt as error:
            if self.is_private:
                raise
            aside = self.set_aside()
            log(f"{error}. It was moved to {aside}; rebuilding it from the journals and the directories")
            rebuild(self)
            return action()

    def set_aside(self) -> str:
        """Move the database out of the way, under the lock, and open a new one. Returns the path of the old one."""
        with self.home.locked(), self.errors_named():
            self.close()
            aside = f"{self.path}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            # The database goes first: while others have it open, nobody may make it another WAL. Killed between, the next to open
            # a ledger removes what is left of this one.
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self.path + suffix, aside + suffix)
            for old in sorted(glob.glob(f"{glob.escape(self.path)}.corrupt-*Z"))[:-_DAMAGED_KEPT]:
                remove_database(old)
            self._open_locked(is_repair=True)
        return aside


def _says_disk_is_full(error: BaseException) -> bool:
    """Whether an error says that the disk has no room, or that the user's quota of it is used up."""
    if isinstance(error, LedgerDiskFull):
        return True
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
