"""This node's ledger home: its lock, its SQLite and its ledger; also the snapshot and the journals.

Mostly reads. Tries the lock on a file of its own in the home, and removes the file. Opens the ledger as any reader does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator

import peewee

from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding
from jobjar.errors import JarError, LedgerCorrupt
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.journal.read import read_journal
from jobjar.ledger.database import driver, name_error
from jobjar.ledger.driver import Connection, quote_path
from jobjar.ledger.fold import journal_paths
from jobjar.ledger.home import LedgerHome
from jobjar.ledger.migrate import check_version
from jobjar.ledger.snapshot import MAX_AGE_S
from jobjar.settings.layers import home_of_library
from jobjar.shared_disk.locks import try_lock, unlock
from jobjar.shared_disk.mounts import is_local
from jobjar.units import format_seconds

GROUP = "ledger"
# Since these versions, a write and a checkpoint at the same instant cannot damage a WAL database.
SOUND_SQLITE = (3, 51, 3)
SOUND_ON_THEIR_LINES: dict[tuple[int, ...], int] = {(3, 50): 7, (3, 44): 6}
MOST_TIME_S = 10.0
_STEPS_BETWEEN_LOOKS = 100_000
_RESTS_ON_JOURNALS = "jobs and journals are safe"


def look_at_ledger(jar: Jar) -> Iterator[Finding]:
    yield judge_sqlite(driver.sqlite_version_info, driver.__name__.partition(".")[0])
    try:
        home = jar.ledger_home
    except JarError as error:
        meaning = "workers of this node cannot start"
        yield Finding(GROUP, "ledger home", DANGER, str(error), meaning, "or set JJ_LEDGER_HOME to a local directory")
        return
    yield look_at_home(jar, home)
    if os.access(home.path, os.W_OK):
        yield look_at_lock(home)
    yield look_at_database(home)
    if home.has_other_homes:
        yield look_at_snapshot(jar)
    yield look_at_journals(jar)


def judge_sqlite(version: tuple[int, ...], name: str) -> Finding:
    measured = f"{'.'.join(map(str, version))} ({name})"
    fixed = SOUND_ON_THEIR_LINES.get(tuple(version[:2]))
    if version >= SOUND_SQLITE or (fixed is not None and version[2] >= fixed):
        return Finding(GROUP, "SQLite", FINE, measured)
    meaning = (
        "older than 3.51.3 (3.50.7, 3.44.6): a write and a checkpoint at the same instant can damage a ledger. Job Jar's "
        "lock keeps its own programs from that; a backup program or a sqlite3 shell that writes is not kept from it"
    )
    carrier = home_of_library()
    where = "--upgrade" if carrier is None else f"--target {carrier}/python"
    return Finding(GROUP, "SQLite", WARNING, measured, meaning, f"pip install {where} pysqlite3")


def look_at_home(jar: Jar, home: LedgerHome) -> Finding:
    """The place of the ledger home, and whether it is suitable."""
    check = "ledger home"
    status = os.stat(home.path)
    local = is_local(home.path)
    whose = "the jar's own" if not home.has_other_homes else "this node's own"
    measured = f"{home.path} ({'local' if local else 'network disk'}, {whose}, mode {stat.S_IMODE(status.st_mode):04o})"
    if not local:
        meaning = (
            "SQLite's WAL is not the same for two nodes: with a second node, rows are lost and the ledger is damaged"
        )
        return Finding(GROUP, check, DANGER, measured, meaning, "unset JJ_LEDGER_HOME, or name a local directory")
    if status.st_mode & 0o002:
        return Finding(GROUP, check, DANGER, measured, "others can write to it", f"chmod o-w {home.path}")
    if not os.access(home.path, os.R_OK | os.W_OK | os.X_OK):
        meaning = "this user's workers cannot use it"
        return Finding(GROUP, check, DANGER, measured, meaning, "run as its owner, or name another in JJ_LEDGER_HOME")
    if not home.has_other_homes and not is_local(jar.layout.home):
        meaning = "the jar is on a network disk, but its ledger/ is not: other nodes may not see what this one journals"
        return Finding(GROUP, check, WARNING, measured, meaning, "have ledger/ on the disk of the jar")
    return Finding(GROUP, check, FINE, measured)


def look_at_lock(home: LedgerHome) -> Finding:
    """Whether a lock that one process holds is refused to another process, and granted once it is free."""
    path = f"{home.path}/doctor.{os.getpid()}.{new_id()}"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if not try_lock(descriptor):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
        refused = not _other_process_gets_lock(path)
        unlock(descriptor)
        granted = _other_process_gets_lock(path)
    except OSError as error:
        meaning = "workers of this node fall back to ledgers of their own in memory"
        reason = error.strerror or str(error)
        return Finding(GROUP, "lock", DANGER, reason, meaning, "set JJ_LEDGER_HOME to a local directory")
    finally:
        os.close(descriptor)
        os.unlink(path)
    if refused and granted:
        return Finding(GROUP, "lock", FINE, "excludes a second process, and is free afterwards")
    measured = "granted to two processes at once" if not refused else "refused although nobody holds it"
    meaning = "two processes of this node would write the ledger at once"
    return Finding(GROUP, "lock", DANGER, measured, meaning, "set JJ_LEDGER_HOME to a local directory")


def _other_process_gets_lock(path: str) -> bool:
    """Try the lock in a child process. Raises OSError if that cannot be tried."""
    pid = os.fork()
    if pid == 0:
        status = 2
        with contextlib.suppress(BaseException):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            status = 0 if try_lock(descriptor) else 1
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, 1):
        raise OSError(f"the lock could not be tried in another process (status {status})")
    return status == 0


def look_at_database(home: LedgerHome) -> Finding:
    """The ledger's journal mode, schema version and soundness."""
    check = "ledger"
    if not os.path.exists(home.database):
        return Finding(GROUP, check, NOTE, "there is none yet", "the first program that needs one makes it", "nothing")
    writable = os.access(home.database, os.W_OK) and os.access(home.path, os.W_OK)
    connection: Connection | None = None
    try:
        connection = driver.connect(f"file:{quote_path(home.database)}?mode={'rw' if writable else 'ro'}", uri=True)
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        check_version(connection, home.database)
        answer, seconds = _quick_check(connection)
    except (driver.Error, peewee.PeeweeException) as error:
        return _unusable(name_error(error, home.database))
    except JarError as error:
        return _unusable(error)
    finally:
        if connection is not None:
            # The last connection to close writes the WAL back. That is a write, so it needs the lock.
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(JarError):
                    stack.enter_context(home.locked())
                connection.close()
    size = os.stat(home.database).st_size
    measured = f"journal mode {mode}, {size / 1e6:.1f} MB, quick_check {answer or 'unfinished'} after {seconds:.1f} s"
    if answer not in ("ok", None):
        return _unusable(LedgerCorrupt(path=home.database, reason=answer))
    if mode != "wal":
        meaning = f"workers refuse it and keep one in memory each; {_RESTS_ON_JOURNALS}"
        return Finding(GROUP, check, WARNING, measured, meaning, "jobjar rebuild")
    if answer is None:
        return Finding(
            GROUP, check, NOTE, measured, "it is too big to be checked in a moment", "the nightly job does it"
        )
    return Finding(GROUP, check, FINE, measured)


def _unusable(error: JarError) -> Finding:
    return Finding(GROUP, "ledger", WARNING, "cannot be used", str(error), "and look after the disk that it is on")


def _quick_check(connection: Connection) -> tuple[str | None, float]:
    """The answer of SQLite's quick_check (None if it takes too long), and the seconds it took."""
    start = time.monotonic()
    connection.set_progress_handler(lambda: time.monotonic() - start > MOST_TIME_S, _STEPS_BETWEEN_LOOKS)
    try:
        answer: str | None = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except driver.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        answer = None
    finally:
        connection.set_progress_handler(None, 0)
    return answer, time.monotonic() - start


def look_at_snapshot(jar: Jar) -> Finding:
    """The age of the snapshot from which new nodes start."""
    try:
        age_s = time.time() - os.stat(jar.layout.snapshot).st_mtime
    except FileNotFoundError:
        meaning = "a new node reads all journals from their beginning"
        return Finding(GROUP, "snapshot", NOTE, "there is none yet", meaning, "a running worker publishes one")
    measured = f"{format_seconds(age_s)} old"
    if age_s > 12 * MAX_AGE_S:
        meaning = (
            "new nodes, and people who only read, start from what was then (nothing to mind where nothing happened)"
        )
        return Finding(GROUP, "snapshot", NOTE, measured, meaning, "a running worker publishes one")
    return Finding(GROUP, "snapshot", FINE, measured)


def look_at_journals(jar: Jar) -> Finding:
    """The journals, and how many of their lines a crash or a full disk cut short."""
    deadline = time.monotonic() + MOST_TIME_S
    torn, lines, paths, unread = 0, 0, journal_paths(jar.layout), 0
    for path in paths:
        if time.monotonic() > deadline:
            unread += 1
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for line in read_journal(descriptor, 0):
                lines += 1
                torn += line.entry is None
                if lines % 10_000 == 0 and time.monotonic() > deadline:
                    unread += 1
                    break
        finally:
            os.close(descriptor)
    measured = f"{len(paths)} with {lines:,} lines, {torn} torn"
    if unread:
        measured += f"; {unread} not read to their end"
    if torn:
        meaning = "a crash or a full disk cut them short; they are passed over"
        return Finding(GROUP, "journals", NOTE, measured, meaning, "`jobjar check` names them")
    return Finding(GROUP, "journals", FINE, measured)
