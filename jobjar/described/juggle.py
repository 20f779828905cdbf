"""Juggle several jobs of a worker: while one runs, the next is staged in and the last is staged out.

The worker's own thread claims, journals, and starts and waits for processes. Other threads work on files only, and report to it.
Each job is a course (lifecycle.py) that yields what it waits for. This module waits for all of them at once. It writes journal
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
from jobjar.attempts.attempt import DESCRIBED, INTERRUPTED, TIMED_OUT, ClaimedJob
from jobjar.attempts.own_file import hold_file, let_file_go
from jobjar.attempts.warning import send_warning
from jobjar.described.lifecycle import Host, Lifecycle
from jobjar.described.slots import Juggled, Process, Slots
from jobjar.described.steps import RUN, STAGE_IN, STAGE_OUT, Command, Cut, Pause, Turn, Work
from jobjar.errors import CannotUseJar
from jobjar.liveness import session_processes, start_now
from jobjar.processes.session import (
    DOUBT_S,
    CannotStart,
    Ended,
    reap,
    reap_strays,
    seems_ended_on_request,
    signal_session,
    start_shell,
)

# A step that ends sooner gets one journal entry: its end, which also holds the time of its beginning.
_SHORT_S = 0.01
_LONGEST_LOOK_S = 0.1
# A worker spends at most this share of its time on asking for another job.
_CLAIM_SHARE = 0.05


class JugglingHost(Host, Protocol):
    """The part of a worker that a juggler needs."""

    interval_s: float

    def claim_another(self, held: Container[str], is_ahead: bool) -> ClaimedJob | None:
        """Claim one more job; None where there is none, or the worker may have none now. `held`: the paths of the jobs that the
        worker has. `is_ahead`: the job would have to wait for a run slot."""
        ...

    def give_back(self, job: ClaimedJob, why: str) -> None: ...

    def log_refusal(self, error: Exception) -> None: ...

    def note_unfit(self, error: ImportError) -> str:
        """Make the worker leave, because its software cannot be imported any more. Returns the reason to give for its jobs."""
        ...

    def between_pieces(self) -> None: ...

    def descriptors(self) -> list[int]: ...

    def arrivals(self) -> list[int]: ...

    def has_arrivals(self) -> bool: ...

    def take_wake(self) -> bool:
        """Read what woke the worker. Returns whether it may be a reason to end a job."""
        ...

    def is_told_to_end(self) -> bool: ...

    def reason(self, job: ClaimedJob) -> str | None: ...


class Juggler:
    """The jobs that a worker has under way at once."""

    def __init__(self, host: JugglingHost) -> None:
        self._host = host
        self._settings = host.claimer.jar.settings
        self._journal = host.claimer.jar.journal
        self._slots = Slots(self._settings)
        self._jobs = self._slots.jobs
        self._results: queue.SimpleQueue[tuple[object, Any, BaseException | None]] = queue.SimpleQueue()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        self._next_claim = self._next_look = 0.0

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def juggle(self, job: ClaimedJob) -> ClaimedJob | None:
        """Bring this job, and those that are claimed meanwhile, to their ends. Returns a plain job that was claimed after
        all others had ended, because it needs no juggling; else None."""
        self._next_claim = 0.0
        self._next_look = time.monotonic() + self._host.interval_s
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
                for juggled in [juggled for juggled in self._jobs if juggled.wanted == slot]:
                    if self._slots.has_turn(slot):
                        juggled.slot = slot
                        self._go_on(juggled, None)
                        again = True

    def _claim(self) -> ClaimedJob | None:
        while self._slots.may_claim() and time.monotonic() >= self._next_claim:
            started = time.monotonic()
            if started >= self._next_look and self._jobs:
                return None  # kill requests and the time limits of the others come first
            job = self._host.claim_another({juggled.job.path for juggled in self._jobs}, self._slots.is_next_ahead())
            if job is None:
                took_s = time.monotonic() - started
                self._next_claim = time.monotonic() + max(self._host.interval_s, took_s / _CLAIM_SHARE)
                return None
            if not self._jobs and job.kind != DESCRIBED:
                return job
            self._take(job)
            self._give_turns()
        return None

    # One job

    def _take(self, job: ClaimedJob) -> None:
        hold_file(self._host.claimer, job)
        juggled = Juggled(Lifecycle(self._host, job))
        self._jobs.append(juggled)
        self._go_on(juggled, None)

    def _go_on(self, juggled: Juggled, answer: Any, error: BaseException | None = None) -> None:
        """Send a job the answer that it waited for, and begin what it waits for next."""
        while True:
            juggled.wait = None
            if isinstance(error, Cut) and error.cause == TIMED_OUT:
                juggled.cause = None  # the time limit does not hold for what is done with the outputs afterwards
            try:
                wait = juggled.steps.send(answer) if error is None else juggled.steps.throw(error)
            except StopIteration:
                self._jobs.remove(juggled)
                let_file_go(self._host.claimer, juggled.job)
                return
            except (CannotUseJar, OSError, ImportError) as refusal:
                # Nothing of the job was begun, so another worker may take it.
                self._jobs.remove(juggled)
                if isinstance(refusal, ImportError):
                    why = self._host.note_unfit(refusal)
                else:
                    self._host.log_refusal(refusal)
                    why = explain_error(refusal)
                self._host.give_back(juggled.job, why)
                self._next_claim = time.monotonic() + self._host.interval_s
                return
            answer = error = None
            juggled.wait, juggled.since, juggled.is_said = wait, time.monotonic(), False
            juggled.give_up_at = float("inf")
            if isinstance(wait, Turn):
                juggled.slot = ""
            if juggled.cause is not None and not (isinstance(wait, Work) and wait.is_short):
                error = Cut(juggled.cause)
                continue
            if isinstance(wait, Work):
                self._begin_work(juggled, wait)
            elif isinstance(wait, Command):
                try:
                    self._begin_command(juggled, wait)
                except CannotStart as refusal:
                    answer = Ended(refusal.status, None, 0.0, 0.0, 0)
                    continue
                except OSError as refusal:
                    error = OSError(refusal.errno, explain_no_process(refusal))
                    continue
            return

    def _begin_command(self, juggled: Juggled, command: Command) -> None:
        output = juggled.course.output
        pid, started = start_now(lambda: start_shell(command.text, command.words, output, command.environment))
        juggled.process = Process(pid)
        if juggled.slot == RUN and juggled.course.pid is None:
            juggled.course.pid, juggled.course.pid_started = pid, started
        if not self._slots.may_claim():
            self._host.between_pieces()

    def _begin_work(self, juggled: Juggled, work: Work) -> None:
        mark = juggled.work = object()

        def do() -> None:
            try:
                result: tuple[object, Any, BaseException | None] = (mark, work.action(), None)
            except BaseException as error:
                result = (mark, None, error)
            self._results.put(result)
            with contextlib.suppress(BlockingIOError):  # the pipe is full, so it wakes the reader anyway
                os.write(self._writer, b".")

        threading.Thread(target=do, daemon=True).start()

    def _cut(self, juggled: Juggled, cause: str) -> None:
        """End a job now. Does nothing for a job that is being ended already."""
        if juggled.cause is not None:
            return
        juggled.cause = cause
        if juggled.course.attempt is not None:
            juggled.course.attempt.is_cut = True
        process = juggled.process
        if process is not None:
            if process.ended is None:
                self._begin_end(process)
            else:
                process.look_at = time.monotonic()
        elif not isinstance(juggled.wait, Work):
            self._go_on(juggled, None, Cut(cause))
        elif not juggled.wait.is_short:
            # A thread cannot be killed. It gets the grace time to notice that the attempt is cut, and to tidy.
            juggled.give_up_at = time.monotonic() + self._settings.grace_time_s

    def _begin_end(self, process: Process) -> None:
        signal_session(process.pid, signal.SIGTERM)
        signal_session(process.pid, signal.SIGCONT)
        process.kill_at = time.monotonic() + self._settings.grace_time_s
        process.look_at = time.monotonic() + process.pause_s

    # Waiting for all of them

    def _wait(self) -> None:
        poll = select.poll()
        host_descriptors = set(self._host.descriptors())
        may_claim = self._slots.may_claim()
        arrivals = set(self._host.arrivals()) if may_claim else set()
        for descriptor in (self._reader, *host_descriptors, *arrivals):
            poll.register(descriptor, select.POLLIN)
        processes = {juggled.process.pidfd: juggled for juggled in self._jobs if juggled.process is not None}
        for descriptor, juggled in processes.items():
            assert juggled.process is not None
            if descriptor >= 0 and juggled.process.ended is None:
                poll.register(descriptor, select.POLLIN)
        timeout_s = self._next_due(may_claim) - time.monotonic()
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, timeout_s) * 1000 + 1)}
        if arrivals & ready and self._host.has_arrivals():
            self._next_claim = 0.0
        if self._reader in ready:
            self._take_results()
        now = time.monotonic()
        for juggled in list(self._jobs):
            process = juggled.process
            if process is not None and (process.pidfd in ready or now >= process.look_at):
                self._look_at_process(juggled, process)
        if (host_descriptors & ready and self._host.take_wake()) or now >= self._next_look:
            self._next_look = now + self._host.interval_s
            for juggled in list(self._jobs):
                cause = self._host.reason(juggled.job)
                if cause is not None:
                    self._cut(juggled, cause)
            self._give_back_ahead(now)
        self._do_what_is_due(time.monotonic())

    def _give_back_ahead(self, now: float) -> None:
        """Give back jobs that wait here for a run slot while another worker is idle.

        A worker has to be idle at two looks in a row, because every worker is idle for a moment between two jobs. The job has
        to have waited for as long as its stage-in took, because the other worker repeats that.
        """
        for juggled in self._slots.waiting_ahead():
            if now - juggled.since < juggled.since - juggled.taken_at:
                continue
            before, claimer = juggled.idle_worker, self._host.claimer
            juggled.idle_worker = find_idle(claimer, juggled.job.category, self._host.disk_now())
            if juggled.idle_worker is not None and before is not None:
                juggled.course.cut_message = f"given back before it ran: {juggled.idle_worker} could run it at once"
                self._cut(juggled, INTERRUPTED)

    def _next_due(self, may_claim: bool) -> float:
        due = self._next_look
        if may_claim:
            due = min(due, self._next_claim)
        for juggled in self._jobs:
            if isinstance(juggled.wait, Pause):
                due = min(due, juggled.since + juggled.wait.seconds)
            if juggled.has_news:
                due = min(due, juggled.since + _SHORT_S)
            if juggled.process is not None:
                due = min(due, juggled.process.look_at)
            due = min(due, juggled.give_up_at)
            deadline, next_look = juggled.course.deadline, juggled.course.monitor.next_look
            if deadline is not None and juggled.cause is None:
                due = min(due, deadline if juggled.course.warn_at is None else juggled.course.warn_at)
            if next_look is not None:
                due = min(due, next_look)
        return due

    def _do_what_is_due(self, now: float) -> None:
        for juggled in list(self._jobs):
            course, deadline, wait = juggled.course, juggled.course.deadline, juggled.wait
            if course.monitor.is_due():
                with contextlib.suppress(OSError):  # read again at the attempt's end, which reports the error
                    course.look_at_progress()
                if course.monitor.entries:
                    self._tell(juggled)
            if juggled.has_news and now >= juggled.since + _SHORT_S:
                self._tell(juggled)
            if course.warn_at is not None and now >= course.warn_at and juggled.process is not None:
                course.warn_at = None
                if juggled.process.ended is None:
                    send_warning(juggled.job, juggled.process.pid)
            if deadline is not None and now >= deadline and juggled.cause is None:
                self._cut(juggled, TIMED_OUT)
            elif now >= juggled.give_up_at and juggled.cause is not None:
                juggled.work = None  # the thread hangs: its result is ignored
                self._go_on(juggled, None, Cut(juggled.cause))
            elif isinstance(wait, Pause) and now >= juggled.since + wait.seconds:
                self._go_on(juggled, None)

    def _tell(self, juggled: Juggled) -> None:
        """Journal the pending entries of an attempt that goes on."""
        course = juggled.course
        entries = course.take_entries(is_running=juggled.slot == RUN and juggled.process is not None)
        juggled.is_said = True
        try:
            self._journal.append(entries)
        except OSError as error:
            # Recovery also finds the session by its environment, so the `started` entry may be lost. Variables are kept, to be
            # journaled later.
            course.monitor.entries += [entry for entry in entries if entry["entry"] == "variables"]
            self._host.log(f"the state of {juggled.job.name} could not be journaled: {error.strerror}")

    def _take_results(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        while not self._results.empty():
            mark, result, error = self._results.get()
            for juggled in [juggled for juggled in self._jobs if juggled.work is mark]:
                juggled.work = None
                was_short = isinstance(juggled.wait, Work) and juggled.wait.is_short
                if juggled.cause is not None and (not was_short or isinstance(error, Cut)):
                    error = Cut(juggled.cause)
                elif isinstance(error, ImportError):
                    error = Cut(INTERRUPTED, message=self._host.note_unfit(error))
                self._go_on(juggled, result, error)

    def _look_at_process(self, juggled: Juggled, process: Process) -> None:
        """Go on with a job whose command has ended and left no process in its session. Ends the processes that it left, unless
        the command may leave some."""
        if process.ended is None:
            process.ended = reap(process.pid)
            if process.ended is not None:
                process.close()
        now = time.monotonic()
        may_leave = isinstance(juggled.wait, Command) and juggled.wait.may_leave and juggled.cause is None
        if process.ended is None or (_has_left(juggled, process) and not may_leave):
            if process.kill_at is None and process.ended is not None:
                self._host.log(f"{juggled.job.name} left background processes, which are ended")
                self._begin_end(process)
            if process.kill_at is not None and now >= process.kill_at:
                signal_session(process.pid, signal.SIGKILL)
            process.pause_s = min(2 * process.pause_s, _LONGEST_LOOK_S)
            process.look_at = now + process.pause_s
            return
        if juggled.cause is None and process.ended.exit_status != 0:
            if self._host.is_told_to_end():
                self._cut(juggled, INTERRUPTED)
            elif seems_ended_on_request(process.ended):
                if process.doubt_until is None:
                    process.doubt_until = now + DOUBT_S
                if now < process.doubt_until:
                    process.look_at = process.doubt_until
                    return
        juggled.process = None
        if juggled.cause is not None:
            self._go_on(juggled, None, Cut(juggled.cause, process.ended))
        else:
            self._go_on(juggled, process.ended)


def _has_left(juggled: Juggled, process: Process) -> bool:
    """Whether a command that has ended left processes in its session."""
    juggled.course.is_alone = not reap_strays()
    return not juggled.course.is_alone and bool(session_processes(process.pid))
