"""Run one attempt of a claimed job: its processes and its limits.

Reads the job's file, makes a workplace with a scratch directory and an output file, and journals `started`. A kill leaves the
job stranded, and perhaps a session that goes on without a worker. Recovery ends that session first.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial

from jobjar.access.refusals import explain_error, explain_no_process
from jobjar.attempts.attempt import (
    FAILED,
    INTERRUPTED,
    KILLED,
    LOST,
    SUCCEEDED,
    TIMED_OUT,
    TOLD_TO_END,
    AttemptEnd,
    ClaimedJob,
    Claimer,
    Watch,
    about_attempt,
)
from jobjar.attempts.missing_file import hold_file
from jobjar.attempts.surroundings import Surroundings
from jobjar.attempts.warning import send_warning, warning_time
from jobjar.attempts.workplace import Workplace, Workplaces
from jobjar.errors import CannotUseJar
from jobjar.journal.entries import started_entry, stored_entry, warned_entry
from jobjar.journal.read import Entry
from jobjar.liveness import start_now
from jobjar.processes.children import Ended, Waiter, reap_strays
from jobjar.processes.ending import DOUBT_S, end_session, end_waited, seems_ended_on_request
from jobjar.processes.starting import BUSY_PATIENCE_S, CannotStart, StillBusy, start_session
from jobjar.processes.waits import Listen, Steps, block
from jobjar.publishing.monitor import Monitor
from jobjar.publishing.results import read_results

# How long a job waits for its next claim after it could not be started: its file was busy, or the system or the disk refused.
REFUSED_DELAY_S = 5.0
# For a shorter attempt the `ended` entry also records the start. Its output file gets a name at its end, if it has output.
_SHORT_S = 0.01
FILE_IS_BUSY = (
    "somebody has the file open for writing; it is tried again until they close it (`fuser` names the process)"
)


def run_attempt(workplaces: Workplaces, job: ClaimedJob, watch: Watch, warn: Callable[[str], None]) -> AttemptEnd:
    """Run the job to its end, or until `watch` or its time limit ends it.

    Raises CannotUseJar if the disk refuses the scratch directory or the output file; nothing was run then.
    """
    claimer = workplaces.claimer
    try:
        workplace = workplaces.make_alone(job)
    except OSError as error:
        raise CannotUseJar(
            action="make a scratch directory or output file in", path=claimer.paths.path, reason=explain_error(error)
        ) from error
    started = time.monotonic()
    monitor = Monitor(claimer, job)
    leftovers = False
    around: Surroundings | None = None

    def refuse(end: AttemptEnd) -> AttemptEnd:
        leave(claimer, around, was_run=False)
        workplaces.clear(workplace, reusable=True)
        return end

    try:
        environment = workplaces.environment(job, workplace.directory)
        around = surround(claimer, job, environment)
    except CannotStart as error:
        return refuse(end_of_start(error, job))
    except OSError as error:
        return refuse(end_of_refusal(explain_error(error)))
    try:
        pid, pid_started = start_now(lambda: start_plain(job, workplace, environment, around))
    except CannotStart as error:
        return refuse(end_of_start(error, job))
    except StillBusy:
        return refuse(end_of_refusal(FILE_IS_BUSY))
    except OSError as error:
        return refuse(end_of_refusal(explain_no_process(error)))
    note_surroundings(claimer, around)
    waiter = Waiter(pid)
    try:
        watch.after_start()
        cause, ended = None, waiter.wait(_SHORT_S, [])
        if ended is None:
            hold_file(claimer, job)
            with contextlib.suppress(OSError):  # tried again at its end
                workplace.name_output()
            workplace.look_at_output()
            _journal_start(claimer, job, pid, pid_started, warn)
            monitor.schedule_look()
            look = partial(_journal_progress, claimer, job, workplace, monitor, started)
            cause, ended = _wait_for_end(claimer, job, waiter, started, watch, look)
    finally:
        waiter.close()
    wall_time_s = time.monotonic() - started
    if cause is None and ended.exit_status != 0:
        cause = block(look_whether_told(job, ended, watch), watch.descriptors)
    if reap_strays():
        # Background children in the job's session end with it. A process that left the session (setsid) meant to stay.
        if end_session(pid, claimer.jar.settings.grace_time_s):
            warn(f"{job.name} left background processes, which were ended")
        leftovers = reap_strays()
    leave(claimer, around)
    end = end_of_process(ended, cause, job, wall_time_s)._replace(pid=pid, pid_started=pid_started)
    return clear_plain(workplaces, workplace, job, end, monitor, reusable=not leftovers)


def start_plain(
    job: ClaimedJob,
    workplace: Workplace,
    environment: dict[bytes, bytes],
    around: Surroundings | None,
    busy_patience_s: float = BUSY_PATIENCE_S,
) -> int:
    """Start a plain job in its workplace. Returns its process id. Raises CannotStart, StillBusy, OSError."""
    if around is None:
        return start_session(
            job.path, workplace.scratch, workplace.job_output, environment, busy_patience_s=busy_patience_s
        )
    directory = workplace.scratch if around.directory < 0 else around.directory
    output = workplace.job_output if around.output < 0 else around.output
    return start_session(
        job.path, directory, output, around.environment, around.arguments, around.error, busy_patience_s
    )


def surround(claimer: Claimer, job: ClaimedJob, environment: dict[bytes, bytes]) -> Surroundings | None:
    """Make the surroundings that a job asked for; None for most jobs. Raises CannotStart, OSError."""
    if job.given is None:
        return None
    return Surroundings(claimer, job, environment)


def note_surroundings(claimer: Claimer, around: Surroundings | None) -> None:
    """Have the entries about an attempt's surroundings journaled with the next ones, of its start or end. Call it once the job
    runs: if it is refused, its files are removed."""
    if around is not None:
        claimer.jar.journal.append_later(around.take_entries())


def leave(claimer: Claimer, around: Surroundings | None, was_run: bool = True) -> None:
    """Close an attempt's surroundings, if it has any. If nothing was run in them, their files are removed."""
    if around is not None:
        if was_run:
            note_surroundings(claimer, around)
        around.close()
        if not was_run:
            around.remove()


def clear_plain(
    workplaces: Workplaces, workplace: Workplace, job: ClaimedJob, end: AttemptEnd, monitor: Monitor, reusable: bool
) -> AttemptEnd:
    """Clear the workplace of a plain job's attempt. Returns `end` with the output file, with the entries of the results that
    the job left, and with a warning for each file that cannot be removed. Results are read only if the directory was
    touched."""
    entries: list[Entry] = []
    warnings: list[str] = []
    if workplace.is_touched() and end.outcome != LOST:
        results = read_results(workplace.inside())
        about = about_attempt(workplaces.claimer, job)
        entries = [stored_entry(about, record) for record in results.stored]
        monitor.note(results.variables, job.claimed_at + end.wall_time_s)
        warnings = results.warnings
    entries += monitor.take_entries()
    output_file = workplaces.clear(workplace, reusable)
    warnings += workplace.warnings()
    if warnings:
        entries.append(warned_entry(about_attempt(workplaces.claimer, job), warnings))
    return end._replace(output_file=output_file, entries=tuple(entries)) if output_file or entries else end


def end_of_process(ended: Ended | None, cause: str | None, job: ClaimedJob, wall_time_s: float) -> AttemptEnd:
    """How an attempt ended, from how its main process `ended`. `cause` says why it was ended early, if it was. `ended` is None
    if it was ended before it had a process."""
    if ended is None:
        assert cause is not None
        return AttemptEnd(cause, message=explain_cause(cause, job))
    return AttemptEnd(
        outcome=cause or (SUCCEEDED if ended.exit_status == 0 else FAILED),
        exit_status=ended.exit_status,
        signal=ended.signal,
        wall_time_s=round(wall_time_s, 6),
        user_cpu_s=round(ended.user_cpu_s, 6),
        system_cpu_s=round(ended.system_cpu_s, 6),
        max_rss_kib=ended.max_rss_kib,
        message=explain_cause(cause, job),
    )


def explain_cause(cause: str | None, job: ClaimedJob) -> str | None:
    if cause == TIMED_OUT:
        return f"ended at its time limit of {job.time_limit_s:g} s"
    if cause == KILLED:
        return "killed on request"
    if cause == INTERRUPTED:
        return TOLD_TO_END
    if cause == LOST:
        return "ended when its worker saw that it had lost its lease"
    return None


def end_of_start(error: CannotStart, job: ClaimedJob) -> AttemptEnd:
    """The end of an attempt whose job cannot be run, whatever is tried again."""
    return end_of_process(Ended(error.status, None, 0.0, 0.0, 0), None, job, 0.0)._replace(message=str(error))


def end_of_refusal(message: str) -> AttemptEnd:
    """The end of an attempt that could not be started now, through no fault of the job. The job goes back for a while."""
    return AttemptEnd(INTERRUPTED, message=message, retry_after_s=REFUSED_DELAY_S)


def _journal_start(
    claimer: Claimer, job: ClaimedJob, pid: int, pid_started: float | None, warn: Callable[[str], None]
) -> None:
    try:
        claimer.jar.journal.append([started_entry(about_attempt(claimer, job), pid, pid_started)])
    except OSError as error:
        # Recovery finds the session by its environment too.
        warn(f"the start of {job.name} could not be journaled: {error.strerror}")


def _wait_for_end(
    claimer: Claimer, job: ClaimedJob, waiter: Waiter, started: float, watch: Watch, look: Callable[[], None]
) -> tuple[str | None, Ended]:
    """Wait for the job's main process. Returns why it was ended early (or None), and how it ended."""
    deadline = started + job.time_limit_s if job.time_limit_s else None
    warn_at = warning_time(job.given, job.time_limit_s, started) if job.given is not None else None
    while True:
        timeout_s = watch.interval_s
        if deadline is not None:
            timeout_s = min(timeout_s, (deadline if warn_at is None else warn_at) - time.monotonic())
        ended = waiter.wait(timeout_s, watch.descriptors())
        if ended is not None:
            return None, ended
        cause = watch.reason(job)
        if warn_at is not None and time.monotonic() >= warn_at:
            send_warning(job.given, waiter.pid)
            warn_at = None
        if cause is None and deadline is not None and time.monotonic() >= deadline:
            cause = TIMED_OUT
        if cause is not None:
            return cause, end_waited(waiter, claimer.jar.settings.grace_time_s)
        look()


def _journal_progress(
    claimer: Claimer, job: ClaimedJob, workplace: Workplace, monitor: Monitor, started: float
) -> None:
    """Journal the results of a plain job so far, once per JJ_PROGRESS_TIME. A shorter job journals none here."""
    workplace.look_at_output()
    if not monitor.is_due():
        return
    with contextlib.suppress(OSError):  # it is journaled with what comes next
        monitor.look(workplace.inside(), job.claimed_at + time.monotonic() - started)
        if monitor.entries:
            claimer.jar.journal.append(monitor.entries)
            monitor.entries = []


def look_whether_told(job: ClaimedJob, ended: Ended, watch: Watch) -> Steps[str | None]:
    """The cause, if a failed job counts as ended early after all. A signal to both the job and its worker may reach the job
    first, so this waits a moment for the worker's."""
    if watch.is_told_to_end() or not seems_ended_on_request(ended):
        return INTERRUPTED if watch.is_told_to_end() else None
    deadline = time.monotonic() + DOUBT_S
    while (left_s := deadline - time.monotonic()) > 0:
        cause = watch.reason(job)
        if cause is not None:
            return cause
        yield Listen(None, min(left_s, watch.interval_s))
    return None
