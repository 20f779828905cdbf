"""Keep a home's ledger close to its journal: a process that moves a job folds the journal before it waits or ends.

Writes the ledger that is there. If this process has not opened it otherwise, it uses SQLite's driver alone: loading
peewee takes longer than a submission. The ledger is not made, migrated or repaired for this, and nobody waits for it. A
crash leaves the ledger as it was, some entries behind. The next fold has these.

If two processes want the lock at once, one goes without it. The other sees what that one has journaled, because it
looks at the journal once more after it has released the lock.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from _thread import allocate_lock
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jobjar.errors import JarError, LedgerBusy, LedgerUnavailable
from jobjar.journal.append import Journal
from jobjar.layout import Layout
from jobjar.ledger.driver import Connection, quick_driver, quote_path
from jobjar.ledger.due import has_due
from jobjar.ledger.fold import fold_journals, fold_piece, others_are_due
from jobjar.ledger.home import LedgerHome
from jobjar.ledger.migrate import is_current
from jobjar.shared_disk.files import free_bytes, look

if TYPE_CHECKING:
    from jobjar.ledger.store import Ledger

# For how long and how often the lock is asked for, and how long folding may take. The next fold does the rest.
_PATIENCE_S, _PAUSE_S = 0.02, 0.002
_MOST_S = 0.25
# A submission leaves its WAL to the next one, which reads all of it. The WAL may have this many bytes, and this part of
# the free space.
_LEFT_WAL_BYTES, _WAL_SHARE = 1 << 20, 16


class Mirror:
    """Keeps the ledger of a home close to its journal, in one process, for all of its threads."""

    def __init__(self, layout: Layout, home: LedgerHome) -> None:
        self._layout = layout
        self._home = home
        # The journal, and its size when it was folded.
        self._folded = ("", -1)
        self._turn = allocate_lock()
        self._pid = os.getpid()
        self._has_due = False

    def follow(self, journal: Journal, ledger: Ledger | None, others_after_s: float | None = None) -> bool:
        """Fold what is new in `journal`, if the lock can be had in a moment; with `ledger` if this process has that
        open. With `others_after_s`, fold all other journals too if this node has not done so for so long. Returns
        whether dependents are due by then, for a process that has the ledger open. Raises nothing."""
        # Not in a forked child: the lock is its parent's.
        if os.getpid() != self._pid or not self._turn.acquire(blocking=False):
            return False
        self._has_due = False
        try:
            # Errors of the ledger are for those who ask it, and repairs for those who need it.
            with contextlib.suppress(JarError, OSError, UnicodeDecodeError):
                is_due = others_after_s is not None and others_are_due(self._home.polled_file, others_after_s)
                self._follow(journal, ledger, is_due)
            return self._has_due
        finally:
            self._turn.release()

    def _follow(self, journal: Journal, ledger: Ledger | None, everything: bool) -> None:
        journal.flush()
        until, folded_to = time.monotonic() + _MOST_S, -1
        while True:
            size = os.stat(journal.path).st_size
            if not everything and (journal.path, size) == self._folded:
                return
            with self._locked(), self._writing(ledger) as connection:
                before = folded_to
                if everything or journal.changed_lately():
                    fold_journals(connection, self._layout, opens_all=not self._home.has_other_homes)
                    folded_to = before
                else:
                    folded_to = fold_piece(connection, journal.path)
                self._has_due = ledger is not None and has_due(connection)
            if folded_to in (before, size):  # all but what is torn, or not whole yet
                self._folded, everything = (journal.path, size), False
            if time.monotonic() >= until:
                return

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the home's lock, unless somebody keeps it for longer than a moment. Raises LedgerBusy,
        LedgerUnavailable."""
        if not os.path.exists(self._home.database):  # no home is made for this either
            raise LedgerUnavailable(path=self._home.database, reason="there is none")
        until = time.monotonic() + _PATIENCE_S
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(self._home.locked(patience_s=0))
                    break
                except LedgerBusy:
                    if time.monotonic() >= until:
                        raise
                    time.sleep(_PAUSE_S)
            yield

    @contextlib.contextmanager
    def _writing(self, ledger: Ledger | None) -> Iterator[Connection]:
        """One transaction. Raises LedgerUnavailable if the ledger cannot be used as it is."""
        if ledger is not None:
            with ledger.writing(patience_s=0) as connection:
                yield connection
            return
        driver, path = quick_driver(), self._home.database
        try:
            connection = _open(driver, path)
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                _close(driver, path, connection)
        except driver.Error as error:
            raise LedgerUnavailable(path=path, reason=str(error)) from error


def _open(driver: Any, path: str) -> Connection:
    """Open the ledger at `path` if it can be used as it is. Raises LedgerUnavailable, OSError, the driver's errors."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        raise LedgerUnavailable(path=path, reason="it is not made yet")
    connection: Connection = driver.connect(
        f"file:{quote_path(path)}?mode=rw", uri=True, isolation_level=None, timeout=0
    )
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal" or not is_current(connection):
        connection.close()
        raise LedgerUnavailable(path=path, reason="it is not one of this version")
    connection.execute("PRAGMA synchronous = normal")
    return connection


def _close(driver: Any, path: str, connection: Connection) -> None:
    """Close it, and leave its WAL to the next one. The last to close a ledger writes the WAL back and syncs twice
    for that, unless it may only read (sqlite.org/wal.html)."""
    wal = look(f"{path}-wal")
    if wal is None or wal.st_size > min(_LEFT_WAL_BYTES, free_bytes(os.path.dirname(path)) // _WAL_SHARE):
        connection.close()
        return
    with (
        contextlib.closing(driver.connect(f"file:{quote_path(path)}?mode=ro", uri=True)) as reader,
        contextlib.closing(connection),
    ):
        reader.execute("PRAGMA user_version").fetchone()
