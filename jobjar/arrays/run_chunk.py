"""Run the tasks of a chunk one after the other in the worker's own loop: spawn, wait, note.

No file is made, moved or removed for a task. The scratch directory and the output file are the chunk's; what a task left in the
directory is removed before the next. Orders are looked at between tasks, and while a task runs for more than a moment. A kill
leaves the chunk stranded: whoever claims it next passes over the tasks whose ends are journaled.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from jobjar.access.refusals import explain_error, explain_no_process
from jobjar.arrays.definition import Definition
from jobjar.arrays.indexes import Indexes, with_range
from jobjar.arrays.orders import OrdersHeard
from jobjar.arrays.sharing import share
from jobjar.arrays.task_log import TaskLog
from jobjar.arrays.world import World
from jobjar.attempts.ahead import find_idle
from jobjar.attempts.attempt import (
    CANCELLED,
    FAILED,
    INTERRUPTED,
    KILLED,
    LOST,
    SUCCEEDED,
    TIMED_OUT,
    AttemptEnd,
    ClaimedJob,
    Watch,
)
from jobjar.attempts.retry_delay import retry_time
from jobjar.attempts.verdict import Verdict
from jobjar.attempts.workplace import Workplace, Workplaces
from jobjar.errors import CannotUseJar
from jobjar.ledger.ask_arrays import TasksBefore, tasks_before
from jobjar.ledger.fold import fold_journals
from jobjar.processes.children import Ended, Waiter, reap_ended, reap_strays
from jobjar.processes.ending import end_session
from jobjar.processes.starting import CannotStart, StillBusy
from jobjar.stages.complete import WhileRefused

_SHORT_S = 0.01
# Before a chunk is shared, its worker has held it for so long. Idle workers then find other chunks first, if there are any.
_HELD_S = 1.0
_REFUSED_PAUSE_S = 5.0


class ChunkEnd(NamedTuple):
    """How an attempt of a chunk ended, what follows, and the name that its file has from now on: the range of its rest."""

    end: AttemptEnd
    verdict: Verdict
    name: str


class _Cause(NamedTuple):
    """Why a task was ended early; `is_own`: only this task is meant, and not its chunk."""

    outcome: str
    message: str | None = None
    is_own: bool = False


class _LeftOff(Exception):
    """The chunk is left, for a reason of AttemptEnd's outcomes. The task that ran, if one did, has not ended."""

    def __init__(self, outcome: str, message: str | None = None, after_s: float = 0.0) -> None:
        super().__init__(outcome)
        self.outcome, self.message, self.after_s = outcome, message, after_s


class ChunkRun:
    """One attempt of a chunk. `may_go_on` says, between tasks, whether the worker may begin another; `share` may give a part of
    the rest away: it takes the job and the indexes that have not begun, and returns what stays."""

    def __init__(
        self,
        workplaces: Workplaces,
        job: ClaimedJob,
        definition: Definition,
        wanted: Indexes,
        watch: Watch,
        refused: WhileRefused,
    ) -> None:
        self._workplaces, self._claimer = workplaces, workplaces.claimer
        self.job = job
        self._array = definition
        self._wanted = wanted
        self._watch = watch
        self._refused = refused
        self._log = TaskLog(self._claimer, job, definition.uid)
        settings = self._claimer.jar.settings
        self._retries = settings.retries if definition.retries is None else definition.retries
        self._retry_delay_s = settings.retry_delay_s if definition.retry_delay_s is None else definition.retry_delay_s
        self._time_limit_s = settings.time_limit_s if definition.time_limit_s is None else definition.time_limit_s
        is_network = self._claimer.jar.ledger_home.has_other_homes
        paths = self._claimer.jar.layout.batch(definition.uid)
        self._orders = OrdersHeard(paths, wanted, job.seed or 0, is_network)
        self._heeded = 0  # of the orders
        self._before = TasksBefore(set(), {})
        # The tasks that have not begun are those of `_todo` from `_next` on; a heap of (when due, index) of those tried again.
        self._todo: range = range(0)
        self._next = 0
        self._again: list[tuple[float, int]] = []
        self._failures: dict[int, int] = {}
        # When it began, by the monotonic clock, and whether a process of a task may still write into its directory.
        self._began, self._has_leftovers = time.monotonic(), False
        self._user_s = self._system_s = 0.0
        self._memory_kib = 0

    def run(self, disk_now: Callable[[], float], may_go_on: Callable[[], bool]) -> ChunkEnd:
        """Run the tasks. Raises CannotUseJar, LedgerError: nothing was run then."""
        job = self.job
        self._look_back()
        try:
            workplace = self._workplaces.make_alone(job._replace(pipes_output=False))
        except OSError as error:
            raise CannotUseJar(
                action="make a scratch directory or output file in",
                path=self._claimer.paths.path,
                reason=explain_error(error),
            ) from error
        started, left_off = time.monotonic(), None
        try:
            self._run_all(workplace, disk_now, may_go_on)
        except _LeftOff as reason:
            left_off = reason
        if left_off is not None and left_off.outcome == LOST:
            self._log.drop()
        if self._log.end_of_output:
            self._name_output(workplace)
        is_noted = self._refused.insist(self._log.flush)
        output_file = self._workplaces.clear(workplace, reusable=not self._has_leftovers)
        end = AttemptEnd(
            left_off.outcome if left_off is not None else SUCCEEDED,
            wall_time_s=round(time.monotonic() - started, 6),
            user_cpu_s=round(self._user_s, 6),
            system_cpu_s=round(self._system_s, 6),
            max_rss_kib=self._memory_kib,
            output_file=output_file,
            message=left_off.message if left_off is not None else None,
        )
        if not is_noted:
            end = end._replace(outcome=INTERRUPTED, message="the ends of its tasks cannot be journaled")
        return self._conclude(end, 0.0 if left_off is None else left_off.after_s, disk_now)

    def _look_back(self) -> None:
        """Find out what earlier attempts did, and who cancelled tasks. There is none before the first attempt of a chunk whose
        tasks were not opened again."""
        job = self.job
        if self._orders.look() or job.attempt > 1 or job.seed:
            jar = self._claimer.jar
            with jar.ledger.writing() as connection:
                fold_journals(connection, jar.layout)
                wanted = self._wanted
                self._before = tasks_before(connection, self._array.uid, wanted.first, wanted.last, job.seed or 0)
        self._failures = dict(self._before.failures)
        self._todo = range(self._wanted.first, self._wanted.last + 1, self._wanted.step)

    # The loop

    def _run_all(self, workplace: Workplace, disk_now: Callable[[], float], may_go_on: Callable[[], bool]) -> None:
        try:
            world = World(self._workplaces, self.job, self._array, self._wanted, workplace)
        except OSError as error:
            raise _LeftOff(INTERRUPTED, explain_error(error), _REFUSED_PAUSE_S) from error
        look_at = time.monotonic() + self._watch.interval_s
        try:
            self._cancel_tasks(workplace)
            while (index := self._take_next(disk_now)) is not None:
                self._run_task(index, workplace, world, disk_now)
                if self._log.is_due():
                    self._flush(workplace)
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + self._watch.interval_s
                    self._heed(may_go_on)
                    self._orders.look()
                    self._share_rest(workplace, disk_now)
                elif self._watch.is_told_to_end():
                    raise _LeftOff(INTERRUPTED, "its worker was told to end")
                self._cancel_tasks(workplace)
        finally:
            world.close()

    def _take_next(self, disk_now: Callable[[], float]) -> int | None:
        """The next task to run: one that has not run, or else one that is due again. None: there is none now."""
        while self._next < len(self._todo):
            index = self._todo[self._next]
            self._next += 1
            if index not in self._before.ended:
                return index
        if self._again and self._again[0][0] <= disk_now():
            return heapq.heappop(self._again)[1]
        return None

    def _cancel_tasks(self, workplace: Workplace) -> None:
        """End the tasks that new orders name and that do not run."""
        orders = self._orders.orders[self._heeded :]
        if not orders:
            return
        self._heeded += len(orders)
        for order in orders:
            for first, last in order.ranges:
                for index in self._wanted.within(first, last) or ():
                    is_left = index in self._todo[self._next :] or any(index == again for _, again in self._again)
                    if is_left and index not in self._before.ended:
                        self._before.ended.add(index)
                        self._log.note(index, None, 0.0, self._log.end_of_output, CANCELLED, False, order.message)
                        if self._log.is_due():
                            self._flush(workplace)
        self._again = [one for one in self._again if one[1] not in self._before.ended]
        heapq.heapify(self._again)
        self._flush(workplace)

    def _heed(self, may_go_on: Callable[[], bool]) -> None:
        cause = self._watch.reason(self.job)
        if cause is not None:
            raise _LeftOff(cause)
        if (self._next < len(self._todo) or self._again) and not may_go_on():
            raise _LeftOff(INTERRUPTED, "its worker was told to stop or to pause; the rest of its tasks goes back")

    def _share_rest(self, workplace: Workplace, disk_now: Callable[[], float]) -> None:
        """Give half of the tasks that have not begun away, if there is an idle worker that would take them."""
        left = len(self._todo) - self._next
        if left < 2 or time.monotonic() - self._began < _HELD_S:
            return
        if find_idle(self._claimer, self.job.category, disk_now()) is None:
            return
        self._flush(workplace)
        kept = self._todo[: self._next + (left + 1) // 2]
        given = self._todo[len(kept) :]
        try:
            self.job = share(self._claimer, self.job, (kept[0], kept[-1]), (given[0], given[-1]), self._refused)
        except FileNotFoundError:
            return  # it was taken back: the watch or the end of the attempt notices
        except OSError as error:
            self._refused.warn(f"{self.job.name}: half of its tasks could not be given away: {error.strerror}")
            return
        self._todo = kept

    def _flush(self, workplace: Workplace) -> None:
        if self._log.output is None and self._log.end_of_output:
            self._name_output(workplace)
        if not self._refused.insist(self._log.flush):
            raise _LeftOff(INTERRUPTED, "the ends of its tasks cannot be journaled")

    def _name_output(self, workplace: Workplace) -> None:
        with contextlib.suppress(OSError):  # tried again with the next ends
            self._log.output = workplace.name_output()

    # A task

    def _run_task(self, index: int, workplace: Workplace, world: World, disk_now: Callable[[], float]) -> None:
        started = time.monotonic()
        message: str | None = None
        ended: Ended | None
        try:
            pid = world.start(index)
        except CannotStart as error:
            ended, message, pid = Ended(error.status, None, 0.0, 0.0, 0), str(error), 0
        except (StillBusy, OSError) as error:
            busy = "somebody has its script open for writing"
            heapq.heappush(self._again, (0.0, index))  # it has not begun
            reason = busy if isinstance(error, StillBusy) else explain_no_process(error)
            raise _LeftOff(INTERRUPTED, reason, _REFUSED_PAUSE_S) from error
        cause: _Cause | None = None
        if pid:
            cause, ended = self._wait(index, pid, started, workplace)
        world.finish_output()
        if cause is not None and cause.outcome in (INTERRUPTED, LOST):
            heapq.heappush(self._again, (0.0, index))
            raise _LeftOff(cause.outcome)
        if cause is not None:
            message = cause.message
        outcome = None if cause is None else cause.outcome
        self._end_task(index, ended, time.monotonic() - started, outcome, message, disk_now, workplace)
        if cause is not None and cause.outcome in (KILLED, CANCELLED) and not cause.is_own:
            raise _LeftOff(cause.outcome)
        if pid:
            leftovers = False
            if reap_strays():
                if end_session(pid, self._claimer.jar.settings.grace_time_s):
                    self._refused.warn(f"{self._array.uid}[{index}] left background processes, which were ended")
                leftovers = self._has_leftovers = reap_strays()
            workplace.renew(reusable=not leftovers)

    def _wait(self, index: int, pid: int, started: float, workplace: Workplace) -> tuple[_Cause | None, Ended]:
        """Wait for a task's end. Returns why it was ended early (or None), and how it ended."""
        waiter = Waiter(pid)
        try:
            ended = waiter.wait(_SHORT_S, [])
            if ended is not None:
                return None, ended
            self._flush_before_waiting(workplace)
            deadline = started + self._time_limit_s if self._time_limit_s else None
            while True:
                timeout_s = self._watch.interval_s
                if deadline is not None:
                    timeout_s = min(timeout_s, deadline - time.monotonic())
                ended = waiter.wait(timeout_s, self._watch.descriptors())
                if ended is not None:
                    return None, ended
                cause = self._find_cause(index, deadline)
                if cause is not None:
                    return cause, self._end_now(waiter)
        finally:
            waiter.close()

    def _find_cause(self, index: int, deadline: float | None) -> _Cause | None:
        """Why to end the task that runs; None: it may go on."""
        cause = self._watch.reason(self.job)
        if cause is not None:
            return _Cause(cause)
        if self._watch.take_killed_task() == index:
            return _Cause(KILLED, is_own=True)
        self._orders.look()
        message = self._orders.message_for(index)
        if message is not None:
            return _Cause(CANCELLED, message, is_own=True)
        return _Cause(TIMED_OUT) if deadline is not None and time.monotonic() >= deadline else None

    def _flush_before_waiting(self, workplace: Workplace) -> None:
        if self._log.end_of_output and self._log.output is None:
            self._name_output(workplace)
        with contextlib.suppress(OSError):  # the next flush insists
            self._log.flush()

    def _end_now(self, waiter: Waiter) -> Ended:
        found: list[Ended] = []

        def reap_main() -> None:
            if not found and (ended := waiter.wait(0, [])) is not None:
                found.append(ended)
            reap_ended()

        end_session(waiter.pid, self._claimer.jar.settings.grace_time_s, reap_main)
        while not found:
            reap_main()
        return found[0]

    def _end_task(
        self,
        index: int,
        ended: Ended | None,
        wall_time_s: float,
        cause: str | None,
        message: str | None,
        disk_now: Callable[[], float],
        workplace: Workplace,
    ) -> None:
        is_good = ended is not None and ended.exit_status == 0 and cause is None
        outcome = SUCCEEDED if is_good else cause or FAILED
        is_retried = False
        if outcome in (FAILED, TIMED_OUT) and self._retries and self._orders.message_for(index) is None:
            failures = self._failures.get(index, 0)
            if failures < self._retries:
                is_retried = True
                self._failures[index] = failures + 1
                heapq.heappush(self._again, (retry_time(self._retry_delay_s, failures, disk_now()), index))
        if ended is not None:
            self._user_s += ended.user_cpu_s
            self._system_s += ended.system_cpu_s
            self._memory_kib = max(self._memory_kib, ended.max_rss_kib)
        self._log.note(index, ended, wall_time_s, os.fstat(workplace.output).st_size, outcome, is_retried, message)

    # The end

    def _conclude(self, end: AttemptEnd, after_s: float, disk_now: Callable[[], float]) -> ChunkEnd:
        """What follows: the chunk is over if every task has ended; else its rest goes back."""
        rest = [index for index in self._todo[self._next :] if index not in self._before.ended]
        rest += [index for _, index in self._again]
        if not rest and end.outcome in (INTERRUPTED, SUCCEEDED):
            return ChunkEnd(end._replace(outcome=SUCCEEDED, message=None), Verdict.complete(), self.job.name)
        if end.outcome not in (INTERRUPTED, SUCCEEDED, LOST):
            return ChunkEnd(end, Verdict.complete(), self.job.name)
        name = with_range(self.job.name, min(rest), max(rest))
        now = disk_now()
        due = min((due for due, _ in self._again), default=0.0) if self._next >= len(self._todo) else 0.0
        at = max(due, now + after_s if after_s else 0.0)
        if end.outcome == SUCCEEDED:  # only tasks that failed are left
            end = end._replace(outcome=INTERRUPTED, message=f"{len(rest)} of its tasks are to be tried again")
        return ChunkEnd(end, Verdict.give_back(at=at), name)
