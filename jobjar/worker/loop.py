"""A worker: it claims, runs and completes jobs, as the guide's pseudocode has it.

`step()` is one turn, and never sleeps longer than a job runs. `run()` repeats it, and sleeps between turns. Makes and keeps
`workers/<node>.<pid>/`. A kill at any point leaves that directory, which shows the jobs that it held; recovery returns them.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobjar import control, roster
from jobjar.attempts.attempt import CHUNK, DESCRIBED, ClaimedJob, Claimer
from jobjar.attempts.capacity import Offer, offer_of
from jobjar.attempts.claimed_links import remove_discarded_links, unlink_worker
from jobjar.attempts.missing_file import hold_file
from jobjar.attempts.on_end import OnEnd
from jobjar.attempts.time_left import TimeLeft
from jobjar.attempts.workplace import Workplaces
from jobjar.described.overlap import Overlap
from jobjar.described.services import Services
from jobjar.errors import CannotUseJar, WorkerFailed
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.job_file.request import describe_capacity
from jobjar.liveness import this_process
from jobjar.processes.children import adopt_orphans
from jobjar.recovery.lease import Leases
from jobjar.roster import journal_end
from jobjar.shared_disk.files import is_gone
from jobjar.shared_disk.patience import patience
from jobjar.stages.complete import WhileRefused, return_strays
from jobjar.stages.run import run_attempt
from jobjar.worker.directory import choose_worker_name, make_worker_directory
from jobjar.worker.ends import Ends
from jobjar.worker.failure_pause import LEAVING, RESTARTING, RESTING, AfterFailure, end_pause
from jobjar.worker.listener import ORDERS, Listener, spread_s
from jobjar.worker.log import WorkerLog
from jobjar.worker.more_jobs import MoreJobs
from jobjar.worker.next_job import ClaimGivenUp, NextJob, asked_categories
from jobjar.worker.own_end import NO_LIMITS, Limits, OwnEnd
from jobjar.worker.preload import load_what_may_be_needed
from jobjar.worker.pulse import Pulse, sync_journal
from jobjar.worker.successor import Predecessor, begin_afresh, is_own_directory
from jobjar.worker.trouble import REFUSALS, Trouble
from jobjar.worker.watch import AttemptWatch

if TYPE_CHECKING:
    from jobjar.worker.chunks import ChunkWork

# The results of one turn.
RAN = "ran"
IDLE = "idle"
PAUSED = "paused"
STOPPED = "stopped"
ENDED = "ended"
REFUSED = "refused"
# Nothing was claimed yet, and there are more jobs to try. Turns are short, so that the worker looks at its orders.
LOOKING = "looking"

# The longest pause of a worker whose turn the disk refused.
_REFUSED_TURN_PAUSE_S = 5.0


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
        limits: Limits = NO_LIMITS,
        offer: Offer | None = None,
    ) -> None:
        self.jar = jar
        offer = offer or offer_of(jar.settings)
        self.log = self.jar.log = log
        self._worker_log = worker_log
        self.identity = this_process()
        # A fresh worker in a predecessor's place keeps its name and id: to everybody else it is the same worker.
        self._is_successor = predecessor is not None and is_own_directory(
            jar.layout.worker(predecessor.name), predecessor.worker_id, self.identity
        )
        if predecessor is not None and self._is_successor:
            self.name, worker_id = predecessor.name, predecessor.worker_id
        else:
            self.name, worker_id = choose_worker_name(jar.layout, self.identity), new_id()
        self.paths = jar.layout.worker(self.name)
        self.claimer = Claimer(jar, worker_id, self.paths, asked_categories(categories, is_storage), offer)
        # How many jobs it runs at once.
        self.slots = self.claimer.room.capacity.slots
        self._failures = AfterFailure(jar.settings, predecessor.failures if predecessor is not None else 0)
        self.categories = categories
        self._is_storage = is_storage
        self._pulse = Pulse(jar, self.paths, log)
        asked = [jar.layout.category_directory(category) for category in self.claimer.categories]
        self._own_end = OwnEnd(limits)
        if self._own_end.has_time:
            self.claimer.time_left = TimeLeft(jar.layout, self._own_end.left_s)
        self._listener = Listener(jar, self.paths, asked, self._pulse.disk_now, self._own_end)
        self._leases = Leases(jar, self.claimer.worker_id, log, self.claimer.paths.name)
        self._next_job = NextJob(self.claimer, self._listener.arrivals, self._pulse.disk_now, log, self.is_told_to_end)
        self._workplaces: Workplaces | None = None
        self._trouble = Trouble(self.claimer, log, has_strays=self._is_successor)
        settle = self._next_job.settle_dependents
        self._watch = AttemptWatch(self.claimer, self._pulse, self._listener, self._leases, self._flush_log, settle)
        log_later = worker_log.write_later if worker_log is not None else log
        self._refused = WhileRefused(self._watch.may_wait, log)
        self._on_end = OnEnd(jar, self.name, self.claimer.worker_id, log) if jar.settings.on_end else None
        if self._on_end is not None:
            self._pulse.also = self._on_end.turn
            self._leases.on_completed = self._on_end.note_recovered
        self._ends = Ends(self.claimer, self._failures, self._pulse.disk_now, self._refused, log_later, self._on_end)
        self._ends.explain_own_end = self._own_end.explain_time
        self._overlap: Overlap | None = None

    # Beginning and end

    def start(self) -> None:
        """Make the worker's directory and handle signals. Raises UnsafeJar, RootForGroup, CannotUseJar, NoneMayStart,
        NameTaken, WorkerFailed."""
        patience.log, patience.may_wait = self.log, lambda: not self.is_told_to_end()
        patience.beat, patience.between_pieces = self._pulse.beat_meanwhile, self._next_job.between_pieces
        self.jar.check_is_safe()
        self.jar.check_who_runs_jobs()
        self.jar.check_is_writable()
        if not self._is_successor:  # a fresh worker in its predecessor's place stops as any running worker does
            control.check_may_start(self.jar.layout)
        self.jar.take_umask()
        try:
            if self._is_successor:
                end_pause(self.paths)
            else:
                make_worker_directory(
                    self.jar,
                    self.paths,
                    self.identity,
                    self.claimer.worker_id,
                    self.categories,
                    self._is_storage,
                    self._own_end.ends_at(),
                    self._own_end.limits.setup,
                    describe_capacity(self.claimer.room.capacity),
                )
        except OSError as error:
            raise WorkerFailed(reason=f"{self.paths.path}: {error.strerror}") from error
        adopt_orphans()
        load_what_may_be_needed()
        gc.freeze()  # objects that exist now stay, and a job makes few cycles: the collector need not run for every job
        gc.set_threshold(50_000)
        self._listener.start()
        self._workplaces = Workplaces(self.claimer, self.slots)
        self._pulse.start()

    def finish(self, reason: str) -> None:
        """End the worker. Its directory stays, and records that it ended, and why."""
        if reason in (ENDED, STOPPED) and not self._listener.is_signalled_to_end():
            reason = self._own_end.explain() or reason
        self._pulse.stop()
        if self._overlap is not None:
            self._overlap.close()
        if self._workplaces is not None:
            self._clean_up()
            self._tell_ends()
            with contextlib.suppress(OSError):  # recovery returns these tokens
                self.claimer.tokens.return_strays()
            unlink_worker(self.jar.layout, self.name)
        try:
            state = roster.read_worker(self.jar.layout, self.name)
            if state is not None:
                journal_end(self.jar, state, round(self._pulse.disk_now(), 6), reason)
        except OSError as error:
            self.log(f"the end of this worker could not be recorded: {error.strerror}")
        # Two paths are checked, because a removal may still be under way.
        if is_gone(self.paths.jobs, is_patient=False) or is_gone(self.paths.identity_file, is_patient=False):
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
                    self._sleep(min(_REFUSED_TURN_PAUSE_S, self.jar.settings.pause_time_s), for_jobs=False)
                elif result == RESTING:
                    self._sleep(self._failures.left_s(), for_jobs=False)
                elif result in (IDLE, PAUSED):
                    self._sleep(
                        spread_s(self.jar.settings.pause_time_s), for_jobs=result == IDLE, is_paused=result == PAUSED
                    )
            except OSError as error:
                self._trouble.log_once(error)
                self._listener.pause()

    def step(self) -> str:
        """One turn of the lifecycle: with at most one job, or with several slots until none is left. Returns its result: REFUSED
        while the disk refuses. A refusal is logged once."""
        try:
            result = self._turn()
        except REFUSALS as error:
            self._trouble.log_refusal(error)
            return REFUSED
        except ImportError as error:
            self._trouble.note_unfit(error)
            return LEAVING
        if result in (RAN, IDLE, LOOKING):
            self._trouble.end()
        return result

    def _turn(self) -> str:
        self._pulse.beat()
        if self.is_told_to_end():
            return ENDED
        stopped, paused = self._listener.control_files.look()
        if self._listener.is_told_to_stop() or stopped:
            return STOPPED
        if paused:
            self._own_end.note_work()
            sync_journal(self.jar.journal)
            self._clean_up()
            self._next_job.keep_up()
            return PAUSED
        if self._failures.order == RESTING:
            self._failures.begin_pause(self.paths, self._pulse.disk_now(), self.log)
            self._clean_up()
            return RESTING if self._failures.left_s() > 0 else RESTARTING
        self._trouble.return_strays()
        if self._own_end.has_claimed_enough(self.claimer.claims):
            return STOPPED
        self.claimer.room.keep(())
        if self._on_end is not None:
            self._on_end.wait_for_room(self._watch.may_wait)
        try:
            job = self._next_job.claim()
        except ClaimGivenUp:
            return ENDED
        except REFUSALS as error:
            if not is_gone(self.paths.jobs, is_patient=False):
                raise
            self.log(f"{error}")
            return LEAVING
        if job is None:
            if is_gone(self.paths.jobs, is_patient=False):
                return LEAVING
            if self._next_job.has_more:
                return LOOKING
            self._clean_up()
            return_strays(self.claimer, self.log)
            return STOPPED if self._own_end.is_idle_for_long() else IDLE
        self._own_end.note_work()
        return self._work(job)

    def _work(self, job: ClaimedJob) -> str:
        """Run one claimed job and end its attempt. With several slots, and for a described job, the worker also runs those that
        come meanwhile."""
        while job.kind == DESCRIBED or self.slots > 1:
            self._overlap = self._overlap or self._make_overlap()
            rest = self._overlap.run(job)
            if rest is None:
                return self._after_work()
            job = rest
        self._listener.signals.hear_children(False)
        if job.kind == CHUNK:
            self._make_chunk_work(job).work()
            return self._after_work()
        if job.retries:
            hold_file(self.claimer, job)
        try:
            end = run_attempt(self.workplaces, job, self._watch, self.log)
        except (CannotUseJar, ImportError) as error:
            self._ends.give_back(job, str(error))
            raise
        self._ends.conclude(job, end)
        return self._after_work()

    def _may_begin_task(self) -> bool:
        """Whether to begin another task of a chunk. The worker looks at its orders here, as it does between jobs."""
        stopped, paused = self._listener.control_files.look()
        return not (stopped or paused or self._listener.is_told_to_stop()) and self._after_work() == RAN

    def _make_overlap(self) -> Overlap:
        services = Services(self.claimer, self.workplaces, self._ends, self._pulse.disk_now, self.log)
        more = MoreJobs(self.claimer, self._next_job, self._listener, self._trouble, self._may_go_on)
        slots = self.slots if self.slots > 1 else None
        return Overlap(services, self._watch, more, self._trouble, self._make_chunk_work, slots)

    def _make_chunk_work(self, job: ClaimedJob, has_free_slot: Callable[[], bool] | None = None) -> ChunkWork:
        from jobjar.worker.chunks import ChunkWork

        disk_now, may_go_on = self._pulse.disk_now, self._may_begin_task
        return ChunkWork(
            job, self.workplaces, self._ends, self._watch, self._refused, disk_now, may_go_on, has_free_slot
        )

    def _may_go_on(self) -> bool:
        self._pulse.beat()
        return self._after_work() == RAN and not self._own_end.has_claimed_enough(self.claimer.claims)

    def _after_work(self) -> str:
        if self.is_told_to_end():
            return ENDED
        self.workplaces.remove_kept()
        return LEAVING if self._trouble.is_unfit else self._failures.order or RAN

    def begin_afresh(self, is_logging: bool) -> str:
        """Let a fresh worker take this one's place in this process. Returns only if none is to, or can: the reason to end."""
        self._tell_ends()
        self._pulse.stop()
        sync_journal(self.jar.journal)
        self._flush_log()
        jar, failures = self.jar, self._failures.in_a_row
        left = self._own_end.left_over(self.claimer.claims)
        said = Predecessor(
            self.name, self.claimer.worker_id, failures, is_logging, jar.program_path, jar.root_is_meant, left
        )
        raised = self._listener.signals.raised
        begin_afresh(
            jar.layout.home, self.categories, self._is_storage, self.claimer.room.offer, said, ORDERS, raised, self.log
        )
        return ENDED if self.is_told_to_end() else STOPPED if self._listener.is_told_to_stop() else LEAVING

    def _tell_ends(self) -> None:
        """Tell what is left to be told of ends. One who is told to end has no more time for that than a job has."""
        if self._on_end is not None:
            self._on_end.finish(*([self.jar.settings.grace_time_s] if self.is_told_to_end() else []))

    def _flush_log(self) -> None:
        if self._worker_log is not None:
            self._worker_log.flush()

    def _clean_up(self) -> None:
        """Do the clean-up that waits while there are jobs: remove the last job's empty scratch directory, and discarded links."""
        if self._workplaces is not None:
            self._workplaces.discard_spares()
        remove_discarded_links(self.claimer)

    @property
    def workplaces(self) -> Workplaces:
        assert self._workplaces is not None, "it was started"
        return self._workplaces

    # Sleeping and being woken

    def _sleep(self, seconds: float, for_jobs: bool, is_paused: bool = False) -> None:
        """Sleep until an order comes, or (`for_jobs`) a submission since the last scan, or a retry is due."""
        sync_journal(self.jar.journal)
        self._flush_log()
        if self._on_end is not None:
            self._on_end.look_now()
        if for_jobs:
            seconds = self._own_end.nap_s(self._next_job.sleep_s(seconds))

        def may_claim() -> bool:
            self._pulse.beat(is_idle=self._listener.arrivals.backoff.interval_s() >= self._pulse.interval_s)
            if not self.jar.ledger_home.has_other_homes:  # a look at the journal is an operation of the file server
                self.jar.mirror(after_s=self.jar.settings.poll_time_s)
            return for_jobs and (self._leases.take_back_expired() or self._next_job.may_go_on())

        self._listener.sleep(seconds, is_paused, for_jobs, may_claim)

    def is_told_to_end(self) -> bool:
        return self._listener.is_told_to_end()
