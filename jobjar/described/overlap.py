"""Have several jobs of a worker under way at once: as many run as it has slots, the next described one is staged in meanwhile,
and the last one is staged out.

The worker's own thread claims, journals, and starts and waits for processes. Other threads work on files only, and report to it.
Each job is a generator (way.py) that yields what it waits for. This module waits for all of them at once. It writes journal
entries of attempts under way. A crash leaves what a crash of any worker leaves: jobs that a dead worker holds.
"""

from __future__ import annotations

import contextlib
import select
import signal
import time
from collections.abc import Callable, Container
from typing import Any, Protocol

from jobjar.access.refusals import explain_error, explain_no_process
from jobjar.attempts.ahead import find_idle
from jobjar.attempts.attempt import CHUNK, DESCRIBED, INTERRUPTED, TIMED_OUT, ClaimedJob, Watch
from jobjar.attempts.missing_file import hold_file, let_file_go
from jobjar.attempts.warning import send_warning
from jobjar.described.lifecycle import Lifecycle
from jobjar.described.services import Services
from jobjar.described.slots import SHORT_S, Process, Slots, Task
from jobjar.described.steps import RUN, STAGE_IN, STAGE_OUT, Command, Cut, Program, Turn, Work
from jobjar.described.way import Way
from jobjar.errors import CannotUseJar, LedgerError
from jobjar.liveness import session_processes, start_now
from jobjar.processes.children import Ended, reap, reap_strays
from jobjar.processes.ending import DOUBT_S, seems_ended_on_request, signal_session
from jobjar.processes.starting import CannotStart, StillBusy, start_shell
from jobjar.processes.threads import WorkThreads
from jobjar.processes.waits import Listen, Pause

_LONGEST_LOOK_S = 0.1
# A worker spends at most this share of its time on asking for another job.
_CLAIM_SHARE = 0.05


class OverlapWatch(Watch, Protocol):
    """What may end attempts early, for several at once. `is_woken`: `reason` read of something that may end another one."""

    is_woken: bool

    def take_wake(self) -> bool:
        """Read what woke the worker. Returns whether it may be a reason to end a job."""
        ...


class MoreJobs(Protocol):
    """Claims further jobs (worker/more_jobs.py)."""

    def claim(self, held: Container[str], is_ahead: bool) -> ClaimedJob | None: ...

    def descriptors(self) -> list[int]: ...

    def has_arrived(self) -> bool: ...


class Trouble(Protocol):
    """Takes note of what goes wrong (worker/trouble.py)."""

    def log_refusal(self, error: Exception) -> None: ...

    def note_unfit(self, error: ImportError) -> str: ...


class Overlap:
    """The jobs that a worker has under way at once. `make_way` makes the way of a chunk, which asks whether a slot is free.
    `slots` are those of a worker that runs several jobs of any kind at once; with None it runs only described ones so."""

    def __init__(
        self,
        services: Services,
        watch: OverlapWatch,
        more: MoreJobs,
        trouble: Trouble,
        make_way: Callable[[ClaimedJob, Callable[[], bool]], Way],
        slots: int | None,
    ) -> None:
        self._services = services
        self._claimer = services.claimer
        self._watch = watch
        self._more = more
        self._trouble = trouble
        self._settings = services.claimer.jar.settings
        self._journal = services.claimer.jar.journal
        self._make_way = make_way
        self._runs_all = slots is not None
        self._slots = Slots(self._settings, slots or self._settings.run_slots)
        self._jobs = self._slots.jobs
        self._threads = WorkThreads()
        self._next_claim = self._next_look = 0.0
        # Whether to ask for a job as soon as a run slot is free: the last that was heard of was for a time when all were taken.
        self._asks_when_free = False

    def close(self) -> None:
        self._threads.close()

    def run(self, job: ClaimedJob) -> ClaimedJob | None:
        """Bring this job, and those that are claimed meanwhile, to their ends. Returns a job that was claimed after all others
        had ended and needs no overlap; else None."""
        self._next_claim = 0.0
        self._next_look = time.monotonic() + self._watch.interval_s
        self._take(job)
        while self._jobs:
            self._give_turns()
            rest = self._claim()
            if rest is not None:
                return rest
            if self._jobs:
                self._wait()
        return None

    # Turns and claims

    def _give_turns(self) -> None:
        """Start the jobs for which there is a slot. The jobs nearest to their end come first."""
        again = True
        while again:
            again = False
            for slot in (STAGE_OUT, RUN, STAGE_IN):
                for task in [task for task in self._jobs if task.wanted == slot]:
                    if self._slots.has_turn(slot):
                        task.slot = slot
                        self._go_on(task, None)
                        again = True

    def _claim(self) -> ClaimedJob | None:
        while self._slots.may_claim() and time.monotonic() >= self._when_to_claim():
            started = time.monotonic()
            if started >= self._next_look and self._jobs:
                return None  # kill requests and the time limits of the others come first
            is_ahead = self._slots.is_next_ahead()
            if self._claimer.room.keep({task.job.uid for task in self._jobs}):
                self._claimer.proposals.stale_at = 0.0  # others may fit now
            job = self._more.claim({task.job.path for task in self._jobs}, is_ahead)
            if is_ahead or job is None:
                self._asks_when_free = is_ahead
            if job is None:
                took_s = time.monotonic() - started
                self._next_claim = time.monotonic() + max(self._watch.interval_s, took_s / _CLAIM_SHARE)
                return None
            if not self._jobs and job.kind != DESCRIBED and not self._runs_all:
                return job
            self._take(job)
            self._give_turns()
        return None

    def _when_to_claim(self) -> float:
        """When to ask for another job. What may not be taken ahead may be taken as soon as a run slot is free."""
        return 0.0 if self._asks_when_free and not self._slots.is_next_ahead() else self._next_claim

    def _has_free_slot(self) -> bool:
        return not self._slots.is_next_ahead()

    # One job

    def _take(self, job: ClaimedJob) -> None:
        hold_file(self._claimer, job)
        is_chunk = job.kind == CHUNK
        task = Task(self._make_way(job, self._has_free_slot) if is_chunk else Lifecycle(self._services, job))
        self._jobs.append(task)
        self._go_on(task, None)

    def _go_on(self, task: Task, answer: Any, error: BaseException | None = None) -> None:
        """Send a job the answer that it waited for, and begin what it waits for next."""
        while True:
            task.wait = None
            if isinstance(error, Cut) and error.cause == TIMED_OUT:
                task.cause = None  # the time limit does not hold for what is done with the outputs afterwards
            try:
                wait = task.steps.send(answer) if error is None else task.steps.throw(error)
            except StopIteration:
                self._jobs.remove(task)
                let_file_go(self._claimer, task.job)
                return
            except (CannotUseJar, LedgerError, OSError, ImportError) as refusal:
                self._jobs.remove(task)
                if isinstance(refusal, ImportError):
                    why = self._trouble.note_unfit(refusal)
                else:
                    self._trouble.log_refusal(refusal)
                    why = explain_error(refusal)
                if task.lifecycle.end_refused(why):
                    let_file_go(self._claimer, task.job)
                else:  # another worker may take it
                    self._services.ends.give_back(task.job, why)
                self._next_claim = time.monotonic() + self._watch.interval_s
                return
            answer = error = None
            task.wait, task.since, task.is_journaled = wait, time.monotonic(), False
            task.give_up_at = float("inf")
            if isinstance(wait, Turn):
                task.slot = ""
            if task.cause is not None and not (isinstance(wait, Work) and wait.is_short):
                error = Cut(task.cause)
                continue
            if isinstance(wait, Work):
                task.work = self._threads.begin(wait.action)
            elif isinstance(wait, Command | Program):
                try:
                    self._begin_command(task, wait)
                except (CannotStart, StillBusy) as refusal:
                    if isinstance(wait, Program) or isinstance(refusal, StillBusy):
                        error = refusal
                        continue
                    answer = Ended(refusal.status, None, 0.0, 0.0, 0)
                    continue
                except OSError as refusal:
                    error = OSError(explain_no_process(refusal))
                    continue
            return

    def _begin_command(self, task: Task, command: Command | Program) -> None:
        def start() -> int:
            if isinstance(command, Program):
                return command.start()
            output = task.lifecycle.output
            return start_shell(command.text, command.words, output, command.environment, command.error)

        pid, started = start_now(start)
        task.process = Process(pid)
        if task.slot == RUN and task.lifecycle.pid is None:
            task.lifecycle.pid, task.lifecycle.pid_started = pid, started
        if not self._slots.may_claim():
            self._watch.after_start()

    def _cut(self, task: Task, cause: str) -> None:
        """End a job now. Does nothing for a job that is being ended already."""
        if task.cause is not None:
            return
        task.cause = cause
        if task.lifecycle.attempt is not None:
            task.lifecycle.attempt.is_cut = True
        process = task.process
        if process is not None:
            if process.ended is None:
                self._begin_end(process)
            else:
                process.look_at = time.monotonic()
        elif not isinstance(task.wait, Work):
            self._go_on(task, None, Cut(cause))
        elif not task.wait.is_short:
            # A thread cannot be killed. It gets the grace time to notice that the attempt is cut, and to tidy.
            task.give_up_at = time.monotonic() + self._settings.grace_time_s

    def _begin_end(self, process: Process) -> None:
        signal_session(process.pid, signal.SIGTERM)
        signal_session(process.pid, signal.SIGCONT)
        process.kill_at = time.monotonic() + self._settings.grace_time_s
        process.look_at = time.monotonic() + process.pause_s

    # Waiting for all of them

    def _wait(self) -> None:
        poll = select.poll()
        orders = set(self._watch.descriptors())
        may_claim = self._slots.may_claim()
        arrivals = set(self._more.descriptors()) if may_claim else set()
        for descriptor in (self._threads.reader, *orders, *arrivals):
            poll.register(descriptor, select.POLLIN)
        for task in self._jobs:
            if task.child >= 0:
                poll.register(task.child, select.POLLIN)
        timeout_s = 0.0 if self._watch.is_woken else self._next_due(may_claim) - time.monotonic()
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, timeout_s) * 1000 + 1)}
        if arrivals & ready and self._more.has_arrived():
            self._next_claim = 0.0
        if self._threads.reader in ready:
            self._take_results()
        now = time.monotonic()
        is_woken = (self._watch.is_woken or bool(orders & ready)) and self._watch.take_wake()
        for task in list(self._jobs):
            process = task.process
            if isinstance(task.wait, Listen):
                self._listen(task, task.wait, ready, now, is_woken)
            elif process is not None and (process.pidfd in ready or now >= process.look_at):
                self._look_at_process(task, process)
        if is_woken or now >= self._next_look:
            self._next_look = now + self._watch.interval_s
            for task in list(self._jobs):
                cause = None if task.hears_orders else self._watch.reason(task.job)
                if cause is not None:
                    self._cut(task, cause)
            self._give_back_ahead(now)
        self._do_what_is_due(time.monotonic())

    def _listen(self, task: Task, wait: Listen, ready: set[int], now: float, is_woken: bool) -> None:
        """Go on with a job if what it listens for has come."""
        has_ended = task.child >= 0 and task.child in ready
        if has_ended or (is_woken and wait.hears_orders) or now >= task.listens_until(wait):
            self._go_on(task, None if wait.waiter is None else reap(wait.waiter.pid))

    def _give_back_ahead(self, now: float) -> None:
        """Give back jobs that wait here for a run slot while another worker is idle.

        A worker has to be idle at two looks in a row, because every worker is idle for a moment between two jobs. The job has
        to have waited for as long as its stage-in took, because the other worker repeats that.
        """
        for task in self._slots.waiting_ahead():
            if now - task.since < task.since - task.taken_at:
                continue
            before, claimer = task.idle_worker, self._claimer
            task.idle_worker = find_idle(claimer, task.job.category, self._services.disk_now())
            if task.idle_worker is not None and before is not None:
                task.lifecycle.cut_message = f"given back before it ran: {task.idle_worker} could run it at once"
                self._cut(task, INTERRUPTED)

    def _next_due(self, may_claim: bool) -> float:
        due = min(self._next_look, self._when_to_claim()) if may_claim else self._next_look
        return min(due, *(task.next_due() for task in self._jobs))

    def _do_what_is_due(self, now: float) -> None:
        for task in list(self._jobs):
            lifecycle, deadline, wait = task.lifecycle, task.lifecycle.deadline, task.wait
            if lifecycle.monitor is not None and lifecycle.monitor.is_due():
                with contextlib.suppress(OSError):  # read again at the attempt's end, which reports the error
                    lifecycle.note_variables()
                if lifecycle.monitor.entries:
                    self._journal_state(task)
            if task.has_news and now >= task.since + SHORT_S:
                self._journal_state(task)
            if lifecycle.warn_at is not None and now >= lifecycle.warn_at and task.process is not None:
                lifecycle.warn_at = None
                if task.process.ended is None:
                    send_warning(task.job.given, task.process.pid)
            if deadline is not None and now >= deadline and task.cause is None:
                self._cut(task, TIMED_OUT)
            elif now >= task.give_up_at and task.cause is not None:
                task.work = None  # the thread hangs: its result is ignored
                self._go_on(task, None, Cut(task.cause))
            elif isinstance(wait, Pause) and now >= task.since + wait.seconds:
                self._go_on(task, None)

    def _journal_state(self, task: Task) -> None:
        """Journal the pending entries of an attempt that goes on."""
        lifecycle = task.lifecycle
        entries = lifecycle.take_entries(is_running=task.slot == RUN and task.process is not None)
        task.is_journaled = True
        try:
            self._journal.append(entries)
        except OSError as error:
            # Recovery also finds the session by its environment, so the `started` entry may be lost. Variables are kept, to be
            # journaled later.
            if lifecycle.monitor is not None:
                lifecycle.monitor.entries += [entry for entry in entries if entry["entry"] == "variables"]
            self._services.log(f"the state of {task.job.name} could not be journaled: {error.strerror}")

    def _take_results(self) -> None:
        for mark, result, error in self._threads.take_results():
            for task in [task for task in self._jobs if task.work is mark]:
                task.work = None
                was_short = isinstance(task.wait, Work) and task.wait.is_short
                if task.cause is not None and (not was_short or isinstance(error, Cut)):
                    error = Cut(task.cause)
                elif isinstance(error, ImportError):
                    error = Cut(INTERRUPTED, message=self._trouble.note_unfit(error))
                self._go_on(task, result, error)

    def _look_at_process(self, task: Task, process: Process) -> None:
        """Go on with a job whose command has ended and left no process in its session. Ends the processes that it left, unless
        the command may leave some."""
        if process.ended is None:
            process.ended = reap(process.pid)
            if process.ended is not None:
                process.close()
        now = time.monotonic()
        may_leave = isinstance(task.wait, Command) and task.wait.may_leave and task.cause is None
        if process.ended is None or (_has_left(task, process) and not may_leave):
            if process.kill_at is None and process.ended is not None:
                self._services.log(f"{task.job.name} left background processes, which are ended")
                self._begin_end(process)
            if process.kill_at is not None and now >= process.kill_at:
                signal_session(process.pid, signal.SIGKILL)
            process.pause_s = min(2 * process.pause_s, _LONGEST_LOOK_S)
            process.look_at = now + process.pause_s
            return
        if task.cause is None and process.ended.exit_status != 0:
            if self._watch.is_told_to_end():
                self._cut(task, INTERRUPTED)
            elif seems_ended_on_request(process.ended):
                if process.doubt_until is None:
                    process.doubt_until = now + DOUBT_S
                if now < process.doubt_until:
                    process.look_at = process.doubt_until
                    return
        task.process = None
        if task.cause is not None:
            self._go_on(task, None, Cut(task.cause, process.ended))
        else:
            self._go_on(task, process.ended)


def _has_left(task: Task, process: Process) -> bool:
    """Whether a command that has ended left processes in its session."""
    task.lifecycle.is_alone = not reap_strays()
    return not task.lifecycle.is_alone and bool(session_processes(process.pid))
