"""Publish a copy of a node-local ledger on the shared disk, for nodes that start and people who only read.

Reads the live ledger by SQLite's backup interface; writes a temporary name beside `ledger/snapshot.db` and renames it.
One node does it at a time: who makes the directory `ledger/publishing`. Killed midway, the directory stays and is taken
over after ten minutes; the old snapshot stays whole.
"""

from __future__ import annotations

import contextlib
import os

from jobjar.disk import read_server_clock
from jobjar.jobname import node_name
from jobjar.ledger.store import Ledger, driver
from jobjar.role import give_back_role, take_role

MAX_AGE_S = 300.0


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
    try:
        with ledger.errors_named():
            ledger.ensure_open()
            target = driver.connect(temporary)
            try:
                ledger.connection.backup(target)
            finally:
                target.close()
        descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, ledger.layout.snapshot)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary + suffix)
        give_back_role(ledger.layout.publishing)
    return True


def _take_role(ledger: Ledger) -> bool:
    return take_role(ledger.layout.publishing, lambda: _disk_now(ledger))


def _disk_now(ledger: Ledger) -> float:
    return read_server_clock(ledger.layout.clock_file(node_name()))
