"""Overlap the stages of several jobs of a worker: while one runs, the next is staged in and the last is staged out.

The worker's own thread claims, journals, and starts and waits for processes. Other threads work on files only, and report to it.
Each job is a generator (lifecycle.py) that yields what it waits for. This module waits for all of them at once. It writes journal
entries of attempts under way. A crash leaves what a crash of any worker leaves: jobs that a dead worker holds.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import threading
import time
from collections.abc import Container
from typing import Any, Protocol

from jobjar.access.refusals import explain_error, explain_no_process
from jobjar.attempts.ahead import find_idle
from jobjar.attempts.attempt import DESCRIBED, INTERRUPTED, TIMED_OUT, ClaimedJob, Watch
from jobjar.attempts.missing_file import hold_file, let_file_go
from jobjar.attempts.warning import send_warning
from jobjar.described.lifecycle import Lifecycle
from jobjar.described.services import Services
from jobjar.described.slots import Process, Slots, Task
from jobjar.described.steps import RUN, STAGE_IN, STAGE_OUT, Command, Cut, Pause, Turn, Work
from jobjar.errors import CannotUseJar
from jobjar.liveness import session_processes, start_now
from jobjar.processes.children import Ended, reap, reap_strays
from jobjar.processes.ending import DOUBT_S, seems_ended_on_request, signal_session
from jobjar.processes.starting import CannotStart, start_shell

# A step that ends sooner gets one journal entry: its end, which also holds the time of its beginning.
_SHORT_S = 0.01
_LONGEST_LOOK_S = 0.1
# A worker spends at most this share of its time on asking for another job.
_CLAIM_SHARE = 0.05


class OverlapWatch(Watch, Protocol):
    """What may end attempts early, for several at once."""

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
    """The jobs that a worker has under way at once."""

    def __init__(self, services: Services, watch: OverlapWatch, more: MoreJobs, trouble: Trouble) -> None:
        self._services = services
        self._claimer = services.claimer
        self._watch = watch
        self._more = more
        self._trouble = trouble
        self._settings = services.claimer.jar.settings
        self._journal = services.claimer.jar.journal
        self._slots = Slots(self._settings)
        self._jobs = self._slots.jobs
        self._results: queue.SimpleQueue[tuple[object, Any, BaseException | None]] = queue.SimpleQueue()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        self._next_claim = self._next_look = 0.0

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def run(self, job: ClaimedJob) -> ClaimedJob | None:
        """Bring this job, and those that are claimed meanwhile, to their ends. Returns a plain job that was claimed after
        all others had ended, because it needs no overlap; else None."""
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
        while self._slots.may_claim() and time.monotonic() >= self._next_claim:
            started = time.monotonic()
            if started >= self._next_look and self._jobs:
                return None  # kill requests and the time limits of the others come first
            job = self._more.claim({task.job.path for task in self._jobs}, self._slots.is_next_ahead())
            if job is None:
                took_s = time.monotonic() - started
                self._next_claim = time.monotonic() + max(self._watch.interval_s, took_s / _CLAIM_SHARE)
                return None
            if not self._jobs and job.kind != DESCRIBED:
                return job
            self._take(job)
            self._give_turns()
        return None

    # One job

    def _take(self, job: ClaimedJob) -> None:
        hold_file(self._claimer, job)
        task = Task(Lifecycle(self._services, job))
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
            except (CannotUseJar, OSError, ImportError) as refusal:
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
                self._begin_work(task, wait)
            elif isinstance(wait, Command):
                try:
                    self._begin_command(task, wait)
                except CannotStart as refusal:
                    answer = Ended(refusal.status, None, 0.0, 0.0, 0)
                    continue
                except OSError as refusal:
                    error = OSError(explain_no_process(refusal))
                    continue
            return

    def _begin_command(self, task: Task, command: Command) -> None:
        output = task.lifecycle.output
        pid, started = start_now(
            lambda: start_shell(command.text, command.words, output, command.environment, command.error)
        )
        task.process = Process(pid)
        if task.slot == RUN and task.lifecycle.pid is None:
            task.lifecycle.pid, task.lifecycle.pid_started = pid, started
        if not self._slots.may_claim():
            self._watch.after_start()

    def _begin_work(self, task: Task, work: Work) -> None:
        mark = task.work = object()

        def do() -> None:
            try:
                result: tuple[object, Any, BaseException | None] = (mark, work.action(), None)
            except BaseException as error:
                result = (mark, None, error)
            self._results.put(result)
            with contextlib.suppress(BlockingIOError):  # the pipe is full, so it wakes the reader anyway
                os.write(self._writer, b".")

        threading.Thread(target=do, daemon=True).start()

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
        for descriptor in (self._reader, *orders, *arrivals):
            poll.register(descriptor, select.POLLIN)
        processes = {task.process.pidfd: task for task in self._jobs if task.process is not None}
        for descriptor, task in processes.items():
            assert task.process is not None
            if descriptor >= 0 and task.process.ended is None:
                poll.register(descriptor, select.POLLIN)
        timeout_s = self._next_due(may_claim) - time.monotonic()
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, timeout_s) * 1000 + 1)}
        if arrivals & ready and self._more.has_arrived():
            self._next_claim = 0.0
        if self._reader in ready:
            self._take_results()
        now = time.monotonic()
        for task in list(self._jobs):
            process = task.process
            if process is not None and (process.pidfd in ready or now >= process.look_at):
                self._look_at_process(task, process)
        if (orders & ready and self._watch.take_wake()) or now >= self._next_look:
            self._next_look = now + self._watch.interval_s
            for task in list(self._jobs):
                cause = self._watch.reason(task.job)
                if cause is not None:
                    self._cut(task, cause)
            self._give_back_ahead(now)
        self._do_what_is_due(time.monotonic())

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
        due = self._next_look
        if may_claim:
            due = min(due, self._next_claim)
        for task in self._jobs:
            if isinstance(task.wait, Pause):
                due = min(due, task.since + task.wait.seconds)
            if task.has_news:
                due = min(due, task.since + _SHORT_S)
            if task.process is not None:
                due = min(due, task.process.look_at)
            due = min(due, task.give_up_at)
            deadline, next_look = task.lifecycle.deadline, task.lifecycle.monitor.next_look
            if deadline is not None and task.cause is None:
                due = min(due, deadline if task.lifecycle.warn_at is None else task.lifecycle.warn_at)
            if next_look is not None:
                due = min(due, next_look)
        return due

    def _do_what_is_due(self, now: float) -> None:
        for task in list(self._jobs):
            lifecycle, deadline, wait = task.lifecycle, task.lifecycle.deadline, task.wait
            if lifecycle.monitor.is_due():
                with contextlib.suppress(OSError):  # read again at the attempt's end, which reports the error
                    lifecycle.note_variables()
                if lifecycle.monitor.entries:
                    self._journal_state(task)
            if task.has_news and now >= task.since + _SHORT_S:
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
            lifecycle.monitor.entries += [entry for entry in entries if entry["entry"] == "variables"]
            self._services.log(f"the state of {task.job.name} could not be journaled: {error.strerror}")

    def _take_results(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        while not self._results.empty():
            mark, result, error = self._results.get()
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
