"""Publish a copy of a node's own ledger on the shared disk, for nodes that start and people who only read.

It is published when the last one is older than five minutes and something was folded since: an idle jar's stays as it
is. SQLite's backup interface copies the live ledger into the home, without its lock. That is copied to a temporary name
beside `ledger/snapshot.db` and renamed. One node at a time does this (shared_disk/soft_lock.py). Killed midway, the
old snapshot stays whole.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from jobjar.errors import LedgerUnavailable, NewerLedger
from jobjar.host import node_name
from jobjar.ledger.database import UNREADABLE, back_up, check_size, driver, quote_path, remove_database
from jobjar.ledger.migrate import check_version
from jobjar.ledger.store import Ledger
from jobjar.shared_disk.clock import read_disk_clock
from jobjar.shared_disk.creating import create_file, temporary_path, temporary_path_of_node
from jobjar.shared_disk.files import common_mode, follow_status, rename
from jobjar.shared_disk.patience import FLICKER_S
from jobjar.shared_disk.soft_lock import release_soft_lock, take_soft_lock

MAX_AGE_S = 300.0
_CHUNK_BYTES = 8 << 20
_POSITIONS = "SELECT journal, offset FROM journal_position"


def snapshot_age_s(ledger: Ledger) -> float | None:
    """How many seconds old the published snapshot is, by the disk's clock; None if there is none."""
    try:
        published_at = follow_status(ledger.layout.snapshot, FLICKER_S).st_mtime
    except FileNotFoundError:
        return None
    return max(0.0, _disk_now(ledger) - published_at)


def publish_snapshot(
    ledger: Ledger, older_than_s: float = MAX_AGE_S, between_pieces: Callable[[], None] = lambda: None
) -> bool:
    """Publish this home's ledger if the snapshot is older than `older_than_s` and lacks something (0: in any case).
    Returns whether it did.

    Holds no lock, and calls `between_pieces` several times a second. A home in the jar itself needs no snapshot. Raises
    OSError if the disk is full or read-only, LedgerUnavailable.
    """
    if not ledger.home.has_other_homes or ledger.is_private:
        return False
    age_s = snapshot_age_s(ledger)
    ledger.snapshot_due_at = time.monotonic() + max(0.0, older_than_s - (age_s or 0.0))
    if age_s is not None and (age_s < older_than_s or (older_than_s and not _has_news(ledger))):
        return False
    if not _take_lock(ledger):
        return False
    temporary = temporary_path_of_node(ledger.layout.snapshot)
    # SQLite locks what it writes, and nothing is locked on the shared disk. So it writes to the home, and the bytes are
    # copied.
    own = temporary_path(ledger.home.database)
    try:
        with ledger.errors_named():
            ledger.ensure_open()
            back_up(ledger.path, own, between_pieces=between_pieces)
        _copy_durably(own, temporary, common_mode(ledger.layout.ledger), between_pieces)
        rename(temporary, ledger.layout.snapshot)
    finally:
        remove_database(own)
        remove_database(temporary)
        release_soft_lock(ledger.layout.publishing)
    return True


def publish_snapshot_when_due(ledger: Ledger, between_pieces: Callable[[], None]) -> bool:
    """`publish_snapshot` for frequent callers. It asks the disk only if the last seen snapshot may be too old by
    now, and something was folded since a snapshot had everything. Raises as `publish_snapshot`."""
    if not ledger.home.has_other_homes or ledger.is_private or time.monotonic() < ledger.snapshot_due_at:
        return False
    if ledger.published_positions and _positions(ledger) == ledger.published_positions:
        return False
    return publish_snapshot(ledger, between_pieces=between_pieces)


def _has_news(ledger: Ledger) -> bool:
    """Whether this ledger has folded something that the snapshot lacks. A snapshot of a newer version is left alone;
    one that cannot be read counts as none."""
    path = ledger.layout.snapshot
    try:
        check_size(path)
        with contextlib.closing(driver.connect(f"file:{quote_path(path)}?immutable=1", uri=True)) as connection:
            check_version(connection, path)
            published = dict(connection.execute(_POSITIONS))
    except NewerLedger:
        return False
    except (LedgerUnavailable, OSError, *UNREADABLE):
        return True
    ours = _positions(ledger)
    if any(offset > published.get(journal, 0) for journal, offset in ours.items()):
        return True
    ledger.published_positions = ours
    return False


def _positions(ledger: Ledger) -> dict[str, int]:
    """How far this ledger has folded each journal."""
    with ledger.errors_named():
        ledger.ensure_open()
        return dict(ledger.connection.execute(_POSITIONS))


def _copy_durably(source: str, target: str, mode: int, between_pieces: Callable[[], None]) -> None:
    with open(source, "rb") as reader, open(create_file(target, 0o600), "wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            between_pieces()
        writer.flush()
        os.fchmod(writer.fileno(), mode)
        os.fsync(writer.fileno())


def _take_lock(ledger: Ledger) -> bool:
    return take_soft_lock(ledger.layout.publishing, lambda: _disk_now(ledger))


def _disk_now(ledger: Ledger) -> float:
    return read_disk_clock(ledger.layout.clock_file(node_name()))
