"""How far batches are, as data and as tables. Brings the ledger up to date and reads it; moves nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from jobjar.attempts.attempt import OUTCOMES
from jobjar.causes import Cause, Counted
from jobjar.errors import JarError, UnknownBatch
from jobjar.jar import Jar
from jobjar.job_file.attributes import HEADER_BYTES, read_description
from jobjar.layout import worker_of_place
from jobjar.ledger import ask_batches
from jobjar.ledger.ask_batches import OPEN_PHASES, BatchRow, Rate
from jobjar.ledger.ask_returns import returns_of_batches
from jobjar.ledger.ask_standing import waiting_of_batches
from jobjar.reports.expectation import estimate_time_left_s
from jobjar.reports.refresh import refresh_ledger
from jobjar.reports.returned import format_returns, group_returns
from jobjar.reports.standing import Look
from jobjar.reports.standing_counts import count_batch
from jobjar.reports.tables import format_table
from jobjar.selecting.unknown import suggest_batch
from jobjar.shared_disk.files import read_file
from jobjar.text import as_text
from jobjar.units import format_bytes, format_rate, format_seconds

Batch = dict[str, Any]
# The last two are for jobs whose end nothing explains, and for jobs whose files are gone.
PHASES = (*OPEN_PHASES, *OUTCOMES, "unknown", "removed")
# The details of a batch name at most so many jobs of each kind.
_NAMED_JOBS = 1000
_SHOWN = 20
# A batch's line says these anyway.
# Phases in limbo: no worker will claim these next.
_ASIDE = ("held", "dependent", "limbo")
_REMARKED = (Cause.ABORTED, Cause.THROTTLED, Cause.RETRIED_LATER, Cause.STORAGE, Cause.HELD, Cause.FAULTY)


def gather_batches(jar: Jar, name: str | None = None) -> list[Batch]:
    """All batches by name, or the one called `name`, with its details.

    The fields of each batch:
    - `batch`, `submitter`, `submitted_at`, `is_aborted`, `notes`, `throttled_until` (or None);
    - `jobs`: how many it has or will have; `done`: how many have ended, in whatever way;
    - `phases`: how many jobs are in each phase or ended with each outcome; empty ones are omitted;
    - `rate_per_s`: recent; None if nothing ended in the last day; `eta_s`: None if unknown, or if nothing is left;
    - the fields of `gather_work`; `stored_files`, `stored_bytes`;
    - `failures`: failed attempts, whether repeated or not; `warned_jobs`: how many jobs have warnings;
    - `restarted`: jobs that were submitted again as new ones. Only `failures` still counts these;
    - `returned`: why waiting jobs went back, by `group_returns`;
    - `standing`: what stands still, and what to do, with the fields of `causes.Counted`.
    The details are `warnings` (each with its number of `jobs`, and one of them), and at most 1,000 jobs each of `failed_jobs`
    (for good), `retried_jobs` (not ended, but failed before) and `held_jobs` (by workers).
    Durations are seconds, times are UTC epoch seconds. Raises UnknownBatch, LedgerUnavailable.
    """
    refresh_ledger(jar)
    return describe_batches(jar, name)


def describe_batches(jar: Jar, name: str | None) -> list[Batch]:
    """`gather_batches` for a caller that brings the ledger up to date."""
    rows = _find_batches(jar, name)
    connection = jar.ledger.connection
    phases = ask_batches.count_phases(jar.ledger, name)
    failures = ask_batches.count_failures(jar.ledger, name)
    restarted = ask_batches.count_restarted(jar.ledger, name)
    stored = ask_batches.sum_stored(jar.ledger, name)
    warned = ask_batches.count_warned(jar.ledger, name)
    returns = returns_of_batches(connection, name)
    waiting = waiting_of_batches(connection, name)
    look_at = Look(jar)
    now = look_at.now
    batches = []
    for row, work in zip(rows, _describe_work(jar, rows, name), strict=True):
        files, size = stored.get(row.name, (0, 0))
        batch = {
            **_describe_row(row, now),
            **_describe_progress(jar, row, phases.get(row.name, {}), now),
            **work,
            "stored_files": files,
            "stored_bytes": size,
            "failures": failures.get(row.name, 0),
            "warned_jobs": warned.get(row.name, 0),
            "returned": group_returns(returns.get(row.name, [])),
            "restarted": sum(restarted.get(row.name, {}).values()),
        }
        standing = count_batch(look_at, batch, waiting.get(row.name, {}))
        batch["standing"] = [counted._asdict() for counted in standing]
        if name is not None:
            batch.update(_describe_jobs(jar, name))
        batches.append(batch)
    return batches


def gather_work(jar: Jar, name: str | None = None) -> list[Batch]:
    """The work of all batches by name, or of the one called `name`. Each has `batch`; `work_done`, the sum of this monitored
    variable over the jobs that succeeded and report it (None if none does); `work_done_jobs`, how many do; `work_under_way`, the
    sum that running jobs report so far, or None. Raises UnknownBatch, LedgerUnavailable."""
    refresh_ledger(jar)
    return _describe_work(jar, _find_batches(jar, name), name)


def _find_batches(jar: Jar, name: str | None) -> list[BatchRow]:
    name = None if name is None else as_text(name)
    rows = ask_batches.list_batches(jar.ledger, name)
    if name is not None and not rows:
        raise UnknownBatch(name=name, home=jar.layout.home, hint=suggest_batch(jar, name))
    return rows


def _describe_work(jar: Jar, rows: Sequence[BatchRow], name: str | None) -> list[Batch]:
    done = ask_batches.sum_work_done(jar.ledger, name)
    under_way = ask_batches.sum_work_under_way(jar.ledger, name)
    none = ask_batches.Work(None, 0)
    return [
        {
            "batch": row.name,
            "work_done": done.get(row.name, none).sum,
            "work_done_jobs": done.get(row.name, none).jobs,
            "work_under_way": under_way.get(row.name, none).sum,
        }
        for row in rows
    ]


def _describe_row(row: BatchRow, now: float) -> Batch:
    return {
        "batch": row.name,
        "submitter": row.submitter,
        "submitted_at": row.submitted_at,
        "is_aborted": bool(row.is_aborted),
        "throttled_until": row.throttled_until if row.throttled_until > now else None,
        "notes": row.notes,
    }


def _describe_progress(jar: Jar, row: BatchRow, phases: dict[str, int], now: float) -> Batch:
    """How many jobs are in each phase, and when the last one is expected to end."""
    removed = phases.get("removed", 0)
    open_jobs = sum(phases.get(phase, 0) for phase in OPEN_PHASES)
    known = sum(phases.values())
    jobs = max(row.jobs or 0, known)
    left = open_jobs if row.is_aborted else open_jobs + jobs - known
    rate = None
    eta_s: float | None = None
    if not row.is_aborted:  # jobs of an aborted batch complete without having run
        rate = ask_batches.recent_rate(jar.ledger, row.name, now, row.restarted_until, is_over=not left)
        has_begun = known - open_jobs - removed > 0
        eta_s = _estimate_time_left_s(jar, row, left, phases, rate, now, has_begun) if left else None
    return {
        "jobs": jobs,
        "done": known - open_jobs - removed,
        "phases": {phase: phases[phase] for phase in (*PHASES, *sorted(set(phases) - set(PHASES))) if phase in phases},
        "rate_per_s": None if rate is None else rate.jobs / rate.seconds,
        "eta_s": eta_s,
    }


def _estimate_time_left_s(
    jar: Jar, row: BatchRow, left: int, phases: dict[str, int], rate: Rate | None, now: float, has_begun: bool
) -> float | None:
    """Seconds until the end of a batch with `left` open jobs; None if that cannot be estimated."""
    running_for_s = [max(0.0, now - claimed_at) for claimed_at in ask_batches.claim_times(jar.ledger, row.name)]
    # Held jobs wait for a person, and nobody knows for how long.
    waiting = max(0, left - len(running_for_s) - sum(phases.get(phase, 0) for phase in _ASIDE))
    takes_s = ask_batches.recent_duration(jar.ledger, row.name, now)
    if not has_begun:
        takes_s = _described_run_time_s(jar, row.name)
    eta_s = estimate_time_left_s(waiting, running_for_s, takes_s, None if rate is None else rate.jobs / rate.seconds)
    # No waiting job is claimed before the throttle ends.
    return eta_s if eta_s is None or not waiting else eta_s + max(0.0, row.throttled_until - now)


def _described_run_time_s(jar: Jar, name: str) -> float | None:
    """A job's run time in seconds as the batch's description gives it; None if it does not."""
    place = ask_batches.open_place(jar.ledger, name)
    if place is None:
        return None
    # The job may have moved meanwhile, or its description may be unreadable.
    with contextlib.suppress(OSError, JarError):
        return read_description(read_file(jar.layout.path(place), size=HEADER_BYTES), place).job_runtime_s
    return None


def _describe_jobs(jar: Jar, name: str) -> Batch:
    held = ask_batches.held_jobs(jar.ledger, name, _NAMED_JOBS)
    for job in held:
        job["worker"] = worker_of_place(job.pop("place"))
    return {
        "warnings": ask_batches.common_warnings(jar.ledger, name, _NAMED_JOBS),
        "failed_jobs": ask_batches.failed_jobs(jar.ledger, name, _NAMED_JOBS),
        "retried_jobs": ask_batches.retried_jobs(jar.ledger, name, _NAMED_JOBS),
        "held_jobs": held,
    }


def format_batches(batches: Sequence[Batch], table_format: str) -> str:
    """Batches as one table, a line each. A phase without jobs gets no column."""
    seen = {phase for batch in batches for phase in batch["phases"]}
    phases = [phase for phase in (*PHASES, *sorted(seen - set(PHASES))) if phase in seen]
    columns = ("batch", "done", *map(_spaced, phases), "rate", "ETA", "work done", "stored", "failures", "remarks")
    rows = [
        [
            batch["batch"],
            f"{batch['done']}/{batch['jobs']}",
            *(batch["phases"].get(phase, 0) for phase in phases),
            _format_rate(batch["rate_per_s"]),
            "-" if batch["eta_s"] is None else format_seconds(batch["eta_s"]),
            _format_number(batch["work_done"]),
            format_bytes(batch["stored_bytes"]),
            batch["failures"],
            "; ".join(_remarks(batch)),
        ]
        for batch in batches
    ]
    if not any(batch["work_done"] is not None for batch in batches):
        rows, columns = [row[:-4] + row[-3:] for row in rows], (*columns[:-4], *columns[-3:])
    return format_table(rows, columns, table_format)


def format_batch(batch: Batch, table_format: str) -> str:
    """A batch with its details as text."""
    lines = [
        ("batch", batch["batch"]),
        ("submitted", " ".join(filter(None, (_format_time(batch["submitted_at"]), _by(batch["submitter"]))))),
        ("done", f"{batch['done']} of {batch['jobs']}"),
        *((_spaced(phase), jobs) for phase, jobs in batch["phases"].items()),
        ("jobs completed", _format_rate(batch["rate_per_s"])),
        ("to be expected in", "" if batch["eta_s"] is None else format_seconds(batch["eta_s"])),
        ("work done", "" if batch["work_done"] is None else _format_number(batch["work_done"])),
        ("under way", "" if batch["work_under_way"] is None else _format_number(batch["work_under_way"])),
        ("stored", f"{batch['stored_files']} files, {format_bytes(batch['stored_bytes'])}"),
        ("failed attempts", batch["failures"]),
        ("submitted again", batch["restarted"] or ""),
        ("jobs with warnings", batch["warned_jobs"] or ""),
        ("throttled until", _format_time(batch["throttled_until"])),
        ("aborted", "yes" if batch["is_aborted"] else ""),
        ("notes", batch["notes"] or ""),
    ]
    sections = [format_table([line for line in lines if line[1] != ""], (), "plain")]
    if batch["standing"]:
        lines_of = (Counted(**counted).line for counted in batch["standing"])
        sections.append("Standing still\n" + "\n".join(f"- {line}" for line in lines_of))
    if batch["returned"]:
        sections.append("Went back, and wait\n" + format_returns(batch["returned"], table_format))
    columns = ("seed", "job", "attempt", "ended", "why")
    for title, key, count in (
        ("Failed", "failed_jobs", sum(batch["phases"].get(phase, 0) for phase in ask_batches.FAILED_OUTCOMES)),
        ("Failed, and tried again", "retried_jobs", len(batch["retried_jobs"])),
    ):
        rows = [
            [_format_seed(job), job["job"], job["attempt"], job["outcome"], describe_failure(job)]
            for job in batch[key][:_SHOWN]
        ]
        sections.append(_titled(title, rows, columns, count, table_format))
    rows = [
        [_format_seed(job), job["job"], _spaced(job["phase"]), _format_time(job["claimed_at"]), job["worker"]]
        for job in batch["held_jobs"][:_SHOWN]
    ]
    columns = ("seed", "job", "phase", "claimed", "worker")
    held = _titled("Held by workers", rows, columns, len(batch["held_jobs"]), table_format)
    warned = [[row["jobs"], row["job"], row["text"]] for row in batch["warnings"][:_SHOWN]]
    sections += [
        held,
        _titled("Warnings", warned, ("jobs", "one of them", "what"), len(batch["warnings"]), table_format),
    ]
    return "\n\n".join(filter(None, sections))


def format_work(batches: Sequence[Batch], table_format: str) -> str:
    """The sums of `work_done` as a table."""
    rows = [
        [
            batch["batch"],
            _format_number(batch["work_done"]),
            batch["work_done_jobs"],
            _format_number(batch["work_under_way"]),
        ]
        for batch in batches
    ]
    return format_table(rows, ("batch", "work done", "by jobs", "under way"), table_format)


def describe_failure(job: Batch) -> str:
    """Why an attempt failed, in a few words."""
    if job["message"]:
        return str(job["message"])
    return f"signal {job['signal']}" if job["signal"] is not None else f"exit status {job['exit_status']}"


def _titled(title: str, rows: list[list[Any]], columns: Sequence[str], count: int, table_format: str) -> str:
    if not rows:
        return ""
    more = f"\nand {count - len(rows)} more" if count > len(rows) else ""
    return f"{title}\n{format_table(rows, columns, table_format)}{more}"


def _remarks(batch: Batch) -> list[str]:
    remarks = ["aborted"] if batch["is_aborted"] else []
    if batch["throttled_until"] is not None:
        remarks.append(f"throttled until {_format_time(batch['throttled_until'])}")
    if batch["warned_jobs"]:
        remarks.append(f"{batch['warned_jobs']} job{'s' if batch['warned_jobs'] > 1 else ''} with warnings")
    for group in batch["returned"][:1]:
        more = sum(other["jobs"] for other in batch["returned"][1:])
        others = f" (and {more} for other causes)" if more else ""
        remarks.append(f"{group['jobs']} went back: {' '.join(group['cause'].split())}{others}")
    remarks += [counted["why"] for counted in batch["standing"] if counted["cause"] not in _REMARKED][:1]
    return remarks + ([batch["notes"]] if batch["notes"] else [])


def _spaced(phase: str) -> str:
    return phase.replace("_", " ")


def _by(submitter: str | None) -> str:
    return f"by {submitter}" if submitter else ""


def _format_seed(job: Batch) -> str:
    return "" if job["seed"] is None else str(job["seed"])


def _format_time(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _format_rate(rate_per_s: float | None) -> str:
    return "-" if rate_per_s is None else format_rate(rate_per_s)


def _format_number(number: int | float | None) -> str:
    """A number with all its digits."""
    return "-" if number is None else str(number)
