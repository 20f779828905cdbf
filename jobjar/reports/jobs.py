"""Report all that is known of them. Brings the ledger up to date and reads it; moves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Mapping
from typing import Any

from jobjar import control
from jobjar.access.refusals import explain_disk
from jobjar.attempts.attempt import DESCRIBED, LOST
from jobjar.attempts.limits import explain_limits
from jobjar.errors import BadAttribute, NoOutput, NotRunning
from jobjar.heartbeat import Hearing, heard_workers
from jobjar.jar import Jar
from jobjar.job_file.attributes import HEADER_BYTES, read_header
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.job_file.given import fit_given
from jobjar.journal.entries import LIFE
from jobjar.journal.submitted import is_held_by_person
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_claiming import aborted_batches, workers_with_jobs
from jobjar.ledger.ask_jobs import (
    attempt_details,
    files_of_attempt,
    list_attempts,
    list_moves,
    name_of_job,
    run_before,
    throttle_of_job,
)
from jobjar.ledger.ask_returns import find_return
from jobjar.ledger.models import Attempt, JobReport
from jobjar.liveness import DEAD
from jobjar.recovery.others_processes import explain_left_running
from jobjar.reports.hints import after_not_running
from jobjar.reports.refused import Refused
from jobjar.reports.returned import explain_return
from jobjar.roster import ASIDE, explain_turn, explain_unasked, find_archived_worker, read_worker, running_workers
from jobjar.shared_disk.contents import LATEST, is_name
from jobjar.shared_disk.files import is_job_file, look, read_file
from jobjar.shared_disk.regular import UnfitFile, open_below, open_regular
from jobjar.units import name_retries

_DAY_S = 86400.0


def describe_job(jar: Jar, job: JobReport) -> dict[str, Any]:
    """All that is known of a job, with the names that `jobjar show --format json` uses. Times are UTC epoch seconds."""
    return {
        "name": job.name,
        "id": job.uid,
        "state": job.state,
        "outcome": job.outcome,
        "exit_status": job.exit_status,
        "signal": job.signal,
        "category": job.category or None,
        "batch": job.batch,
        "seed": job.seed,
        "priority": job.priority,
        "submitter": job.submitter,
        "submitted_at": job.submitted_at,
        "place": job.place,
        "worker": worker_of_place(job.place),
        "retries": name_retries(job.retries),
        "retry_delay_s": job.retry_delay_s,
        "time_limit_s": job.time_limit_s,
        "not_before": job.not_before or None,
        "held_reason": job.held_reason,
        "waits_because": explain_waiting(jar, job) or _explain_turn(jar, job) or None,
        **_describe_given(job.given),
        "attempts": describe_attempts(jar, job),
        "moves": describe_moves(jar, job),
    }


def describe_attempts(jar: Jar, job: JobReport) -> list[dict[str, Any]]:
    """A job's attempts in order, as `describe_job` has them."""
    attempts = [_describe_attempt(jar, attempt) for attempt in (list_attempts(jar.ledger, job.uid) if job.uid else [])]
    if attempts and job.state == "claimed" and _explain_ahead(jar, job):
        attempts[-1]["started_at"] = None  # the job is staged in and waits for its turn
    return attempts


def describe_moves(jar: Jar, job: JobReport) -> list[dict[str, Any]]:
    """A job's moves in order, as `describe_job` has them."""
    return [
        {
            "number": move.number % LIFE,
            "moved_at": move.moved_at,
            "from": move.origin or None,
            "to": move.destination or None,
            "reason": move.reason,
            "by": move.actor,
        }
        for move in (list_moves(jar.ledger, job.uid) if job.uid else [])
    ]


def _describe_given(text: str | None) -> dict[str, Any]:
    """What a job was given (job_file/given.py), by the names that people read."""
    given = fit_given(json.loads(text)) if text else {}
    signal = given.get("warn_signal")
    return {
        "command": given.get("command"),
        "directory": given.get("dir"),
        "arguments": given.get("arguments"),
        "environment": given.get("env"),
        "output": given.get("output"),
        "error": given.get("error"),
        "tags": given.get("tags"),
        "begin_at": given.get("begin_at"),
        "warn": f"{signal}@{given.get('warn_before_s', 0):g}s" if signal else None,
        "retry_on": given.get("retry_on"),
        "no_retry_on": given.get("no_retry_on"),
        "job_runtime_s": given.get("job_runtime_s"),
    }


def explain_waiting(jar: Jar, job: JobReport) -> list[str]:
    """Why a job does not run now: it is in limbo, stranded or staged behind another; it has no run bit; its batch is aborted or
    throttled; it is not due yet; a limit is used up; no worker asks for it, or may run it; the disk is in trouble; it went
    back."""
    if job.state == "limbo":
        is_faulty = job.held_reason and not is_held_by_person(job.held_reason)
        what = "its file there is to be corrected, and moved to" if is_faulty else "move it to"
        return [f"it is in limbo, where no worker looks; {what} {jar.layout.unclaimed}"]
    if job.state == "claimed":
        return _explain_stranded(jar, job) or _explain_ahead(jar, job)
    if job.state in ("unclaimed", "removed") and job.place.startswith("unclaimed/"):
        path = jar.layout.path(job.place)
        with contextlib.suppress(OSError):  # the other reasons still help
            status = look(path)
            if status is not None and stat.S_ISREG(status.st_mode) and not is_job_file(status):
                return [f"its file has no run bit, so it is no job: chmod +x {path}"]
    if job.state != "unclaimed":
        return []
    lines = []
    with contextlib.suppress(OSError):  # the other reasons still help
        refused = Refused(jar.layout, running_workers(jar.layout)).explain(job.place)
        lines += [refused] if refused else []
    batch, until = throttle_of_job(jar.ledger, job.id)
    if batch is None:
        with contextlib.suppress(OSError, BadAttribute):  # put there by hand: its file names the batch
            batch = read_header(read_file(jar.layout.path(job.place), size=HEADER_BYTES), job.place).get("batch")
    if batch in aborted_batches(jar.ledger.connection) and not job.category.startswith(STORAGE_CATEGORY):
        lines.append(f"its batch {batch} is aborted (abort_batch --restart takes that back)")
    if until > time.time() and not job.category.startswith(STORAGE_CATEGORY):
        lines.append(f"its batch is throttled until {_format_time(until)}")
    if (job.not_before or 0.0) > time.time():
        is_first = job.not_before == _describe_given(job.given)["begin_at"]
        what = "begin" if is_first else "be tried again"
        lines.append(f"it is not to {what} before {_format_time(job.not_before or 0.0)}")
    with contextlib.suppress(OSError):  # the other reasons still help
        lines += explain_limits(jar.layout, job.category, batch)
        unasked = explain_unasked(
            jar.layout, job.category or "", heard_workers(jar.layout, running_workers(jar.layout))
        )
        lines += [unasked] if unasked else []
        trouble = explain_disk(jar.layout.home)
        lines += [trouble] if trouble else []
    went_back = find_return(jar.ledger.connection, job.uid) if job.uid else None
    if went_back is not None:
        # What the job waits for comes first. But a bare "not before" time needs its cause right after it.
        is_due_told = bool(lines) and lines[0].startswith("it is not to ")
        lines.insert(1 if is_due_told else len(lines), explain_return(went_back))
    return lines


def _explain_turn(jar: Jar, job: JobReport) -> list[str]:
    """That nothing keeps a job from running but the jobs before it. It does not stand still: `jobjar wait` leaves this out."""
    turn = None
    if job.state == "unclaimed":
        with contextlib.suppress(OSError):
            running = heard_workers(jar.layout, running_workers(jar.layout))
            turn = explain_turn(job.category or "", running, workers_with_jobs(jar.ledger.connection))
    return [turn] if turn else []


def _format_time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(moment, LATEST - _DAY_S)))


def _explain_stranded(jar: Jar, job: JobReport) -> list[str]:
    name = worker_of_place(job.place)
    with contextlib.suppress(OSError):
        worker = None if name is None else read_worker(jar.layout, name)
        if worker is None:
            return []
        if worker.alive == DEAD:
            left = explain_left_running(jar.ledger.connection, jar.layout, worker, {job.uid or ""}).get(job.uid or "")
            what = f"; {left}" if left else f" (`recover_jobs` on node {worker.recovered_on})"
            return [f"it is stranded with the dead worker {name}{what}"]
        silence = Hearing(jar.layout).explain_silence(worker)
        return [f"its worker {silence}"] if silence else []
    return []


def _explain_ahead(jar: Jar, job: JobReport) -> list[str]:
    first = run_before(jar.ledger, job.uid, job.place) if job.uid and job.kind == DESCRIBED else None
    return [] if first is None else [f"it is staged behind {first}, which {worker_of_place(job.place)} runs first"]


def _describe_attempt(jar: Jar, attempt: Attempt) -> dict[str, Any]:
    names = (
        "number",
        "worker",
        "started_at",
        "ended_at",
        "outcome",
        "exit_status",
        "signal",
        "wall_time_s",
        "user_cpu_s",
        "system_cpu_s",
        "max_rss_kib",
        "message",
    )
    files = files_of_attempt(jar.ledger, attempt)
    described = {**{name: getattr(attempt, name) for name in names}, "output_path": output_path(jar, attempt, files)}
    started_at, ended_at = described["started_at"], described["ended_at"]
    if started_at is not None and ended_at is not None and ended_at < started_at:
        # Two clocks disagree: take the begin plus the measured duration as the end.
        described["ended_at"] = round(started_at + (described["wall_time_s"] or 0.0), 6)
    return {**described, "error_path": files.get("error"), **attempt_details(jar.ledger, attempt)._asdict()}


def output_path(jar: Jar, attempt: Attempt, files: Mapping[str, str]) -> str | None:
    """The path of an attempt's output, even if its worker's directory was set aside or archived; None if it wrote nothing. A job
    may have named a file of its own, which is in `files` (`files_of_attempt`)."""
    if "output" in files:
        return files["output"]
    if attempt.ended_at is None:
        path = f"{jar.layout.worker(attempt.worker).output}/{name_of_job(jar.ledger, attempt.job_uid)}.{attempt.number}.out"
        return path if os.path.exists(path) else None
    if attempt.output_file is None or not all(map(is_name, (attempt.worker, attempt.worker_uid, attempt.output_file))):
        return None  # a ledger of an earlier version may have a path that leads elsewhere
    aside = f"{jar.layout.worker(attempt.worker + ASIDE + attempt.worker_uid).output}/{attempt.output_file}"
    if os.path.exists(aside):
        return aside
    archived = find_archived_worker(jar, attempt.worker + ASIDE + attempt.worker_uid)
    if archived is not None:
        return f"{archived.output}/{attempt.output_file}"
    return f"{jar.layout.worker(attempt.worker).output}/{attempt.output_file}"


def open_output(jar: Jar, path: str) -> int:
    """Open an output file that `find_output` named. Below the jar no link is followed that a job or anybody else put in its
    place. Raises NoOutput, OSError."""
    if not path.startswith((f"{jar.layout.workers}/", f"{jar.layout.archive}/")):
        try:
            return open_regular(path)
        except UnfitFile as error:
            raise NoOutput(
                job=path, reason="the job's output went there, and it is no file that can be read"
            ) from error
        except OSError as error:
            raise NoOutput(job=path, reason=f"{error.strerror}; the job's output went there") from error
    output, name = os.path.split(path)
    worker, directory = os.path.split(output)
    try:
        return open_below(os.path.dirname(worker), os.path.basename(worker), directory, name)
    except UnfitFile as error:
        raise NoOutput(job=path, reason=error.strerror) from error


def find_output(jar: Jar, job: JobReport, number: int | None = None, worker: str | None = None) -> str | None:
    """The output file of one attempt of a job; None if the attempt wrote nothing. `number` and `worker` narrow the choice.

    The attempt that completed the job comes first, else the newest one. An attempt that lost its lease is chosen only if there
    is no other. Raises NoOutput if there is no such attempt yet.
    """
    attempts = list_attempts(jar.ledger, job.uid) if job.uid else []
    chosen = [attempt for attempt in attempts if number in (None, attempt.number) and worker in (None, attempt.worker)]
    if not chosen:
        named = f"attempt{'' if number is None else f' {number}'}{'' if worker is None else f' by {worker}'}"
        what = f"it has no {named}" if attempts else "it has not been run yet"
        raise NoOutput(job=job.name, reason=f"{what} (it is {'in limbo' if job.state == 'limbo' else job.state})")
    is_completed = job.state == "completed"
    # Two attempts share a number if a node claimed the job before it had read of the other's attempt.
    best = max(
        enumerate(chosen), key=lambda item: (is_completed and item[1].is_final, item[1].outcome != LOST, item[0])
    )
    return output_path(jar, best[1], files_of_attempt(jar.ledger, best[1]))


def request_kill(jar: Jar, job: JobReport) -> str:
    """Ask the worker that runs a job to kill it; returns the worker's name. Raises NotRunning."""
    worker = worker_of_place(job.place)
    if job.state != "claimed" or worker is None:
        state, what_next = after_not_running(jar, job)
        raise NotRunning(job=job.name, state=state, what_next=what_next)
    control.request_kill(jar.layout, worker, job.uid or job.name)
    return worker
