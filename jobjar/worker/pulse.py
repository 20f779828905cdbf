"""A worker's pulse: its heartbeat, the disk's clock, the journal made durable, the snapshot published, each in its time.

Touches `workers/<node>.<pid>/heartbeat`. With leases a thread does that, so that nothing that a living worker may be busy
with for long (a big scratch directory to remove, a ledger to fold anew, somebody who keeps a lock) costs it its job.
A crash in here leaves nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

from jobjar.errors import LedgerBusy, LedgerUnavailable
from jobjar.jar import Jar
from jobjar.journal.append import Journal
from jobjar.layout import WorkerPaths
from jobjar.ledger.snapshot import MAX_AGE_S, publish_snapshot_when_due
from jobjar.settings.layers import heartbeat_interval_s
from jobjar.shared_disk.creating import open_shared
from jobjar.shared_disk.patience import FLICKER_S

# On a local disk a crash of the machine costs at most this much of what was journaled.
SYNC_INTERVAL_S = 1.0
# How soon a heartbeat that the disk refused is tried again, where a lease depends on it.
_REFUSED_PAUSE_S = 1.0
# How often a heartbeat is asked for the disk's time, where that costs something, and whether it is still the worker's.
_CLOCK_S = 300.0


class Pulse:
    """What a worker does by the clock, whatever else it does."""

    def __init__(self, jar: Jar, paths: WorkerPaths, log: Callable[[str], None]) -> None:
        self._jar = jar
        self._paths = paths
        self._say = log
        self._clock_offset_s = 0.0
        self._next_heartbeat = 0.0
        self._next_sync = 0.0
        self._next_snapshot = 0.0
        self._interval_s = heartbeat_interval_s(jar.settings)
        self._is_ending = threading.Event()
        self._is_beating_alone = False
        self._is_refused = False
        self._heartbeat = -1
        # Over a network to ask for the time is one more operation. A lease depends on the file being the one that is there.
        self._looks_seldom = jar.ledger_home.has_other_homes and not jar.settings.lease_time_s
        self._next_clock = 0.0

    def start(self) -> None:
        """Beat once, and with leases from now on until `stop`, whatever this process's main thread does."""
        self.beat()
        if self._jar.settings.lease_time_s:
            self._is_beating_alone = True
            threading.Thread(target=self._beat_alone, daemon=True).start()

    def stop(self) -> None:
        self._is_ending.set()
        if not self._is_beating_alone:
            self._close()

    def _beat_alone(self) -> None:
        # Signals are for the main thread, which waits for them, and whose wait for a lock an alarm ends.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._is_ending.wait(
            min(self._interval_s, _REFUSED_PAUSE_S) if self._is_refused else self._interval_s
        ):
            self._touch_heartbeat()

    def beat(self) -> None:
        """Do what is due. Costs next to nothing where nothing is."""
        now = time.monotonic()
        self.beat_meanwhile()
        if now >= self._next_sync:
            self._next_sync = now + SYNC_INTERVAL_S
            sync_journal(self._jar.journal)
            with contextlib.suppress(OSError):  # the home cannot be read: the old journal will do
                self._jar.journal.follow()
        if now >= self._next_snapshot:
            self._next_snapshot = now + MAX_AGE_S / 5
            try:
                publish_snapshot_when_due(self._jar.ledger, self.beat_meanwhile)
            except (OSError, LedgerBusy, LedgerUnavailable) as error:
                self._say(f"the snapshot was not published: {error}")

    def beat_meanwhile(self) -> None:
        """The heartbeat alone, if it is due: for the midst of something else."""
        now = time.monotonic()
        if now >= self._next_heartbeat and not self._is_beating_alone:
            self._next_heartbeat = now + self._interval_s
            self._touch_heartbeat()

    def disk_now(self) -> float:
        """The disk's time, by the offset that the last heartbeat showed."""
        return time.time() + self._clock_offset_s

    def _touch_heartbeat(self) -> None:
        try:
            self._touch()
            self._is_refused = False
        except OSError as error:
            self._close()
            if not self._is_refused:
                self._say(f"heartbeat: {error.strerror}")
            self._is_refused = True

    def _touch(self) -> None:
        """Touch the heartbeat, which tells the disk's time. It stays open: over a network each beat is one operation then.
        Raises OSError."""
        if self._heartbeat >= 0:
            with contextlib.suppress(OSError):  # another file may be there by now
                os.utime(self._heartbeat)
                if self._looks_seldom and time.monotonic() < self._next_clock:
                    return
                status = os.fstat(self._heartbeat)
                if status.st_nlink:
                    self._take_clock(status)
                    return
            self._close()
        self._heartbeat = open_shared(self._paths.heartbeat, os.O_WRONLY)
        os.utime(self._heartbeat)
        self._take_clock(os.fstat(self._heartbeat))

    def _take_clock(self, status: os.stat_result) -> None:
        self._next_clock = time.monotonic() + _CLOCK_S
        self._clock_offset_s = status.st_mtime - time.time()

    def _close(self) -> None:
        if self._heartbeat >= 0:
            descriptor, self._heartbeat = self._heartbeat, -1
            with contextlib.suppress(OSError):
                os.close(descriptor)


def sync_journal(journal: Journal) -> None:
    """Make what was journaled outlive this node."""
    with contextlib.suppress(OSError):
        journal.sync(FLICKER_S)
