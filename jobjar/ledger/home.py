"""Ledger homes: where a node keeps its live ledger, which journal it appends to, and the one writer's lock.

On a local disk the home is the jar's `ledger/`; where the jar is on a network disk it is a directory of this node.
JJ_LEDGER_HOME overrides both. A home holds `ledger.db`, `lock` and `writer` (the name of its journal). A crash in here
leaves at most an unused journal name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from types import FrameType

from jobjar.disk import is_local, open_common_file, write_all
from jobjar.errors import CannotUseJar, LedgerBusy, LedgerUnavailable, UnsafeLedgerHome
from jobjar.jobname import new_id, node_name
from jobjar.journal import Journal
from jobjar.layout import Layout

LOCK_PATIENCE_S = 10.0
SPIN_S = 0.001


class LedgerHome:
    """The paths of one ledger home. `shared` is true where it is the jar's own directory."""

    def __init__(self, path: str, shared: bool) -> None:
        self.path = path
        self.shared = shared
        self.database = f"{path}/ledger.db"
        self.lock_file = f"{path}/lock"
        self.writer_file = f"{path}/writer"
        self.polled_file = f"{path}/polled"
        self.check_workers_lock = f"{path}/check_workers.lock"
        self.nightly_lock = f"{path}/nightly.lock"
        self.copies = f"{path}/copies"
        self._lock_descriptor = -1
        self._is_locked = False

    def journal_name(self) -> str:
        """The name of the journal that this home's processes append to; chosen once, by the first who asks."""
        try:
            with open(self.writer_file, encoding="utf-8") as file:
                name = file.read().strip()
            if name:
                return name
        except FileNotFoundError:
            pass
        name = f"{node_name()}.{new_id()[:8]}"
        temporary = self._write_name(name)
        try:
            # link, not rename: of two processes that get here at once the first one's name stands.
            os.link(temporary, self.writer_file)
        except FileExistsError:
            return self.journal_name()
        finally:
            os.unlink(temporary)
        return name

    def name_next_journal(self, name: str) -> None:
        """Have this home's processes append to the journal `name` from now on. Under the lock."""
        os.rename(self._write_name(name), self.writer_file)

    def _write_name(self, name: str) -> str:
        temporary = f"{self.writer_file}.{os.getpid()}.new"
        descriptor = open_common_file(temporary, os.O_WRONLY | os.O_TRUNC)
        try:
            write_all(descriptor, name.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return temporary

    def open_journal(self, layout: Layout) -> Journal:
        """This home's journal, ready to append to; it follows when a rotation names another."""

        def find_path() -> str:
            return f"{layout.journals}/{self.journal_name()}.jsonl"

        try:
            return Journal(find_path(), find_path)
        except OSError as error:
            raise CannotUseJar(action="write to the ledger home", path=self.path, reason=error.strerror) from error

    @contextlib.contextmanager
    def locked(self, patience_s: float = LOCK_PATIENCE_S) -> Iterator[None]:
        """Hold the writer's lock of this home; inside itself it does nothing. Raises LedgerBusy after `patience_s` (0: at
        once), LedgerUnavailable."""
        if self._is_locked:
            yield
            return

        try:
            if self._lock_descriptor < 0:
                self._lock_descriptor = open_common_file(self.lock_file, os.O_RDWR)
            descriptor = self._lock_descriptor
            try:
                # What portalocker does too, without the tenth of a millisecond that it takes when nobody is in the way.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if patience_s <= 0:
                    raise LedgerBusy(path=self.path, waited_s=0) from None
                if not _try_for(descriptor, SPIN_S):
                    self._wait_for_lock(descriptor, patience_s)
        except OSError as error:
            raise LedgerUnavailable(path=self.path, reason=f"its lock: {error.strerror}") from error
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _wait_for_lock(self, descriptor: int, patience_s: float) -> None:
        """Wait in the kernel, where waiters are served in order; a holder that was stopped must not stop us too."""
        import portalocker

        if threading.current_thread() is not threading.main_thread():
            poll_for_lock(descriptor, self.path, patience_s)
            return

        def give_up(number: int, frame: FrameType | None) -> None:
            raise LedgerBusy(path=self.path, waited_s=patience_s)

        before = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, patience_s)
        try:
            portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE)
        except LedgerBusy:
            portalocker.unlock(descriptor)  # the alarm may have come just after the lock
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def poll_for_lock(descriptor: int, path: str, patience_s: float) -> None:
    """Lock an open file, asking again and again: where no signal can end a wait in the kernel. Raises LedgerBusy."""
    import portalocker

    deadline = time.monotonic() + patience_s
    while True:
        try:
            portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
            return
        except (portalocker.LockException, BlockingIOError):
            if time.monotonic() > deadline:
                raise LedgerBusy(path=path, waited_s=patience_s) from None
            time.sleep(0.005)


def _try_for(descriptor: int, seconds: float) -> bool:
    """Try again for as long as a claim holds the lock: putting a processor to sleep and waking it takes longer than that,
    on a virtual machine several times. Other processes go first."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        os.sched_yield()
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def find_ledger_home(layout: Layout, override: str = "") -> LedgerHome:
    """The ledger home of this node for a jar, made where it is missing.

    Raises UnsafeLedgerHome where somebody else could write to it, CannotUseJar.
    """
    if override:
        if os.path.realpath(override) == os.path.realpath(layout.ledger):
            return LedgerHome(layout.ledger, shared=True)
        return _private_home(override)
    if is_local(layout.ledger):
        return LedgerHome(layout.ledger, shared=True)
    return _private_home(f"/var/tmp/jobjar-{os.geteuid()}/{read_jar_id(layout)}")


def _private_home(path: str) -> LedgerHome:
    parent = os.path.dirname(path)
    try:
        if not os.path.isdir(parent):
            os.makedirs(parent, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
    except OSError as error:
        raise CannotUseJar(action="make the ledger home", path=path, reason=error.strerror) from error
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeLedgerHome(path=path, reason="it is not a directory")
    if status.st_uid not in (os.geteuid(), 0):
        raise UnsafeLedgerHome(path=path, reason=f"it belongs to user {status.st_uid}")
    if status.st_mode & 0o002:
        raise UnsafeLedgerHome(path=path, reason=f"it is writable by others (mode {status.st_mode & 0o7777:04o})")
    return LedgerHome(path, shared=False)


def read_jar_id(layout: Layout) -> str:
    """What tells this jar from every other, however it is mounted."""
    try:
        with open(layout.jar_id_file, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise CannotUseJar(action="read", path=layout.jar_id_file, reason=error.strerror) from error
