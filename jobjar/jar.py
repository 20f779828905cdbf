"""One jar as a program sees it: its settings, paths, journal and ledger, and the checks whether it may be used.

Programs and the library open a jar, and stages get what they need from it. Opening it writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from jobjar.access.refusals import explain_at, explain_forbidden, name_place
from jobjar.access.safe_jar import check_is_safe, check_path_is_safe, check_who_runs_jobs, refuse_link, refuse_links
from jobjar.errors import CannotUseJar, ForbiddenJar, NotAJar, NotUtf8, OtherDisk, SubmitFailed
from jobjar.host import node_name
from jobjar.layout import Layout
from jobjar.settings.layers import Settings, Value, load_settings
from jobjar.shared_disk.clock import read_disk_clock
from jobjar.shared_disk.files import follow_status, is_directory, make_directory, may_write_to
from jobjar.shared_disk.patience import patience, patiently
from jobjar.shared_disk.regular import held_directory
from jobjar.shared_disk.umask import take_umask

if TYPE_CHECKING:
    from jobjar.journal.append import Journal
    from jobjar.ledger.home import LedgerHome
    from jobjar.ledger.mirror import Mirror
    from jobjar.ledger.store import Ledger


# The share of its time that a process spends on the ledger while it submits one job after the other.
_MIRROR_SHARE = 0.05


class Jar:
    """A jar that exists. Its journal and its ledger are opened at their first use. Raises NotUtf8, NotAJar, ForbiddenJar,
    UnsafeLink."""

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
        # The path of the program that opened the jar. It is one of the sources of settings (settings/layers.py).
        self.program_path: str | None = None
        self.is_for_group = bool(self._mode & 0o020)
        self.root_is_meant = False  # a person confirmed that root shall run jobs of others
        # Whether this process has submitted dependents, and whether some were due when it folded last (steering/dependents.py).
        self.has_new_dependents = self.has_due_dependents = False
        self.log: Callable[[str], None] = lambda line: None  # takes lines for people about how the ledger was made

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

    @contextlib.contextmanager
    def directory(self, place: str) -> Iterator[str]:
        """Yield a path of a directory of the jar. In a group's jar no link is followed on the way there, and the path goes on
        meaning that directory: any member may put a link there, and this may run as root. Raises UnfitFile,
        FileNotFoundError, OSError."""
        if not self.is_for_group:
            yield self.layout.path(place)
            return
        with held_directory(self.layout.home, *place.split("/")) as path:
            yield path

    def open_journal(self) -> Journal | None:
        """Return `journal`, for callers that append only if there is something to record. None while the ledger is private: its
        user may not be allowed to write to the jar."""
        return None if self.ledger.is_private else self.journal

    @property
    def ledger(self) -> Ledger:
        """This node's ledger, opened at its first use."""
        if self._ledger is None:
            from jobjar.ledger.store import Ledger

            self._ledger = Ledger(self.layout, self.ledger_home, self.log)
        return self._ledger

    def replace_ledger(self, ledger: Ledger) -> None:
        """Use another ledger from now on: a private one while the home's cannot be used, or the home's own again."""
        self.close_ledger()
        self._ledger = ledger

    def use_private_ledger(self, from_live: bool = False, from_copy: bool = True) -> Ledger:
        """Use a private ledger from now on, and return it. It starts from the jar's own ledger (`from_live`) or the snapshot.
        Without `from_copy` it starts empty."""
        from jobjar.ledger.private import open_private_ledger

        private = open_private_ledger(self.layout, self.log, from_live, from_copy)
        self.replace_ledger(private)
        return private

    def mirror(self, after_s: float = 0.0, with_others: bool = False) -> None:
        """Fold this node's new journal entries into its ledger, if that is possible at once and was not done for `after_s`
        seconds. With `with_others`, also fold other nodes' entries, if that was not done for JJ_POLL_TIME. Code that moved jobs
        calls this before it waits or ends. Raises nothing."""
        now, ledger = time.monotonic(), self._ledger
        if self._journal is None or (ledger is not None and ledger.is_private) or now < self._mirrored_at + after_s:
            return
        if self._mirror is None:
            from jobjar.ledger.mirror import Mirror

            self._mirror = Mirror(self.layout, self.ledger_home)
        is_open = ledger is not None and ledger.is_open
        others_after_s = self.settings.poll_time_s if with_others else None
        if self._mirror.follow(self._journal, ledger if is_open else None, others_after_s):
            self.has_due_dependents = True
        self._mirrored_at = time.monotonic()
        self._mirror_took_s = self._mirrored_at - now

    def mirror_in_passing(self) -> None:
        """`mirror` for a caller that may call again at once. It uses a twentieth of the time. The rest is folded by the next
        call, when the jar is closed, or when this process ends."""
        if time.monotonic() >= self._mirrored_at + self._mirror_took_s / _MIRROR_SHARE:
            self.mirror()
        elif not self._mirrors_at_exit:
            import atexit

            self._mirrors_at_exit = True
            atexit.register(self.mirror)

    def disk_now(self) -> float:
        """The time of the jar's disk (UTC epoch seconds), by a file of this node's that is touched for it. Raises OSError."""
        return read_disk_clock(self.layout.clock_file(node_name()))

    def close_ledger(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def __enter__(self) -> Jar:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Call `mirror`, then close the ledger and the journal. The jar can be used again afterwards."""
        self.mirror()
        self.close_ledger()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    @property
    def umask(self) -> int:
        """The umask of workers, and of everything that programs make in this jar."""
        if self.settings.umask is not None:
            return self.settings.umask
        # Everybody who may read the jar may read new files in it. Others may never write.
        return ~self._mode & 0o077 | 0o002

    def take_umask(self) -> None:
        """Set this process's umask to the jar's. Jobs, and results that leave the jar, get the umask that the process had before,
        unless JJ_UMASK is set."""
        take_umask(self.umask, self.settings.umask)

    def make_category(self, category: str) -> None:
        """Make the directory of a category, if it is not there ('': nothing). Raises SubmitFailed, UnsafeJar, UnsafeLink."""
        if not category:
            return
        path = self.layout.category_directory(category)
        try:
            make_directory(path, 0o777 & ~self.umask)
            if self.is_for_group:
                patiently(lambda: os.chmod(path, 0o2770), path)
        except FileExistsError:
            if self.is_for_group:
                refuse_link(path)
            check_path_is_safe(path)
        except OSError as error:
            reason = name_place(path, explain_at(error, path))
            raise SubmitFailed(path=f"a job of category {category}", reason=reason) from error

    def check_is_there(self) -> None:
        """Raise what Jar raises if the jar is not at its path any more."""
        _check_is_jar(self.layout)

    def check_is_safe(self, categories: Iterable[str] | None = None) -> None:
        """Raise UnsafeJar if others could put jobs into this jar (access/safe_jar.py). `categories`: those to check;
        None means all."""
        check_is_safe(self.layout, categories)

    def check_who_runs_jobs(self) -> None:
        """Raise RootForGroup if root would run jobs of others, unless a person confirmed that (`root_is_meant`)."""
        if not self.root_is_meant:
            check_who_runs_jobs(self.layout)

    def check_is_writable(self) -> None:
        """Make JJ_WORKER_HOME if it is missing. Raise CannotUseJar if this user cannot move jobs here, OtherDisk if it is on
        another disk than the jar: claims are renames."""
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
    """Open the jar that settings name. Raises NoJarNamed, ConfigError, and the errors of Jar."""
    jar = Jar(load_settings(overrides, program_path, environment))
    jar.program_path = program_path
    return jar


def check_names_are_utf8() -> None:
    """Raise NotUtf8 if this Python decodes file names by another encoding than UTF-8: one file would have two names. Programs
    restart in UTF-8 mode before this (programs/utf8.py)."""
    if sys.getfilesystemencoding() != "utf-8":
        raise NotUtf8(encoding=sys.getfilesystemencoding())


def _stat(path: str) -> os.stat_result:
    return follow_status(path)


def _check_is_jar(layout: Layout) -> int:
    """Return the mode of the jar's directory. Raises NotAJar, ForbiddenJar, UnsafeLink."""
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
            parent = os.path.dirname(path)
            if os.path.isdir(parent) and not os.access(parent, os.X_OK):  # its content only seems to be missing
                raise ForbiddenJar(home=layout.home, reason=explain_forbidden(path, os.R_OK))
            raise NotAJar(home=layout.home, reason=f"it has no directory {os.path.relpath(path, layout.home)}")
    if status.st_mode & 0o020:
        refuse_links(layout)
    return status.st_mode
