"""Ledger homes: where a node keeps its live ledger, which journal it appends to, and the writer's lock.

On a local disk the home is the jar's `ledger/`. Where the jar is on a network disk it is a directory of this node.
JJ_LEDGER_HOME overrides both. A home holds `ledger.db`, `lock` and `writer` (the name of its journal). A crash in here
leaves at most an unused journal name. A home outside its jar also holds `jar`, which says whose it is. It is made again
if it was removed: what it knew is in the journals.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from types import FrameType

from jobjar.access.refusals import explain_at, explain_forbidden
from jobjar.errors import CannotUseJar, LedgerBusy, LedgerUnavailable, SharedLedgerHome, UnsafeLedgerHome
from jobjar.host import node_name
from jobjar.job_file.names import new_id
from jobjar.journal.append import Journal
from jobjar.journal.growth import MarkedJournal
from jobjar.journal.read import journal_key, list_journals
from jobjar.layout import Layout
from jobjar.ledger.jar_id import read_jar_id
from jobjar.liveness import boot_id, mark, node_run
from jobjar.shared_disk.creating import common_mode, create_file, temporary_path, unforeseen
from jobjar.shared_disk.files import open_common_file, replace_file, write_all
from jobjar.shared_disk.locks import try_lock, try_lock_quickly, unlock, wait_for_lock
from jobjar.shared_disk.mounts import is_local
from jobjar.shared_disk.owners import find_untrusted_above
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import UnfitFile, pass_over, read_regular

LOCK_PATIENCE_S = 10.0
SPIN_S = 0.001
HOMES = "/var/tmp"


def split_journal_name(name: str) -> tuple[str, int]:
    """The name of a home's first journal, and the number of this one among the home's journals, counted from 1."""
    found = re.fullmatch(r"(.+\.[0-9a-z]+)(?:-([0-9]+))?", name)
    return (found.group(1), int(found.group(2) or 1)) if found else (name, 1)


def next_journal_name(name: str) -> str:
    """The name of the journal after this one: `x`, `x-2`, `x-3` …"""
    first, number = split_journal_name(name)
    return f"{first}-{number + 1}"


class LedgerHome:
    """The paths of one ledger home. With `has_other_homes`, other nodes have homes of their own, as on a network
    disk; else this is the jar's own directory, which all its processes use."""

    def __init__(self, path: str, has_other_homes: bool) -> None:
        self.path = path
        self.has_other_homes = has_other_homes
        self.database = f"{path}/ledger.db"
        self.lock_file = f"{path}/lock"
        self.jar_file = f"{path}/jar"
        self.polled_file = f"{path}/polled"
        self.looks_file = f"{path}/looks"
        self.newest_mark_file = f"{path}/told"
        self.watch_file = f"{path}/watch"
        self.check_workers_lock = f"{path}/check_workers.lock"
        self.nightly_lock = f"{path}/nightly.lock"
        self.dated_copies = f"{path}/copies"
        self._lock_descriptor = -1
        self._is_locked = False

    @property
    def writer_file(self) -> str:
        """The file that names the journal of this run of the node: `writer`, or another file if `writer` is of
        another run of the same boot. That run is another container that uses this home too. With one file, each
        would name the other's next journal in turn."""
        first = f"{self.path}/writer"
        run = "" if not self.has_other_homes else _read_run(first)
        is_others = bool(run) and run != node_run() and run.partition(".")[0] == boot_id()
        return f"{first}.{zlib.crc32(node_run().encode()):08x}" if is_others else first

    def journal_name(self) -> str:
        """The name of the journal that this home's processes append to. The first that asks chooses it, once."""
        name, ended = self._read_writer()
        if name:
            return name
        name = next_journal_name(ended) if ended else f"{node_name()}.{new_id()[:8]}"
        writer, temporary = self._write_name(name)
        try:
            # link, not rename: if two processes get here at once, the first one's name stands.
            os.link(temporary, writer)
        except FileExistsError:
            return self.journal_name()
        finally:
            os.unlink(temporary)
        return name

    def _read_writer(self) -> tuple[str, str]:
        """The name in the writer file and ''; or '' and the name of this home's last journal, and no such file any
        more.

        A network disk may have some of what this node appended before it crashed, lose some, and get some late, over
        what was appended since. So after each start of the node its processes append to another journal.
        """
        try:
            text = read_regular(self.writer_file).decode(errors="replace")
        except FileNotFoundError:
            return "", ""
        except UnfitFile as error:
            pass_over(self.writer_file, error.strerror)
            self._drop_writer(None)
            return "", ""
        name, _, run = text.strip().partition(" ")
        # A home that was copied with its machine has another node's name in it. Only that node appends to that journal.
        is_own = not self.has_other_homes or name.startswith(f"{node_name()}.")
        is_name = is_own and re.fullmatch(r"[^/\0\s.][^/\0\s]*", name) is not None
        if is_name and (run == node_run() or (not self.has_other_homes and not run)):
            return name, ""
        self._drop_writer(text)
        return "", name if is_name else ""

    def _drop_writer(self, text: str | None) -> None:
        """Remove the writer file if it still has `text` in it (None: unreadable), and those of containers of earlier
        boots."""
        import glob

        for path in glob.glob(f"{glob.escape(self.path)}/writer.????????"):
            if _read_run(path).partition(".")[0] != boot_id():
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(path)
        writer = self.writer_file
        aside = f"{writer}.{mark()}.{unforeseen()}.old"
        with contextlib.suppress(FileNotFoundError):
            os.rename(writer, aside)
            try:
                found = read_regular(aside).decode(errors="replace")
            except UnfitFile:
                found = None
            if found != text:
                with contextlib.suppress(FileExistsError):
                    os.link(aside, writer)
            os.unlink(aside)

    def following_journal(self, layout: Layout, name: str) -> str:
        """A name for this home's journal after `name` that nothing in the jar has."""
        following = next_journal_name(name)
        names = os.listdir(layout.journals)
        taken = {journal_key(path) for path in (*names, *list_journals(layout.journals))}
        while f"{following}.jsonl" in taken:
            following = next_journal_name(following)
        return following

    def name_next_journal(self, name: str) -> None:
        """Make this home's processes append to the journal `name` from now on. The caller holds the lock."""
        writer, temporary = self._write_name(name)
        os.rename(temporary, writer)

    def _write_name(self, name: str) -> tuple[str, str]:
        """Write a writer file under a temporary name; returns its final name and the temporary one."""
        writer = self.writer_file
        temporary = temporary_path(writer)
        descriptor = create_file(temporary, 0o600)
        try:
            os.fchmod(descriptor, common_mode(self.path))
            write_all(descriptor, (name if not self.has_other_homes else f"{name} {node_run()}").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return writer, temporary

    def open_journal(self, layout: Layout) -> Journal:
        """This home's journal, ready to append to. It follows when a rotation names another. Raises CannotUseJar."""

        def find_path() -> str:
            return f"{layout.journals}/{self.journal_name()}.jsonl"

        def find_other(unfit: str) -> str:
            with self.locked():
                if find_path() == unfit:
                    self.name_next_journal(self.following_journal(layout, self.journal_name()))
                return find_path()

        try:
            if not self.has_other_homes:
                return Journal(find_path(), find_path, find_other)
            return MarkedJournal(find_path(), find_path, find_other, self.newest_mark_file)
        except OSError as error:
            raise CannotUseJar(
                action="write to the ledger home", path=self.path, reason=explain_at(error, self.path)
            ) from error

    @contextlib.contextmanager
    def locked(self, patience_s: float = LOCK_PATIENCE_S) -> Iterator[None]:
        """Hold the writer's lock of this home. A nested call does nothing. Raises LedgerBusy after `patience_s` (0:
        at once), LedgerUnavailable."""
        if self._is_locked:
            yield
            return

        try:
            while True:
                descriptor = self._open_lock()
                if not try_lock_quickly(descriptor):
                    if patience_s <= 0:
                        raise LedgerBusy(path=self.path, waited_s=0)
                    if not _try_for(descriptor, SPIN_S):
                        self._wait_for_lock(descriptor, patience_s)
                # A home of this node may be removed under its workers. The next process would lock a new file of that
                # name.
                if not self.has_other_homes or os.fstat(descriptor).st_nlink:
                    break
                os.close(descriptor)
                self._lock_descriptor = -1
        except OSError as error:
            raise LedgerUnavailable(
                path=self.path, reason=f"its lock: {explain_at(error, self.lock_file)}", what_next="look after the disk"
            ) from error
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False
            unlock(descriptor)

    def _open_lock(self) -> int:
        if self._lock_descriptor < 0:
            if self.has_other_homes and not os.path.isdir(self.path):
                _make_own_directory(self.path)
            self._lock_descriptor = open_common_file(self.lock_file, os.O_RDWR)
        return self._lock_descriptor

    def _wait_for_lock(self, descriptor: int, patience_s: float) -> None:
        """Wait in the kernel, which serves waiters in order. An alarm ends the wait: a stopped holder must not stop
        us too."""
        import signal
        import threading

        if threading.current_thread() is not threading.main_thread():
            poll_for_lock(descriptor, self.path, patience_s)
            return

        def give_up(number: int, frame: FrameType | None) -> None:
            raise LedgerBusy(path=self.path, waited_s=patience_s)

        before = signal.signal(signal.SIGALRM, give_up)
        # A process has one such timer. If the program that uses this library had set it, it goes on afterwards.
        started = time.monotonic()
        left_s, interval_s = signal.setitimer(signal.ITIMER_REAL, patience_s)
        try:
            wait_for_lock(descriptor)
        except LedgerBusy:
            unlock(descriptor)  # the alarm may have come just after the lock
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if left_s:
                signal.setitimer(signal.ITIMER_REAL, max(1e-3, left_s - (time.monotonic() - started)), interval_s)


def _read_run(path: str) -> str:
    """The run of the node in which a writer file was written; '' if the file does not say, or is missing."""
    try:
        return read_regular(path).decode(errors="replace").strip().partition(" ")[2]
    except (FileNotFoundError, UnfitFile):
        return ""


def poll_for_lock(descriptor: int, path: str, patience_s: float) -> None:
    """Lock an open file by asking again and again, where no signal can end a wait in the kernel. Raises LedgerBusy."""
    deadline = time.monotonic() + patience_s
    while not try_lock(descriptor):
        if time.monotonic() > deadline:
            raise LedgerBusy(path=path, waited_s=patience_s)
        time.sleep(0.005)


def _try_for(descriptor: int, seconds: float) -> bool:
    """Try again for `seconds`, which is longer than a claim holds the lock. Putting a processor to sleep and waking
    it takes longer than a claim, on a virtual machine several times. Other processes go first."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        os.sched_yield()
        if try_lock_quickly(descriptor):
            return True
    return False


def find_ledger_home(layout: Layout, override: str = "") -> LedgerHome:
    """The ledger home of this node for a jar; it is made if it is missing.

    Raises SharedLedgerHome if the named one may be that of other nodes too, UnsafeLedgerHome if it is not this user's
    and this jar's own, CannotUseJar. Where none is named and this user may not write to the jar, that is CannotUseJar
    too: a reader leaves nothing behind.
    """
    if override and not _is_same(override, layout.ledger):
        return _home_of_node(layout, override)
    if override and not is_local(layout.ledger):
        raise SharedLedgerHome(path=override, why="it is the jar's own ledger/, on a network disk")
    if is_local(layout.ledger):
        return LedgerHome(layout.ledger, has_other_homes=False)
    if not os.access(layout.journals, os.W_OK):
        raise CannotUseJar(action="write to", path=layout.journals, reason=explain_forbidden(layout.journals))
    parent = f"{HOMES}/jobjar-{os.geteuid()}"
    _make_own_directory(parent)
    # The name has the path in it, too: a jar that was copied with all its files, its id among them, is another jar.
    place = zlib.crc32(os.fsencode(os.path.realpath(layout.home)))
    return _home_of_node(layout, f"{parent}/{read_jar_id(layout)}-{place:08x}")


def _is_same(path: str, other: str) -> bool:
    """Whether two paths lead to one directory, also through links and bind mounts."""
    try:
        return patiently(lambda: os.path.samefile(path, other), path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CannotUseJar(action="look at", path=path, reason=explain_at(error, path)) from error


def _home_of_node(layout: Layout, path: str) -> LedgerHome:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        refused = find_untrusted_above(path)
    except OSError as error:
        raise CannotUseJar(action="make the ledger home", path=path, reason=explain_at(error, path)) from error
    if refused is not None:
        raise UnsafeLedgerHome(path=path, reason=refused)
    _make_own_directory(path)
    if not is_local(path):
        raise UnsafeLedgerHome(path=path, reason="it is on a network disk, where the nodes that use it would damage it")
    if os.path.lexists(f"{path}/journals"):
        # Even if it is this jar's: on its server, a network disk's directory looks local, and nothing shows that it is
        # shared.
        raise SharedLedgerHome(path=path, why="it is the ledger/ of a jar")
    home = LedgerHome(path, has_other_homes=True)
    _check_is_of_jar(home, layout)
    return home


def _make_own_directory(path: str) -> None:
    """Make a directory that nobody else can write to. Raises CannotUseJar, and UnsafeLedgerHome if something else is
    there."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
    except OSError as error:
        raise CannotUseJar(action="make the ledger home", path=path, reason=explain_at(error, path)) from error
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeLedgerHome(path=path, reason="it is not a directory")
    if status.st_uid not in (os.geteuid(), 0):
        raise UnsafeLedgerHome(path=path, reason=f"it belongs to user {status.st_uid}")
    if status.st_mode & 0o002:
        raise UnsafeLedgerHome(path=path, reason=f"it is writable by others (mode {status.st_mode & 0o7777:04o})")


def _check_is_of_jar(home: LedgerHome, layout: Layout) -> None:
    """Raise UnsafeLedgerHome if a home is another jar's, because one setting was used for two; else note whose it
    is. Raises CannotUseJar."""
    ours = (read_jar_id(layout), os.path.realpath(layout.home))
    try:
        noted = tuple(os.fsdecode(read_regular(home.jar_file)).splitlines())
    except FileNotFoundError:
        noted = ()
    except OSError as error:
        raise CannotUseJar(action="read", path=home.jar_file, reason=explain_at(error, home.jar_file)) from error
    if noted == ours:
        return
    if len(noted) == 2:
        # The same id elsewhere: the jar was moved, or is mounted in two places, or was copied with its id.
        is_other = noted[0] != ours[0] or (os.path.isdir(noted[1]) and not os.path.samefile(noted[1], ours[1]))
        if is_other:
            raise UnsafeLedgerHome(path=home.path, reason=f"it is that of another jar, {noted[1]}")
    with contextlib.suppress(OSError):  # a full disk: the home's first use reports that
        replace_file(home.jar_file, os.fsencode("\n".join((*ours, ""))))
