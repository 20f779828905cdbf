"""A worker's pulse: what it does by the clock. It beats, reads the disk's clock, syncs the journal, publishes the snapshot.

Touches `workers/<node>.<pid>/heartbeat`. With leases a thread does that, so that a living worker keeps its job while it is busy
for long: a big scratch directory to remove, a ledger to fold anew, a lock that another process keeps. A crash in here leaves
nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

from jobjar.errors import LedgerError
from jobjar.jar import Jar
from jobjar.journal.append import Journal
from jobjar.layout import WorkerPaths
from jobjar.ledger.snapshot import MAX_AGE_S, publish_snapshot_when_due
from jobjar.settings.layers import heartbeat_interval_s
from jobjar.shared_disk.creating import open_shared
from jobjar.shared_disk.patience import FLICKER_S

# On a local disk a crash of the machine loses at most the entries of this time.
SYNC_INTERVAL_S = 1.0
# The pause before a refused heartbeat is tried again, if a lease depends on it.
_REFUSED_BEAT_PAUSE_S = 1.0
# How often, if a look at the heartbeat file costs an operation, its time is read, and whether it is still the worker's file.
_CLOCK_S = 300.0
# On a network disk a worker that has been idle for long beats after so many intervals. It is silent after four (hearing.py).
_IDLE_INTERVALS = 2


class Pulse:
    """What a worker does by the clock, whatever else it is doing."""

    def __init__(self, jar: Jar, paths: WorkerPaths, log: Callable[[str], None]) -> None:
        self._jar = jar
        self._paths = paths
        self._log = log
        self._clock_offset_s = 0.0
        self._beat_at = float("-inf")
        self._next_sync = 0.0
        self._next_snapshot = 0.0
        self._interval_s = heartbeat_interval_s(jar.settings)
        self._is_ending = threading.Event()
        self._is_beating_alone = False
        self._is_refused = False
        self._heartbeat = -1
        # Over a network a look at the file's time is one more operation. With leases it is needed at each beat: the touched file
        # has to be the one that other nodes see.
        self._looks_seldom = jar.ledger_home.has_other_homes and not jar.settings.lease_time_s
        self._next_clock = 0.0

    def start(self) -> None:
        """Beat once. With leases, beat in a thread until `stop`, whatever the main thread does."""
        self.beat()
        if self._jar.settings.lease_time_s:
            self._is_beating_alone = True
            threading.Thread(target=self._beat_alone, daemon=True).start()

    def stop(self) -> None:
        self._is_ending.set()
        if not self._is_beating_alone:
            self._close()

    def _beat_alone(self) -> None:
        # Signals belong to the main thread: it waits for them, and an alarm ends its wait for a lock.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._is_ending.wait(
            min(self._interval_s, _REFUSED_BEAT_PAUSE_S) if self._is_refused else self._interval_s
        ):
            self._touch_heartbeat()

    def beat(self, is_idle: bool = False) -> None:
        """Do what is due. If nothing is, this costs almost nothing. With `is_idle`, the worker holds nothing and has been idle
        for long: then on a network disk it beats more rarely, unless leases depend on it. Its next call without `is_idle` beats
        at once if a beat is due by then."""
        now = time.monotonic()
        self.beat_meanwhile(_IDLE_INTERVALS if is_idle and self._looks_seldom else 1)
        if now >= self._next_sync:
            self._next_sync = now + SYNC_INTERVAL_S
            sync_journal(self._jar.journal)
            with contextlib.suppress(OSError):  # the home cannot be read; go on with the old journal
                self._jar.journal.follow()
        if now >= self._next_snapshot:
            self._next_snapshot = now + MAX_AGE_S / 5
            try:
                publish_snapshot_when_due(self._jar.ledger, self.beat_meanwhile)
            except (OSError, LedgerError) as error:
                self._log(f"the snapshot was not published: {error}")

    def beat_meanwhile(self, intervals: int = 1) -> None:
        """Only the heartbeat, if it is due: `intervals` after the last one. For use during long work."""
        now = time.monotonic()
        if now - self._beat_at >= intervals * self._interval_s and not self._is_beating_alone:
            self._beat_at = now
            self._touch_heartbeat()

    @property
    def interval_s(self) -> float:
        """The seconds between two heartbeats of a worker that is not idle."""
        return self._interval_s

    def disk_now(self) -> float:
        """The disk's time, computed with the offset that the last heartbeat showed."""
        return time.time() + self._clock_offset_s

    def _touch_heartbeat(self) -> None:
        try:
            self._touch()
            self._is_refused = False
        except OSError as error:
            self._close()
            if not self._is_refused:
                self._log(f"heartbeat: {error.strerror}")
            self._is_refused = True

    def _touch(self) -> None:
        """Touch the heartbeat, and take the disk's time from it. The file stays open, so that over a network each beat is one
        operation. Raises OSError."""
        if self._heartbeat >= 0:
            with contextlib.suppress(OSError):  # another file may have its name by now
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
    """Sync the journal, so that its entries outlive a crash of this node."""
    with contextlib.suppress(OSError):
        journal.sync(FLICKER_S)
