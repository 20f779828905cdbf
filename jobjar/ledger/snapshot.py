"""Publish a copy of a node-local ledger on the shared disk, for nodes that start and people who only read.

Reads the live ledger by SQLite's backup interface into the home; copies that to a temporary name beside
`ledger/snapshot.db` and renames it.
One node does it at a time: who makes the directory `ledger/publishing`. Killed midway, the directory stays and is taken
over after ten minutes; the old snapshot stays whole.
"""

from __future__ import annotations

import contextlib
import os

from jobjar.disk import read_server_clock
from jobjar.jobname import node_name
from jobjar.ledger.store import Ledger, driver

MAX_AGE_S = 300.0
_ABANDONED_AFTER_S = 600.0


def snapshot_age_s(ledger: Ledger) -> float | None:
    """How old the published snapshot is, by the disk's clock; None where there is none."""
    try:
        published_at = os.stat(ledger.layout.snapshot).st_mtime
    except FileNotFoundError:
        return None
    return max(0.0, _disk_now(ledger) - published_at)


def publish_snapshot(ledger: Ledger, older_than_s: float = MAX_AGE_S) -> bool:
    """Publish this home's ledger if the snapshot is older than `older_than_s`; returns whether it did.

    A home in the jar itself needs no snapshot. Raises OSError where the disk is full or read-only, LedgerUnavailable.
    """
    if ledger.home.shared or ledger.in_memory:
        return False
    age_s = snapshot_age_s(ledger)
    if age_s is not None and age_s < older_than_s:
        return False
    if not _take_role(ledger):
        return False
    temporary = f"{ledger.layout.snapshot}.{node_name()}.{os.getpid()}.new"
    # SQLite locks what it writes, and nothing is locked on the shared disk: it writes to the home, the bytes are copied.
    own = f"{ledger.home.database}.{os.getpid()}.new"
    try:
        with ledger.errors_named():
            ledger.ensure_open()
            target = driver.connect(own)
            try:
                ledger.connection.backup(target)
            finally:
                target.close()
        _copy_durably(own, temporary)
        os.rename(temporary, ledger.layout.snapshot)
    finally:
        for path in (temporary, own, f"{own}-wal", f"{own}-shm", f"{own}-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        with contextlib.suppress(OSError):  # taken over as abandoned: the role is another node's now
            os.rmdir(ledger.layout.publishing)
    return True


def _copy_durably(source: str, target: str) -> None:
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while chunk := reader.read(1 << 20):
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())


def _take_role(ledger: Ledger) -> bool:
    path = ledger.layout.publishing
    for _ in range(2):
        try:
            os.mkdir(path)
            return True
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if _disk_now(ledger) - os.stat(path).st_mtime < _ABANDONED_AFTER_S:
                    return False
                os.rmdir(path)
    return False


def _disk_now(ledger: Ledger) -> float:
    return read_server_clock(ledger.layout.clock_file(node_name()))
