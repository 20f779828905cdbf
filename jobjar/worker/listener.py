"""What a worker listens to while it works or sleeps: signals, control files, new jobs, the ends of children.

Reads the worker's control files and the descriptors that wake it; writes nothing. Signal handlers only set a flag.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence

from jobjar import control
from jobjar.jar import Jar
from jobjar.layout import WorkerPaths
from jobjar.processes.ending import END_NOW
from jobjar.processes.wake import DirectoryWatch, SignalFlags, wait_readable
from jobjar.shared_disk.change_times import Looks
from jobjar.worker.arrivals import Arrivals, Backoff
from jobjar.worker.own_end import OwnEnd

STOP_AFTER_JOB = signal.SIGUSR1
# The signals that a worker takes as orders.
ORDERS = (*END_NOW, STOP_AFTER_JOB)


class Listener:
    """The listener of one worker. `asked` are the directories that it takes jobs from."""

    def __init__(
        self,
        jar: Jar,
        paths: WorkerPaths,
        asked: Sequence[str],
        disk_now: Callable[[], float],
        own_end: OwnEnd | None = None,
    ) -> None:
        self.own_end = own_end or OwnEnd()
        self._layout = jar.layout
        self._paths = paths
        self._poll_time_s = jar.settings.poll_time_s
        looks = None if not jar.ledger_home.has_other_homes else Looks(jar.ledger_home.looks_file, disk_now)
        self.control_files = control.Orders(jar.layout, paths, self._poll_time_s, looks)
        self._is_network = looks is not None
        self.signals = SignalFlags()
        # A worker's own heartbeat is no order. Each would cost a look at two directories of a network disk.
        self._control_watch = DirectoryWatch(removals=True, ignored=(os.path.basename(paths.heartbeat),))
        self.arrivals = Arrivals(asked, looks, disk_now, Backoff(self._poll_time_s, jar.settings.pause_time_s))

    def start(self) -> None:
        """Handle signals from now on."""
        self.signals.take(ORDERS)

    def close(self) -> None:
        self._control_watch.close()
        self.arrivals.close()
        self.signals.close()

    def is_told_to_end(self) -> bool:
        """Whether a signal asks this worker to end now, or its own time is over."""
        return self.is_signalled_to_end() or self.own_end.is_over()

    def is_signalled_to_end(self) -> bool:
        return not self.signals.raised.isdisjoint(END_NOW)

    def is_told_to_stop(self) -> bool:
        """Whether a signal asks this worker to claim nothing more. A STOP file does too (`control_files`)."""
        return STOP_AFTER_JOB in self.signals.raised

    def descriptors(self) -> list[int]:
        """Descriptors that become readable when an order may have come, or when a child has ended."""
        self._control_watch.watch([self._paths.path])
        self.signals.hear_children(True)
        return [*self.signals.descriptors(), *self._control_watch.descriptors()]

    def take_wake(self) -> bool:
        """Take what woke this worker, and reap children. Returns whether it was more than the end of a child."""
        is_told = self.signals.drain()
        return self._control_watch.drain() or is_told

    def pause(self) -> None:
        """Wait for a signal, or JJ_POLL_TIME at most. For times when nothing else can be listened to."""
        wait_readable(self.signals.descriptors(), self.own_end.nap_s(self._poll_time_s))

    def sleep(self, seconds: float, is_paused: bool, for_jobs: bool, is_over: Callable[[], bool]) -> None:
        """Sleep until an order comes, or (`for_jobs`) a submission since the last scan, or until `is_over()`. That is asked at
        each waking, at least once per JJ_POLL_TIME. Orders and submissions on this node wake at once. On a network disk the
        looks for those of other nodes become rarer while nothing comes (`Backoff`)."""
        until = time.monotonic() + seconds
        self._control_watch.watch([self._paths.path, self._layout.workers])
        self.arrivals.watch()
        self.signals.hear_children(True)
        # The first turn looks at the control files in any case: the watch does not report what came before it was set.
        is_woken, own_changed_ns = True, None
        while not self.is_told_to_end() and not self.is_told_to_stop():
            left_s, interval_s = until - time.monotonic(), self.arrivals.backoff.interval_s()
            if left_s <= 0:
                return
            is_told = self.control_files.look(is_woken, interval_s) != (False, is_paused)
            if own_changed_ns is None:
                own_changed_ns = self.control_files.own_changed_ns
            if is_told or own_changed_ns != self.control_files.own_changed_ns:  # the worker's directory may be gone
                break
            descriptors = [*self.signals.descriptors(), *self._control_watch.descriptors()]
            if for_jobs:
                descriptors += self.arrivals.descriptors()
            wait_readable(descriptors, self.own_end.nap_s(min(left_s, self._poll_time_s)))
            is_woken = self.take_wake() or not self._is_network
            if is_over() or (for_jobs and self.arrivals.any(interval_s)):
                break
        self.arrivals.backoff.reset()


def spread_s(pause_time_s: float) -> float:
    """JJ_PAUSE_TIME in seconds, made longer or shorter at random by up to 10 %, but by at most 10 s (guide)."""
    most_s = min(pause_time_s * 0.1, 10.0)
    return pause_time_s + random.uniform(-most_s, most_s)
