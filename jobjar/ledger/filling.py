"""Fold all journals into an empty ledger that nobody else uses, the one of a check.

Indexes for questions are left out meanwhile, and so are the triggers that keep counts: both are made much faster once all rows
are there. Writes rows inside a transaction. A ledger that a kill leaves half filled is never used.
"""

from __future__ import annotations

import sys

from jobjar.ledger.counts import count_new_jobs
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals, unfolded_bytes
from jobjar.ledger.store import Ledger
from jobjar.meter import SILENT, Meter

# The tables that have most rows. Folding itself asks the indexes of others.
_LEFT_OUT = """
SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN ('job', 'move', 'attempt', 'stored_file')
AND (type = 'trigger' OR (type = 'index' AND sql NOT LIKE '%UNIQUE%'))"""


class Filling:
    """A new ledger that is being filled: first `fold`, then `finish`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left_out: list[str] = []

    def fold(self, meter: Meter = SILENT) -> None:
        """Fold all journals. The rows are then there for a comparison. Raises LedgerUnavailable."""
        with self._ledger.writing() as connection:
            found = connection.execute(_LEFT_OUT).fetchall()
            for kind, name, _ in found:
                connection.execute(f"DROP {kind} {name}")
            self._left_out = [statement for *_, statement in found]
            connection.execute("UPDATE counted SET job_id = ?", (sys.maxsize,))
            meter.begin("folding the journals", "bytes", unfolded_bytes(connection, self._ledger.layout))
            fold_journals(connection, self._ledger.layout, meter=meter)

    def finish(self, connection: Connection) -> None:
        """Make what was left out, and count the jobs. Runs inside the caller's transaction."""
        if self._left_out:
            connection.execute("UPDATE counted SET job_id = 0")
            count_new_jobs(connection)
            for statement in self._left_out:
                connection.execute(statement)
            self._left_out = []
