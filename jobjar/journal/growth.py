"""How far the journals on a network disk have grown. Beside each is an empty file with the size in its name: `.X.jsonl.BYTES`.

A process sees what was appended to a file only if it opens the file. With these marks, one list of the directory shows which
of many journals to open. Each home writes the marks of its own journals. It also writes `told` in the home, which contains
the name of the last mark and is the lock of the home's processes. A crash here, or before a mark is renewed, leaves an older
size. A process that needs every entry therefore opens all journals.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterable

from jobjar.journal.append import Journal
from jobjar.journal.read import Entry, journal_key
from jobjar.shared_disk.creating import common_mode, create_file
from jobjar.shared_disk.files import open_common_file
from jobjar.shared_disk.locks import try_lock_quickly

# How often a home renews its mark, and a process looks whether it is its turn.
_INTERVAL_S = 1.0
_MARK = re.compile(r"\.(.+\.jsonl)\.([0-9]{1,18})")


def marked_sizes(names: Iterable[str]) -> dict[str, int]:
    """Return the size in bytes of each journal by its mark. The keys are names of journals; `names` are all files of the
    directory."""
    sizes: dict[str, int] = {}
    for name in names:
        found = _MARK.fullmatch(name)
        if found:
            sizes[found.group(1)] = max(sizes.get(found.group(1), 0), int(found.group(2)))
    return sizes


def remove_marks(directory: str, key: str) -> None:
    """Remove the marks of a journal that does not grow any more. Raises OSError."""
    for name in os.listdir(directory):
        if _is_mark_of(key, name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{directory}/{name}")


def _is_mark_of(key: str, name: str) -> bool:
    found = _MARK.fullmatch(name)
    return found is not None and found.group(1) == key


class MarkedJournal(Journal):
    """A journal on a network disk, with a mark that shows other nodes how far it has grown.

    The mark is renewed at once after a durable append, and within a second while this process appends or syncs. Otherwise it
    is renewed when the process closes the journal or ends. `newest_mark_file` is in the home, on this node's disk.
    """

    def __init__(
        self, path: str, find_path: Callable[[], str], find_other: Callable[[str], str], newest_mark_file: str
    ) -> None:
        super().__init__(path, find_path, find_other)
        self._newest_mark_file = newest_mark_file
        self._is_marked = True
        # A short program renews the mark only once, at its end.
        self._next_mark = time.monotonic() + _INTERVAL_S

    def append(self, entries: Iterable[Entry], durable: bool = False) -> None:
        super().append(entries, durable)
        if self._is_marked and self._descriptor >= 0:
            self._is_marked = False
            atexit.register(self._mark_at_end)
        if durable:
            self._next_mark = 0.0
        self._mark_if_due()

    def sync(self, deadline_s: float | None = None) -> None:
        super().sync(deadline_s)
        self._mark_if_due()

    def close(self) -> None:
        self._mark_at_end()
        super().close()

    def _mark_if_due(self) -> None:
        now = time.monotonic()
        if not self._is_marked and now >= self._next_mark:
            self._next_mark = now + _INTERVAL_S
            with contextlib.suppress(OSError):  # a process that needs every entry opens all journals
                self._renew_mark(_INTERVAL_S)

    def _mark_at_end(self) -> None:
        if not self._is_marked:
            with contextlib.suppress(OSError):
                self._renew_mark(0.0)

    def _renew_mark(self, interval_s: float) -> None:
        """Renew the mark, unless a process of this home has done so in the last `interval_s` seconds. Raises OSError, also
        while another process is renewing it."""
        if self._descriptor < 0:
            return
        lock = open_common_file(self._newest_mark_file, os.O_RDWR)
        try:
            if not try_lock_quickly(lock):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), self._newest_mark_file)
            size = os.fstat(self._descriptor).st_size
            directory, key = os.path.dirname(self.path), journal_key(self.path)
            before = os.pread(lock, 4096, 0).decode(errors="replace")
            is_own = _is_mark_of(key, before)
            if is_own and marked_sizes([before])[key] >= size:
                self._end_marking()
                return
            if is_own and 0 <= time.time() - os.fstat(lock).st_mtime < interval_s:
                return
            mark = f".{key}.{size}"
            try:
                if not is_own:
                    raise FileNotFoundError
                os.rename(f"{directory}/{before}", f"{directory}/{mark}")
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    os.close(create_file(f"{directory}/{mark}", common_mode(directory)))
            os.ftruncate(lock, 0)
            os.pwrite(lock, mark.encode(), 0)
            self._end_marking()
        finally:
            os.close(lock)

    def _end_marking(self) -> None:
        self._is_marked = True
        atexit.unregister(self._mark_at_end)
