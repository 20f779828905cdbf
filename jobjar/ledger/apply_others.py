"""Entries that move no job (of workers, batches, attempts), as rows of a ledger.

Each gives statements and their values, which apply.py writes. The result of each statement does not depend on the order
of the entries.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jobjar.journal.read import Entry
from jobjar.ledger.driver import Connection
from jobjar.ledger.entries import check_row
from jobjar.ledger.fail_fast import ADD_DUE, SAID
from jobjar.shared_disk.contents import MOST, is_count, is_time

# The worker's own entry beats a recovery's, whose clock may show whole seconds. Between equals the earlier stands.
_ENDED_FIRST = """(ended_at IS NULL OR (excluded.end_reason IS 'died', excluded.ended_at, excluded.end_reason)
    < (end_reason IS 'died', ended_at, end_reason))"""
_WORKER = f"""
INSERT INTO worker (uid, name, node, pid, boot_id, process_started, user, categories, version, started_at, ended_at, end_reason)
VALUES (:uid, :name, :node, :pid, :boot_id, :process_started, :user, :categories, :version, :started_at, :ended_at, :end_reason)
ON CONFLICT (uid) DO UPDATE SET
    boot_id = coalesce(excluded.boot_id, boot_id), process_started = coalesce(excluded.process_started, process_started),
    user = coalesce(excluded.user, user), categories = coalesce(excluded.categories, categories),
    version = coalesce(excluded.version, version), started_at = coalesce(excluded.started_at, started_at),
    end_reason = CASE WHEN {_ENDED_FIRST} THEN coalesce(excluded.end_reason, end_reason) ELSE end_reason END,
    ended_at = CASE WHEN {_ENDED_FIRST} THEN coalesce(excluded.ended_at, ended_at) ELSE ended_at END"""

# A variable is reported again while its attempt goes on, and journals are read in any order. An entry without an
# ordinal has the ordinal 1.
_VARIABLE = """
INSERT INTO monitored_variable (job_uid, attempt, worker_uid, name, value, number, told_at, ordinal)
VALUES (:uid, :attempt, :worker_uid, :name, :value, :number, :told_at, :ordinal)
ON CONFLICT (job_uid, attempt, worker_uid, name) DO UPDATE SET
    value = excluded.value, number = excluded.number, told_at = excluded.told_at, ordinal = excluded.ordinal
WHERE (excluded.ordinal, excluded.told_at, coalesce(excluded.number, -9e999), excluded.value)
    > (ordinal, told_at, coalesce(number, -9e999), value)"""
_HISTORY = """
INSERT INTO variable_history (job_uid, attempt, worker_uid, name, value, number, told_at, ordinal)
VALUES (:uid, :attempt, :worker_uid, :name, :value, :number, :told_at, :ordinal)
ON CONFLICT (job_uid, attempt, worker_uid, name, ordinal) DO UPDATE SET
    value = excluded.value, number = excluded.number, told_at = excluded.told_at
WHERE (excluded.told_at, coalesce(excluded.number, -9e999), excluded.value) > (told_at, coalesce(number, -9e999), value)"""
# How many values of a variable are kept.
HISTORY_LENGTH = 1000
_OF_VARIABLE = "job_uid = +? AND attempt = +? AND worker_uid = +? AND name = +?"

# The entry of a phase's end beats that of its beginning. Between two ends the earlier stands.
_PHASE = """
INSERT INTO phase (job_uid, attempt, worker_uid, name, began_at, ended_at, exit_status, message)
VALUES (:uid, :attempt, :worker_uid, :name, :began_at, :ended_at, :exit_status, :message)
ON CONFLICT (job_uid, attempt, worker_uid, name) DO UPDATE SET
    began_at = excluded.began_at, ended_at = excluded.ended_at, exit_status = excluded.exit_status, message = excluded.message
WHERE (excluded.ended_at IS NOT NULL, -coalesce(excluded.ended_at, 0), -excluded.began_at, coalesce(excluded.exit_status, -1),
       coalesce(excluded.message, ''))
    > (ended_at IS NOT NULL, -coalesce(ended_at, 0), -began_at, coalesce(exit_status, -1), coalesce(message, ''))"""

_WARNING = """
INSERT INTO warning (job_uid, attempt, worker_uid, number, text) VALUES (:uid, :attempt, :worker_uid, :number, :text)
ON CONFLICT DO UPDATE SET text = min(text, excluded.text)"""

_FILE = """
INSERT INTO attempt_file (job_uid, attempt, worker_uid, stream, path) VALUES (:uid, :attempt, :worker_uid, :stream, :path)
ON CONFLICT DO UPDATE SET path = min(path, excluded.path)"""


def _latest_of(table: str, key: Sequence[str], order: str, columns: Sequence[str]) -> str:
    """The statement for rows of which the latest stands, whole. Between two of one `order` the columns decide."""
    names = (*key, order, *columns)
    rank = (order, *columns)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)}) "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in rank)} "
        f"WHERE ({', '.join(f'coalesce(excluded.{name}, -1)' for name in rank)}) "
        f"> ({', '.join(f'coalesce({table}.{name}, -1)' for name in rank)})"
    )


# If several entries are about a batch, the latest stands.
_BATCH_ORDER = (
    "changed_at",
    "description",
    "is_aborted",
    "jobs",
    "notes",
    "restarted_until",
    "submitted_at",
    "submitter",
)
# Two statements and no upsert: an upsert would make `OR IGNORE` in the triggers of the table `OR ABORT`.
_NEW_BATCH = """
INSERT INTO batch (name, submitter, submitted_at, description, changed_at, is_aborted, jobs, notes, restarted_until)
VALUES (:name, :submitter, :submitted_at, :description, :changed_at, :is_aborted, :jobs, :notes, :restarted_until)
ON CONFLICT (name) DO NOTHING"""
_BATCH = f"""
UPDATE batch SET {", ".join(f"{name} = :{name}" for name in _BATCH_ORDER)} WHERE name = :name
    AND ({", ".join(f"coalesce(:{name}, -1)" for name in _BATCH_ORDER)})
    > ({", ".join(f"coalesce({name}, -1)" for name in _BATCH_ORDER)})"""

_THROTTLE = """
INSERT INTO throttle (batch, told_at, until, failures) VALUES (:batch, :told_at, :until, :failures)
ON CONFLICT (batch) DO UPDATE SET told_at = excluded.told_at, until = excluded.until, failures = excluded.failures
WHERE (excluded.told_at, excluded.until, excluded.failures) > (told_at, until, failures)"""

_QUEUE_COLUMNS = ("system", "plan", "paused_at", "paused_by", "paused_why", "failures", "said", "removed_at", "is_gone")
_PILOT_QUEUE = _latest_of("pilot_queue", ("name",), "changed_at", _QUEUE_COLUMNS)
_PILOT_TEXTS = ("system_id", "word", "reason", "on_node", "worker", "worker_id", "end_reason", "message")
_PILOT_COLUMNS = (
    "queue",
    "number",
    "state",
    "intended_at",
    "since",
    "submitted_at",
    "started_at",
    "ended_at",
    *_PILOT_TEXTS,
)
_PILOT = _latest_of("pilot", ("name",), "revision", _PILOT_COLUMNS)

_STORED_COLUMNS = ("storage_name", "storage_hfn", "storage_url", "storage_size", "storage_md5")
_STORED = f"""
INSERT INTO stored_file (job_uid, attempt, worker_uid, source_name, {", ".join(_STORED_COLUMNS)})
VALUES (:uid, :attempt, :worker_uid, :source_name, {", ".join(":" + name for name in _STORED_COLUMNS)})
ON CONFLICT (job_uid, attempt, worker_uid, source_name) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _STORED_COLUMNS)}
WHERE ({", ".join(f"coalesce(excluded.{name}, -1)" for name in _STORED_COLUMNS)})
    > ({", ".join(f"coalesce({name}, -1)" for name in _STORED_COLUMNS)})"""


def attempt_key(entry: Entry) -> tuple[str, int, str]:
    """The key of the attempt that an entry is about."""
    return entry["job"], entry["attempt"], entry["worker_uid"]


def _worker_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    columns = ("boot_id", "process_started", "user", "version", "started_at", "ended_at", "end_reason")
    categories = entry.get("categories")
    row = {
        "uid": entry["worker_uid"],
        "name": entry["worker"],
        "node": entry["node"],
        "pid": entry["pid"],
        "categories": None if categories is None else " ".join(_texts(categories)),
        **{name: entry.get(name) for name in columns},
    }
    return [(_WORKER, row)]


def _variable_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    uid, attempt, worker_uid = attempt_key(entry)
    about = {"uid": uid, "attempt": attempt, "worker_uid": worker_uid, "told_at": entry.get("told_at", 0)}
    if not is_time(about["told_at"]):
        raise ValueError("told_at is no time")
    ordinals = entry.get("ordinals", {})
    rows = []
    for name, value in entry["variables"].items():
        if not isinstance(value, (str, int, float)):
            raise TypeError("a value is text, or a number")
        number = None
        with contextlib.suppress(ValueError):
            number = float(value)
        row = {**about, "name": name, "value": str(value), "number": number, "ordinal": ordinals.get(name, 1)}
        rows += [(_VARIABLE, row), (_HISTORY, row)]
    return rows


def thin_histories(connection: Connection, entries: Iterable[Entry]) -> None:
    """Keep at most HISTORY_LENGTH values of each variable in these entries.

    These are the first value, the latest, and of the others every second, fourth, eighth …, as many as there is room
    for. The choice follows from the highest ordinal, and a value that is left out once is left out for every higher
    one. So the rows do not depend on the order of entries.
    """
    for key in {(*attempt_key(entry), name) for entry in entries for name in entry["variables"]}:
        query = f"SELECT ordinal FROM monitored_variable WHERE {_OF_VARIABLE}"
        last = connection.execute(query, key).fetchone()[0]
        if last <= HISTORY_LENGTH:
            continue
        step = 1
        while (last - 1) // step + 2 > HISTORY_LENGTH:
            step *= 2
        connection.execute(
            f"DELETE FROM variable_history WHERE {_OF_VARIABLE} AND (ordinal - 1) % ? <> 0 AND ordinal <> ?",
            (*key, step, last),
        )


def _stored_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    uid, attempt, worker_uid = attempt_key(entry)
    row = {"uid": uid, "attempt": attempt, "worker_uid": worker_uid, "source_name": entry["source_name"]}
    return [(_STORED, {**row, **{name: entry.get(name) for name in _STORED_COLUMNS}})]


def _phase_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    uid, attempt, worker_uid = attempt_key(entry)
    row = {
        "uid": uid,
        "attempt": attempt,
        "worker_uid": worker_uid,
        "name": entry["phase"],
        "began_at": entry["began_at"],
    }
    return [(_PHASE, {**row, **{name: entry.get(name) for name in ("ended_at", "exit_status", "message")}})]


def _warning_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    uid, attempt, worker_uid = attempt_key(entry)
    row = {"uid": uid, "attempt": attempt, "worker_uid": worker_uid}
    first = entry.get("first", 1)
    if type(first) is not int or not -MOST <= first <= MOST:
        raise ValueError("first is no number of a warning")
    return [
        (_WARNING, {**row, "number": number, "text": text})
        for number, text in enumerate(_texts(entry["warnings"]), first)
    ]


def _file_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    uid, attempt, worker_uid = attempt_key(entry)
    row = {"uid": uid, "attempt": attempt, "worker_uid": worker_uid}
    return [(_FILE, {**row, "stream": stream, "path": path}) for stream, path in entry["files"].items()]


def _batch_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    row = {"name": entry["batch"], "description": entry["description"], "changed_at": entry["changed_at"]}
    optional = {name: entry.get(name) for name in ("submitter", "submitted_at", "jobs", "notes")}
    row["restarted_until"] = entry.get("restarted_until", 0.0)
    values = {**row, **optional, "is_aborted": int(bool(entry.get("is_aborted")))}
    rows = [(_NEW_BATCH, values), (_BATCH, values)]
    # Ends of its jobs may have been read before this.
    return [*rows, (ADD_DUE, {"name": entry["batch"]})] if str(entry["description"]).startswith(SAID) else rows


def _throttle_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    row = {"batch": entry["batch"], "told_at": entry["told_at"], "until": entry["until"]}
    return [(_THROTTLE, {**row, "failures": entry["failures"]})]


def _pilot_queue_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    row = {"name": entry["queue"], "changed_at": entry["changed_at"]}
    columns = {name: entry.get(name) for name in _QUEUE_COLUMNS}
    return [(_PILOT_QUEUE, {**row, **columns, "is_gone": int(bool(entry.get("is_gone")))})]


def _pilot_rows(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    row = {name: entry[name] for name in ("name", "revision", "queue", "number", "state", "intended_at", "since")}
    if not is_count(row["number"]):
        raise ValueError("number is no number of a pilot")
    return [(_PILOT, {**{name: entry.get(name) for name in _PILOT_COLUMNS}, **row})]


def _texts(values: Any) -> list[str]:
    if type(values) is not list or not all(isinstance(value, str) for value in values):
        raise TypeError("not a list of texts")
    return values


def rows_of_other(kind: str, entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    """The statements, with their values, of an entry of a kind in OTHER_KINDS. Raises ValueError, TypeError, KeyError
    and the like if the entry is invalid."""
    rows = OTHER_KINDS[kind](entry)
    for statement, row in rows:
        check_row(row, is_name_a_path=statement in (_WORKER, _NEW_BATCH, _BATCH, _PILOT_QUEUE, _PILOT))
    return rows


OTHER_KINDS: dict[str, Callable[[Entry], list[tuple[str, dict[str, Any]]]]] = {
    "worker": _worker_rows,
    "variables": _variable_rows,
    "stored": _stored_rows,
    "phase": _phase_rows,
    "warned": _warning_rows,
    "files": _file_rows,
    "batch": _batch_rows,
    "throttle": _throttle_rows,
    "pilot_queue": _pilot_queue_rows,
    "pilot": _pilot_rows,
}
