"""A worker: it claims, runs and completes jobs, as the guide's pseudocode has it.

`step()` is one turn, and never sleeps longer than a job runs. `run()` repeats it, and sleeps between turns. Makes and keeps
`workers/<node>.<pid>/`. A kill at any point leaves that directory, which shows the jobs that it held; recovery returns them.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Container

from jobjar import control, roster
from jobjar.access.refusals import Refusals
from jobjar.attempts.attempt import DESCRIBED, INTERRUPTED, KILLED, AttemptEnd, ClaimedJob, Claimer, describe_end
from jobjar.attempts.candidates import refresh
from jobjar.attempts.claimed_links import remove_spent_links
from jobjar.attempts.own_file import hold_file, let_file_go
from jobjar.attempts.verdict import Verdict, count_failures, decide
from jobjar.attempts.workplace import Workplaces
from jobjar.described.juggle import Juggler
from jobjar.errors import CannotUseJar, LedgerBusy, LedgerUnavailable, UnsafeJar, WorkerFailed
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.liveness import this_process
from jobjar.processes.session import adopt_orphans
from jobjar.recovery.lease import Leases
from jobjar.roster import journal_end
from jobjar.shared_disk.files import is_taken_away
from jobjar.shared_disk.patience import patience
from jobjar.stages.complete import complete, give_back_unrun, return_strays
from jobjar.stages.run import run_attempt
from jobjar.worker.after_failure import (
    LEAVING,
    RESTARTING,
    RESTING,
    AfterFailure,
    Predecessor,
    begin_afresh,
    end_pause,
    is_own_place,
)
from jobjar.worker.directory import choose_worker_name, make_worker_directory
from jobjar.worker.listener import ORDERS, Listener, spread_s
from jobjar.worker.log import WorkerLog
from jobjar.worker.next_job import ClaimGivenUp, NextJob, asked_categories
from jobjar.worker.preload import load_what_may_be_needed
from jobjar.worker.pulse import Pulse, sync_journal

# The results of one turn.
RAN = "ran"
IDLE = "idle"
PAUSED = "paused"
STOPPED = "stopped"
ENDED = "ended"
REFUSED = "refused"
# Nothing was claimed yet, and there are more jobs to try. Turns are short, so that the worker looks at its orders.
LOOKING = "looking"

_REFUSED_PAUSE_S = 5.0


class Worker:
    """One worker process. Make it after daemonising: it opens files and handles signals."""

    def __init__(
        self,
        jar: Jar,
        categories: tuple[str, ...],
        log: Callable[[str], None],
        worker_log: WorkerLog | None = None,
        is_storage: bool = False,
        predecessor: Predecessor | None = None,
    ) -> None:
        self.jar = jar
        self.log = self.jar.log = log
        self._worker_log = worker_log
        self._log_later = worker_log.write_later if worker_log is not None else log
        self.identity = this_process()
        # A fresh worker in a predecessor's place keeps its name and id: to everybody else it is the same worker.
        self._has_place = predecessor is not None and is_own_place(
            jar.layout.worker(predecessor.name), predecessor.worker_id, self.identity
        )
        if predecessor is not None and self._has_place:
            self.name, worker_id = predecessor.name, predecessor.worker_id
        else:
            self.name, worker_id = choose_worker_name(jar.layout, self.identity), new_id()
        self.paths = jar.layout.worker(self.name)
        self.claimer = Claimer(jar, worker_id, self.paths, asked_categories(categories, is_storage))
        self._failures = AfterFailure(jar.settings, predecessor.failures if predecessor is not None else 0)
        self.categories = categories
        self._is_storage = is_storage
        self.interval_s = jar.settings.poll_time_s
        self._pulse = Pulse(jar, self.paths, log)
        asked = [jar.layout.category_directory(category) for category in self.claimer.categories]
        self._listener = Listener(jar, self.paths, asked, self._pulse.disk_now)
        self._leases = Leases(jar, self.claimer.worker_id, log, self.claimer.paths.name)
        self._next_job = NextJob(self.claimer, self._listener.arrivals, self._pulse.disk_now, log, self.is_told_to_end)
        self._places: Workplaces | None = None
        self._refusals = Refusals()
        self._has_strays = self._has_place
        self._juggler: Juggler | None = None
        self._is_unfit = False

    # Beginning and end

    def start(self) -> None:
        """Make the worker's directory and handle signals. Raises UnsafeJar, RootForGroup, CannotUseJar, NoneMayStart,
        NameTaken, WorkerFailed."""
        patience.log, patience.may_wait = self.log, lambda: not self.is_told_to_end()
        patience.beat, patience.between_pieces = self._pulse.beat_meanwhile, self._next_job.between_pieces
        self.jar.check_is_safe()
        self.jar.check_who_runs_jobs()
        self.jar.check_is_writable()
        if not self._has_place:  # a fresh worker in its predecessor's place stops as any running worker does
            control.check_may_start(self.jar.layout)
        self.jar.take_umask()
        try:
            if self._has_place:
                end_pause(self.paths)
            else:
                make_worker_directory(
                    self.jar, self.paths, self.identity, self.claimer.worker_id, self.categories, self._is_storage
                )
        except OSError as error:
            raise WorkerFailed(reason=f"{self.paths.path}: {error.strerror}") from error
        adopt_orphans()
        load_what_may_be_needed()
        gc.freeze()  # objects that exist now stay, and a job makes few cycles: the collector need not run for every job
        gc.set_threshold(50_000)
        self._listener.start()
        self._places = Workplaces(self.claimer)
        self._pulse.start()

    def finish(self, reason: str) -> None:
        """End the worker. Its directory stays, and records that it ended, and why."""
        self._pulse.stop()
        if self._juggler is not None:
            self._juggler.close()
        if self._places is not None:
            self._remove_leavings()
            with contextlib.suppress(OSError):  # recovery returns these tokens
                self.claimer.tokens.return_strays()
            with contextlib.suppress(OSError):
                os.unlink(self.jar.layout.claimed_alias(self.name))
        try:
            state = roster.read_worker(self.jar.layout, self.name)
            if state is not None:
                journal_end(self.jar, state, round(self.disk_now(), 6), reason)
        except OSError as error:
            self.log(f"the end of this worker could not be recorded: {error.strerror}")
        # Two paths are checked, because a removal may still be under way.
        if is_taken_away(self.paths.jobs) or is_taken_away(self.paths.identity_file):
            self.log(f"its directory {self.paths.path} was moved or removed, so that nobody would know it any more")
        sync_journal(self.jar.journal)
        self.log(f"claimed {self.claimer.claims} jobs, and {self.claimer.lost_tries} times found one gone")
        self.jar.close()
        self._listener.close()
        patience.may_wait, patience.beat = lambda: True, lambda: None
        patience.between_pieces = patience.beat
        self.log(f"worker {self.name} ended: {reason}")

    # The loop

    def run(self) -> str:
        """Work until the worker has to leave. Returns the reason: ENDED, STOPPED, LEAVING, or RESTARTING if a fresh worker is
        to take this one's place (`begin_afresh`)."""
        while True:
            result = self.step()
            if result in (ENDED, STOPPED, LEAVING, RESTARTING):
                return result
            try:
                if result == REFUSED:
                    self._sleep(min(_REFUSED_PAUSE_S, self.jar.settings.pause_time_s), for_jobs=False)
                elif result == RESTING:
                    self._sleep(self._failures.left_s(), for_jobs=False)
                elif result in (IDLE, PAUSED):
                    self._sleep(
                        spread_s(self.jar.settings.pause_time_s), for_jobs=result == IDLE, is_paused=result == PAUSED
                    )
            except OSError as error:
                self._refusals.tell_error(error, self.log)
                self._listener.pause()

    def step(self) -> str:
        """One turn of the lifecycle, with at most one job. Returns its result: REFUSED while the disk refuses. A refusal is
        logged once."""
        try:
            result = self._turn()
        except (CannotUseJar, UnsafeJar, LedgerBusy, LedgerUnavailable, OSError) as error:
            self.log_refusal(error)
            return REFUSED
        except ImportError as error:
            self.note_unfit(error)
            return LEAVING
        if result in (RAN, IDLE, LOOKING):
            self._refusals.end_all(self.log)
        return result

    def _turn(self) -> str:
        self._pulse.beat()
        if self.is_told_to_end():
            return ENDED
        stopped, paused = self._listener.control_files.look()
        if self._listener.is_told_to_stop() or stopped:
            return STOPPED
        if paused:
            sync_journal(self.jar.journal)
            self._remove_leavings()
            self._next_job.keep_up()
            return PAUSED
        if self._failures.order == RESTING:
            self._failures.begin_pause(self.paths, self.disk_now(), self.log)
            self._remove_leavings()
            return RESTING if self._failures.left_s() > 0 else RESTARTING
        if self._has_strays:
            return_strays(self.claimer, self.log)
            self._has_strays = False
        try:
            job = self._next_job.claim()
        except ClaimGivenUp:
            return ENDED
        except (CannotUseJar, UnsafeJar, LedgerBusy, LedgerUnavailable, OSError) as error:
            if not is_taken_away(self.paths.jobs):
                raise
            self.log(f"{error}")
            return LEAVING
        if job is None:
            if is_taken_away(self.paths.jobs):
                return LEAVING
            if self._next_job.has_more:
                return LOOKING
            self._remove_leavings()
            return_strays(self.claimer, self.log)
            return IDLE
        return self._work(job)

    def _work(self, job: ClaimedJob) -> str:
        """Run one claimed job and end its attempt. A described job runs together with those that come meanwhile."""
        if job.kind == DESCRIBED:
            self._juggler = self._juggler or Juggler(self)
            rest = self._juggler.juggle(job)
            return self._after_work() if rest is None else self._work(rest)
        self._listener.signals.hear_children(False)
        if job.retries:
            hold_file(self.claimer, job)
        try:
            end = run_attempt(self.places, job, self, self.log)
        except (CannotUseJar, ImportError) as error:
            self.give_back(job, str(error))
            raise
        now = self.disk_now()
        verdict = decide(job, end, self.failures_before(job, end), now)
        held = complete(self.claimer, job, end, verdict, now, self.may_wait, self.log, is_next_near=True)
        let_file_go(self.claimer, job)
        self.log_end(job, end, verdict, held)
        return self._after_work()

    def log_end(self, job: ClaimedJob, end: AttemptEnd, verdict: Verdict, held: bool) -> None:
        """Log how an attempt ended, and count a failure, after which this worker may have to leave."""
        if held and end.outcome != INTERRUPTED:
            self._log_later(
                f"{job.name}: {describe_end(end)}{', to be run again' if verdict.reason == 'retried' else ''}"
            )
        elif held and end.message:
            self.log(f"{job.name}: {end.message}")
        if held:
            self._failures.note(job.kind, end.outcome)

    def _after_work(self) -> str:
        if self.is_told_to_end():
            return ENDED
        self.places.remove_kept()
        return LEAVING if self._is_unfit else self._failures.order or RAN

    def note_unfit(self, error: ImportError) -> str:
        self._is_unfit = True
        message = f"its worker's software was moved or changed while it ran ({error})"
        self.log(f"{message}; the worker leaves: start another one")
        return message

    def begin_afresh(self, is_logging: bool) -> str:
        """Let a fresh worker take this one's place in this process. Returns only if none is to, or can: the reason to end."""
        self._pulse.stop()
        sync_journal(self.jar.journal)
        self._flush_log()
        jar, failures = self.jar, self._failures.in_a_row
        said = Predecessor(self.name, self.claimer.worker_id, failures, is_logging, jar.program_path, jar.root_is_meant)
        raised = self._listener.signals.raised
        begin_afresh(jar.layout.home, self.categories, self._is_storage, said, ORDERS, raised, self.log)
        return ENDED if self.is_told_to_end() else STOPPED if self._listener.is_told_to_stop() else LEAVING

    def _flush_log(self) -> None:
        if self._worker_log is not None:
            self._worker_log.flush()

    def may_wait(self) -> bool:
        """Whether to go on waiting while the disk refuses."""
        self._pulse.beat()
        self._flush_log()
        return not self.is_told_to_end()

    def give_back(self, job: ClaimedJob, why: str) -> None:
        let_file_go(self.claimer, job)
        give_back_unrun(self.claimer, job, why, self.disk_now(), self.may_wait, self.log)

    def _remove_leavings(self) -> None:
        """Do the clean-up that waits while there are jobs: remove the last job's empty scratch directory, and spent links."""
        if self._places is not None:
            self._places.discard_spares()
        remove_spent_links(self.claimer)

    def failures_before(self, job: ClaimedJob, end: AttemptEnd) -> int:
        return count_failures(self.jar, job, end)

    # The protocols Host (described/lifecycle.py) and JugglingHost (described/juggle.py): what juggling needs of a worker

    def disk_now(self) -> float:
        return self._pulse.disk_now()

    @property
    def places(self) -> Workplaces:
        assert self._places is not None, "it was started"
        return self._places

    def claim_another(self, held: Container[str], is_ahead: bool) -> ClaimedJob | None:
        self._pulse.beat()
        if self._after_work() != RAN or self._listener.is_told_to_stop() or any(self._listener.control_files.look()):
            return None
        try:
            if self._has_strays:
                return_strays(self.claimer, self.log, held)
                self._has_strays = False
            self.claimer.is_ahead = is_ahead
            job = self._next_job.claim()
        except ClaimGivenUp:
            return None
        except (CannotUseJar, UnsafeJar, LedgerBusy, LedgerUnavailable, OSError) as error:
            self.log_refusal(error)
            return None
        finally:
            self.claimer.is_ahead = False
        self._refusals.end_all(self.log)
        return job

    def log_refusal(self, error: Exception) -> None:
        # A failed claim may have left a file in jobs/. Give it back before the next claim, which judges its rename by the files
        # there.
        self._has_strays = True
        self._refusals.tell_error(error, self.log)

    def arrivals(self) -> list[int]:
        self._listener.arrivals.watch()
        return self._listener.arrivals.descriptors()

    def has_arrivals(self) -> bool:
        return self._listener.arrivals.any()

    # Sleeping and being woken

    def _sleep(self, seconds: float, for_jobs: bool, is_paused: bool = False) -> None:
        """Sleep until an order comes, or (`for_jobs`) a submission since the last scan, or a retry is due."""
        sync_journal(self.jar.journal)
        self._flush_log()
        if for_jobs:
            seconds = self._next_job.sleep_s(seconds)

        def may_claim() -> bool:
            self._pulse.beat(is_idle=self._listener.arrivals.backoff.interval_s() >= self._pulse.interval_s)
            if not self.jar.ledger_home.has_other_homes:  # a look at the journal is an operation of the file server
                self.jar.mirror(after_s=self.interval_s)
            return for_jobs and (self._leases.take_back_expired() or self._next_job.may_go_on())

        self._listener.sleep(seconds, is_paused, for_jobs, may_claim)

    # The protocol Watch (attempts/attempt.py): what ends a running attempt early

    def between_pieces(self) -> None:
        refresh(self.claimer, self.disk_now())

    def descriptors(self) -> list[int]:
        return self._listener.descriptors()

    def take_wake(self) -> bool:
        return self._listener.take_wake()

    def reason(self, job: ClaimedJob) -> str | None:
        self.take_wake()
        self._pulse.beat()
        self._flush_log()
        self.jar.mirror(after_s=self.interval_s, with_others=True)
        if self.is_told_to_end():
            return INTERRUPTED
        if self._listener.control_files.take_kill_request(job.uid, job.name):
            return KILLED
        return self._leases.check_held(job)

    def is_told_to_end(self) -> bool:
        return self._listener.is_told_to_end()
