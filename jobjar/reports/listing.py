"""What is said of a job in a list: by its row in the ledger, and for its command by the beginning of its file. Writes nothing."""

from __future__ import annotations

import datetime
import math
import re
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from jobjar.errors import UsageError
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_selected import SelectedJob
from jobjar.selecting.select import select_jobs
from jobjar.selecting.selection import Selection
from jobjar.selecting.unknown import suggest
from jobjar.shared_disk.regular import read_regular

# What people call the ledger's states.
_STATE_WORDS = {"claimed": "running", "unclaimed": "waiting", "completed": "ended"}
_COMMAND_BYTES = 4096
_RUNS = re.compile(rb"#JJ\s+run_command\s*=\s*(.*)")


class ListedJob(NamedTuple):
    """A job as lists have it. `state` is a word for people: waiting, held, dependent, running, limbo, removed, or how it ended.
    Times are UTC epoch seconds. `run_time_s` is how long its attempt took, or has taken until now; `age_s` is since its
    submission."""

    job: SelectedJob
    state: str
    worker: str | None
    started_at: float | None
    ended_at: float | None
    run_time_s: float | None
    age_s: float | None
    path: str

    @property
    def name(self) -> str:
        """Its identifier, or the name of a file that no program named; '' if it has none but the one that programs make."""
        identifier = identifier_in_name(self.job.name, self.job.submitter)
        return self.job.name if identifier is None else identifier

    @property
    def name_or_command(self) -> str:
        return self.name or read_command(self.path) or self.job.name

    @property
    def ended_by(self) -> int | str | None:
        """Its exit status, or the name of the signal that ended it."""
        if self.job.signal is None:
            return self.job.exit_status
        try:
            return signal.Signals(self.job.signal).name.removeprefix("SIG")
        except ValueError:
            return f"signal {self.job.signal}"


# The columns that a list can have, and what each sorts by. A list of jobs in the order of states needs no sorting.
COLUMNS: dict[str, Callable[[ListedJob], Any]] = {
    "id": lambda listed: listed.job.uid,
    "state": lambda listed: listed.state,
    "age": lambda listed: listed.age_s,
    "ran": lambda listed: listed.run_time_s,
    "exit": lambda listed: listed.ended_by,
    "worker": lambda listed: listed.worker,
    "node": lambda listed: None if listed.worker is None else listed.worker.rpartition(".")[0],
    "category": lambda listed: listed.job.category,
    "batch": lambda listed: listed.job.batch,
    "priority": lambda listed: listed.job.priority,
    "submitter": lambda listed: listed.job.submitter,
    "submitted": lambda listed: listed.job.submitted_at,
    "started": lambda listed: listed.started_at,
    "ended": lambda listed: listed.ended_at,
    "outcome": lambda listed: listed.job.outcome,
    "reason": lambda listed: listed.job.held_reason,
    "place": lambda listed: listed.job.place,
    "file": lambda listed: listed.job.name,
    "name": lambda listed: listed.name,
    "command": lambda listed: read_command(listed.path),
    "job": lambda listed: listed.name_or_command,
}
TIMES = ("submitted", "started", "ended")
DURATIONS = ("age", "ran")


def list_selected(
    jar: Jar,
    selection: Selection,
    now: float,
    limit: int | None = None,
    sort: str | None = None,
    is_reversed: bool = False,
) -> list[ListedJob]:
    """The first `limit` jobs of a selection (None: all): in the order of states, or by a column. The caller brings the ledger up
    to date. Raises what `select_jobs` raises, and UsageError for a column that there is not."""
    if sort is not None:
        check_columns([sort])
    if sort is None and not is_reversed:
        return [describe_listed(jar, job, now) for job in select_jobs(jar, selection, limit)]
    listed = [describe_listed(jar, job, now) for job in select_jobs(jar, selection)]
    if sort is None:
        return listed[::-1][:limit]
    return sort_jobs(listed, sort, is_reversed)[:limit]


def sort_jobs(jobs: list[ListedJob], column: str, is_reversed: bool) -> list[ListedJob]:
    """Jobs in the order of a column. Those that have nothing there come last in either order."""
    valued = [(COLUMNS[column](job), job) for job in jobs]
    present = [(value, job) for value, job in valued if value is not None]
    # An exit status is a number, or the name of a signal.
    present.sort(key=lambda pair: (isinstance(pair[0], str), pair[0]), reverse=is_reversed)
    return [*(job for _, job in present), *(job for value, job in valued if value is None)]


def check_columns(names: list[str]) -> list[str]:
    """Return names of columns, or raise UsageError."""
    for name in names:
        if name not in COLUMNS:
            near = suggest(name, COLUMNS)
            raise UsageError(reason=f"there is no column {name!r}{near}; there are: {' '.join(COLUMNS)}")
    return names


def describe_listed(jar: Jar, job: SelectedJob, now: float) -> ListedJob:
    """What is said of a job at `now` (UTC epoch seconds, by the disk's clock or one like it)."""
    started_at, ended_at = job.started_at, job.ended_at
    worker = job.final_worker
    if job.state == "claimed":
        worker = worker_of_place(job.place)
        started_at = job.moved_at if started_at is None else started_at
    ran_until = now if job.state == "claimed" else ended_at
    word = _STATE_WORDS.get(job.state, job.state)
    return ListedJob(
        job,
        "held" if job.is_held else "dependent" if job.is_dependent else job.outcome or word,
        worker,
        started_at,
        ended_at,
        None if started_at is None or ran_until is None else max(0.0, ran_until - started_at),
        None if job.submitted_at is None else max(0.0, now - job.submitted_at),
        jar.layout.path(job.place) if job.state != "removed" else "",
    )


def describe_for_programs(listed: ListedJob) -> dict[str, Any]:
    """A job as `jobjar list --format json` has it. The names are those of `jobjar show`; times are ISO 8601 in UTC."""
    job = listed.job
    return {
        "id": job.uid,
        "name": job.name,
        "identifier": identifier_in_name(job.name, job.submitter) or None,
        "state": job.state,
        "outcome": job.outcome,
        "exit_status": job.exit_status,
        "signal": job.signal,
        "category": job.category or None,
        "batch": job.batch,
        "priority": job.priority,
        "submitter": job.submitter,
        "submitted_at": iso_time(job.submitted_at),
        "started_at": iso_time(listed.started_at),
        "ended_at": iso_time(listed.ended_at),
        "run_time_s": None if listed.run_time_s is None else round(listed.run_time_s, 3),
        "worker": listed.worker,
        "place": job.place,
        "held_reason": job.held_reason,
        "not_before": iso_time(job.not_before or None),
    }


def iso_time(moment: float | None) -> str | None:
    """A time as ISO 8601 in UTC with milliseconds; None for a time that no calendar has."""
    if moment is None or not math.isfinite(moment):
        return None
    try:
        time = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_command(path: str) -> str:
    """The command of a job, by its file: what a described job runs, or the first line of a script that is no comment. '' if the
    file is no script, or cannot be read."""
    try:
        data = read_regular(path, 0.0, _COMMAND_BYTES) if path else b""
    except OSError:
        return ""
    if not data.startswith(b"#"):
        return ""
    lines = [line.strip() for line in data.splitlines()]
    command = next((found.group(1) for found in map(_RUNS.fullmatch, lines) if found), None)
    if command is None:
        # `jobjar submit` puts a program in the shell's place, so that signals reach it.
        command = next((line for line in lines if line and not line.startswith(b"#")), b"").removeprefix(b"exec ")
    return command.strip().decode("utf-8", "surrogateescape")
