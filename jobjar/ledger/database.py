"""A SQLite file as such: the driver, what its errors mean, whether a file is sound, copies of a file.

Reads the file that it is given. Writes only copies, to the paths that callers give. A crash leaves a part of a copy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from typing import Any

import peewee

from jobjar.errors import JarError, LedgerCorrupt, LedgerDiskFull, LedgerUnavailable
from jobjar.ledger.driver import quote_path as quote_path
from jobjar.ledger.migrate import check_schema, check_version
from jobjar.shared_disk.creating import open_shared
from jobjar.shared_disk.files import free_bytes
from jobjar.shared_disk.regular import open_regular

driver: Any = vars(peewee)["sqlite3"]  # the newer of pysqlite3 and Python's own
# Primary result codes of SQLite (sqlite3.h).
_ERROR, _READ_ONLY, _CORRUPT, _FULL, _CANNOT_OPEN, _NOT_A_DATABASE = 1, 8, 11, 13, 14, 26
_INPUT_OUTPUT, _NO_ROOM_FOR_SHM = 10, 10 | 19 << 8
# The index of a write-ahead log is made with this size. Without that room SQLite may report an input/output error.
_SHM_BYTES = 32 << 10
# The errors of a file that cannot be read as a database. Some of SQLite's messages do not decode.
UNREADABLE = (driver.Error, peewee.PeeweeException, UnicodeDecodeError)
_MAGIC = b"SQLite format 3\0"
# One row from the end of each large table, and all rows of the small ones: a copy that stopped midway lacks these.
_SAMPLES = (
    "SELECT count(*) FROM sqlite_master",
    "SELECT count(*) FROM journal_position",
    "SELECT * FROM job ORDER BY id DESC LIMIT 1",
    "SELECT * FROM move ORDER BY job_uid DESC LIMIT 1",
    "SELECT * FROM attempt ORDER BY job_uid DESC LIMIT 1",
)
# More than a ledger keeps on a small disk (store.py).
_LARGE_WAL_BYTES = 1 << 18
_TRIES = 5
_STEP_PAGES = 4096


def name_error(error: Exception, path: str) -> JarError:
    """The error of ours that says what an error of SQLite or peewee means."""
    cause = (error.__cause__ or error.__context__ or error) if isinstance(error, peewee.PeeweeException) else error
    code = getattr(cause, "sqlite_errorcode", None)
    reason = str(error)
    if isinstance(cause, UnicodeDecodeError) or _is_damaged(code, reason, path):
        return LedgerCorrupt(path=path, reason=reason)
    has_no_room = code == _INPUT_OUTPUT and _has_no_room(path)
    if has_no_room:
        reason += " (the disk is full)"
    if has_no_room or is_full(cause):
        if most_is_wal(path):
            # Writing it back needs room for the pages that it adds.
            reason += f", {format_wal(path)}; `recover_jobs` gives that back"
        return LedgerDiskFull(path=path, reason=reason)
    return LedgerUnavailable(path=path, reason=reason)


def _is_damaged(code: int | None, reason: str, path: str) -> bool:
    """Whether an error of SQLite says that a file is not as it was written."""
    if any(words in reason for words in ("malformed", "not a database", "no such table", "decode")):
        return True
    if code is None:
        return False
    primary = code & 0xFF
    if primary == _ERROR:
        # Our queries are fixed and tested, so the tables must be wrong. But an error may also have ended a transaction.
        return "transaction" not in reason
    if code == _READ_ONLY:
        return os.access(path, os.W_OK)  # then the header of the file says so
    if primary == _CANNOT_OPEN:
        return any(map(_is_no_file, (path, f"{path}-wal", f"{path}-shm")))
    return primary in (_CORRUPT, _NOT_A_DATABASE)


def most_is_wal(path: str) -> bool:
    """Whether a ledger's write-ahead log is large, and larger than the ledger."""
    try:
        return os.stat(f"{path}-wal").st_size > max(_LARGE_WAL_BYTES, os.stat(path).st_size)
    except OSError:
        return False


def format_wal(path: str) -> str:
    """How much of a full disk a ledger's write-ahead log takes."""
    return f"of which the ledger's write-ahead log takes {os.stat(f'{path}-wal').st_size / 1e6:.1f} MB"


def _has_no_room(path: str) -> bool:
    """Whether a ledger's disk has no room for the index of its write-ahead log."""
    try:
        return free_bytes(os.path.dirname(path)) < _SHM_BYTES
    except OSError:
        return False


def _is_no_file(path: str) -> bool:
    """Whether something other than a file is at a path."""
    try:
        return not stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_full(error: BaseException) -> bool:
    """Whether an error of SQLite says that the disk has no room."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF == _FULL or code == _NO_ROOM_FOR_SHM)


def check_database(path: str) -> None:
    """Run SQLite's quick_check and compare the schema's version. Raises LedgerCorrupt, NewerLedger, LedgerUnavailable."""
    _look_into(path, ("PRAGMA quick_check(1)",))


def probe_database(path: str) -> None:
    """Check in a moment, at any size, that a copy is whole: its size against the header's, the schema's version, a
    few rows. Raises as `check_database`, and OSError."""
    check_size(path)
    _look_into(path, _SAMPLES)


def check_size(path: str) -> None:
    """Compare a file's size with what its header says. Raises LedgerCorrupt, OSError."""
    with open(path, "rb", opener=open_regular) as file:
        header = file.read(100)
        size = os.fstat(file.fileno()).st_size
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise LedgerCorrupt(path=path, reason="it is not a database")
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    # The header's number of pages holds if these two counters agree (SQLite's file format, 1.3.7).
    if header[24:28] == header[92:96] and pages * (65536 if page_size == 1 else page_size) != size:
        raise LedgerCorrupt(path=path, reason=f"it has {size} bytes instead of {pages * page_size}: half a copy")


def _look_into(path: str, questions: tuple[str, ...]) -> None:
    connection = None
    try:
        connection = driver.connect(f"file:{quote_path(path)}?mode=ro", uri=True)
        for question in questions:
            answer = connection.execute(question).fetchone()
            if "quick_check" in question and answer[0] != "ok":
                raise LedgerCorrupt(path=path, reason=answer[0])
        check_version(connection, path)
        check_schema(connection, path)
    except (driver.Error, UnicodeDecodeError) as error:
        raise name_error(error, path) from error
    finally:
        if connection is not None:
            connection.close()


def copy_snapshot(path: str, target: str, thorough: bool = False) -> None:
    """Copy a snapshot, which nobody changes, and check that the copy is whole; with `thorough`, check every page.

    Raises LedgerCorrupt, NewerLedger, LedgerUnavailable, OSError. Then there is nothing at `target`.
    """
    try:
        check_size(path)
        os.close(open_shared(target, os.O_RDWR))
        shutil.copyfile(path, target)  # in the kernel, if it can
        probe_database(target)
        if thorough:
            check_database(target)
    except LedgerUnavailable as error:
        remove_database(target)
        raise type(error)(**{**error.fields, "path": path}) from error  # nobody knows the copy
    except BaseException:
        remove_database(target)
        raise
    remove_database(target, sidecars_only=True)


def copy_live(path: str, target: str) -> None:
    """Copy a ledger that others may be writing to. This needs read permission alone, and touches no file beside it.

    Raises as `copy_snapshot`.
    """
    try:
        for tries_left in reversed(range(_TRIES)):
            before = _state(path)
            options = "&readonly_shm=1"
            if not _has_content(f"{path}-wal") and not os.path.exists(f"{path}-shm"):
                # Nobody has it open, all of it is in the one file, and a reader's SQLite could not make the other
                # files.
                options += "&immutable=1"
            try:
                back_up(path, target, options)
            except (driver.Error, UnicodeDecodeError) as error:
                if not tries_left:
                    raise name_error(error, path) from error
                remove_database(target)
                continue
            if "immutable" not in options or (_state(path) == before and not _has_content(f"{path}-wal")):
                break
            if not tries_left:
                raise LedgerUnavailable(path=path, reason="it changed while it was read")
        probe_database(target)
    except BaseException:
        remove_database(target)
        raise


def back_up(path: str, target: str, options: str = "", between_pieces: Callable[[], None] = lambda: None) -> None:
    """Copy a ledger that others may be writing to, as it is now, with SQLite's backup interface. It works in steps, and
    calls `between_pieces` between them. `options` are added to the source's URI.

    The copy is not in WAL mode, so any program can open it with read permission alone. It is not synced. Raises
    SQLite's errors.
    """
    os.close(open_shared(target, os.O_RDWR))
    with (
        contextlib.closing(
            driver.connect(f"file:{quote_path(path)}?mode=ro{options}", uri=True, isolation_level=None)
        ) as source,
        contextlib.closing(driver.connect(target)) as copy,
    ):
        # Held through all steps: else the backup would begin again at each write of another process.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        # SQLite would sync at its end, in one piece. The caller syncs the copy if it is kept.
        copy.execute("PRAGMA synchronous = off")
        source.backup(copy, pages=_STEP_PAGES, progress=lambda *_: between_pieces())
        copy.execute("PRAGMA journal_mode = delete")


def _state(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _has_content(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False


def remove_database(path: str, sidecars_only: bool = False) -> None:
    """Remove a database file that nobody uses, and the files that SQLite made beside it."""
    for suffix in ("-wal", "-shm", "-journal") if sidecars_only else ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            os.unlink(path + suffix)
