"""A worker's pulse: its heartbeat, the disk's clock, the journal made durable, the snapshot published, each in its time.

Touches `workers/<node>.<pid>/heartbeat`. A crash in here leaves nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from jobjar.errors import LedgerBusy, LedgerUnavailable
from jobjar.jar import Jar
from jobjar.journal import Journal
from jobjar.layout import WorkerPaths
from jobjar.ledger.snapshot import MAX_AGE_S, publish_snapshot

# On a local disk a crash of the machine costs at most this much of what was journaled.
SYNC_INTERVAL_S = 1.0


class Pulse:
    """What a worker does by the clock, whatever else it does."""

    def __init__(self, jar: Jar, paths: WorkerPaths, say: Callable[[str], None]) -> None:
        self._jar = jar
        self._paths = paths
        self._say = say
        self._clock_offset_s = 0.0
        self._next_heartbeat = 0.0
        self._next_sync = 0.0
        self._next_snapshot = 0.0

    def beat(self) -> None:
        """Do what is due. Costs next to nothing where nothing is."""
        now = time.monotonic()
        self._beat_meanwhile()
        if now >= self._next_sync:
            self._next_sync = now + SYNC_INTERVAL_S
            sync_journal(self._jar.journal)
        if now >= self._next_snapshot:
            self._next_snapshot = now + MAX_AGE_S / 5
            try:
                publish_snapshot(self._jar.ledger, meanwhile=self._beat_meanwhile)
            except (OSError, LedgerBusy, LedgerUnavailable) as error:
                self._say(f"the snapshot was not published: {error}")

    def _beat_meanwhile(self) -> None:
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + self._jar.settings.heartbeat_time_s
            self._touch_heartbeat()

    def disk_now(self) -> float:
        """The disk's time, by the offset that the last heartbeat showed."""
        return time.time() + self._clock_offset_s

    def _touch_heartbeat(self) -> None:
        try:
            descriptor = os.open(self._paths.heartbeat, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o664)
            try:
                os.utime(descriptor)
                self._clock_offset_s = os.fstat(descriptor).st_mtime - time.time()
            finally:
                os.close(descriptor)
        except OSError as error:
            self._say(f"heartbeat: {error.strerror}")


def sync_journal(journal: Journal) -> None:
    """Make what was journaled outlive this node."""
    with contextlib.suppress(OSError):
        journal.sync()
