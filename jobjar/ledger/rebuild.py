"""Make a ledger anew from the journals and the directories: it gives the same answers as the one it replaces.

This also proves the promise. `dump_ledger` writes a ledger without its row numbers, so that two can be compared;
`differing_rows` compares two.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from typing import Any

from jobjar.errors import LedgerDiskFull, OtherVersion
from jobjar.journal.append import Journal
from jobjar.layout import Layout
from jobjar.ledger.by_hand import OpenJournal
from jobjar.ledger.database import remove_database
from jobjar.ledger.driver import Connection, quote_path
from jobjar.ledger.fold import fold_in_pieces, fold_journals, unfolded_bytes
from jobjar.ledger.home import LedgerHome
from jobjar.ledger.migrate import check_version, migrate
from jobjar.ledger.reconcile_jar import reconcile, reconcile_in_pieces
from jobjar.ledger.removed import MISSED
from jobjar.ledger.store import Ledger, driver
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.creating import temporary_path
from jobjar.shared_disk.files import sync_file

# At most this many bytes of journals are folded while others wait for a rebuilt ledger. A damaged journal is never
# folded, so after this many tries more may be left.
_LAST_BYTES, _TRIES = 1 << 16, 10
# When a job came to its place is recorded only if a journaled move took it there. For any other job a ledger has the
# time when it saw the file, which another ledger may have seen earlier or later.
_RECORDED = (
    "CASE WHEN place = (SELECT destination FROM move WHERE job_uid = uid "
    "ORDER BY number / 1000000 DESC, "
    "(destination LIKE 'completed/%' OR destination LIKE 'archive/%') DESC, moved_at DESC, number DESC, "
    "destination LIKE 'workers/%' DESC, "
    "destination DESC LIMIT 1)"
)
# For a job that was put there by hand a ledger has the time when it first saw the file, which is not the same for all.
_SUBMITTED_AT = (
    "CASE WHEN EXISTS (SELECT 1 FROM move WHERE job_uid = uid AND number = 1 AND reason = 'submitted') "
    "THEN submitted_at END"
)
_TASK = (
    "array.uid AS uid, number, life, outcome, status, ended_ms, wall_us, user_us, system_us, max_rss_kib, offset, length, "
    "message, job_uid, attempt, worker_uid, worker, output_file"
)
_JOINED = "FROM array JOIN {0} ON {0}.array = array.id JOIN chunk_run ON chunk_run.id = {0}.run"
# What a ledger says, in an order that does not depend on row numbers.
_DUMPS = {
    "job": f"SELECT uid, name, state, place, category, priority, submitter, {_SUBMITTED_AT}, retries, retry_delay_s, "
    f"time_limit_s, not_before, held_reason, {_RECORDED} THEN moved_at END, {_RECORDED} THEN move_number END, kind, batch, seed, "
    "given, request FROM job "
    "WHERE state <> 'removed' ORDER BY uid, place",
    "removed job": f"SELECT uid, name, priority, submitter, {_SUBMITTED_AT}, move_number FROM job "
    "WHERE state = 'removed' AND EXISTS (SELECT 1 FROM move WHERE job_uid = uid) ORDER BY uid",
    "move": "SELECT job_uid, number, moved_at, origin, destination, reason, actor FROM move "
    "ORDER BY job_uid, number, moved_at, destination",
    "attempt": "SELECT job_uid, number, worker, worker_uid, started_at, pid, pid_started, ended_at, outcome, is_final, "
    "exit_status, signal, wall_time_s, user_cpu_s, system_cpu_s, max_rss_kib, output_file, message FROM attempt "
    "ORDER BY job_uid, number, worker_uid",
    "monitored_variable": "SELECT job_uid, attempt, worker_uid, name, value, number, told_at, ordinal "
    "FROM monitored_variable ORDER BY job_uid, attempt, worker_uid, name",
    "variable_history": "SELECT job_uid, attempt, worker_uid, name, ordinal, told_at, value, number FROM variable_history "
    "ORDER BY job_uid, attempt, worker_uid, name, ordinal",
    "stored_file": "SELECT job_uid, attempt, worker_uid, source_name, storage_name, storage_hfn, storage_url, "
    "storage_size, storage_md5 FROM stored_file ORDER BY job_uid, attempt, worker_uid, source_name",
    "attempt_file": "SELECT job_uid, attempt, worker_uid, stream, path FROM attempt_file "
    "ORDER BY job_uid, attempt, worker_uid, stream",
    "worker": "SELECT uid, name, node, pid, boot_id, process_started, user, categories, version, started_at, ended_at, "
    "end_reason FROM worker ORDER BY uid",
    "phase": "SELECT job_uid, attempt, worker_uid, name, began_at, ended_at, exit_status, message FROM phase "
    "ORDER BY job_uid, attempt, worker_uid, name",
    "warning": "SELECT job_uid, attempt, worker_uid, number, text FROM warning "
    "ORDER BY job_uid, attempt, worker_uid, number",
    "batch": "SELECT name, submitter, submitted_at, description, changed_at, is_aborted, jobs, notes, restarted_until "
    "FROM batch ORDER BY name",
    "file_mark": f"SELECT mark, job_uid FROM file_mark WHERE mark <> '{MISSED}' ORDER BY mark, job_uid",
    "prerequisite": "SELECT job_uid, what, target, kind FROM prerequisite ORDER BY job_uid, what, target, kind",
    "array": "SELECT uid, first, last, step, tasks, succeeded, failed, first_ended_ms, last_ended_ms FROM array ORDER BY uid",
    "array_life": "SELECT array.uid AS uid, life, array_life.first AS first_number, array_life.last AS last_number FROM array "
    "JOIN array_life ON array_life.array = array.id ORDER BY uid, life, first_number, last_number",
    "task": f"SELECT {_TASK} {_JOINED.format('task')} ORDER BY uid, number",
    "task_attempt": f"SELECT {_TASK}, is_final {_JOINED.format('task_attempt')} "
    "ORDER BY uid, number, ended_ms, job_uid, attempt, worker_uid",
    "task_outcome": "SELECT array.uid AS uid, outcome, status, task_outcome.tasks AS ended FROM array "
    "JOIN task_outcome ON task_outcome.array = array.id WHERE task_outcome.tasks <> 0 ORDER BY uid, outcome, status",
    "task_minute": "SELECT minute, outcome, tasks FROM task_minute WHERE tasks <> 0 ORDER BY minute, outcome",
    "pilot_queue": "SELECT name, changed_at, system, plan, paused_at, paused_by, paused_why, failures, said, removed_at, is_gone "
    "FROM pilot_queue ORDER BY name",
    "pilot": "SELECT name, revision, queue, number, state, intended_at, since, submitted_at, started_at, ended_at, "
    "system_id, word, reason, on_node, worker, worker_id, end_reason, message FROM pilot ORDER BY name",
    "throttle": "SELECT batch, told_at, until, failures FROM throttle ORDER BY batch",
}


def dump_ledger(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of each table, without row numbers, in a fixed order."""
    return {table: connection.execute(query).fetchall() for table, query in _DUMPS.items()}


# A dump shows these columns only if they are recorded. Ledgers that keep the same values show the same, and what they
# keep is compared in a tenth of the time.
_KEPT = {
    _SUBMITTED_AT: "submitted_at",
    f"{_RECORDED} THEN moved_at END": "moved_at",
    f"{_RECORDED} THEN move_number END": "move_number",
}
Rows = list[tuple[Any, ...]]


def differing_tables(connection: Connection, other: str, meter: Meter = SILENT) -> list[str]:
    """The tables in which the connection's ledger and the one attached to it as `other` do not keep the same rows."""
    meter.begin("comparing the tables", "tables", len(_DUMPS))
    return [
        table for table in meter.counted(_DUMPS) if not _is_same(connection, _kept(table), _in(other, _kept(table)))
    ]


def differing_rows(connection: Connection, other: str, table: str) -> tuple[Rows, Rows]:
    """The rows of a table that only the connection's ledger shows, as in a dump, and those that only the one
    attached to it as `other` shows. What both keep, both show."""
    ours, theirs = _kept(table), _in(other, _kept(table))
    if ours != _said(table):
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS differing (uid TEXT PRIMARY KEY)")
        connection.execute("DELETE FROM temp.differing")
        for one, another in ((ours, theirs), (theirs, ours)):
            only = _only_in(connection, one, another)
            connection.execute(f"INSERT OR IGNORE INTO temp.differing SELECT uid FROM ({only})")
        condition = "WHERE uid IS NULL OR uid IN (SELECT uid FROM temp.differing)"
        ours, theirs = (f"SELECT * FROM ({query}) {condition}" for query in (_said(table), _in(other, _said(table))))
    only_ours, only_theirs = (
        connection.execute(f"{one} EXCEPT {another}").fetchall() for one, another in ((ours, theirs), (theirs, ours))
    )
    return only_ours, only_theirs


def _said(table: str) -> str:
    """The query of a dump, without its order."""
    return _DUMPS[table].rpartition(" ORDER BY ")[0]


def _kept(table: str) -> str:
    """The same query for the values that are kept, recorded or not."""
    query = _said(table)
    for recorded, column in _KEPT.items():
        query = query.replace(recorded, column)
    return query


def _in(other: str, query: str) -> str:
    return re.sub(r"\b(FROM|JOIN) (?=[a-z])", rf"\1 {other}.", query)


def _is_same(connection: Connection, one: str, another: str) -> bool:
    """Whether two queries have the same rows, in any order. Neither has a row twice."""
    is_there = _is_there(connection, one, another)
    rows, missing = connection.execute(
        f"SELECT count(*), count(*) FILTER (WHERE NOT {is_there}) FROM ({one}) AS one"
    ).fetchone()
    if connection.execute(f"SELECT count(*) FROM ({another})").fetchone() != (rows,):
        return False
    return not missing or connection.execute(_only_in(connection, one, another)).fetchone() is None


def _only_in(connection: Connection, one: str, another: str) -> str:
    """The query of the rows that only the first of two queries has."""
    missing = f"SELECT * FROM ({one}) AS one WHERE NOT {_is_there(connection, one, another)}"
    # Jobs without an id have no key. There are few, and they are compared as they are.
    return f"{missing} EXCEPT SELECT * FROM ({another}) WHERE {_columns(connection, another)[0]} IS NULL"


def _is_there(connection: Connection, one: str, another: str) -> str:
    """The condition of the row `one` of a query that another query has the same. The key, with which each row begins,
    leads to it: SQLite would make a sorted copy of all rows for an EXCEPT."""
    key, *others = _columns(connection, one)
    same = " AND ".join([f"another.{key} = one.{key}", *(f"another.{column} IS one.{column}" for column in others)])
    return f"EXISTS (SELECT 1 FROM ({another}) AS another WHERE {same})"


def _columns(connection: Connection, query: str) -> list[str]:
    return [column[0] for column in connection.execute(f"SELECT * FROM ({query}) LIMIT 0").description]


def fill_ledger(ledger: Ledger) -> None:
    """Fold all journals into a ledger and reconcile it, in one transaction under its home's lock. Moves by hand that
    nobody recorded are journaled, unless the ledger is private. If the disk has no room for the write-ahead log of
    that, rebuild the ledger."""
    try:
        _fill(ledger)
    except LedgerDiskFull:
        if ledger.is_private:
            raise
        ledger.close()
        rebuild_ledger(ledger.layout, ledger.home)


def _fill(ledger: Ledger) -> None:
    with _opens_journal(ledger.home, ledger.layout) as open_journal, ledger.writing() as connection:
        reconcile(connection, ledger.layout, open_journal=None if ledger.is_private else open_journal)


@contextlib.contextmanager
def _opens_journal(home: LedgerHome, layout: Layout) -> Iterator[OpenJournal]:
    """What opens the home's journal when it is first called. The journal is closed at the end."""
    opened: list[Journal] = []

    def open_journal() -> Journal:
        if not opened:
            opened.append(home.open_journal(layout))
        return opened[0]

    try:
        yield open_journal
    finally:
        for journal in opened:
            journal.close()


def open_fresh_in_memory(layout: Layout) -> Connection:
    """A connection to a ledger in memory, made from the journals and the directories."""
    connection: Connection = driver.connect(":memory:", isolation_level=None)
    migrate(connection, ":memory:")
    connection.execute("BEGIN")
    reconcile(connection, layout)
    connection.execute("COMMIT")
    return connection


def find_other_version(home: LedgerHome) -> OtherVersion | None:
    """The error with which this version would refuse the home's ledger as another version's; None if it would not."""
    if not os.path.exists(home.database):
        return None
    try:
        with contextlib.closing(driver.connect(f"file:{quote_path(home.database)}?mode=ro", uri=True)) as connection:
            check_version(connection, home.database)
    except OtherVersion as error:
        return error
    except driver.Error:
        pass  # damaged: a reason to rebuild it
    return None


def rebuild_ledger(layout: Layout, home: LedgerHome, meter: Meter = SILENT) -> None:
    """Replace the home's ledger with a new one made from the journals and the directories.

    The new one is filled under a name of its own, while others use the old one. Killed midway, the old one is still
    there. Killed after the old one was removed and before the new one is in its place, the next program that opens the
    ledger makes it from the journals. Processes that have the old one open notice at their next write. If the disk has
    no room for both, the old one goes first. The new one is filled without a write-ahead log, which would need as much
    room again. Raises LedgerError, OSError.
    """
    try:
        _replace_ledger(layout, home, meter)
    except LedgerDiskFull:
        with home.locked():
            remove_database(home.database)
        _replace_ledger(layout, home, meter)


def _replace_ledger(layout: Layout, home: LedgerHome, meter: Meter) -> None:
    path = temporary_path(home.database)
    fresh = Ledger(layout, home)
    try:
        fresh.open_new(path)
        meter.begin("folding the journals", "bytes", unfolded_bytes(fresh.connection, layout))
        fold_in_pieces(fresh, layout, meter=meter)
        with _opens_journal(home, layout) as open_journal:
            reconcile_in_pieces(fresh, layout, meter=meter, open_journal=open_journal)
        meter.begin("writing the ledger", "ledgers", 1)
        sync_file(path)
        tries = itertools.count(1)
        while not _put_in_place(fresh, home, is_last_try=next(tries) >= _TRIES):
            fold_in_pieces(fresh, layout)
    finally:
        fresh.close()
        remove_database(path)


def _put_in_place(fresh: Ledger, home: LedgerHome, is_last_try: bool) -> bool:
    """Fold what came last and put a new ledger in the place of the old one, while writers wait. Returns False, and
    does nothing, if more came than can be folded in a moment."""
    with home.locked():
        if unfolded_bytes(fresh.connection, fresh.layout) > _LAST_BYTES and not is_last_try:
            return False
        with fresh.writing() as connection:
            fold_journals(connection, fresh.layout)
        with fresh.errors_named():
            fresh.connection.execute("PRAGMA journal_mode = wal")  # a living ledger is always in this mode
        fresh.close()
        sync_file(fresh.path)
        # First the old one's name, then its WAL. A new database beside an old WAL is damaged. So is an old one that others have
        # open with its WAL, once the WAL's name is gone: who opens it next makes another WAL.
        aside = temporary_path(home.database)
        with contextlib.suppress(FileNotFoundError):
            os.rename(home.database, aside)
        remove_database(home.database, sidecars_only=True)
        os.rename(fresh.path, home.database)
        # The caller removes it, without the lock: freeing the blocks of a large file takes long.
        with contextlib.suppress(FileNotFoundError):
            os.rename(aside, fresh.path)
        return True
