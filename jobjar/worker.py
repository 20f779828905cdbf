"""A worker: claim, run, complete, and again, as the guide's pseudocode has it.

`step()` is one turn and never sleeps longer than a job runs; `run()` repeats it and sleeps between. Makes and keeps
`workers/<node>.<pid>/`. Killed anywhere, its process is gone and its directory says what it held; recovery returns that.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import time
from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from jobjar import control
from jobjar.arrivals import Arrivals
from jobjar.attempt import (
    DESCRIBED,
    FAILED,
    INTERRUPTED,
    KILLED,
    TIMED_OUT,
    AttemptEnd,
    ClaimedJob,
    Claimer,
    describe_end,
)
from jobjar.disk import is_taken_away
from jobjar.errors import CannotUseJar, LedgerBusy, LedgerUnavailable, UnsafeJar, WorkerFailed
from jobjar.jar import Jar
from jobjar.jobname import new_id
from jobjar.lease import Leases
from jobjar.ledger.fold import fold_journals
from jobjar.liveness import this_process
from jobjar.log import Log
from jobjar.next_job import ClaimGivenUp, NextJob
from jobjar.patience import Refusals, patience
from jobjar.propose import refresh
from jobjar.pulse import Pulse, sync_journal
from jobjar.recover import note_end
from jobjar.session import END_NOW, adopt_orphans, reap_ended
from jobjar.stages.complete import (
    Verdict,
    complete,
    count_failures_before,
    decide,
    end_unrun,
    give_back,
    remove_spent_links,
    return_strays,
)
from jobjar.stages.run import run_attempt
from jobjar.wake import DirectoryWatch, SignalFlags, wait_readable
from jobjar.worker_directory import asked_categories, choose_worker_name, make_worker_directory
from jobjar.workplace import Workplaces

if TYPE_CHECKING:
    from jobjar.juggle import Juggler

# What one turn came to.
RAN = "ran"
IDLE = "idle"
PAUSED = "paused"
STOPPED = "stopped"
ENDED = "ended"
LEAVING = "leaving"
REFUSED = "refused"
# Nothing was claimed yet, and there is more to be tried: what has come to an end is this turn, which is short.
LOOKING = "looking"

STOP_AFTER_JOB = signal.SIGUSR1
_REFUSED_PAUSE_S = 5.0


class Worker:
    """One worker process. Make it after daemonising: it opens files and takes signals."""

    def __init__(
        self,
        jar: Jar,
        categories: tuple[str, ...],
        say: Callable[[str], None],
        log: Log | None = None,
        is_storage: bool = False,
    ) -> None:
        self.jar = jar
        self.say = self.jar.say = say
        self._log = log
        self._note = log.note if log is not None else say
        self.identity = this_process()
        self.name = choose_worker_name(jar.layout, self.identity)
        self.paths = jar.layout.worker(self.name)
        self.claimer = Claimer(jar, new_id(), self.paths, asked_categories(categories, is_storage))
        self.categories = categories
        self._is_storage = is_storage
        self.interval_s = jar.settings.poll_time_s
        is_network = not jar.ledger_home.shared
        self._orders = control.Orders(jar.layout, self.paths, self.interval_s, is_network)
        self._signals = SignalFlags()
        self._control_watch = DirectoryWatch(removals=True)
        self._pulse = Pulse(jar, self.paths, say)
        asked = [jar.layout.jar_directory(category) for category in self.claimer.categories]
        self._arrivals = Arrivals(asked, is_network, self._pulse.disk_now)
        self._leases = Leases(jar, self.claimer.worker_id, say)
        self._next_job = NextJob(self.claimer, self._arrivals, self._pulse.disk_now, say, self.is_told_to_end)
        self._places: Workplaces | None = None
        self._refusals = Refusals(say)
        self._has_strays = False
        self._juggler: Juggler | None = None
        self._has_failed = False

    # Beginning and end

    def start(self) -> None:
        """Make the worker's directory and take signals. Raises UnsafeJar, RootForGroup, CannotUseJar, NoneMayStart, NameTaken,
        WorkerFailed."""
        patience.say, patience.may_wait = self.say, lambda: not self.is_told_to_end()
        patience.beat, patience.between_pieces = self._pulse.beat_meanwhile, self._next_job.between_pieces
        self.jar.check_is_safe()
        self.jar.check_who_runs_jobs()
        self.jar.check_is_writable()
        control.check_may_start(self.jar.layout)
        self.jar.take_umask()
        try:
            make_worker_directory(
                self.jar, self.paths, self.identity, self.claimer.worker_id, self.categories, self._is_storage
            )
        except OSError as error:
            raise WorkerFailed(reason=f"{self.paths.path}: {error.strerror}") from error
        adopt_orphans()
        gc.freeze()  # what is here now stays, and a job makes few cycles: the collector need not look after every job
        gc.set_threshold(50_000)
        self._signals.take((*END_NOW, STOP_AFTER_JOB))
        self._places = Workplaces(self.claimer)
        self._pulse.start()

    def finish(self, reason: str) -> None:
        """Say good-bye: the worker's directory stays, and says that it ended and why."""
        self._pulse.stop()
        if self._juggler is not None:
            self._juggler.close()
        if self._places is not None:
            self._remove_leavings()
            with contextlib.suppress(OSError):  # recovery gives them back
                self.claimer.tokens.return_strays()
            with contextlib.suppress(OSError):
                os.unlink(self.jar.layout.claimed_alias(self.name))
        try:
            state = control.read_worker(self.jar.layout, self.name)
            if state is not None:
                note_end(self.jar, state, round(self.disk_now(), 6), reason)
        except OSError as error:
            self.say(f"the end of this worker could not be recorded: {error.strerror}")
        # Either: it may still be on its way out.
        if is_taken_away(self.paths.jobs) or is_taken_away(self.paths.identity_file):
            self.say(f"its directory {self.paths.path} was moved or removed, so that nobody would know it any more")
        sync_journal(self.jar.journal)
        self.say(f"claimed {self.claimer.claims} jobs, and {self.claimer.lost_tries} times found one gone")
        self.jar.close()
        self._control_watch.close()
        self._arrivals.close()
        self._signals.close()
        patience.may_wait, patience.beat = lambda: True, lambda: None
        patience.between_pieces = patience.beat
        self.say(f"worker {self.name} ended: {reason}")

    # The loop

    def run(self) -> str:
        """Work until told to leave; returns why: ENDED, STOPPED or LEAVING."""
        while True:
            result = self.step()
            if result in (ENDED, STOPPED, LEAVING):
                return result
            try:
                if result == REFUSED:
                    self._sleep(min(_REFUSED_PAUSE_S, self.jar.settings.pause_time_s), wake_for_jobs=False)
                elif result in (IDLE, PAUSED):
                    self._sleep(self._pause_time_s(), wake_for_jobs=result == IDLE, paused=result == PAUSED)
            except OSError as error:
                self._refusals.tell(error)
                wait_readable(self._signals.descriptors(), self.interval_s)

    def step(self) -> str:
        """One turn of the lifecycle: at most one job. Returns what it came to; REFUSED, once said, while the disk refuses."""
        try:
            result = self._turn()
        except (CannotUseJar, UnsafeJar, LedgerBusy, LedgerUnavailable, OSError) as error:
            self.tell_refusal(error)
            return REFUSED
        if result in (RAN, IDLE, LOOKING):
            self._refusals.end()
        return result

    def _turn(self) -> str:
        self._pulse.beat()
        if self.is_told_to_end():
            return ENDED
        stopped, paused = self._orders.look()
        if signal.SIGUSR1 in self._signals.raised or stopped:
            return STOPPED
        if paused:
            sync_journal(self.jar.journal)
            self._remove_leavings()
            self._keep_up()
            return PAUSED
        if self._has_strays:
            return_strays(self.claimer, self.say)
            self._has_strays = False
        try:
            job = self._next_job.claim()
        except ClaimGivenUp:
            return ENDED
        except (CannotUseJar, UnsafeJar, LedgerBusy, LedgerUnavailable, OSError) as error:
            if not is_taken_away(self.paths.jobs):
                raise
            self.say(f"{error}")
            return LEAVING
        if job is None:
            if is_taken_away(self.paths.jobs):
                return LEAVING
            if self._next_job.has_more:
                return LOOKING
            self._remove_leavings()
            return_strays(self.claimer, self.say)
            return IDLE
        return self._work(job)

    def _work(self, job: ClaimedJob) -> str:
        """Run one claimed job and end its attempt; a described one together with those that come meanwhile."""
        if job.kind == DESCRIBED:
            from jobjar.juggle import Juggler  # with what it needs, only where there are such jobs

            self._juggler = self._juggler or Juggler(self)
            rest = self._juggler.juggle(job)
            return self._after_work() if rest is None else self._work(rest)
        self._signals.hear_children(False)
        try:
            end = run_attempt(self.places, job, self, self.say)
        except CannotUseJar:
            self.give_back(job)
            raise
        now = self.disk_now()
        verdict = decide(job, end, self.failures_before(job, end), now)
        held = complete(self.claimer, job, end, verdict, now, self.may_wait, self.say, is_next_near=True)
        self.note_end(job, end, verdict, held)
        return self._after_work()

    def note_end(self, job: ClaimedJob, end: AttemptEnd, verdict: Verdict, held: bool) -> None:
        """Say how an attempt ended; remember a failure after which this worker is to leave."""
        if held and end.outcome != INTERRUPTED:
            self._note(f"{job.name}: {describe_end(end)}{', to be run again' if verdict.reason == 'retried' else ''}")
        elif held and end.message:
            self.say(f"{job.name}: {end.message}")
        self._has_failed |= held and end.outcome in (FAILED, TIMED_OUT)

    def _after_work(self) -> str:
        if self.is_told_to_end():
            return ENDED
        self.places.remove_kept()
        return LEAVING if self._has_failed and self.jar.settings.exit_on_failure else RAN

    def _flush_log(self) -> None:
        if self._log is not None:
            self._log.flush()

    def may_wait(self) -> bool:
        """Whether to go on waiting for a disk that refuses."""
        self._pulse.beat()
        self._flush_log()
        return not self.is_told_to_end()

    def give_back(self, job: ClaimedJob) -> None:
        try:
            give_back(self.claimer, job)
        except FileNotFoundError:
            end_unrun(self.claimer, job, self.disk_now(), self.may_wait, self.say)
        except OSError as error:
            self.say(f"{job.name} could not be given back and stays here for recovery: {error.strerror}")

    def _remove_leavings(self) -> None:
        """What is put off while there are jobs: removing the last one's empty scratch directory, and links."""
        if self._places is not None:
            self._places.discard_spares()
        remove_spent_links(self.claimer)

    def _keep_up(self) -> None:
        """Fold what others did meanwhile, so that the end of a pause finds little to do."""
        with contextlib.suppress(LedgerBusy, LedgerUnavailable), self.jar.ledger.writing() as connection:
            fold_journals(connection, self.jar.layout)

    def failures_before(self, job: ClaimedJob, end: AttemptEnd) -> int:
        return count_failures_before(self.claimer, job, end)

    # Host (course.py, juggle.py): what juggling needs of a worker

    def disk_now(self) -> float:
        return self._pulse.disk_now()

    @property
    def places(self) -> Workplaces:
        assert self._places is not None, "it was started"
        return self._places

    def claim_another(self, held: Container[str]) -> ClaimedJob | None:
        self._pulse.beat()
        if self._after_work() != RAN or signal.SIGUSR1 in self._signals.raised or any(self._orders.look()):
            return None
        try:
            if self._has_strays:
                return_strays(self.claimer, self.say, held)
                self._has_strays = False
            job = self._next_job.claim()
        except ClaimGivenUp:
            return None
        except (CannotUseJar, UnsafeJar, LedgerBusy, LedgerUnavailable, OSError) as error:
            self.tell_refusal(error)
            return None
        self._refusals.end()
        return job

    def tell_refusal(self, error: Exception) -> None:
        # What a claim left in jobs/ on its way back goes first: a rename is judged by what lies there.
        self._has_strays = True
        self._refusals.tell(error)

    def arrivals(self) -> list[int]:
        self._arrivals.watch()
        return self._arrivals.descriptors()

    def has_arrivals(self) -> bool:
        return self._arrivals.any()

    # Sleeping and being woken

    def _pause_time_s(self) -> float:
        """JJ_PAUSE_TIME, up to 10 % and at most 10 s longer or shorter at random (guide)."""
        pause_time_s = self.jar.settings.pause_time_s
        spread_s = min(pause_time_s * 0.1, 10.0)
        return pause_time_s + random.uniform(-spread_s, spread_s)

    def _sleep(self, seconds: float, wake_for_jobs: bool, paused: bool = False) -> None:
        """Sleep, but not past a control file, a signal, or (with `wake_for_jobs`) a submission since the last scan."""
        sync_journal(self.jar.journal)
        self._flush_log()
        until = time.monotonic() + seconds
        if wake_for_jobs:
            until = min(until, time.monotonic() + self._next_job.until_due_s())
        self._watch_directories()
        self._hear_children()
        while not self.is_told_to_end() and signal.SIGUSR1 not in self._signals.raised:
            left_s = until - time.monotonic()
            # Looked at again after the watch was set: what came before raises nothing there.
            if left_s <= 0 or self._orders.look(at_once=True) != (False, paused):
                return
            descriptors = [*self._signals.descriptors(), *self._control_watch.descriptors()]
            if wake_for_jobs:
                descriptors += self._arrivals.descriptors()
            wait_readable(descriptors, min(left_s, self.jar.settings.poll_time_s))
            self.take_wake()
            self._pulse.beat()
            if wake_for_jobs and self._leases.take_back_expired():
                return
            if wake_for_jobs and (self._arrivals.any() or self.claimer.tokens.may_go_on()):
                return

    def _watch_directories(self) -> None:
        self._control_watch.watch([self.paths.path, self.jar.layout.workers])
        self._arrivals.watch()

    # Watch (attempt.py): what ends a running attempt early

    def meanwhile(self) -> None:
        refresh(self.claimer, self.disk_now())

    def descriptors(self) -> list[int]:
        self._control_watch.watch([self.paths.path])
        self._hear_children()
        return [*self._signals.descriptors(), *self._control_watch.descriptors()]

    def take_wake(self) -> bool:
        """Take what woke this worker; returns whether it was more than the end of a child, which is reaped."""
        is_told = self._signals.drain()
        reap_ended()
        return self._control_watch.drain() or is_told

    def _hear_children(self) -> None:
        if self._signals.hear_children(True):
            reap_ended()  # of those that ended before no signal tells

    def reason(self, job: ClaimedJob) -> str | None:
        self.take_wake()
        self._pulse.beat()
        self._flush_log()
        if self.is_told_to_end():
            return INTERRUPTED
        if self._orders.take_kill_request(job.name):
            return KILLED
        return self._leases.check_held(job)

    def is_told_to_end(self) -> bool:
        return not self._signals.raised.isdisjoint(END_NOW)
