"""One jar as a program sees it: its settings, its paths, its journal and its ledger; and whether it may be used.

Programs and the library open one; stages get what they need from it. Opening reads; it writes nothing.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from jobjar.access.access import describe_user
from jobjar.access.refusals import explain_forbidden
from jobjar.errors import CannotUseJar, ForbiddenJar, NotAJar, NotUtf8, OtherDisk, RootForGroup, UnsafeJar, UnsafeLink
from jobjar.layout import Layout
from jobjar.settings.layers import Settings, Value, load_settings
from jobjar.shared_disk.files import is_directory, make_directory, may_write_to
from jobjar.shared_disk.patience import FLICKER_S, patience, patiently
from jobjar.shared_disk.umask import take_umask

if TYPE_CHECKING:
    from jobjar.journal.append import Journal
    from jobjar.ledger.home import LedgerHome
    from jobjar.ledger.mirror import Mirror
    from jobjar.ledger.store import Ledger


# So much of the time of who submits one job after the other goes into the ledger.
_MIRROR_SHARE = 0.05


class Jar:
    """A jar that exists. Its journal and its ledger are opened when they are first asked for."""

    def __init__(self, settings: Settings) -> None:
        check_names_are_utf8()
        self.settings = settings
        patience.limit_s = settings.disk_patience_s
        self.layout = Layout(settings.home, settings.worker_home)
        self._ledger_home: LedgerHome | None = None
        self._journal: Journal | None = None
        self._ledger: Ledger | None = None
        self._mirror: Mirror | None = None
        self._mirrored_at = time.monotonic()
        self._mirror_took_s = 0.0
        self._mirrors_at_exit = False
        self._mode = _check_is_jar(self.layout)
        # Of the program that opened it: where it lies names settings (settings/layers.py).
        self.program_path: str | None = None
        self.is_for_group = bool(self._mode & 0o020)
        self.root_is_meant = False  # a person said that root is to run jobs of others
        self.log: Callable[[str], None] = lambda line: None  # what a person should know of how the ledger was made

    @property
    def ledger_home(self) -> LedgerHome:
        """This node's ledger home. Raises CannotUseJar, UnsafeLedgerHome."""
        if self._ledger_home is None:
            from jobjar.ledger.home import find_ledger_home

            self._ledger_home = find_ledger_home(self.layout, self.settings.ledger_home)
        return self._ledger_home

    @property
    def journal(self) -> Journal:
        """The journal of this node's ledger home, to append to."""
        if self._journal is None:
            self._journal = self.ledger_home.open_journal(self.layout)
        return self._journal

    def open_journal(self) -> Journal | None:
        """`journal`, for who appends to it only if there is something to tell; None while the ledger is a private one, whose
        other readers may not even write."""
        return None if self.ledger.is_private else self.journal

    @property
    def ledger(self) -> Ledger:
        """This node's ledger; opened by its first use."""
        if self._ledger is None:
            from jobjar.ledger.store import Ledger

            self._ledger = Ledger(self.layout, self.ledger_home, self.log)
        return self._ledger

    def replace_ledger(self, ledger: Ledger) -> None:
        """Use another ledger from now on: a private one while the home's cannot be used, or the home's again."""
        self.close_ledger()
        self._ledger = ledger

    def use_private_ledger(self, from_live: bool = False, from_copy: bool = True) -> Ledger:
        """Use a private ledger from now on, with what the jar's own ledger (`from_live`) or the snapshot knows, or, without
        `from_copy`, an empty one; returns it."""
        from jobjar.ledger.private import open_private_ledger

        private = open_private_ledger(self.layout, self.log, from_live, from_copy)
        self.replace_ledger(private)
        return private

    def mirror(self, after_s: float = 0.0, with_others: bool = False) -> None:
        """Have this node's ledger follow what was journaled here, if that can be done at once and was not done for `after_s`; and
        with `with_others` what other nodes journaled, if that was not done for JJ_POLL_TIME. Called by whoever moved jobs, before
        it goes on to wait or ends. Raises nothing."""
        now, ledger = time.monotonic(), self._ledger
        if self._journal is None or (ledger is not None and ledger.is_private) or now < self._mirrored_at + after_s:
            return
        if self._mirror is None:
            from jobjar.ledger.mirror import Mirror

            self._mirror = Mirror(self.layout, self.ledger_home)
        is_open = ledger is not None and ledger.is_open
        others_after_s = self.settings.poll_time_s if with_others else None
        self._mirror.follow(self._journal, ledger if is_open else None, others_after_s)
        self._mirrored_at = time.monotonic()
        self._mirror_took_s = self._mirrored_at - now

    def mirror_in_passing(self) -> None:
        """`mirror`, for a caller who may come again at once: it takes a twentieth of the time. What is left over is done with the
        next call, when the jar is closed, or when this process ends."""
        if time.monotonic() >= self._mirrored_at + self._mirror_took_s / _MIRROR_SHARE:
            self.mirror()
        elif not self._mirrors_at_exit:
            import atexit

            self._mirrors_at_exit = True
            atexit.register(self.mirror)

    def close_ledger(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def close(self) -> None:
        """Give back what is open, once the ledger has followed what was journaled. The jar can be used again afterwards."""
        self.mirror()
        self.close_ledger()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    @property
    def umask(self) -> int:
        """The umask of workers, and of all that programs make in this jar."""
        if self.settings.umask is not None:
            return self.settings.umask
        # Who may read the jar may read what is made in it.
        return ~self._mode & 0o077 | 0o002

    def take_umask(self) -> None:
        """Have this process make files as the jar wants them. Jobs, and results that leave the jar, have the umask that the
        process had before, unless JJ_UMASK is set."""
        take_umask(self.umask, self.settings.umask)

    def check_is_safe(self, categories: Iterable[str] | None = None) -> None:
        """Raise UnsafeJar where others could put jobs into this jar: a worker would run them. `categories`: those to look at,
        where they are known; else all."""
        named = (
            _subdirectories(self.layout.unclaimed)
            if categories is None
            else map(self.layout.jar_directory, sorted(categories))
        )
        for path in (*self.layout.directories(), self.layout.python, self.layout.config_file, *named):
            check_path_is_safe(path)

    def check_who_runs_jobs(self) -> None:
        """Raise RootForGroup where root would run jobs of others as itself, unless a person said so (`root_is_meant`)."""
        if os.geteuid() != 0 or self.root_is_meant:
            return
        for path in (
            self.layout.home,
            self.layout.limbo,
            self.layout.unclaimed,
            *_subdirectories(self.layout.unclaimed),
        ):
            status = _stat(path)
            if status.st_uid != 0 or status.st_mode & 0o020:
                raise RootForGroup(path=path, owner=describe_user(status.st_uid), mode=stat.S_IMODE(status.st_mode))

    def check_is_writable(self) -> None:
        """Make JJ_WORKER_HOME where it is missing. Raise CannotUseJar where this user cannot move jobs here, OtherDisk where
        a claim would not be a rename."""
        try:
            if not is_directory(self.layout.workers):
                make_directory(self.layout.workers, 0o777 & ~self.umask)
            if _stat(self.layout.workers).st_dev != _stat(self.layout.unclaimed).st_dev:
                raise OtherDisk(workers=self.layout.workers, home=self.layout.home)
        except OSError as error:
            raise CannotUseJar(action="make", path=self.layout.workers, reason=error.strerror) from error
        for path in (
            self.layout.limbo,
            self.layout.unclaimed,
            self.layout.claimed,
            self.layout.completed,
            self.layout.workers,
        ):
            if not may_write_to(path):
                raise CannotUseJar(action="write to", path=path, reason=explain_forbidden(path))


def open_jar(
    overrides: Mapping[str, Value] | None = None,
    program_path: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Jar:
    """The jar that settings name. Raises NoJarNamed, NotAJar, ConfigError."""
    jar = Jar(load_settings(overrides, program_path, environment))
    jar.program_path = program_path
    return jar


def check_names_are_utf8() -> None:
    """Raise NotUtf8 where this Python takes the bytes of names for something else than UTF-8: one name would be two. Programs
    have seen to it (programs/utf8.py)."""
    if sys.getfilesystemencoding() != "utf-8":
        raise NotUtf8(encoding=sys.getfilesystemencoding())


def check_path_is_safe(path: str) -> None:
    """Raise UnsafeJar where others can write to `path`; a missing path is safe."""
    try:
        status = patiently(lambda: os.stat(path), path, FLICKER_S)  # a worker asks with its ledger's lock held
    except FileNotFoundError:
        return
    if status.st_mode & 0o002:
        raise UnsafeJar(path=path, mode=status.st_mode & 0o7777)


def _stat(path: str) -> os.stat_result:
    return patiently(lambda: os.stat(path), path)


def _check_is_jar(layout: Layout) -> int:
    """Raise NotAJar; otherwise the jar's mode."""
    try:
        status = _stat(layout.home)
    except FileNotFoundError:
        raise NotAJar(home=layout.home, reason="there is no such directory") from None
    except PermissionError as error:
        raise ForbiddenJar(home=layout.home, reason=explain_forbidden(layout.home, os.R_OK)) from error
    except OSError as error:
        raise NotAJar(home=layout.home, reason=error.strerror) from error
    for path in (layout.limbo, layout.unclaimed, layout.claimed, layout.completed, layout.journals):
        if not is_directory(path):
            if stat.S_ISDIR(status.st_mode) and not os.access(
                layout.home, os.X_OK
            ):  # what is there seems to be missing
                raise ForbiddenJar(home=layout.home, reason=explain_forbidden(path, os.R_OK))
            raise NotAJar(home=layout.home, reason=f"it has no directory {os.path.relpath(path, layout.home)}")
    if status.st_mode & 0o020:
        _refuse_links(layout)
    return status.st_mode


def _refuse_links(layout: Layout) -> None:
    """Raise UnsafeLink where a directory of a group's jar is a link: any member may have put it there, and what others submit and
    journal would be written where it leads."""
    for path in layout.directories()[1:]:
        if path.startswith(f"{layout.home}/") and os.path.islink(path):
            raise UnsafeLink(path=path)


def _subdirectories(path: str) -> list[str]:
    with patiently(lambda: os.scandir(path), path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
