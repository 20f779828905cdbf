"""Report all that is known of them. Brings the ledger up to date and reads it; moves nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from jobjar import control
from jobjar.attempts.attempt import DESCRIBED, LOST
from jobjar.causes import Cause
from jobjar.errors import NoOutput, NotRunning
from jobjar.jar import Jar
from jobjar.job_file.given import fit_given
from jobjar.journal.entries import LIFE
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_jobs import (
    attempt_details,
    files_of_attempt,
    list_attempts,
    list_moves,
    name_of_job,
    run_before,
)
from jobjar.ledger.ask_selected import Filters, SelectedJob, jobs_of_rows
from jobjar.ledger.models import Attempt, JobReport
from jobjar.reports.dependents import describe_prerequisites
from jobjar.reports.hints import after_not_running
from jobjar.reports.standing import Look, find_standing, find_turn
from jobjar.roster import ASIDE, find_archived_worker
from jobjar.shared_disk.contents import is_name
from jobjar.shared_disk.regular import UnfitFile, open_below, open_regular
from jobjar.units import name_retries


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
        "waits_because": _explain(jar, job),
        "prerequisites": describe_prerequisites(jar.ledger.connection, job.uid) if job.uid else None,
        **_describe_given(job.given),
        "attempts": describe_attempts(jar, job),
        "moves": describe_moves(jar, job),
    }


def describe_attempts(jar: Jar, job: JobReport) -> list[dict[str, Any]]:
    """A job's attempts in order, as `describe_job` has them."""
    attempts = [_describe_attempt(jar, attempt) for attempt in (list_attempts(jar.ledger, job.uid) if job.uid else [])]
    if attempts and job.uid and job.kind == DESCRIBED and run_before(jar.ledger, job.uid, job.place):
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
        "cores": given.get("cores"),
        "memory_bytes": given.get("memory_bytes"),
        "gpus": given.get("gpus"),
        "resources": given.get("resources"),
    }


def explain_waiting(jar: Jar, job: JobReport) -> list[str]:
    """Why a job does not run now, a line for each cause; [] if nothing keeps it from running."""
    row = _row_of(jar, job)
    return [] if row is None else [standing.line for standing in find_standing(Look(jar), row)]


def _explain(jar: Jar, job: JobReport) -> list[str] | None:
    """`explain_waiting`; if nothing keeps the job from running, that all its workers are busy: `jobjar wait` leaves that out."""
    look_at, row = Look(jar), _row_of(jar, job)
    if row is None:
        return None
    found = find_standing(look_at, row)
    turn = None if found else find_turn(look_at, row)
    if turn is not None and turn.cause is Cause.BUSY:
        found = [turn]
    return [standing.line for standing in found] or None


def _row_of(jar: Jar, job: JobReport) -> SelectedJob | None:
    """The job as it is now. None if its row was replaced meanwhile: a worker has just claimed a job without an id."""
    rows = jobs_of_rows(jar.ledger.connection, [job.id], Filters())
    return rows[0] if rows else None


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
        job_name = name_of_job(jar.ledger, attempt.job_uid)
        path = jar.layout.worker(attempt.worker).output_file(job_name, attempt.number)
        return path if os.path.exists(path) else None
    if attempt.output_file is None or not all(map(is_name, (attempt.worker, attempt.worker_uid, attempt.output_file))):
        return None  # a ledger of an earlier version may have a path that leads elsewhere
    return path_in_worker(jar, attempt.worker, attempt.worker_uid, attempt.output_file)


def path_in_worker(jar: Jar, worker: str, worker_uid: str, output_file: str) -> str:
    """The path of an output file of a worker, even if its directory was set aside or archived."""
    aside = f"{jar.layout.worker(worker + ASIDE + worker_uid).output}/{output_file}"
    if os.path.exists(aside):
        return aside
    archived = find_archived_worker(jar, worker + ASIDE + worker_uid)
    if archived is not None:
        return f"{archived.output}/{output_file}"
    return f"{jar.layout.worker(worker).output}/{output_file}"


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
    """The output file of one attempt of a job (`choose_attempt`); None if the attempt wrote nothing. Raises NoOutput."""
    chosen = choose_attempt(job, list_attempts(jar.ledger, job.uid) if job.uid else [], number, worker)
    return output_path(jar, chosen, files_of_attempt(jar.ledger, chosen))


def choose_attempt(
    job: JobReport, attempts: list[Attempt], number: int | None = None, worker: str | None = None
) -> Attempt:
    """The attempt whose output people mean. `number` and `worker` narrow the choice.

    The attempt that completed the job comes first, else the newest one. An attempt that lost its lease is chosen only if there
    is no other. Raises NoOutput if there is no such attempt yet.
    """
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
    return best[1]


def request_kill(jar: Jar, job: JobReport) -> str:
    """Ask the worker that runs a job to kill it; returns the worker's name. Raises NotRunning."""
    worker = worker_of_place(job.place)
    if job.state != "claimed" or worker is None:
        state, what_next = after_not_running(jar, job)
        raise NotRunning(job=job.name, state=state, what_next=what_next)
    control.request_kill(jar.layout, worker, job.uid or job.name)
    return worker
