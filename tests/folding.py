"""How entries are applied one at a time, each by statements of its own: what apply.py has to be equal to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from jobjar.job_file.names import priority_in_name
from jobjar.journal.read import Entry
from jobjar.layout import category_of_place, name_in_place, state_of_place

# Of two entries that tell of a submission the earlier one stands, and what the submitter said before what was found.
_SUBMIT = """
INSERT INTO job (uid, name, state, place, category, priority, submitter, submitted_at,
                 retries, retry_delay_s, time_limit_s, kind, batch, seed, found_number, found_file, given)
VALUES (:uid, :name, 'limbo', :place, :category, :priority, :submitter, :submitted_at,
        :retries, :retry_delay_s, :time_limit_s, :kind, :batch, :seed, :found_number, :found_file, :given)
ON CONFLICT (uid) DO UPDATE SET
    submitter = excluded.submitter, submitted_at = excluded.submitted_at, retries = excluded.retries,
    retry_delay_s = excluded.retry_delay_s, time_limit_s = excluded.time_limit_s,
    kind = excluded.kind, batch = excluded.batch, seed = excluded.seed, found_number = excluded.found_number,
    found_file = excluded.found_file, given = excluded.given
WHERE submitted_at IS NULL OR found_number IS NULL OR excluded.submitted_at < submitted_at
    OR (excluded.submitted_at = submitted_at AND (excluded.found_number = 0 OR (found_number > 0 AND
        (excluded.found_number, coalesce(excluded.retries, -1), coalesce(excluded.retry_delay_s, -1),
         coalesce(excluded.time_limit_s, -1), coalesce(excluded.seed, -1), excluded.kind, coalesce(excluded.batch, -1),
         coalesce(excluded.submitter, -1), coalesce(excluded.found_file, -1), coalesce(excluded.given, -1))
        > (found_number, coalesce(retries, -1), coalesce(retry_delay_s, -1), coalesce(time_limit_s, -1),
           coalesce(seed, -1), kind, coalesce(batch, -1), coalesce(submitter, -1), coalesce(found_file, -1),
           coalesce(given, -1)))))"""

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

# An attempt that was lost stays lost. Otherwise the first word on how it ended stands, and at the same time the greater message.
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
   OR (outcome <> 'lost' AND (-excluded.ended_at, excluded.outcome, coalesce(excluded.message, -1))
       > (-ended_at, outcome, coalesce(message, -1)))"""

_STORED_COLUMNS = ("storage_name", "storage_hfn", "storage_url", "storage_size", "storage_md5")


def _keep_better(
    connection: Any, table: str, key: dict[str, Any], values: dict[str, Any], order: Callable[[dict[str, Any]], Any]
) -> None:
    """Write a row, unless the one that is there goes before it."""
    where = " AND ".join(f"{name} = ?" for name in key)
    columns = ", ".join(values)
    there = connection.execute(f"SELECT {columns} FROM {table} WHERE {where}", (*key.values(),)).fetchone()
    if there is not None and order(dict(zip(values, there, strict=True))) >= order(values):
        return
    marks = ", ".join("?" * (len(key) + len(values)))
    row = (*key.values(), *values.values())
    connection.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(key)}, {columns}) VALUES ({marks})", row)


def _known(value: Any) -> tuple[int, Any]:
    """Orders what may be missing: what is known goes before."""
    return (0, 0) if value is None else (1, value)


def _fold_submitted(connection: Any, entry: Entry, found_number: int = 0) -> None:
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
            "kind": entry.get("kind", ""),
            "batch": entry.get("batch"),
            "seed": entry.get("seed"),
            "given": json.dumps(entry["given"], separators=(",", ":"), sort_keys=True) if "given" in entry else None,
            "found_number": found_number,
            "found_file": entry.get("file") if found_number else None,
        },
    )
    if entry.get("file") is not None and not found_number:
        connection.execute("INSERT OR IGNORE INTO file_mark VALUES (?, ?)", (entry["file"], entry["job"]))


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
        _fold_submitted(connection, {"job": entry["job"], "name": name, **found}, max(int(entry["number"]), 1))
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
    if row["pid"] is not None:
        connection.execute(
            "UPDATE attempt SET pid = :pid, pid_started = :pid_started "
            "WHERE job_uid = :uid AND number = :attempt AND worker_uid = :worker_uid AND pid IS NULL",
            row,
        )


def _fold_worker(connection: Any, entry: Entry) -> None:
    about = ("boot_id", "process_started", "user", "categories", "version", "started_at", "ended_at", "end_reason")
    row = {name: entry.get(name) for name in about}
    if row["categories"] is not None:
        row["categories"] = " ".join(row["categories"])
    key = {"uid": entry["worker_uid"], "name": entry["worker"], "node": entry["node"], "pid": entry["pid"]}
    found = connection.execute(f"SELECT {', '.join(about)} FROM worker WHERE uid = ?", (key["uid"],)).fetchone()
    if found is not None:
        old = dict(zip(about, found, strict=True))
        # The worker's own word goes before that of a recovery; of equals the earlier one stands. What is not said stays.
        is_older = old["ended_at"] is not None and (row["ended_at"] is None or _end_order(old) <= _end_order(row))
        row = {name: old[name] if value is None else value for name, value in row.items()}
        if is_older:
            row.update(ended_at=old["ended_at"], end_reason=old["end_reason"])
    row = {**key, **row}
    if found is None:
        connection.execute(
            f"INSERT INTO worker ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )
    else:
        settings = ", ".join(f"{name} = ?" for name in about)
        connection.execute(f"UPDATE worker SET {settings} WHERE uid = ?", (*(row[name] for name in about), key["uid"]))


def _end_order(row: dict[str, Any]) -> tuple[bool, float, str]:
    return row["end_reason"] == "died", row["ended_at"], row["end_reason"] or ""


def _attempt_key(entry: Entry) -> dict[str, Any]:
    return {"job_uid": entry["job"], "attempt": entry["attempt"], "worker_uid": entry["worker_uid"]}


def _fold_variables(connection: Any, entry: Entry) -> None:
    for name, value in entry["variables"].items():
        number, told_at, ordinal = None, entry.get("told_at", 0), entry.get("ordinals", {}).get(name, 1)
        with contextlib.suppress(ValueError):
            number = float(value)
        _keep_better(
            connection,
            "monitored_variable",
            {**_attempt_key(entry), "name": name},
            {"value": str(value), "number": number, "told_at": told_at, "ordinal": ordinal},
            lambda row: (row["ordinal"], row["told_at"], _known(row["number"]), row["value"]),
        )
        _keep_better(
            connection,
            "variable_history",
            {**_attempt_key(entry), "name": name, "ordinal": ordinal},
            {"value": str(value), "number": number, "told_at": told_at},
            lambda row: (row["told_at"], _known(row["number"]), row["value"]),
        )


def _fold_stored(connection: Any, entry: Entry) -> None:
    _keep_better(
        connection,
        "stored_file",
        {**_attempt_key(entry), "source_name": entry["source_name"]},
        {name: entry.get(name) for name in _STORED_COLUMNS},
        lambda row: [_known(row[name]) for name in _STORED_COLUMNS],
    )


def _fold_phase(connection: Any, entry: Entry) -> None:
    def order(row: dict[str, Any]) -> Any:
        if row["ended_at"] is None:
            return (0, 0, -row["began_at"])
        return (1, -row["ended_at"], -row["began_at"], _known(row["exit_status"]), row["message"] or "")

    values = {name: entry.get(name) for name in ("began_at", "ended_at", "exit_status", "message")}
    _keep_better(connection, "phase", {**_attempt_key(entry), "name": entry["phase"]}, values, order)


def _fold_files(connection: Any, entry: Entry) -> None:
    for stream, path in entry["files"].items():
        connection.execute(
            "INSERT OR IGNORE INTO attempt_file VALUES (?, ?, ?, ?, ?)",
            (entry["job"], entry["attempt"], entry["worker_uid"], stream, path),
        )


def _fold_warned(connection: Any, entry: Entry) -> None:
    for number, text in enumerate(entry["warnings"], entry.get("first", 1)):
        # Of two texts the one that comes first in the alphabet.
        key = {**_attempt_key(entry), "number": number}
        _keep_better(connection, "warning", key, {"text": text}, lambda row: [-ord(letter) for letter in row["text"]])


def _fold_batch(connection: Any, entry: Entry) -> None:
    names = ("changed_at", "description", "is_aborted", "jobs", "notes", "submitted_at", "submitter")
    values = {**{name: entry.get(name) for name in names}, "is_aborted": int(entry.get("is_aborted", False))}
    _keep_better(
        connection, "batch", {"name": entry["batch"]}, values, lambda row: [_known(row[name]) for name in names]
    )


def _fold_throttle(connection: Any, entry: Entry) -> None:
    names = ("told_at", "until", "failures")
    values = {name: entry[name] for name in names}
    _keep_better(connection, "throttle", {"batch": entry["batch"]}, values, lambda row: [row[name] for name in names])


_FOLDS: dict[str, Callable[[Any, Entry], None]] = {
    "submitted": _fold_submitted,
    "moved": _fold_moved,
    "started": _fold_started,
    "ended": _fold_ended,
    "worker": _fold_worker,
    "variables": _fold_variables,
    "stored": _fold_stored,
    "phase": _fold_phase,
    "warned": _fold_warned,
    "files": _fold_files,
    "batch": _fold_batch,
    "throttle": _fold_throttle,
}


def fold_entry(connection: Any, entry: Entry) -> None:
    """Apply one entry. Entries of kinds that this version does not know change nothing."""
    fold = _FOLDS.get(entry["entry"])
    if fold is not None:
        fold(connection, entry)
