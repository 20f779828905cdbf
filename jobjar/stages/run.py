"""Run one attempt of a claimed job: its directory, its environment, its processes, its limits.

Reads the job's file; makes `scratch/<job>/` and `output/<job>.<attempt>.out` in the worker's directory; journals
`started`. Killed inside, a session without a worker may go on, which recovery ends first; the job is stranded.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from jobjar.attempt import (
    FAILED,
    INTERRUPTED,
    KILLED,
    LOST,
    SUCCEEDED,
    TIMED_OUT,
    AttemptEnd,
    ClaimedJob,
    Claimer,
    Watch,
)
from jobjar.disk import look, make_directory, rename
from jobjar.errors import CannotUseJar
from jobjar.jobname import node_name, numbered_name
from jobjar.journal import Entry
from jobjar.liveness import start_now
from jobjar.patience import FLICKER_S, do_once, patiently
from jobjar.session import (
    CannotStart,
    Ended,
    StillBusy,
    Waiter,
    end_session,
    has_leftovers,
    start_session,
)
from jobjar.trees import remove_tree as remove_tree

# A job whose file is busy, or for which there is no process, is not claimed again at once.
_BUSY_PAUSE_S = 5.0
# More than a step of a disk's clock: of the coarsest, and of one whose times show fractions of a millisecond.
_TICK_S = 3.0
_FINE_TICK_S = 0.1
# An attempt that is over so soon has its start told by its end.
_SHORT_S = 0.01


class Workbench:
    """Where a worker runs its jobs. Keeps an empty scratch directory and output file for the next job, because making
    and removing them is what costs most on a disk (DESIGN.md, Budget)."""

    def __init__(self, claimer: Claimer, environment: dict[str, str]) -> None:
        self.claimer = claimer
        # Encoded once, not for each job.
        self._base = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        self._spare_scratch: str | None = None
        self._spare_output: str | None = None
        self._fresh_mode = self._fresh_mtime_ns = 0
        self._fresh_since = 0.0

    def environment(self, job: ClaimedJob, scratch: str) -> dict[bytes, bytes]:
        """The environment of an attempt: the worker's, and what DESIGN.md, "A job's world", lists."""
        own = {
            b"JJ_JOB": job.name,
            b"JJ_JOB_ID": job.uid,
            b"JJ_JOB_FILE": job.path,
            b"JJ_SCRATCH_DIR": scratch,
            b"JJ_PRIORITY": str(job.priority),
            b"JJ_CATEGORY": job.category,
            b"JJ_ATTEMPT": str(job.attempt),
            b"JJ_SUBMITTER": job.submitter,
        }
        return {**self._base, **{name: os.fsencode(value) for name, value in own.items()}}

    def make_scratch(self, job: ClaimedJob) -> str:
        """A fresh empty directory for the job. Raises OSError."""
        path, number = f"{self.claimer.paths.scratch}/{job.name}", 2
        spare, self._spare_scratch = self._spare_scratch, None
        if spare is not None:
            try:
                rename(spare, path)  # over nothing, or over another empty directory
                return path
            except OSError:
                remove_tree(spare)  # somebody was in it
        while look(path) is not None:
            path = f"{self.claimer.paths.scratch}/{numbered_name(job.name, number)}"
            number += 1
        make_directory(path)
        status = patiently(lambda: os.stat(path), path)
        self._fresh_mode, self._fresh_mtime_ns = status.st_mode, status.st_mtime_ns
        self._fresh_since = time.monotonic()
        return path

    def make_output(self, job: ClaimedJob) -> str:
        """A new empty output file for the attempt. Raises OSError."""
        stem, number = f"{self.claimer.paths.output}/{job.name}.{job.attempt}", 2
        path = f"{stem}.out"
        while os.path.lexists(path):
            path = f"{stem}~{number}.out"
            number += 1
        spare, self._spare_output = self._spare_output, None
        if spare is not None:
            with contextlib.suppress(FileNotFoundError):
                rename(spare, path)
                return path
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        do_once(lambda: os.close(os.open(path, flags, 0o664)), path, FileExistsError)
        return path

    def clear_scratch(self, path: str, reusable: bool) -> None:
        """Remove a job's scratch directory, whatever the job did to it, or keep it for the next where it is as new."""
        try:
            status = patiently(lambda: os.stat(path), path, FLICKER_S)
            # The directory's time says that nothing was put there, if not in the very tick in which it was made.
            tick_s = _FINE_TICK_S if self._fresh_mtime_ns % 1_000_000 else _TICK_S
            is_untouched = status.st_mtime_ns == self._fresh_mtime_ns and time.monotonic() - self._fresh_since > tick_s
            is_new = status.st_mode == self._fresh_mode and (is_untouched or not os.listdir(path))
        except OSError:
            is_new = False
        if is_new and reusable and self._spare_scratch is None:
            self._spare_scratch = path
        else:
            remove_tree(path)

    def clear_output(self, path: str, reusable: bool) -> str | None:
        """Keep an attempt's output; returns its file's name. An empty one is no output: None."""
        try:
            if patiently(lambda: os.stat(path), path, FLICKER_S).st_size:
                return os.path.basename(path)
            if reusable and self._spare_output is None:
                self._spare_output = path
            elif reusable:
                os.unlink(path)
            else:
                return os.path.basename(path)  # what the job left running may still write to it
        except FileNotFoundError:
            pass  # the job removed it
        except OSError:
            return os.path.basename(path)  # the disk is away: there may be something in it
        return None

    def discard_spares(self) -> None:
        """Remove what was kept for a next job that will not come."""
        if self._spare_scratch is not None:
            with contextlib.suppress(OSError):
                os.rmdir(self._spare_scratch)
        if self._spare_output is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._spare_output)
        self._spare_scratch = self._spare_output = None


def base_environment(claimer: Claimer) -> dict[str, str]:
    """What all jobs of a worker see: the worker's own environment, JJ_… of the worker, and the jar's programs first."""
    layout = claimer.jar.layout
    return {
        **os.environ,
        "JJ_HOME": layout.home,
        "JJ_WORKER_HOME": layout.workers,
        "JJ_WORKER": claimer.paths.name,
        "JJ_WORKER_ID": claimer.worker_id,
        "JJ_WORKER_DIR": claimer.paths.path,
        "JJ_NODE": node_name(),
        "PATH": f"{layout.bin}:{os.environ.get('PATH', os.defpath)}",
    }


def run_attempt(bench: Workbench, job: ClaimedJob, watch: Watch, warn: Callable[[str], None]) -> AttemptEnd:
    """Run the job to its end, or until `watch` or its time limit ends it.

    Raises CannotUseJar where the disk refuses the scratch directory or the output file: nothing was run then.
    """
    scratch = output = ""
    try:
        scratch = bench.make_scratch(job)
        output = bench.make_output(job)
    except OSError as error:
        if scratch:
            bench.clear_scratch(scratch, reusable=True)
        raise CannotUseJar(
            action="make a scratch directory or output file in", path=bench.claimer.paths.path, reason=error.strerror
        ) from error
    started = time.monotonic()
    leftovers = False
    try:
        environment = bench.environment(job, scratch)
        pid, pid_started = start_now(lambda: start_session(job.path, scratch, output, environment))
    except CannotStart as error:
        return _not_run(bench, scratch, output, FAILED, error.status, str(error))
    except StillBusy:
        message = "somebody has the file open for writing; it goes back"
        return _not_run(bench, scratch, output, INTERRUPTED, None, message)
    except OSError as error:
        return _not_run(bench, scratch, output, INTERRUPTED, None, f"cannot start a process: {error.strerror}")
    waiter = Waiter(pid)
    try:
        watch.meanwhile()
        cause, ended = None, waiter.wait(_SHORT_S, [])
        if ended is None:
            _journal_start(bench.claimer, job, pid, pid_started, warn)
            cause, ended = _wait_for_end(bench.claimer, job, waiter, started, watch)
    finally:
        waiter.close()
    wall_time_s = time.monotonic() - started
    if has_leftovers():
        # Background children in the job's own session end with it; who left the session (setsid) meant to stay.
        if end_session(pid, bench.claimer.jar.settings.grace_time_s):
            warn(f"{job.name} left background processes, which were ended")
        leftovers = has_leftovers()
    output_file = bench.clear_output(output, reusable=not leftovers)
    bench.clear_scratch(scratch, reusable=not leftovers)
    return AttemptEnd(
        outcome=cause or (SUCCEEDED if ended.exit_status == 0 else FAILED),
        exit_status=ended.exit_status,
        signal=ended.signal,
        wall_time_s=round(wall_time_s, 6),
        user_cpu_s=round(ended.user_cpu_s, 6),
        system_cpu_s=round(ended.system_cpu_s, 6),
        max_rss_kib=ended.max_rss_kib,
        output_file=output_file,
        message=explain_cause(cause, job),
        pid=pid,
        pid_started=pid_started,
    )


def explain_cause(cause: str | None, job: ClaimedJob) -> str | None:
    if cause == TIMED_OUT:
        return f"ended at its time limit of {job.time_limit_s:g} s"
    if cause == KILLED:
        return "killed on request"
    if cause == INTERRUPTED:
        return "its worker was told to end"
    if cause == LOST:
        return "ended when its worker saw that it had lost its lease"
    return None


def _not_run(
    bench: Workbench, scratch: str, output: str, outcome: str, exit_status: int | None, message: str
) -> AttemptEnd:
    bench.clear_scratch(scratch, reusable=True)
    bench.clear_output(output, reusable=True)
    retry_after_s = _BUSY_PAUSE_S if outcome == INTERRUPTED else 0.0
    return AttemptEnd(outcome, exit_status, None, 0.0, 0.0, 0.0, 0, None, message, None, None, retry_after_s)


def started_entry(claimer: Claimer, job: ClaimedJob, pid: int | None, pid_started: float | None) -> Entry:
    """The `started` entry of an attempt whose main process goes on."""
    return {
        "entry": "started",
        "job": job.uid,
        "attempt": job.attempt,
        "worker": claimer.paths.name,
        "worker_uid": claimer.worker_id,
        "pid": pid,
        "pid_started": pid_started,
    }


def _journal_start(
    claimer: Claimer, job: ClaimedJob, pid: int, pid_started: float | None, warn: Callable[[str], None]
) -> None:
    try:
        claimer.jar.journal.append([started_entry(claimer, job, pid, pid_started)])
    except OSError as error:
        # Recovery finds the session by its environment too, as it does before this entry.
        warn(f"the start of {job.name} could not be journaled: {error.strerror}")


def _wait_for_end(
    claimer: Claimer, job: ClaimedJob, waiter: Waiter, started: float, watch: Watch
) -> tuple[str | None, Ended]:
    """Wait for the job's main process; returns why it was ended early, if it was, and how it ended."""
    deadline = started + job.time_limit_s if job.time_limit_s else None
    while True:
        timeout_s = watch.interval_s
        if deadline is not None:
            timeout_s = min(timeout_s, deadline - time.monotonic())
        ended = waiter.wait(timeout_s, watch.descriptors())
        if ended is not None:
            return None, ended
        cause = watch.reason(job)
        if cause is None and deadline is not None and time.monotonic() >= deadline:
            cause = TIMED_OUT
        if cause is not None:
            return cause, _end_now(waiter, claimer.jar.settings.grace_time_s)


def _end_now(waiter: Waiter, grace_time_s: float) -> Ended:
    """End the job's whole session, its main process too; returns how that ended."""
    found: list[Ended] = []

    def reap_main() -> None:
        if not found:
            ended = waiter.wait(0, [])
            if ended is not None:
                found.append(ended)

    end_session(waiter.pid, grace_time_s, reap_main)
    while not found:
        reap_main()
    return found[0]
