"""Make a ledger anew from the journals and the directories: the same answers as the one it replaces.

Also the promise's proof: `dump_ledger` writes a ledger without its row numbers, so that two can be compared.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from jobjar.creating import temporary_path
from jobjar.errors import LedgerDiskFull, OtherVersion
from jobjar.journal import Journal
from jobjar.layout import Layout
from jobjar.ledger.agree import reconcile
from jobjar.ledger.database import remove_database
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.home import LedgerHome
from jobjar.ledger.migrate import check_version, migrate
from jobjar.ledger.removed import MISSED
from jobjar.ledger.store import Ledger, driver

# When a job came to where it is, is recorded only where a journaled move took it there. A ledger keeps when it saw the
# file of any other, which may be earlier or later than another saw it.
_RECORDED = (
    "CASE WHEN place = (SELECT destination FROM move WHERE job_uid = uid "
    "ORDER BY (destination LIKE 'completed/%' OR destination LIKE 'archive/%') DESC, moved_at DESC, number DESC, "
    "destination LIKE 'workers/%' DESC, "
    "destination DESC LIMIT 1)"
)
# Of a job put there by hand a ledger knows when it first saw its file there, which is not the same for all.
_SUBMITTED_AT = (
    "CASE WHEN EXISTS (SELECT 1 FROM move WHERE job_uid = uid AND number = 1 AND reason = 'submitted') "
    "THEN submitted_at END"
)
# What a ledger says, in an order that does not depend on row numbers.
_DUMPS = {
    "job": f"SELECT uid, name, state, place, category, priority, submitter, {_SUBMITTED_AT}, retries, retry_delay_s, "
    f"time_limit_s, not_before, held_reason, {_RECORDED} THEN moved_at END, {_RECORDED} THEN move_number END, kind, batch, seed "
    "FROM job "
    "WHERE state <> 'removed' ORDER BY uid, place",
    "removed job": f"SELECT uid, name, priority, submitter, {_SUBMITTED_AT}, move_number FROM job "
    "WHERE state = 'removed' AND EXISTS (SELECT 1 FROM move WHERE job_uid = uid) ORDER BY uid",
    "move": "SELECT job_uid, number, moved_at, origin, destination, reason, actor FROM move "
    "ORDER BY job_uid, number, moved_at, destination",
    "attempt": "SELECT job_uid, number, worker, worker_uid, started_at, pid, pid_started, ended_at, outcome, is_final, "
    "exit_status, signal, wall_time_s, user_cpu_s, system_cpu_s, max_rss_kib, output_file, message FROM attempt "
    "ORDER BY job_uid, number, worker_uid",
    "monitored_variable": "SELECT job_uid, attempt, worker_uid, name, value, number, told_at FROM monitored_variable "
    "ORDER BY job_uid, attempt, worker_uid, name",
    "stored_file": "SELECT job_uid, attempt, worker_uid, source_name, storage_name, storage_hfn, storage_url, "
    "storage_size, storage_md5 FROM stored_file ORDER BY job_uid, attempt, worker_uid, source_name",
    "worker": "SELECT uid, name, node, pid, boot_id, process_started, user, categories, version, started_at, ended_at, "
    "end_reason FROM worker ORDER BY uid",
    "phase": "SELECT job_uid, attempt, worker_uid, name, began_at, ended_at, exit_status, message FROM phase "
    "ORDER BY job_uid, attempt, worker_uid, name",
    "warning": "SELECT job_uid, attempt, worker_uid, number, text FROM warning "
    "ORDER BY job_uid, attempt, worker_uid, number",
    "batch": "SELECT name, submitter, submitted_at, description, changed_at, is_aborted, jobs, notes, restarted_until "
    "FROM batch ORDER BY name",
    "file_mark": f"SELECT mark, job_uid FROM file_mark WHERE mark <> '{MISSED}' ORDER BY mark, job_uid",
    "throttle": "SELECT batch, told_at, until, failures FROM throttle ORDER BY batch",
}


def dump_ledger(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of each table, without row numbers, in a fixed order."""
    return {table: connection.execute(query).fetchall() for table, query in _DUMPS.items()}


def fill_ledger(ledger: Ledger) -> None:
    """Fold all journals into a ledger and reconcile it, in one transaction under its home's lock. What hands did, and nobody told
    of, is journaled, unless the ledger is a private one."""
    opened: list[Journal] = []

    def open_journal() -> Journal:
        opened.append(ledger.home.open_journal(ledger.layout))
        return opened[0]

    try:
        with ledger.writing() as connection:
            reconcile(connection, ledger.layout, open_journal=None if ledger.is_private else open_journal)
    finally:
        for journal in opened:
            journal.close()


def open_private_copy(layout: Layout) -> Any:
    """A connection to a ledger in memory, made from the journals and the directories."""
    connection = driver.connect(":memory:", isolation_level=None)
    migrate(connection, ":memory:")
    connection.execute("BEGIN")
    reconcile(connection, layout)
    connection.execute("COMMIT")
    return connection


def find_other_version(home: LedgerHome) -> OtherVersion | None:
    """What another version has to do with the home's ledger: this one would refuse it."""
    if not os.path.exists(home.database):
        return None
    quoted = home.database.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        with contextlib.closing(driver.connect(f"file:{quoted}?mode=ro", uri=True)) as connection:
            check_version(connection, home.database)
    except OtherVersion as error:
        return error
    except driver.Error:
        pass  # damaged: that is why it is rebuilt
    return None


def rebuild_ledger(layout: Layout, home: LedgerHome) -> None:
    """Replace the home's ledger with a new one made from the journals and the directories.

    The new one is filled under a name of its own. Killed midway, the old one is still there; killed between taking the
    old one away and putting the new one there, the next program to open the ledger makes it from the journals.
    Processes that have the old one open notice at their next write. Where the disk has no room for both, the old one goes
    first. Raises LedgerBusy, LedgerUnavailable.
    """
    try:
        _replace_ledger(layout, home)
    except LedgerDiskFull:
        with home.locked():
            remove_database(home.database)
        _replace_ledger(layout, home)


def _replace_ledger(layout: Layout, home: LedgerHome) -> None:
    fresh_home = LedgerHome(home.path, home.shared)
    fresh_home.database = temporary_path(home.database)
    fresh_home.lock_file = f"{fresh_home.database}.lock"
    fresh = Ledger(layout, fresh_home)
    fresh.starts_from_snapshot = False
    try:
        # Most of the work is done beside the living ledger, the last stretch with its writers waiting.
        with fresh.writing() as connection:
            fold_journals(connection, layout)
        with home.locked():
            fill_ledger(fresh)
            fresh.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            fresh.close()
            # The WAL goes first: a database without its WAL is only older, a new database beside an old WAL is damaged.
            remove_database(home.database, sidecars_only=True)
            os.rename(fresh_home.database, home.database)
    finally:
        fresh.close()
        remove_database(fresh_home.database)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh_home.lock_file)
