"""Leases: the jobs of a worker whose heartbeat stands still go back, whatever node it is on, and whether it is dead or not.

Reads the heartbeats of the workers that hold jobs, and the disk's clock by touching this node's own file; recover.py does
the moves. With JJ_LEASE_TIME 0 nothing in here does anything. No node's own clock is compared with the disk's. A worker
that comes back finds its job gone, by the rename that would complete it (stages/complete.py): that is the fence, and it
needs nothing of what is here to be right. Killed anywhere, a job is held as before or is unclaimed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from jobjar.attempts.attempt import LOST, ClaimedJob
from jobjar.attempts.limits import list_all_taken, return_token
from jobjar.attempts.own_file import was_taken_back
from jobjar.attempts.tokens_left import holds_jobs
from jobjar.errors import JarError
from jobjar.heartbeat import read_heartbeat_ns
from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.ledger.rebuild import fill_ledger
from jobjar.liveness import node_run
from jobjar.recovery.recover import Recovery, identify_held, recover_job, recover_worker
from jobjar.recovery.tidy import tidy_links
from jobjar.roster import ASIDE, WorkerState, read_worker
from jobjar.settings.layers import _BEATS
from jobjar.shared_disk.files import is_taken_away, open_common_file, read_disk_clock
from jobjar.shared_disk.listing import list_directory, list_jar
from jobjar.shared_disk.regular import read_bounded
from jobjar.units import format_seconds

_LOOKS = 10
# What one pair of looks counts for, at most, is this share of a lease: whatever stood still between them (the file server,
# the node, this process), everybody has the rest of the lease to beat again.
_MOST = 1 / 8
# How many leases long `recover_jobs` watches before it gives up.
_PATIENCE = 5
# Looking takes at most this share of a worker's idle time.
_SHARE = 0.05
# A worker goes on taking back for so long before it looks at its orders.
_TAKING_S = 0.5


class HeartbeatWatch:
    """For how long heartbeats were seen to stand still. Knows no disk and no clock: it is told what they show."""

    def __init__(self, lease_time_s: float) -> None:
        self._most_s = lease_time_s * _MOST
        self._still: dict[str, tuple[int, float]] = {}
        self._server_now = self._ended = float("inf")

    def observe(self, heartbeats: Mapping[str, int], server_now: float, began: float, ended: float) -> None:
        """Take in one look: each worker's heartbeat (its mtime), the file server's time read before them, and this
        process's monotonic clock before and after it all.

        Time counts only where both clocks went on between two looks, the lesser of the two, and no pair of looks counts
        for more than its share. A worker that is not in a look is watched anew from the next one on.
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
        """For how many seconds a worker's heartbeat was seen to stand still."""
        return self._still.get(worker_id, (0, 0.0))[1]

    def dump(self) -> list[Any]:
        """What was seen, for another process of this node, which has the same monotonic clock."""
        return [self._server_now, self._ended, self._still]

    def load(self, seen: list[Any]) -> None:
        """Go on where another process of this node left off. Raises ValueError, TypeError for what `dump` did not give."""
        server_now, ended, still = seen
        loaded = {str(worker_id): (int(beat), float(still_s)) for worker_id, (beat, still_s) in dict(still).items()}
        self._server_now, self._ended, self._still = float(server_now), float(ended), loaded


class Holder(NamedTuple):
    """A worker that holds jobs, and its heartbeat: the file's mtime in nanoseconds."""

    worker: WorkerState
    heartbeat_ns: int


def find_holders(jar: Jar, own_worker_id: str = "") -> list[Holder]:
    """All workers that hold jobs, or tokens of limits, and whose heartbeat can be read, but for one's own."""
    found = []
    holding_tokens = {part for token in list_all_taken(jar.layout) for part in (token.worker, token.worker_id)}
    for entry in list_directory(jar.layout.workers):
        paths = jar.layout.worker(entry.name)
        has_jobs = any(True for _ in list_jar(paths.jobs, f"workers/{entry.name}/jobs"))
        if not has_jobs and entry.name.partition(ASIDE)[0] not in holding_tokens:
            continue
        worker = read_worker(jar.layout, entry.name)
        if worker is None or worker.worker_id == own_worker_id:
            continue
        if not has_jobs and worker.worker_id not in holding_tokens:
            continue
        with contextlib.suppress(OSError):  # what cannot be read is not watched
            found.append(Holder(worker, read_heartbeat_ns(worker.paths.heartbeat)))
    return found


class Leases:
    """The leases of the other workers of a jar, watched by one process; `by` is its worker's name, if it is one."""

    def __init__(self, jar: Jar, own_worker_id: str, log: Callable[[str], None], by: str = "") -> None:
        self._jar = jar
        self._by = by
        self._own_worker_id = own_worker_id
        self._say = log
        self.lease_time_s = jar.settings.lease_time_s
        self.interval_s = min(self.lease_time_s / _LOOKS, jar.settings.heartbeat_time_s)
        self._watch = HeartbeatWatch(self.lease_time_s)
        self._next_look = 0.0
        self._looked_at = time.monotonic()
        self._told: list[str] = []

    def check_held(self, job: ClaimedJob) -> str | None:
        """LOST if the job that this process runs was taken from it, else None: the job may also have removed its own file."""
        if not self.lease_time_s or not is_taken_away(job.path):
            return None
        return LOST if was_taken_back(self._jar, self._own_worker_id, job, unknown=False) else None

    def time_of(self, worker: WorkerState) -> float:
        """A worker's lease in seconds: this process's JJ_LEASE_TIME, if the worker beats often enough for that."""
        return max(self.lease_time_s, _BEATS * worker.heartbeat_time_s)

    def look(self) -> list[Holder]:
        """Look at the heartbeats of those that hold jobs; returns who they are. Raises OSError."""
        began = time.monotonic()
        server_now = read_disk_clock(self._jar.layout.clock_file(node_name()))
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
        """For a worker with nothing to do: look, if that is due, and take back what has expired. Returns whether any job
        was moved. Errors are said: the next look tries again."""
        if not self.lease_time_s or time.monotonic() < self._next_look:
            return False
        with self._turn() as is_own:
            return is_own and self._look_and_take_back()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether it is this worker's turn to look. On a network disk the idle workers of a node look in turns, and each goes on
        with what the others saw (`watch` in the home): what a look costs grows with the number of workers."""
        home, now = self._jar.ledger_home, time.monotonic()
        if not home.has_other_homes:
            yield True
            return
        with contextlib.ExitStack() as stack:
            try:
                descriptor = open_common_file(home.watch_file, os.O_RDWR)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                next_look = self._load(read_bounded(descriptor, home.watch_file))
            except OSError:
                # Somebody looks just now; but who was stopped meanwhile shall not keep all from it.
                self._next_look = now + self.interval_s
                yield now > self._looked_at + self.lease_time_s
                return
            if now < next_look:
                self._looked_at, self._next_look = now, next_look
                yield False
                return
            yield True
            seen = json.dumps([node_run(), self._next_look, self._watch.dump()]).encode()
            with contextlib.suppress(OSError):  # the next one watches anew
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, seen, 0)

    def _load(self, text: bytes) -> float:
        """Take in what the workers of this node saw; returns when the next of them is to look."""
        try:
            run, next_look, seen = json.loads(text)
            if run == node_run():
                self._watch.load(seen)
                return float(next_look)
        except (ValueError, TypeError):
            pass  # nobody wrote it yet, or somebody was killed meanwhile
        return 0.0

    def _look_and_take_back(self) -> bool:
        recovery = Recovery(self._by)
        try:
            until = time.monotonic() + _TAKING_S
            for holder in self.look():
                if self.has_expired(holder.worker):
                    if time.monotonic() > until:
                        self._next_look = 0.0  # of many that went silent at once the rest is for the next turn
                        break
                    self._jar.ledger.repaired(partial(self.take_back, holder, recovery), fill_ledger, self._say)
        except (JarError, OSError) as error:
            self._next_look = time.monotonic() + self.interval_s
            self._say(f"leases: {error}")
        for line in recovery.lines:
            if line not in self._told:  # what stays as it is was said by the look before
                self._say(line)
        self._told = recovery.lines
        return recovery.returned + recovery.completed > 0

    def take_back(self, holder: Holder, recovery: Recovery) -> None:
        """Return (or complete, where that is journaled) what an expired worker holds. Raises LedgerBusy,
        LedgerUnavailable, CannotUseJar, OSError.

        Nothing else of it is touched but the tokens of its jobs' limits: it may be alive, and come back.
        """
        worker = holder.worker
        with contextlib.suppress(FileNotFoundError):
            if read_heartbeat_ns(worker.paths.heartbeat) != holder.heartbeat_ns:
                return  # just now
        silence = f"stood still for {format_seconds(self.still_s(worker))}"
        # Listed before its jobs: what it may have taken since is not among them.
        tokens = [token for token in list_all_taken(self._jar.layout) if token.worker_id == worker.worker_id]
        is_dead_here = worker.is_to_recover
        if is_dead_here:
            recover_worker(self._jar, worker, recovery)
            if holds_jobs(worker):
                return  # it is another user's, and what runs of them may not be ended here
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
            # It may have come back to claim with one of them, and seen it still held, just before.
            self._take_jobs_back(worker, cause, recovery)
        tidy_links(self._jar, recovery.log)

    def _take_jobs_back(self, worker: WorkerState, cause: str, recovery: Recovery) -> None:
        places = [place for place, _ in list_jar(worker.paths.jobs, f"workers/{worker.paths.name}/jobs")]
        identify_held(self._jar, places)
        for place in places:
            recover_job(self._jar, worker, place, recovery, cause)


def recover_expired(jar: Jar, recovery: Recovery, log: Callable[[str], None]) -> None:
    """For `recover_jobs`: watch the workers whose heartbeats are older than their leases by the file server's clock, and
    take back what those hold that stand still all the while. Returns at once where there is none.

    A heartbeat's age decides only whom to watch. Raises LedgerBusy, LedgerUnavailable, CannotUseJar, OSError.
    """
    leases = Leases(jar, "", log)
    if not leases.lease_time_s:
        return
    holders = leases.look()
    server_now = read_disk_clock(jar.layout.clock_file(node_name()))
    suspects = [
        holder
        for holder in holders
        # One from the future was touched by another clock, which says nothing of its age.
        if not 0 <= server_now - holder.heartbeat_ns / 1e9 < leases.time_of(holder.worker)
    ]
    if not suspects:
        return
    longest_s = max(leases.time_of(holder.worker) for holder in suspects)
    log(f"watching {', '.join(holder.worker.name for holder in suspects)} for {format_seconds(longest_s)}")
    give_up_at = time.monotonic() + _PATIENCE * longest_s
    while suspects:
        if time.monotonic() > give_up_at:
            log(f"the file server's clock hardly moves: left {', '.join(holder.worker.name for holder in suspects)}")
            return
        time.sleep(leases.interval_s)
        seen = {holder.worker.worker_id: holder.heartbeat_ns for holder in leases.look()}
        # Who has moved since, or holds nothing any more, is left alone.
        suspects = [holder for holder in suspects if seen.get(holder.worker.worker_id) == holder.heartbeat_ns]
        for holder in [holder for holder in suspects if leases.has_expired(holder.worker)]:
            suspects.remove(holder)
            leases.take_back(holder, recovery)
