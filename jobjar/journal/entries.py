"""What each kind of journal entry says: one function a kind, which makes it. The table in DESIGN.md, section 6, explains them.

An entry is a dict, written as it is, with its kind in `entry`. A field of no value is left out, not null, where this module does
not say otherwise. What another program may have written is checked by ledger/entries.py. Reads and writes nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from jobjar.job_file.names import id_in_name
from jobjar.journal.read import Entry

if TYPE_CHECKING:
    from typing import Unpack

# Warnings that are journaled with an attempt's end are numbered from 1. Those that come alone get numbers from here on, and
# those of its claim begin far below.
_FIRST_LATE_WARNING = 1_000_000
_FIRST_WARNING_OF_CLAIM = -1000


# A job begins a new life when it leaves completed/. Its moves are then numbered from the next multiple of this on.
LIFE = 1_000_000


def first_of_life(number: int) -> int:
    """The number of the move by which a job leaves completed/, after its move `number`."""
    return (number // LIFE + 1) * LIFE + number % LIFE + 1


class About(NamedTuple):
    """The attempt that an entry is about."""

    job: str
    attempt: int
    worker: str
    worker_uid: str


class MoreOfMove(TypedDict, total=False):
    """What some moves say besides."""

    worker_uid: str
    attempt: int
    category: str
    not_before: float
    held_reason: str
    priority: int
    after: float
    found: Mapping[str, Any]


class MoreOfEnd(TypedDict, total=False):
    """What is known of an attempt's end besides its outcome. `output_file` may be null in an entry of recovery."""

    exit_status: int
    signal: int
    wall_time_s: float
    user_cpu_s: float
    system_cpu_s: float
    max_rss_kib: int
    output_file: str | None
    message: str
    pid: int
    pid_started: float


def submitted_entry(
    name: str, category: str, by: str, submitted_at: float, attributes: Mapping[str, Any], mark: str
) -> Entry:
    """A job whose file is complete in limbo; `mark` says what it is. `attributes`: those of the file that have a value."""
    return {
        "entry": "submitted",
        "job": id_in_name(name),
        "name": name,
        "category": category,
        "submitter": by,
        "submitted_at": submitted_at,
        "file": mark,
        **attributes,
    }


def moved_entry(
    job: str, number: int, origin: str, place: str, moved_at: float, reason: str, by: str, **more: Unpack[MoreOfMove]
) -> Entry:
    """A rename from place `origin` to `place`. It is the job's `number`-th move. `moved_at` is by the disk's clock."""
    return {
        "entry": "moved",
        "job": job,
        "number": number,
        "from": origin,
        "to": place,
        "moved_at": moved_at,
        "reason": reason,
        "by": by,
        **more,
    }


def started_entry(about: About, pid: int | None, pid_started: float | None) -> Entry:
    """An attempt whose main process runs. Both are null if it was gone already."""
    return _of_attempt("started", about, pid=pid, pid_started=pid_started)


def ended_entry(
    about: About,
    ended_at: float,
    is_final: bool,
    outcome: str,
    not_before: float | None = None,
    **more: Unpack[MoreOfEnd],
) -> Entry:
    """The end of an attempt; with `is_final` the job completes with it. `ended_at` is by the disk's clock."""
    entry = _of_attempt("ended", about, ended_at=round(ended_at, 6), final=is_final)
    if not_before is not None:
        entry["not_before"] = not_before
    entry["outcome"] = outcome
    entry.update(more)
    return entry


def without_credit(ended: Entry, outcome: str, message: str) -> Entry:
    """The `ended` entry of an attempt that turned out to decide nothing, made of the one that was to decide its job."""
    return {**ended, "outcome": outcome, "final": False, "message": message}


def phase_entry(about: About, phase: str, began_at: float) -> Entry:
    """A phase of a described job's attempt, which begins."""
    return _of_attempt("phase", about, phase=phase, began_at=round(began_at, 6))


def ended_phase_entry(begun: Entry, ended_at: float, exit_status: int | None, message: str | None) -> Entry:
    """The same phase at its end; it says all that its first entry says."""
    ended = {**begun, "ended_at": round(ended_at, 6), "exit_status": exit_status, "message": message}
    return {name: value for name, value in ended.items() if value is not None}


def variables_entry(
    about: About, variables: Mapping[str, str], told_at: float, ordinals: Mapping[str, int] | None = None
) -> Entry:
    """Monitored variables that changed. `ordinals`: the number of each value, of those that are not the first."""
    entry = _of_attempt("variables", about, variables=variables, told_at=round(told_at, 6))
    if ordinals:
        entry["ordinals"] = ordinals
    return entry


def stored_entry(about: About, record: Mapping[str, Any]) -> Entry:
    """A file that an attempt stored: `source_name`, and those of the other `storage_…` fields that are known."""
    return _of_attempt("stored", about, **record)


def warned_entry(about: About, warnings: Sequence[str]) -> Entry:
    """The warnings that go with an attempt's end."""
    return _of_attempt("warned", about, warnings=warnings)


def warned_at_claim_entry(about: About, warnings: Sequence[str]) -> Entry:
    """The warnings of what was odd in the job's file, when it was claimed."""
    return _of_attempt("warned", about, first=_FIRST_WARNING_OF_CLAIM, warnings=warnings)


def warned_late_entry(about: About, text: str) -> Entry:
    """A warning that is journaled apart from the others of its attempt, by any process. Its number comes from its text, so
    that the same warning counts once."""
    number = _FIRST_LATE_WARNING + zlib.crc32(text.encode("utf-8", "replace"))
    return _of_attempt("warned", about, warnings=[text], first=number)


def tasks_entry(
    about: About,
    array: str,
    at_ms: int,
    offset: int,
    ended: Sequence[Sequence[Any]],
    output: str | None = None,
    life: int = 0,
) -> Entry:
    """The ends of tasks of an array, in which the attempt of a chunk ran them. Each is a list: its index; exit status, or minus
    the signal, or null; how long after `at_ms` it ended, in ms; wall, user and system time, in µs; peak memory, in KiB; the
    length of its output, in bytes. If need be more: the outcome's number, 1 if it is tried again, a message. The output of
    the first begins at `offset` in the file `output`, and each other one's where the one before it ends. `life`: how often the
    tasks were opened again before."""
    entry = _of_attempt("tasks", about, array=array, at_ms=at_ms, offset=offset, ended=ended)
    if output is not None:
        entry["output"] = output
    if life:
        entry["life"] = life
    return entry


def files_entry(about: About, files: Mapping[str, str]) -> Entry:
    """The files that a job named for an attempt's `output` and `error`, by these words: the paths that it writes to."""
    return _of_attempt("files", about, files=files)


def worker_began_entry(identity: Mapping[str, Any], worker_uid: str) -> Entry:
    """A worker's start, with what its worker.json says of it; the worker's id has its own field there."""
    return {**identity, "entry": "worker", "worker_uid": worker_uid, "worker_id": None}


def worker_ended_entry(worker: str, worker_uid: str, node: str, pid: int, ended_at: float, reason: str) -> Entry:
    """A worker's end."""
    return {
        "entry": "worker",
        "worker": worker,
        "worker_uid": worker_uid,
        "node": node,
        "pid": pid,
        "ended_at": ended_at,
        "end_reason": reason,
    }


def batch_entry(
    batch: str,
    *,
    submitter: str,
    submitted_at: float,
    description: str,
    changed_at: float,
    jobs: int,
    notes: str | None,
    is_aborted: bool,
    restarted_until: float,
    array: Mapping[str, Any] | None = None,
) -> Entry:
    """A batch as it is now; the latest of its entries stands. Times are by the disk's clock. `array`, if it is one: the first,
    the last and the step of its indexes; `lives`, the ranges that were opened again: [life, first, last] of each."""
    entry = {
        "entry": "batch",
        "batch": batch,
        "submitter": submitter,
        "submitted_at": submitted_at,
        "description": description,
        "changed_at": changed_at,
        "jobs": jobs,
        "notes": notes,
        "is_aborted": is_aborted,
        "restarted_until": restarted_until,
    }
    if array is not None:
        entry["array"] = array
    return entry


def throttle_entry(batch: str, told_at: float, until: float, failures: int) -> Entry:
    """A batch whose jobs fail fast and wait until `until` (0: they may be claimed). Times are by the disk's clock."""
    return {
        "entry": "throttle",
        "batch": batch,
        "told_at": round(told_at, 6),
        "until": round(until, 6),
        "failures": failures,
    }


def pilot_queue_entry(queue: str, changed_at: float, is_gone: bool, **fields: Any) -> Entry:
    """A queue of pilots as it is now: `system`, `plan` (JSON), `paused_at`, `paused_by`, `paused_why`, `failures`, `said`,
    `removed_at`. The latest of its entries stands. With `is_gone` it is there no more. Times are by the disk's clock."""
    known = {name: value for name, value in fields.items() if value is not None}
    return {"entry": "pilot_queue", "queue": queue, "changed_at": round(changed_at, 6), "is_gone": is_gone, **known}


def pilot_entry(**fields: Any) -> Entry:
    """What is known of a pilot, all fields of pilots/pilot.Pilot that have a value. The highest `revision` stands."""
    return {"entry": "pilot", **{name: value for name, value in fields.items() if value is not None}}


def _of_attempt(kind: str, about: About, **fields: Any) -> Entry:
    job, attempt, worker, worker_uid = about
    return {"entry": kind, "job": job, "attempt": attempt, "worker": worker, "worker_uid": worker_uid, **fields}
