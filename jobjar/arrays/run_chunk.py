"""Run the tasks of a chunk one after the other in the worker's own loop: spawn, wait, note.

No file is made, moved or removed for a task. The scratch directory and the output file are the chunk's; what a task left in the
directory is removed before the next. Orders are looked at between tasks, and while a task runs for more than a moment. A kill
leaves the chunk stranded: whoever claims it next passes over the tasks whose ends are journaled.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from jobjar.access.refusals import explain_error, explain_no_process
from jobjar.arrays.chunk_end import Cause, ChunkEnd, LeftOff, conclude_chunk
from jobjar.arrays.definition import Definition
from jobjar.arrays.indexes import Indexes
from jobjar.arrays.orders import OrdersHeard
from jobjar.arrays.sharing import HELD_S, count_to_give, share
from jobjar.arrays.task_log import TaskLog
from jobjar.arrays.task_queue import TaskQueue
from jobjar.arrays.world import OutputRefused, World
from jobjar.attempts.ahead import find_idle
from jobjar.attempts.attempt import (
    CANCELLED,
    FAILED,
    INTERRUPTED,
    KILLED,
    LOST,
    SUCCEEDED,
    TIMED_OUT,
    TOLD_TO_END,
    AttemptEnd,
    ClaimedJob,
    Watch,
    about_attempt,
)
from jobjar.attempts.missing_file import was_taken_back
from jobjar.attempts.retry_delay import retry_time
from jobjar.attempts.time_left import TaskTime
from jobjar.attempts.verdict import Verdict, may_be_retried
from jobjar.attempts.warning import send_warning, warning_time
from jobjar.attempts.workplace import EMPTIED, Workplace, Workplaces
from jobjar.errors import CannotUseJar
from jobjar.journal.entries import warned_entry
from jobjar.ledger.ask_arrays import tasks_before
from jobjar.ledger.fold import fold_journals
from jobjar.processes.children import Ended, Waiter, reap_strays
from jobjar.processes.ending import steps_to_end_session, steps_to_end_waited
from jobjar.processes.starting import CannotStart, StillBusy
from jobjar.processes.waits import Listen, Steps
from jobjar.shared_disk.files import is_gone
from jobjar.shared_disk.regular import UnfitFile
from jobjar.shared_disk.trees import Kept
from jobjar.stages.complete import WhileRefused
from jobjar.stages.run import look_whether_told

_SHORT_S = 0.01
_REFUSED_PAUSE_S = 5.0
_MOST_WARNINGS = 20
# The number of the claim of a chunk that was neither held nor moved before. (It is 1 if its submission is not read yet.)
_FIRST_CLAIM = 2


class ChunkRun:
    """One attempt of a chunk. `has_free_slot`: its worker runs other jobs too, and this says whether it could run one more."""

    def __init__(
        self,
        workplaces: Workplaces,
        job: ClaimedJob,
        definition: Definition,
        wanted: Indexes,
        watch: Watch,
        refused: WhileRefused,
        has_free_slot: Callable[[], bool] | None = None,
    ) -> None:
        self._workplaces, self._claimer = workplaces, workplaces.claimer
        self.job = job
        self._array = definition
        self._wanted = wanted
        self._watch = watch
        self._refused = refused
        self._has_free_slot = has_free_slot
        self._log = TaskLog(self._claimer, job, definition.uid)
        settings = self._claimer.jar.settings
        self._retries = settings.retries if definition.retries is None else definition.retries
        self._retry_delay_s = settings.retry_delay_s if definition.retry_delay_s is None else definition.retry_delay_s
        self._time_limit_s = settings.time_limit_s if definition.time_limit_s is None else definition.time_limit_s
        is_network = self._claimer.jar.ledger_home.has_other_homes
        paths = self._claimer.jar.layout.batch(definition.uid)
        self._orders = OrdersHeard(paths, wanted, job.seed or 0, is_network)
        self._queue = TaskQueue(wanted)
        self._time = TaskTime(self._claimer.jar.layout, definition.uid, self._claimer.time_left)
        # When it began, by the monotonic clock, and whether a process of a task may still write into its directory.
        self._began, self._has_leftovers = time.monotonic(), False
        self._warnings: list[str] = []
        # Whether a task emptied the output of all. From then on each writes into a pipe.
        self._is_piped = definition.pipes_output
        self._user_s = self._system_s = 0.0
        self._memory_kib = 0
        self.has_failed = False  # one of its tasks, for good
        self._look_at = 0.0

    def run(self, disk_now: Callable[[], float], may_go_on: Callable[[], bool]) -> Steps[ChunkEnd]:
        """Run the tasks, in steps. `may_go_on` says, between tasks, whether the worker may begin another. Raises CannotUseJar,
        LedgerError: nothing was run then."""
        job = self.job
        self._look_back()
        try:
            make = self._workplaces.make_alone if self._has_free_slot is None else self._workplaces.make
            workplace = make(job._replace(pipes_output=False))
        except OSError as error:
            raise CannotUseJar(
                action="make a scratch directory or output file in",
                path=self._claimer.paths.path,
                reason=explain_error(error),
            ) from error
        started, left_off = time.monotonic(), None
        try:
            yield from self._run_all(workplace, disk_now, may_go_on)
        except LeftOff as reason:
            left_off = reason
        except BaseException:
            self._workplaces.clear(workplace, reusable=False)
            raise
        if self._is_lost() or (left_off is not None and left_off.outcome == LOST):
            self._log.drop()
        if self._log.end_of_output:
            self._name_output(workplace)
        is_noted = self._refused.insist(self._log.flush)
        output_file = self._workplaces.clear(workplace, reusable=not self._has_leftovers)
        self._note_kept(workplace.kept)
        end = AttemptEnd(
            left_off.outcome if left_off is not None else SUCCEEDED,
            wall_time_s=round(time.monotonic() - started, 6),
            user_cpu_s=round(self._user_s, 6),
            system_cpu_s=round(self._system_s, 6),
            max_rss_kib=self._memory_kib,
            output_file=output_file,
            message=left_off.message if left_off is not None else None,
        )
        if self._warnings:
            end = end._replace(entries=(warned_entry(about_attempt(self._claimer, job), self._warnings),))
        if not is_noted:
            end = end._replace(outcome=INTERRUPTED, message="the ends of its tasks cannot be journaled")
        if left_off is not None and left_off.is_to_hold:
            return ChunkEnd(end, Verdict.hold(str(left_off.message)), self.job.name)
        after_s = 0.0 if left_off is None else left_off.after_s
        return conclude_chunk(self._queue, self.job.name, end, after_s, disk_now)

    def _look_back(self) -> None:
        """Find out what earlier attempts did, and which tasks were cancelled. There is none before the first attempt of a chunk
        that was claimed where it was submitted, and whose tasks were not opened again."""
        job = self.job
        if self._orders.look() or job.attempt > 1 or job.move_number > _FIRST_CLAIM or job.seed:
            jar = self._claimer.jar
            with jar.ledger.writing() as connection:
                fold_journals(connection, jar.layout)
                wanted = self._wanted
                before = tasks_before(connection, self._array.uid, wanted.first, wanted.last, job.seed or 0)
            self._queue.pass_over(before)

    # The loop

    def _run_all(
        self, workplace: Workplace, disk_now: Callable[[], float], may_go_on: Callable[[], bool]
    ) -> Steps[None]:
        try:
            world = World(self._workplaces, self.job, self._array, self._wanted, workplace)
        except (UnfitFile, FileNotFoundError) as error:
            why = f"its array {self._array.uid} is damaged: {error.filename}: {error.strerror}"
            raise LeftOff(INTERRUPTED, why, is_to_hold=True) from error
        except OSError as error:
            raise LeftOff(INTERRUPTED, explain_error(error), _REFUSED_PAUSE_S) from error
        self._look_at = time.monotonic() + self._watch.interval_s
        try:
            self._cancel_tasks(workplace)
            while (index := self._queue.take_next(disk_now)) is not None:
                yield from self._run_task(index, workplace, world, disk_now)
                if self._log.is_due():
                    self._flush(workplace)
                if time.monotonic() >= self._look_at:
                    self._look_at = time.monotonic() + self._watch.interval_s
                    self._heed(may_go_on)
                    self._orders.look()
                    self._share_rest(workplace, disk_now)
                elif self._watch.is_told_to_end():
                    raise LeftOff(INTERRUPTED, TOLD_TO_END)
                self._cancel_tasks(workplace)
                if self._queue.has_more and not self._time.is_left():
                    raise LeftOff(INTERRUPTED, "its worker has no time left for another task; the rest goes back")
        finally:
            world.close()

    def _cancel_tasks(self, workplace: Workplace) -> None:
        """End the tasks that new orders name and that do not run."""
        orders = self._orders.take_new()
        if not orders:
            return
        for order in orders:
            for index in self._queue.end(order):
                self._log.note(index, None, 0.0, self._log.end_of_output, CANCELLED, False, order.message)
                if self._log.is_due():
                    self._flush(workplace)
        self._flush(workplace)

    def _heed(self, may_go_on: Callable[[], bool]) -> None:
        cause = self._watch.reason(self.job)
        if cause is not None:
            raise LeftOff(cause)
        if self._queue.has_more and not may_go_on():
            raise LeftOff(INTERRUPTED, "its worker was told to stop or to pause; the rest of its tasks goes back")

    def _share_rest(self, workplace: Workplace, disk_now: Callable[[], float], is_running: bool = False) -> None:
        """Give half of the tasks that have not begun away, if there is an idle worker that would take them; or all, while a task
        runs after which there is no time for another."""
        is_last = is_running and not self._time.is_left()
        count = self._queue.not_begun if is_last else count_to_give(self._queue.not_begun, is_running)
        if not count or (not is_last and time.monotonic() - self._began < HELD_S):
            return
        is_room_here = self._has_free_slot is not None and self._has_free_slot()
        is_wanted = is_last or is_room_here
        if not is_wanted and find_idle(self._claimer, self.job.category, disk_now(), self._time.needed_s) is None:
            return
        if is_running:
            self._flush_before_waiting(workplace)
        else:
            self._flush(workplace)
        kept, given = self._queue.split(count)
        try:
            self.job = share(
                self._claimer, self.job, (kept[0], kept[-1]), (given[0], given[-1]), self._refused, self._array.lines
            )
        except FileNotFoundError:
            return  # it was taken back: the watch or the end of the attempt notices
        except OSError as error:
            self._refused.warn(f"{self.job.name}: half of its tasks could not be given away: {error.strerror}")
            return
        self._queue.keep(kept)

    def _flush(self, workplace: Workplace) -> None:
        if self._log.output is None and self._log.end_of_output:
            self._name_output(workplace)
        if self._is_lost():
            raise LeftOff(LOST)
        if not self._refused.insist(self._log.flush):
            raise LeftOff(INTERRUPTED, "the ends of its tasks cannot be journaled")

    def _is_lost(self) -> bool:
        """Whether the chunk was taken back. Then what is not journaled is not to be: another worker runs these tasks."""
        jar = self._claimer.jar
        if not jar.settings.lease_time_s and not jar.ledger_home.has_other_homes:
            return False
        is_away = is_gone(self.job.path, is_patient=False)
        return is_away and was_taken_back(jar, self._claimer.worker_id, self.job, unknown=False)

    def _name_output(self, workplace: Workplace) -> None:
        with contextlib.suppress(OSError):  # tried again with the next ends
            self._log.output = workplace.name_output()

    # A task

    def _run_task(self, index: int, workplace: Workplace, world: World, disk_now: Callable[[], float]) -> Steps[None]:
        started = time.monotonic()
        message: str | None = None
        ended: Ended | None
        try:
            pid = world.start(index, self._queue.failures.get(index, 0) + 1, self._is_piped)
        except CannotStart as error:
            ended, message, pid = Ended(error.status, None, 0.0, 0.0, 0), str(error), 0
        except (StillBusy, OutputRefused, OSError) as error:
            self._queue.try_again(index)  # it has not begun
            reason = "somebody has its script open for writing" if isinstance(error, StillBusy) else str(error)
            if isinstance(error, OSError):
                reason = explain_no_process(error)
            raise LeftOff(INTERRUPTED, reason, _REFUSED_PAUSE_S) from error
        cause: Cause | None = None
        leftovers = False
        if pid:
            cause, ended = yield from self._wait(index, pid, started, workplace, disk_now)
            if cause is None and ended.exit_status != 0:
                told = yield from look_whether_told(self.job, ended, self._watch)
                cause = Cause(told) if told else None
            leftovers = yield from self._end_leftovers(pid, index)
        world.finish_output()
        message = world.take_note(index) if message is None else message
        if cause is not None and cause.outcome in (INTERRUPTED, LOST):
            self._queue.try_again(index)
            raise LeftOff(cause.outcome)
        if cause is not None and cause.message is not None:
            message = cause.message
        outcome = None if cause is None else cause.outcome
        self._end_task(index, ended, time.monotonic() - started, outcome, message, disk_now, workplace)
        if cause is not None and cause.outcome in (KILLED, CANCELLED) and not cause.is_own:
            raise LeftOff(cause.outcome)
        if self.has_failed and self._array.fails_fast and self._queue.has_more:
            raise LeftOff(CANCELLED, f"{self._array.uid} stops at its first failure: its task {index}")
        if pid:
            self._note_kept(workplace.renew(reusable=not leftovers))

    def _note_kept(self, kept: Sequence[Kept]) -> None:
        """Note what could not be removed of the directory of a task; the chunk gets a warning."""
        self._warnings += map(str, kept[: max(0, _MOST_WARNINGS - len(self._warnings))])

    def _end_leftovers(self, pid: int, index: int) -> Steps[bool]:
        """End what a task left in its session. Returns whether a process is left that may still write where the task did."""
        if not reap_strays():
            return False
        if (yield from steps_to_end_session(pid, self._claimer.jar.settings.grace_time_s)):
            self._refused.warn(f"{self._array.uid}[{index}] left background processes, which were ended")
        self._has_leftovers = reap_strays()
        return self._has_leftovers

    def _wait(
        self, index: int, pid: int, started: float, workplace: Workplace, disk_now: Callable[[], float]
    ) -> Steps[tuple[Cause | None, Ended]]:
        """Wait for a task's end. Returns why it was ended early (or None), and how it ended."""
        waiter = Waiter(pid)
        try:
            ended: Ended | None = yield Listen(waiter, _SHORT_S, hears_orders=False)
            if ended is not None:
                return None, ended
            self._flush_before_waiting(workplace)
            deadline = started + self._time_limit_s if self._time_limit_s else None
            warn_at = warning_time(self._array.given, self._time_limit_s, started)
            while True:
                timeout_s = self._watch.interval_s
                if deadline is not None:
                    timeout_s = min(timeout_s, (deadline if warn_at is None else warn_at) - time.monotonic())
                ended = yield Listen(waiter, timeout_s)
                if ended is not None:
                    return None, ended
                self._look_at = 0.0  # an order may have come: heed it before the next task
                cause = self._find_cause(index, deadline)
                if warn_at is not None and time.monotonic() >= warn_at:
                    send_warning(self._array.given, waiter.pid)
                    warn_at = None
                if cause is not None:
                    return cause, (yield from steps_to_end_waited(waiter, self._claimer.jar.settings.grace_time_s))
                self._share_rest(workplace, disk_now, is_running=True)
        finally:
            waiter.close()

    def _find_cause(self, index: int, deadline: float | None) -> Cause | None:
        """Why to end the task that runs; None: it may go on."""
        cause = self._watch.reason(self.job)
        if cause is not None:
            return Cause(cause)
        if self._watch.take_killed_task() == index:
            return Cause(KILLED, is_own=True)
        self._orders.look()
        message = self._orders.message_for(index)
        if message is not None:
            return Cause(CANCELLED, message, is_own=True)
        return Cause(TIMED_OUT) if deadline is not None and time.monotonic() >= deadline else None

    def _flush_before_waiting(self, workplace: Workplace) -> None:
        if self._is_lost():
            return  # the watch notices it, and ends the task
        if self._log.end_of_output and self._log.output is None:
            self._name_output(workplace)
        with contextlib.suppress(OSError):  # the next flush insists
            self._log.flush()

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
        is_to_end = self._orders.message_for(index) is not None
        if outcome in (FAILED, TIMED_OUT) and self._retries and not is_to_end and self._may_be_retried(outcome, ended):
            failures = self._queue.failures.get(index, 0)
            if failures < self._retries:
                is_retried = True
                self._queue.failures[index] = failures + 1
                self._queue.try_again(index, retry_time(self._retry_delay_s, failures, disk_now()))
        if ended is not None:
            self._user_s += ended.user_cpu_s
            self._system_s += ended.system_cpu_s
            self._memory_kib = max(self._memory_kib, ended.max_rss_kib)
        self.has_failed |= outcome not in (SUCCEEDED, CANCELLED) and not is_retried
        self._log.note(index, ended, wall_time_s, os.fstat(workplace.output).st_size, outcome, is_retried, message)
        if self._log.emptied_to is not None and not self._is_piped:
            self._is_piped = True
            self._warnings.append(f"task {index}: {EMPTIED}")
            self._refused.warn(f"{self._array.uid}[{index}]: {EMPTIED}")

    def _may_be_retried(self, outcome: str, ended: Ended | None) -> bool:
        return ended is None or may_be_retried(self._array.given, outcome, ended.exit_status, ended.signal)
