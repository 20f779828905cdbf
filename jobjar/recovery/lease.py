"""Leases: the jobs of a worker whose heartbeat stands still go back, on any node, whether the worker is dead or not.

Reads the heartbeats of the workers that hold jobs. Reads the disk's clock by touching this node's own file. recover.py moves the
jobs. With JJ_LEASE_TIME 0 nothing here does anything. No node's own clock is compared with the disk's. A worker that comes back
finds its job gone by the rename that would complete it (stages/complete.py). That rename is the fence, and it does not depend on
anything here. A kill at any point leaves a job held as before, or unclaimed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from jobjar.arrays.sharing import settle_shared
from jobjar.attempts.attempt import LOST, ClaimedJob
from jobjar.attempts.limits import list_all_taken, return_token
from jobjar.attempts.missing_file import was_taken_back
from jobjar.attempts.tokens_left import holds_jobs
from jobjar.errors import JarError
from jobjar.hearing import read_heartbeat_ns
from jobjar.jar import Jar
from jobjar.ledger.rebuild import fill_ledger
from jobjar.liveness import node_run
from jobjar.meter import SILENT, Meter
from jobjar.recovery.recover import Recovery, identify_held, recover_job, recover_worker
from jobjar.recovery.tidy import tidy_links
from jobjar.roster import ASIDE, WorkerState, read_worker
from jobjar.settings.layers import BEATS_IN_LEASE
from jobjar.shared_disk.files import is_gone, open_common_file
from jobjar.shared_disk.listing import list_directory, list_held
from jobjar.shared_disk.locks import try_lock
from jobjar.shared_disk.regular import read_bounded
from jobjar.units import format_seconds

_LOOKS = 10
# The most that one pair of looks counts for, as a share of a lease. If the file server, the node or this process stood still
# between two looks, all workers have the rest of the lease to beat again.
_MOST = 1 / 8
# For how many leases `recover_jobs` watches before it gives up.
_PATIENCE = 5
# Looks take at most this share of a worker's idle time.
_SHARE = 0.05
# A worker takes jobs back for so long before it looks at its orders.
_TAKING_S = 0.5


class HeartbeatWatch:
    """Counts for how long heartbeats stood still. It reads no disk and no clock: the caller passes the values."""

    def __init__(self, lease_time_s: float) -> None:
        self._most_s = lease_time_s * _MOST
        self._still: dict[str, tuple[int, float]] = {}
        self._server_now = self._ended = float("inf")

    def observe(self, heartbeats: Mapping[str, int], server_now: float, began: float, ended: float) -> None:
        """Add one look: each worker's heartbeat (its mtime), the file server's time, which was read before them, and this
        process's monotonic clock before and after the look.

        The time between two looks is the lesser of what the two clocks show, and at most the share `_MOST` of a lease. A
        worker that is missing from a look is watched anew from its next one on.
        """
        passed_s = max(0.0, min(server_now - self._server_now, began - self._ended, self._most_s))
        self._server_now, self._ended = server_now, ended
        still = {}
        for worker_id, beat in heartbeats.items():
            before = self._still.get(worker_id)
            is_still = before is not None and before[0] == beat
            still[worker_id] = (beat, before[1] + passed_s if before is not None and is_still else 0.0)
        self._still = still

    def still_s(self, worker_id: str) -> float:
        """For how many seconds a worker's heartbeat has stood still."""
        return self._still.get(worker_id, (0, 0.0))[1]

    def dump(self) -> list[Any]:
        """The state, for another process of this node. That has the same monotonic clock."""
        return [self._server_now, self._ended, self._still]

    def load(self, seen: list[Any]) -> None:
        """Go on from another process's `dump`. Raises ValueError, TypeError for anything else."""
        server_now, ended, still = seen
        loaded = {str(worker_id): (int(beat), float(still_s)) for worker_id, (beat, still_s) in dict(still).items()}
        self._server_now, self._ended, self._still = float(server_now), float(ended), loaded


class Holder(NamedTuple):
    """A worker that holds jobs, and its heartbeat: the file's mtime in nanoseconds."""

    worker: WorkerState
    heartbeat_ns: int


def find_holders(jar: Jar, own_worker_id: str = "") -> list[Holder]:
    """All workers that hold jobs, parts of arrays or tokens of limits, and whose heartbeat can be read; not the caller's own."""
    found = []
    holding_tokens = {part for token in list_all_taken(jar.layout) for part in (token.worker, token.worker_id)}
    for entry in list_directory(jar.layout.workers):
        paths = jar.layout.worker(entry.name)
        has_jobs = any(True for _ in list_held(paths))
        has_jobs = has_jobs or any(list_directory(paths.sharing))  # a part of an array is in no jar there
        if not has_jobs and entry.name.partition(ASIDE)[0] not in holding_tokens:
            continue
        worker = read_worker(jar.layout, entry.name)
        if worker is None or worker.worker_id == own_worker_id:
            continue
        if not has_jobs and worker.worker_id not in holding_tokens:
            continue
        with contextlib.suppress(OSError):  # a heartbeat that cannot be read is not watched
            found.append(Holder(worker, read_heartbeat_ns(worker.paths.heartbeat)))
    return found


class Leases:
    """The leases of the other workers of a jar, watched by one process. `by` is its worker's name, if it is a worker."""

    def __init__(self, jar: Jar, own_worker_id: str, log: Callable[[str], None], by: str = "") -> None:
        self._jar = jar
        self._by = by
        self._own_worker_id = own_worker_id
        self._log = log
        self.lease_time_s = jar.settings.lease_time_s
        self.interval_s = min(self.lease_time_s / _LOOKS, jar.settings.heartbeat_time_s)
        self._watch = HeartbeatWatch(self.lease_time_s)
        self._next_look = 0.0
        self._looked_at = time.monotonic()
        self._logged: list[str] = []
        # Gets the ids of the jobs that `take_back_expired` completed.
        self.on_completed: Callable[[list[str]], None] = lambda uids: None

    def check_held(self, job: ClaimedJob) -> str | None:
        """LOST if the job that this process runs was taken back, else None. A missing file alone does not mean that: the job
        may have removed it."""
        if not self.lease_time_s or not is_gone(job.path, is_patient=False):
            return None
        return LOST if was_taken_back(self._jar, self._own_worker_id, job, unknown=False) else None

    def time_of(self, worker: WorkerState) -> float:
        """A worker's lease in seconds: this process's JJ_LEASE_TIME, or longer for a worker that beats too rarely for that."""
        return max(self.lease_time_s, BEATS_IN_LEASE * worker.heartbeat_time_s)

    def look(self) -> list[Holder]:
        """Look at the heartbeats of the workers that hold jobs or tokens; returns these workers. Raises OSError."""
        began = time.monotonic()
        server_now = self._jar.disk_now()
        holders = find_holders(self._jar, self._own_worker_id)
        heartbeats = {holder.worker.worker_id: holder.heartbeat_ns for holder in holders}
        ended = time.monotonic()
        self._watch.observe(heartbeats, server_now, began, ended)
        self._looked_at, self._next_look = ended, ended + max(self.interval_s, (ended - began) / _SHARE)
        return holders

    def still_s(self, worker: WorkerState) -> float:
        return self._watch.still_s(worker.worker_id)

    def has_expired(self, worker: WorkerState) -> bool:
        return self.still_s(worker) >= self.time_of(worker)

    def take_back_expired(self) -> bool:
        """For an idle worker: look, if that is due, and take back the jobs of expired leases. Returns whether any job was moved.
        Errors are logged, and the next look tries again."""
        if not self.lease_time_s or time.monotonic() < self._next_look:
            return False
        with self._turn() as is_own:
            return is_own and self._look_and_take_back()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Yield whether it is this worker's turn to look. The cost of a look grows with the number of workers. So on a network
        disk the idle workers of a node take turns, and each goes on from what the others saw (`watch` in the home)."""
        home, now = self._jar.ledger_home, time.monotonic()
        if not home.has_other_homes:
            yield True
            return
        with contextlib.ExitStack() as stack:
            next_look: float | None = None
            with contextlib.suppress(OSError):
                descriptor = open_common_file(home.watch_file, os.O_RDWR)
                stack.callback(os.close, descriptor)
                if try_lock(descriptor):
                    next_look = self._load(read_bounded(descriptor, home.watch_file))
            if next_look is None:
                # Another worker is looking now. If it was stopped meanwhile, it must not keep all others from looking.
                self._next_look = now + self.interval_s
                yield now > self._looked_at + self.lease_time_s
                return
            if now < next_look:
                self._looked_at, self._next_look = now, next_look
                yield False
                return
            yield True
            seen = json.dumps([node_run(), self._next_look, self._watch.dump()]).encode()
            with contextlib.suppress(OSError):  # the next worker watches anew
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, seen, 0)

    def _load(self, text: bytes) -> float:
        """Load what the workers of this node saw; returns when the next look is due, by the monotonic clock."""
        try:
            run, next_look, seen = json.loads(text)
            if run == node_run():
                self._watch.load(seen)
                return float(next_look)
        except (ValueError, TypeError):
            pass  # nobody has written it yet, or its writer was killed midway
        return 0.0

    def _look_and_take_back(self) -> bool:
        recovery = Recovery(self._by)
        try:
            until = time.monotonic() + _TAKING_S
            for holder in self.look():
                if self.has_expired(holder.worker):
                    if time.monotonic() > until:
                        self._next_look = 0.0  # many leases expired at once; the next turn takes the rest
                        break
                    self._jar.ledger.repaired(partial(self.take_back, holder, recovery), fill_ledger, self._log)
            self.on_completed(recovery.completed_jobs)
        except (JarError, OSError) as error:
            self._next_look = time.monotonic() + self.interval_s
            self._log(f"leases: {error}")
        for line in recovery.lines:
            if line not in self._logged:  # the previous look logged the other lines
                self._log(line)
        self._logged = recovery.lines
        return recovery.returned + recovery.completed > 0

    def take_back(self, holder: Holder, recovery: Recovery) -> None:
        """Return the jobs that an expired worker holds, or complete them if their outcome is journaled. Raises LedgerBusy,
        LedgerUnavailable, CannotUseJar, OSError.

        The worker may be alive and come back. So apart from its jobs only the tokens of their limits are touched.
        """
        worker = holder.worker
        with contextlib.suppress(FileNotFoundError):
            if read_heartbeat_ns(worker.paths.heartbeat) != holder.heartbeat_ns:
                return  # it has just beaten
        silence = f"stood still for {format_seconds(self.still_s(worker))}"
        # List the tokens before the jobs, so that tokens which it takes later are not among them.
        tokens = [token for token in list_all_taken(self._jar.layout) if token.worker_id == worker.worker_id]
        is_dead_here = worker.is_to_recover
        if is_dead_here:
            recover_worker(self._jar, worker, recovery)
            if holds_jobs(worker):
                return  # it is another user's worker, and this user may not end its jobs' processes
        else:
            recovery.log(f"{worker.name}: its heartbeat {silence}")
            cause = (
                f"the heartbeat of its worker {worker.name} {silence} (JJ_LEASE_TIME {self.lease_time_s:g}); "
                f"taken back by {recovery.by}"
            )
            self._take_jobs_back(worker, cause, recovery)
        for token in tokens:
            if return_token(self._jar.layout, token):
                recovery.log(f"{worker.name}: gave back token {token.number} of the limit {token.limit}")
        if tokens and not is_dead_here:
            # The worker may have come back and claimed with one of these tokens, just before that was given back.
            self._take_jobs_back(worker, cause, recovery)
        tidy_links(self._jar, recovery.log)

    def _take_jobs_back(self, worker: WorkerState, cause: str, recovery: Recovery) -> None:
        places = [place for place, _ in list_held(worker.paths)]
        identify_held(self._jar, places)
        for place in places:
            recover_job(self._jar, worker, place, recovery, cause)
        settle_shared(self._jar, worker.paths, recovery.log)


def recover_expired(jar: Jar, recovery: Recovery, log: Callable[[str], None], meter: Meter = SILENT) -> None:
    """For `recover_jobs`: watch the workers whose heartbeats are older than their leases by the file server's clock. If a
    heartbeat stands still for a whole lease, take the worker's jobs back. Returns at once if there is no such worker. The meter
    counts seconds, up to the longest lease; a clock that stands still makes the watch longer.

    A heartbeat's age only decides which workers to watch. Raises LedgerError, CannotUseJar, OSError.
    """
    leases = Leases(jar, "", log)
    if not leases.lease_time_s:
        return
    holders = leases.look()
    server_now = jar.disk_now()
    suspects = [
        holder
        for holder in holders
        # A time in the future comes from another clock, and does not show the heartbeat's age.
        if not 0 <= server_now - holder.heartbeat_ns / 1e9 < leases.time_of(holder.worker)
    ]
    if not suspects:
        return
    longest_s = max(leases.time_of(holder.worker) for holder in suspects)
    log(f"watching {', '.join(holder.worker.name for holder in suspects)} for {format_seconds(longest_s)}")
    began, told_s = time.monotonic(), 0
    meter.begin("watching silent workers", "seconds", math.ceil(longest_s))
    while suspects:
        passed_s = time.monotonic() - began
        meter.add(int(passed_s) - told_s)
        told_s = int(passed_s)
        if passed_s > _PATIENCE * longest_s:
            meter.end()
            log(f"the file server's clock hardly moves: left {', '.join(holder.worker.name for holder in suspects)}")
            return
        time.sleep(leases.interval_s)
        seen = {holder.worker.worker_id: holder.heartbeat_ns for holder in leases.look()}
        # Drop the workers that have beaten since, or that hold nothing any more.
        suspects = [holder for holder in suspects if seen.get(holder.worker.worker_id) == holder.heartbeat_ns]
        for holder in [holder for holder in suspects if leases.has_expired(holder.worker)]:
            suspects.remove(holder)
            leases.take_back(holder, recovery)
    meter.end()
