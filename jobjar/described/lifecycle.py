"""The way of one job through its stages, for a worker that has several under way: their order, and how the job ends.

A described job's way begins anew, or where an earlier attempt's state.json says. Writes what its stages write, and `underway/`.
"""

from __future__ import annotations

import contextlib
import time

from jobjar.access.refusals import explain_error
from jobjar.attempts.attempt import (
    DESCRIBED,
    FAILED,
    INTERRUPTED,
    LOST,
    PUBLISHED,
    SUCCEEDED,
    TIMED_OUT,
    AttemptEnd,
    ClaimedJob,
    about_attempt,
)
from jobjar.attempts.stays import journal_late
from jobjar.attempts.surroundings import Surroundings
from jobjar.attempts.verdict import Verdict
from jobjar.attempts.warning import warning_time
from jobjar.attempts.workplace import Workplace
from jobjar.described.poll import has_polling, poll, save_polled
from jobjar.described.run_command import run_command
from jobjar.described.services import Services
from jobjar.described.stage_in import install_software, stage_in, use_workware
from jobjar.described.stage_out import (
    find_destination,
    has_output,
    has_stored,
    make_state,
    note_results,
    publish_outputs,
    run_stage_out,
    warn_of_nothing,
)
from jobjar.described.steps import RUN, STAGE_IN, STAGE_OUT, Attempt, Cut, Program, StageFailed, Steps, Turn
from jobjar.described.store import Refused, count_refusals, delay_after, keep_published, store_outputs
from jobjar.described.way import Way
from jobjar.job_file.description import storage_category
from jobjar.journal.entries import started_entry
from jobjar.journal.read import Entry
from jobjar.processes.children import Ended
from jobjar.processes.ending import end_rest
from jobjar.processes.exit_status import NOT_RUNNABLE_STATUS
from jobjar.processes.starting import CannotStart, StillBusy, is_open_for_writing
from jobjar.publishing.monitor import Monitor
from jobjar.publishing.underway import (
    OUTPUT,
    POLL,
    State,
    attempt_directory,
    find_state,
    forget_state,
    make_attempt_directory,
    published_directory,
    remove_underway,
    state_directory,
    work_directory,
    write_state,
)
from jobjar.shared_disk.files import is_gone, look, rename
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.trees import remove_tree
from jobjar.stages import run


class Lifecycle(Way):
    """The way of a plain or a described job."""

    def __init__(self, services: Services, job: ClaimedJob) -> None:
        self._services = services
        self.job = job
        self._workplaces = services.workplaces
        self._layout = services.claimer.jar.layout
        self._workplace: Workplace | None = None
        # A plain job's surroundings.
        self._around: Surroundings | None = None
        self._is_start_journaled = False
        # Its commands have run, or it stores what an earlier attempt published; its end is journaled; a new attempt polls on.
        self._has_begun = self._has_ended = self._goes_on = False
        self._deadline: float | None = None
        self._has_underway = False
        # The directory of the job's state.json, and the state of a job that was submitted elsewhere and is polled.
        self._state_directory: str | None = None
        self._polled_state: State | None = None
        if job.kind == DESCRIBED:
            self.attempt = Attempt(services.claimer, job, self._workplaces.environment, services.disk_now, services.log)
        self.monitor: Monitor = Monitor(services.claimer, job) if self.attempt is None else self.attempt.monitor
        self._own_directory = attempt_directory(self._layout, job.uid, job.attempt, services.claimer.worker_id)

    @property
    def deadline(self) -> float | None:
        return self._deadline if self.attempt is None else self.attempt.deadline

    @property
    def output(self) -> int:
        workplace = self._workplace if self.attempt is None else self.attempt.workplace
        assert workplace is not None
        return workplace.job_output if self._around is None or self._around.output < 0 else self._around.output

    @property
    def has_entries(self) -> bool:
        return bool(self.monitor.entries) or (self.attempt is not None and bool(self.attempt.entries))

    def steps(self) -> Steps[None]:
        """The steps from the claim to the commit. If they raise OSError or ImportError, call `end_refused`."""
        return self._run_plain() if self.attempt is None else self._run_described(self.attempt)

    def end_refused(self, why: str) -> bool:
        """End the attempt, whose steps raised an error. Returns False if nothing of it was begun: the job can be given back."""
        if self._has_ended:
            self._services.log(f"{self.job.name}: what its attempt left is not tidied: {why}")
        elif self._has_begun:
            end = run.end_of_refusal(why)
            if self.attempt is not None:
                self.attempt.end(message=why)
                end = self._end(self.attempt, INTERRUPTED, message=why)._replace(retry_after_s=run.REFUSED_DELAY_S)
                with contextlib.suppress(OSError):  # recovery clears its workplace
                    end = end._replace(output_file=self._clear())
            self._complete(end, self._decide(end), self.job, self.attempt)
        return self._has_begun

    def take_entries(self, is_running: bool) -> list[Entry]:
        entries: list[Entry] = []
        if is_running and not self._is_start_journaled:
            self._is_start_journaled = True
            entries += [] if self._around is None else self._around.take_entries()
            entries.append(started_entry(about_attempt(self._services.claimer, self.job), self.pid, self.pid_started))
        if self.attempt is not None:
            entries += self.attempt.entries
            self.attempt.entries = []
        return entries + self.monitor.take_entries()

    def note_variables(self) -> None:
        workplace = self._workplace if self.attempt is None else self.attempt.workplace
        if workplace is None:
            self.monitor.next_look = None
        else:
            self.monitor.look(workplace.inside(), self._services.disk_now())

    # Plain jobs

    def _run_plain(self) -> Steps[None]:
        job = self.job
        started = time.monotonic()
        try:
            yield Turn(RUN)
            workplace = self._workplace = self._workplaces.make(job)
            environment = self._workplaces.environment(job, workplace.directory)
            self._around = run.surround(self._services.claimer, job, environment)
            started = time.monotonic()
            self._deadline = started + job.time_limit_s if job.time_limit_s else None
            self.monitor.schedule_look()
            self.warn_at = warning_time(job.given, job.time_limit_s, started)
            around = self._around
            ended: Ended = yield Program(lambda: run.start_plain(job, workplace, environment, around, 0.0))
            end = run.end_of_process(ended, None, job, time.monotonic() - started)
            if end.exit_status == NOT_RUNNABLE_STATUS and is_open_for_writing(job.path):
                end = run.end_of_refusal(run.FILE_IS_BUSY)
        except Cut as cut:
            end = run.end_of_process(cut.ended, cut.cause, job, time.monotonic() - started)
        except CannotStart as refusal:
            end = run.end_of_start(refusal, job)
        except StillBusy:
            end = run.end_of_refusal(run.FILE_IS_BUSY)
        except OSError as error:
            if self._workplace is None:
                raise
            end = run.end_of_refusal(explain_error(error))
        self._has_begun = True
        run.leave(self._services.claimer, self._around, was_run=self.pid is not None and not end.retry_after_s)
        self._around = self.warn_at = self._deadline = self.monitor.next_look = None
        end = end._replace(pid=self.pid, pid_started=self.pid_started)
        if self._workplace is not None:
            end = run.clear_plain(self._workplaces, self._workplace, job, end, self.monitor, self.is_alone)
            self._workplace = None
        self._complete(end, self._decide(end), job)

    # Described jobs

    def _run_described(self, attempt: Attempt) -> Steps[None]:
        # Most jobs have nothing below underway/: they cost one look.
        self._has_underway = look(f"{self._layout.underway}/{self.job.uid}") is not None
        state = find_state(self._layout, self.job.uid) if self._has_underway else None
        if state is not None:
            self._state_directory = state_directory(self._layout, state)
            if state.phase != POLL:
                self.is_storing = True
                yield from self._store(attempt, state, self._state_directory)
                return
        try:
            if state is None:
                yield Turn(STAGE_IN)
                yield from stage_in(attempt, lambda: self._make_workplace(attempt))
                yield Turn(RUN)
                yield from run_command(attempt)
                if has_polling(attempt):
                    state = make_state(attempt, POLL, self._end(attempt, SUCCEEDED, exit_status=0))
                    yield from save_polled(self._own_directory, state)
                    self._state_directory = self._own_directory
            else:
                yield Turn(STAGE_IN)
                yield from install_software(attempt)
                assert self._state_directory is not None
                attempt.settle(self._workplaces.make(self.job, work_directory(self._state_directory)))
                use_workware(attempt)
                yield Turn(RUN)
            if state is not None and self._state_directory is not None:
                self._polled_state = state
                yield from poll(attempt, self._state_directory, state)
            yield Turn(STAGE_OUT)
            yield from run_stage_out(attempt)
            end = self._end(attempt, SUCCEEDED, exit_status=0)
        except StageFailed as failure:
            end = self._end_failed(attempt, failure)
        except Cut as cut:
            end = self._end_cut(attempt, cut)
        except OSError as error:
            if attempt.workplace is None and attempt.phase is None:
                raise
            message = f"{attempt.phase or 'the disk'}: {explain_error(error)}"
            attempt.end(message=message)
            end = self._end(attempt, INTERRUPTED, message=message)._replace(retry_after_s=run.REFUSED_DELAY_S)
        yield from self._conclude(attempt, end)

    def _end_failed(self, attempt: Attempt, failure: StageFailed) -> AttemptEnd:
        self._goes_on = failure.goes_on
        attempt.end(failure.exit_status, str(failure))
        return self._end(attempt, FAILED, failure.exit_status, failure.signal, str(failure))

    def _end_cut(self, attempt: Attempt, cut: Cut) -> AttemptEnd:
        message = cut.message or self.cut_message or run.explain_cause(cut.cause, self.job) or cut.cause
        if cut.cause == TIMED_OUT and attempt.phase in (STAGE_IN, STAGE_OUT):
            message = f"{attempt.phase}: {message}"
        attempt.end(message=message)
        ended = cut.ended
        return self._end(attempt, cut.cause, ended and ended.exit_status, ended and ended.signal, message)

    def _make_workplace(self, attempt: Attempt) -> Workplace:
        """Make the working directory. It outlasts the worker for a job that is polled, or whose workware may poll."""
        if not has_polling(attempt) and not attempt.description.workware:
            return self._workplaces.make(self.job, with_outputs=True)
        self._has_underway = True
        make_attempt_directory(self._own_directory)
        return self._workplaces.make(self.job, work_directory(self._own_directory), with_outputs=True)

    def _end(
        self,
        attempt: Attempt,
        outcome: str,
        exit_status: int | None = None,
        signal: int | None = None,
        message: str | None = None,
    ) -> AttemptEnd:
        end = attempt.make_end(outcome, exit_status, signal, message)
        return end._replace(pid=self.pid, pid_started=self.pid_started)

    def _conclude(self, attempt: Attempt, end: AttemptEnd) -> Steps[None]:
        """Publish the outputs and store them. Without outputs to store, end the attempt."""
        self._has_begun = True
        if end.outcome != LOST:
            note_results(attempt)
        verdict = self._decide(end)
        state: State | None = None
        is_nothing_stored = not has_stored(attempt)
        to = find_destination(attempt, end, verdict.final)
        if to is not None and has_output(attempt):
            self._has_underway = True
            attempt.is_cut = False  # the time limit may have set it; the outputs are wanted all the same
            try:
                state = yield from publish_outputs(attempt, end, to, self._own_directory)
            except StageFailed as failure:
                # An attempt that failed already keeps its reason; a refused output is only a warning.
                if end.outcome == SUCCEEDED:
                    end = self._end_failed(attempt, failure)
                else:
                    attempt.warn([str(failure)])
            except Cut as cut:
                end = self._end_cut(attempt, cut)
            verdict = self._decide(end)
        if is_nothing_stored and end.outcome == SUCCEEDED and not (state and state.files):
            warn_of_nothing(attempt)
        if state is None:
            self._finish(attempt, end._replace(output_file=self._clear()), verdict, self.job)
        else:
            yield from self._store(attempt, state, self._own_directory)

    def _decide(self, end: AttemptEnd) -> Verdict:
        return self._services.ends.decide(self.job, end)

    def _store(self, attempt: Attempt, state: State, directory: str) -> Steps[None]:
        """Store what is published and complete the job, or hand the job to the workers of its storage class."""
        self._has_begun = True
        job = self.job
        own_category = job._replace(category=state.category)
        waiting = storage_category(state.storage_class) if state.storage_class else None
        if waiting is not None and job.category != waiting:
            end = self._end(attempt, PUBLISHED, state.exit_status, state.signal)
            end = end._replace(output_file=self._clear())
            self._finish(attempt, end, Verdict.give_back(PUBLISHED), job._replace(category=waiting))
            return
        try:
            yield Turn(STAGE_OUT)
            yield from store_outputs(attempt, state, directory, self.is_storing, lambda: self._workplaces.make(job))
        except Refused as refusal:
            attempt.end(message=str(refusal))
            delay_s = delay_after(count_refusals(self._services.claimer.jar, state))
            end = self._end(attempt, INTERRUPTED, message=str(refusal))._replace(retry_after_s=delay_s)
            self._finish(attempt, end._replace(output_file=self._clear()), self._decide(end), job)
        except StageFailed as failure:
            message = f"{failure}; the published files are kept in {directory}"
            attempt.end(message=message)
            self._keep_published(directory, message)
            end = self._end(attempt, FAILED, state.exit_status, state.signal, message)
            end = end._replace(output_file=self._clear())
            self._finish(attempt, end, Verdict.complete(), own_category)
        except Cut as cut:
            end = self._end_cut(attempt, cut)._replace(output_file=self._clear())
            if (verdict := self._decide(end)).final:
                end = end._replace(message=f"{end.message}; the published files are kept in {directory}")
                self._keep_published(directory, str(end.message))
            self._finish(attempt, end, verdict, own_category if verdict.final else job)
        else:
            # The job ends with the outcome of the attempt that published the files. Times and usage are this attempt's.
            end = self._end(attempt, state.outcome or SUCCEEDED, state.exit_status, state.signal, state.message)
            end = end._replace(output_file=self._clear())
            self._finish(attempt, end, Verdict.complete(), own_category)

    def _keep_published(self, directory: str, message: str) -> None:
        with contextlib.suppress(OSError):  # recovery will take them for stored then; the message names them
            keep_published(directory, message)
        self._has_underway = False

    # The end

    def _finish(self, attempt: Attempt, end: AttemptEnd, verdict: Verdict, job: ClaimedJob) -> None:
        """End the attempt, and tidy underway/. A retry would go on from a state there, so states are removed before the end."""
        begins_anew = verdict.is_retry and not self._goes_on
        is_over = verdict.final or begins_anew
        if begins_anew and self._has_underway and not is_gone(job.path, is_patient=False):
            for entry in list_directory(f"{self._layout.underway}/{job.uid}"):
                forget_state(entry.path)
        held = self._complete(end, verdict, job, attempt)
        if not self._has_underway:
            return
        if held and is_over and self._polled_state is not None and self.pid is not None:
            # Ends the processes that run_command left running for the polling_command to watch.
            end_rest(self.pid, self.pid_started)
        if held and is_over:
            journal_late(self._services.claimer, job, remove_underway(self._layout, job.uid))
        elif verdict.reason != PUBLISHED if held else is_gone(job.path, is_patient=False):
            self._leave_underway(held)

    def _leave_underway(self, held: bool) -> None:
        """Remove the directory that this attempt made below underway/, unless a later attempt goes on with it."""
        if not held and self._polled_state is not None:
            # Another worker polls the job now, in the same working directory. It needs back the output/ that this attempt took.
            with contextlib.suppress(OSError):
                taken = published_directory(self._own_directory)
                rename(taken, f"{work_directory(str(self._state_directory))}/{OUTPUT}")
                if self._state_directory == self._own_directory:
                    write_state(self._own_directory, self._polled_state)
        state = find_state(self._layout, self.job.uid) if held else None
        if self._own_directory not in (self._state_directory, state and state_directory(self._layout, state)):
            journal_late(self._services.claimer, self.job, remove_tree(self._own_directory))

    def _complete(self, end: AttemptEnd, verdict: Verdict, job: ClaimedJob, attempt: Attempt | None = None) -> bool:
        if attempt is not None:
            end = end._replace(entries=tuple(attempt.last_entries()))
        held = self._services.ends.complete(job, end, verdict)
        self._has_ended = True
        return held

    def _clear(self) -> str | None:
        """Clear the attempt's workplace. Returns the name of its output file, None where there is none."""
        assert self.attempt is not None
        workplace, self.attempt.workplace = self.attempt.workplace, None
        if workplace is None:
            return None
        output_file = self._workplaces.clear(workplace, self.is_alone)
        self.attempt.warn(workplace.warnings())
        return output_file
