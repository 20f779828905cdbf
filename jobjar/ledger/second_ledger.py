"""A ledger beside a node's own, made anew from the journals, so that the two can be compared.

Reads the journals, and the directories if asked to. Writes a file under a temporary name, and removes it. The file is
in the ledger home; if that has no room, or this user may only read, in the directory for temporary files. Killed
midway, it leaves that one file, which `recover_jobs` removes from a home (recovery/tidy.py).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from jobjar.ledger.database import remove_database
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_in_pieces, fold_journals, unfolded_bytes
from jobjar.ledger.private import temporary_file
from jobjar.ledger.rebuild import differing_rows, differing_tables
from jobjar.ledger.reconcile_jar import reconcile
from jobjar.ledger.store import Ledger
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.creating import temporary_path
from jobjar.shared_disk.files import free_bytes

_NAME = "beside"
_SPARE_BYTES = 256 << 20
# Of the tables that have most rows. Folding itself asks the indexes of others.
_LEFT_OUT = """
SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN ('job', 'move', 'attempt', 'stored_file')
AND (type = 'trigger' OR (type = 'index' AND sql NOT LIKE '%UNIQUE%'))"""


class SecondLedger:
    """What the journals say, and the directories if that is asked for. It is beside `ledger`, which is open."""

    def __init__(self, ledger: Ledger, beside: Ledger) -> None:
        self._ledger, self._beside = ledger, beside
        self._left_out: list[str] = []

    def fold(self, meter: Meter = SILENT) -> None:
        """Fold all journals. Raises LedgerUnavailable."""
        with self._beside.writing() as connection:
            # Indexes for questions are built much faster once all rows are there. Counts are not compared.
            found = connection.execute(_LEFT_OUT).fetchall()
            for kind, name, _ in found:
                connection.execute(f"DROP {kind} {name}")
            connection.execute("UPDATE counted SET job_id = ?", (sys.maxsize,))
            self._left_out = [statement for kind, _, statement in found if kind == "index"]
            meter.begin("folding the journals", "bytes", unfolded_bytes(connection, self._beside.layout))
            fold_journals(connection, self._beside.layout, meter=meter)

    def look_at_directories(self) -> None:
        """Add what the directories show."""
        with self._beside.writing() as connection:
            for statement in self._left_out:
                connection.execute(statement)
            self._left_out = []
            reconcile(connection, self._beside.layout)

    def folded(self) -> dict[str, tuple[int, int]]:
        """How far each journal was folded, and how many torn lines were skipped, by the journals' keys."""
        query = "SELECT journal, offset, torn_lines FROM journal_position"
        return {journal: (offset, torn) for journal, offset, torn in self._beside.connection.execute(query)}

    @contextlib.contextmanager
    def compared(self) -> Iterator[Connection]:
        """A connection of the ledger to which this one is attached, both with the same of all journals; for
        `find_tables` and `find_rows`."""
        fold_in_pieces(self._ledger, self._ledger.layout)  # it then knows no less
        attached_to = self._ledger.connection
        attached_to.execute(f"ATTACH CAST(? AS TEXT) AS {_NAME}", (os.fsencode(self._beside.path),))
        try:
            with self._ledger.reading() as connection:
                positions = dict(connection.execute("SELECT journal, offset FROM journal_position"))
                with self._beside.writing() as writing:
                    fold_journals(writing, self._beside.layout, positions)
                yield connection
        finally:
            attached_to.execute(f"DETACH {_NAME}")

    @staticmethod
    def find_tables(connection: Connection, meter: Meter = SILENT) -> list[str]:
        """The tables in which the two do not keep the same rows."""
        return differing_tables(connection, _NAME, meter)

    @staticmethod
    def find_rows(connection: Connection, table: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """The rows of a table that only the ledger shows, and those that only this one shows, as in a dump."""
        return differing_rows(connection, _NAME, table)


@contextlib.contextmanager
def open_second_ledger(ledger: Ledger) -> Iterator[SecondLedger]:
    """A new ledger beside one that is open. Raises LedgerUnavailable, OSError."""
    beside = Ledger(ledger.layout, ledger.home)
    if ledger.is_private or not _has_room(ledger.path):
        path = temporary_file()
    else:
        path = temporary_path(ledger.path)
    try:
        beside.open_new(path)
        yield SecondLedger(ledger, beside)
    finally:
        beside.close()
        remove_database(path)


def _has_room(path: str) -> bool:
    """Whether a ledger's disk has room for a second one, with much to spare: a full disk must not be made fuller."""
    return free_bytes(os.path.dirname(path)) > 2 * os.stat(path).st_size + _SPARE_BYTES
