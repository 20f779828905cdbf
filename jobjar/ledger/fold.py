"""Fold journals into the ledger: each entry once, with the same result in whatever order journals are read.

Reads journals from the positions that the ledger records; writes rows and the new positions in the same transaction.
Why it converges: history rows have keys that come from the entry, so writing one twice changes nothing; the row of a job
takes the *latest* of its moves (`completed` before all, then the disk's time of the move, then its number; ties by what
it moved to), which does not depend on the order of arrival; and what an attempt has once become (lost, final) is never
taken back.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable
from typing import Any

from jobjar.disk import is_local, open_common_file
from jobjar.jobname import node_name, priority_in_name
from jobjar.journal import Entry, read_journal
from jobjar.layout import Layout, category_of_place, name_in_place, state_of_place
from jobjar.ledger.store import driver

_NOT_AN_ENTRY = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    driver.IntegrityError,
    driver.InterfaceError,
    driver.ProgrammingError,
    driver.DataError,
)


# Of two entries that tell of a submission the earlier one stands, and what the submitter said before what was found.
_SUBMIT = """
INSERT INTO job (uid, name, state, place, category, priority, submitter, submitted_at,
                 retries, retry_delay_s, time_limit_s)
VALUES (:uid, :name, 'limbo', :place, :category, :priority, :submitter, :submitted_at,
        :retries, :retry_delay_s, :time_limit_s)
ON CONFLICT (uid) DO UPDATE SET
    submitter = excluded.submitter, submitted_at = excluded.submitted_at, retries = excluded.retries,
    retry_delay_s = excluded.retry_delay_s, time_limit_s = excluded.time_limit_s
WHERE submitted_at IS NULL OR excluded.submitted_at < submitted_at
    OR (NOT :is_found AND excluded.submitted_at = submitted_at)"""

# Most moves keep the name, and what is not set need not be written to its index again. `+:name`: a bare parameter in a
# comparison makes SQLite (with STAT4) plan the statement again at each call.
_LATER = """
(+:state = 'completed', +:moved_at, +:number, +:state = 'claimed', +:place)
    > (state = 'completed', moved_at, move_number, state = 'claimed', place)"""
_MOVE_JOB = f"""
UPDATE job SET state = :state, place = :place, category = :category, priority = :priority, not_before = :not_before,
    held_reason = :held_reason, moved_at = :moved_at, move_number = :number
WHERE uid = +:uid AND name = +:name AND {_LATER}"""
_MOVE_AND_RENAME_JOB = f"""
UPDATE job SET name = :name, state = :state, place = :place, category = :category, priority = :priority,
    not_before = :not_before, held_reason = :held_reason, moved_at = :moved_at, move_number = :number
WHERE uid = +:uid AND {_LATER}"""
_ADD_JOB = """
INSERT OR IGNORE INTO job (uid, name, state, place, category, priority, not_before, held_reason, moved_at, move_number)
VALUES (:uid, :name, :state, :place, :category, :priority, :not_before, :held_reason, :moved_at, :number)"""

_ADD_MOVE = """
INSERT OR IGNORE INTO move (job_uid, number, moved_at, origin, destination, reason, actor)
VALUES (:uid, :number, :moved_at, :origin, :place, :reason, :actor)"""

_CLAIM_ATTEMPT = """
INSERT INTO attempt (job_uid, number, worker, worker_uid, started_at) VALUES (:uid, :attempt, :worker, :worker_uid, :started_at)
ON CONFLICT (job_uid, number, worker_uid) DO UPDATE SET started_at = coalesce(started_at, excluded.started_at)"""

_START = """
INSERT INTO attempt (job_uid, number, worker, worker_uid, pid, pid_started)
VALUES (:uid, :attempt, :worker, :worker_uid, :pid, :pid_started)
ON CONFLICT (job_uid, number, worker_uid) DO UPDATE SET pid = excluded.pid, pid_started = excluded.pid_started"""

# An attempt that was lost stays lost; otherwise the first word on how it ended stands.
_END = """
INSERT INTO attempt (job_uid, number, worker, worker_uid, pid, pid_started, ended_at, outcome, is_final,
                     exit_status, signal, wall_time_s, user_cpu_s, system_cpu_s, max_rss_kib, output_file, message)
VALUES (:uid, :attempt, :worker, :worker_uid, :pid, :pid_started, :ended_at, :outcome, :is_final,
        :exit_status, :signal, :wall_time_s, :user_cpu_s, :system_cpu_s, :max_rss_kib, :output_file, :message)
ON CONFLICT (job_uid, number, worker_uid) DO UPDATE SET
    pid = coalesce(pid, excluded.pid), pid_started = coalesce(pid_started, excluded.pid_started),
    ended_at = excluded.ended_at, outcome = excluded.outcome, is_final = excluded.is_final,
    exit_status = excluded.exit_status, signal = excluded.signal, wall_time_s = excluded.wall_time_s,
    user_cpu_s = excluded.user_cpu_s, system_cpu_s = excluded.system_cpu_s, max_rss_kib = excluded.max_rss_kib,
    output_file = excluded.output_file, message = excluded.message
WHERE excluded.outcome = 'lost' OR ended_at IS NULL
   OR (outcome <> 'lost' AND (excluded.ended_at, excluded.outcome) < (ended_at, outcome))"""

_WORKER = """
INSERT INTO worker (uid, name, node, pid, boot_id, process_started, user, categories, version, started_at, ended_at, end_reason)
VALUES (:uid, :name, :node, :pid, :boot_id, :process_started, :user, :categories, :version, :started_at, :ended_at, :end_reason)
ON CONFLICT (uid) DO UPDATE SET
    boot_id = coalesce(excluded.boot_id, boot_id), process_started = coalesce(excluded.process_started, process_started),
    user = coalesce(excluded.user, user), categories = coalesce(excluded.categories, categories),
    version = coalesce(excluded.version, version), started_at = coalesce(excluded.started_at, started_at),
    end_reason = CASE WHEN ended_at IS NULL OR excluded.ended_at < ended_at
                      THEN coalesce(excluded.end_reason, end_reason) ELSE end_reason END,
    ended_at = CASE WHEN ended_at IS NULL OR excluded.ended_at < ended_at
                    THEN coalesce(excluded.ended_at, ended_at) ELSE ended_at END"""

_VARIABLE = """
INSERT INTO monitored_variable (job_uid, attempt, worker_uid, name, value, number)
VALUES (:uid, :attempt, :worker_uid, :name, :value, :number)
ON CONFLICT (job_uid, attempt, worker_uid, name) DO UPDATE SET value = excluded.value, number = excluded.number"""

_STORED_COLUMNS = ("storage_name", "storage_hfn", "storage_url", "storage_size", "storage_md5")
_STORED = f"""
INSERT INTO stored_file (job_uid, attempt, worker_uid, source_name, {", ".join(_STORED_COLUMNS)})
VALUES (:uid, :attempt, :worker_uid, :source_name, {", ".join(":" + name for name in _STORED_COLUMNS)})
ON CONFLICT (job_uid, attempt, worker_uid, source_name) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _STORED_COLUMNS)}"""


def _fold_submitted(connection: Any, entry: Entry, is_found: bool = False) -> None:
    connection.execute(
        _SUBMIT,
        {
            "uid": entry["job"],
            "name": entry["name"],
            "place": f"limbo/{entry['name']}",
            "category": entry.get("category", ""),
            "priority": priority_in_name(entry["name"]),
            "submitter": entry.get("submitter"),
            "submitted_at": entry.get("submitted_at"),
            "retries": entry.get("retries"),
            "retry_delay_s": entry.get("retry_delay_s"),
            "time_limit_s": entry.get("time_limit_s"),
            "is_found": is_found,
        },
    )


def _fold_moved(connection: Any, entry: Entry) -> None:
    place = entry["to"]
    name = name_in_place(place)
    found = entry.get("found")
    if found is not None:
        # A hand-made submission gets its id with this move; until now the ledger knew it by its place alone.
        connection.execute(
            "DELETE FROM job WHERE uid IS NULL AND name = ? AND place = ?",
            (name_in_place(entry["from"]), entry["from"]),
        )
        _fold_submitted(connection, {"job": entry["job"], "name": name, **found}, is_found=True)
    category = category_of_place(place)
    row = {
        "uid": entry["job"],
        "name": name,
        "state": state_of_place(place),
        "place": place,
        "category": entry.get("category", "") if category is None else category,
        "priority": priority_in_name(name),
        "not_before": entry.get("not_before", 0),
        "held_reason": entry.get("held_reason"),
        "moved_at": float(entry["moved_at"]),
        "number": int(entry["number"]),
        "origin": entry["from"],
        "reason": entry["reason"],
        "actor": entry["by"],
    }
    if connection.execute(_MOVE_JOB, row).rowcount == 0 and connection.execute(_ADD_JOB, row).rowcount == 0:
        connection.execute(_MOVE_AND_RENAME_JOB, row)
    connection.execute(_ADD_MOVE, row)
    if "attempt" in entry and entry["reason"] == "claimed":
        connection.execute(
            _CLAIM_ATTEMPT,
            {
                "uid": entry["job"],
                "attempt": entry["attempt"],
                "worker": entry["by"],
                "worker_uid": entry["worker_uid"],
                "started_at": entry["moved_at"],
            },
        )


def _attempt_row(entry: Entry) -> dict[str, Any]:
    return {
        "uid": entry["job"],
        "attempt": entry["attempt"],
        "worker": entry["worker"],
        "worker_uid": entry["worker_uid"],
    }


def _fold_started(connection: Any, entry: Entry) -> None:
    connection.execute(_START, {**_attempt_row(entry), "pid": entry["pid"], "pid_started": entry["pid_started"]})


def _fold_ended(connection: Any, entry: Entry) -> None:
    columns = (
        "pid",
        "pid_started",
        "ended_at",
        "outcome",
        "exit_status",
        "signal",
        "wall_time_s",
        "user_cpu_s",
        "system_cpu_s",
        "max_rss_kib",
        "output_file",
        "message",
    )
    row = {**_attempt_row(entry), **{name: entry.get(name) for name in columns}}
    row["is_final"] = int(entry.get("final", False) and entry["outcome"] != "lost")
    connection.execute(_END, row)


def _fold_worker(connection: Any, entry: Entry) -> None:
    columns = (
        "boot_id",
        "process_started",
        "user",
        "version",
        "started_at",
        "ended_at",
        "end_reason",
    )
    categories = entry.get("categories")
    connection.execute(
        _WORKER,
        {
            "uid": entry["worker_uid"],
            "name": entry["worker"],
            "node": entry["node"],
            "pid": entry["pid"],
            "categories": None if categories is None else " ".join(categories),
            **{name: entry.get(name) for name in columns},
        },
    )


def _fold_variables(connection: Any, entry: Entry) -> None:
    for name, value in entry["variables"].items():
        number = None
        with contextlib.suppress(ValueError):
            number = float(value)
        connection.execute(_VARIABLE, {**_attempt_row(entry), "name": name, "value": str(value), "number": number})


def _fold_stored(connection: Any, entry: Entry) -> None:
    values = {name: entry.get(name) for name in _STORED_COLUMNS}
    connection.execute(_STORED, {**_attempt_row(entry), "source_name": entry["source_name"], **values})


_FOLDS: dict[str, Callable[[Any, Entry], None]] = {
    "submitted": _fold_submitted,
    "moved": _fold_moved,
    "started": _fold_started,
    "ended": _fold_ended,
    "worker": _fold_worker,
    "variables": _fold_variables,
    "stored": _fold_stored,
}


def fold_entry(connection: Any, entry: Entry) -> None:
    """Apply one entry. Entries of kinds that this version does not know change nothing."""
    fold = _FOLDS.get(entry["entry"])
    if fold is not None:
        fold(connection, entry)


def fold_journal(connection: Any, path: str, limit: int | None = None) -> int:
    """Fold what is new in one journal, at most `limit` lines, and record how far; returns the number of lines taken.
    Inside the caller's transaction."""
    name = os.path.basename(path)
    row = connection.execute("SELECT offset FROM journal_position WHERE journal = ?", (name,)).fetchone()
    offset = row[0] if row else 0
    try:
        descriptor, may_be_lost = _open_to_read(path)
    except FileNotFoundError:
        return 0
    try:
        size = os.fstat(descriptor).st_size
        if size <= offset:
            return 0
        if may_be_lost:
            os.fdatasync(descriptor)
        taken = torn = 0
        for line in read_journal(descriptor, offset, size if may_be_lost else None):
            if line.entry is None:
                torn += 1
            else:
                try:
                    fold_entry(connection, line.entry)
                except _NOT_AN_ENTRY:
                    # Parses, but is not one of ours: somebody's editor. Counted as torn, named by `jobjar check`.
                    torn += 1
            offset = line.end
            taken += 1
            if limit is not None and taken >= limit:
                break
    finally:
        os.close(descriptor)
    if taken:
        connection.execute(
            "INSERT INTO journal_position VALUES (?, ?, ?) ON CONFLICT (journal) DO UPDATE SET "
            "offset = excluded.offset, torn_lines = torn_lines + excluded.torn_lines",
            (name, offset, torn),
        )
    return taken


def _open_to_read(path: str) -> tuple[int, bool]:
    """Open a journal; also whether what is read from it may not have reached its disk yet.

    So it is where this node writes it to a network disk: a crash of the node would take back what its ledger, on a disk of
    its own, had folded already. Such a journal is synced up to where it is then read.
    """
    if os.path.basename(path).startswith(f"{node_name()}.") and not _is_local(os.path.dirname(path)):
        with contextlib.suppress(PermissionError):
            # For writing: a file that is open for reading alone MooseFS does not sync.
            return os.open(path, os.O_RDWR | os.O_CLOEXEC), True
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC), False


_is_local = functools.cache(is_local)


def journal_paths(layout: Layout) -> list[str]:
    """Every journal of the jar."""
    return sorted(
        f"{layout.journals}/{name}"
        for name in os.listdir(layout.journals)
        if name.endswith(".jsonl") and name[0] != "."
    )


def fold_journals(connection: Any, layout: Layout) -> int:
    """Fold what is new in all journals; returns the number of lines taken."""
    return sum(fold_journal(connection, path) for path in journal_paths(layout))


def others_are_due(polled_file: str, poll_time_s: float) -> bool:
    """Whether this node has not looked at the other nodes' journals for `poll_time_s`; if so, notes that it does now."""
    now = time.time()
    try:
        if 0 <= now - os.stat(polled_file).st_mtime < poll_time_s:
            return False
    except FileNotFoundError:
        pass
    descriptor = open_common_file(polled_file, os.O_WRONLY)
    os.utime(descriptor)
    os.close(descriptor)
    return True
