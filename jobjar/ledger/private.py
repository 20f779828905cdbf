"""Private ledgers, for a process that may only read, or whose ledger home cannot be used.

Reads the jar's own ledger if it is there, else the published snapshot. Writes nothing into the jar, only a temporary
file of this process, whose name is removed once it is open. Killed before that, it leaves that one file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable

from jobjar.errors import LedgerUnavailable
from jobjar.layout import Layout
from jobjar.ledger.database import copy_live, copy_snapshot
from jobjar.ledger.home import LedgerHome
from jobjar.ledger.store import FROM_LEDGER, FROM_SNAPSHOT, Ledger
from jobjar.shared_disk.mounts import is_local


def open_private_ledger(
    layout: Layout, log: Callable[[str], None], from_live: bool = True, from_copy: bool = True
) -> Ledger:
    """A private ledger, open. It is a copy of the jar's own ledger (with `from_live`) or of the snapshot, if these can
    be used and `from_copy` allows it; else an empty one in memory. The caller still has to fold the journals' tails.

    `log` gets the reason why a snapshot was not used.
    """
    ledger = Ledger(layout, LedgerHome(layout.ledger, has_other_homes=False), log)
    live = f"{layout.ledger}/ledger.db"
    if from_copy and from_live and os.path.exists(live) and is_local(layout.ledger):
        with contextlib.suppress(LedgerUnavailable, OSError):  # the snapshot may do
            target = temporary_file()
            copy_live(live, target)
            ledger.open_copy(target, FROM_LEDGER, None)
            return ledger
    if from_copy and os.path.exists(layout.snapshot):
        try:
            target = temporary_file()
            published_at = os.stat(layout.snapshot).st_mtime
            copy_snapshot(layout.snapshot, target)
            ledger.open_copy(target, FROM_SNAPSHOT, published_at)
            return ledger
        except (LedgerUnavailable, OSError) as error:
            log(f"the snapshot is not used, which takes longer: {error}. Reading the journals from their beginning")
    ledger.open_memory()
    return ledger


def temporary_file() -> str:
    """A new empty file for a database of this process."""
    descriptor, path = tempfile.mkstemp(prefix="jobjar-", suffix=".db")
    os.close(descriptor)
    return path
