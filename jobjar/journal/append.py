"""Journals: append-only records of moves and outcomes, one JSON object a line, one writing host a file.

An append is one `write` of `"\\n" + object`, without a newline after it. So an append that a crash or a full disk cut
short never joins the next one, and the part of an object that is there never parses as an object: a reader takes whole
entries, waits for a tail that does not parse, and passes over it once a good line follows.

Entries (field `entry`): `submitted` a job's name and attributes, written while its file is still in limbo; `moved` a
rename that happened; `started` and `ended` of an attempt; `worker` a worker's start and end. Every entry of a job names
it by its id (field `job`). Times are UTC epoch seconds; those named `moved_at` are the disk's own (the moved file's ctime).

A network disk that is away: an append, and a sync with all that was appended since the last one, is written again until
it is there. So an entry may be there twice, or a part of it before the whole; folding one twice changes nothing.

A journal that was rotated (nightly/rotation.py) may be compressed: `X.jsonl` becomes `X.<end>.jsonl.gz`, where `end` is the
offset up to which there are entries. Offsets are those of the uncompressed bytes, and it is known by the name `X.jsonl` still.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from jobjar.journal.read import Entry
from jobjar.shared_disk.files import open_common_file
from jobjar.shared_disk.patience import FLICKER_S, is_transient, keep_trying, patiently
from jobjar.shared_disk.regular import UnfitFile, pass_over

if TYPE_CHECKING:
    pass


# What was appended since the last sync is kept, to be appended again when the next one fails; not more than this.
_UNSYNCED_BYTES = 4 << 20
# How often a process looks whether its home names another journal by now; and for how long after that some may not have.
_LOOK_INTERVAL_S = 1.0
_CHANGE_TAKES_S = 60.0
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


def moved_entry(
    uid: str, number: int, origin: str, place: str, moved_at: float, reason: str, by: str, **more: Any
) -> Entry:
    """The `moved` entry of a rename from one place to another: a job's `number`-th move, `moved_at` by the disk's clock."""
    return {
        "entry": "moved",
        "job": uid,
        "number": number,
        "from": origin,
        "to": place,
        "moved_at": moved_at,
        "reason": reason,
        "by": by,
        **more,
    }


class Journal:
    """The journal that this process's ledger home appends to. Safe for any number of processes of one host.

    `find_path` says which file that is now: a rotation names another, and this follows. `find_other` names another where what
    lies at that path is no journal.
    """

    def __init__(
        self, path: str, find_path: Callable[[], str] | None = None, find_other: Callable[[str], str] | None = None
    ) -> None:
        self.path = path
        self._find_path, self._find_other = find_path, find_other
        self._looked_at = time.time()
        self._changed_at: float | None = None
        self._descriptor = -1
        self._unsynced: list[bytes] = []
        self._put_off: list[Entry] = []
        self._unsynced_bytes = 0
        self._read_until = 0

    def append(self, entries: Iterable[Entry], durable: bool = False) -> None:
        """Append entries in order, all in one write. Raises OSError: then none of them may be relied on.

        `durable`: return only when they would outlive this node.
        """
        put_off = len(self._put_off)
        data = "".join(["\n" + _encode(entry) for entry in (*self._put_off, *entries)]).encode()
        if not data:
            return
        if self._is_look_due():
            with contextlib.suppress(OSError):  # the old one will do
                self.follow()
        path = self.path
        patiently(lambda: self._write(data), self.path, mend=self.close)
        if self._is_look_due():
            # This process was stopped since it looked, perhaps for so long that its journal was compressed meanwhile, and
            # what it wrote is in a file that nobody reads. Folding an entry twice is as once.
            with contextlib.suppress(OSError):
                self.follow()
            if self.path != path:
                patiently(lambda: self._write(data), self.path, mend=self.close)
        del self._put_off[:put_off]
        self._unsynced.append(data)
        self._unsynced_bytes += len(data)
        if durable or self._unsynced_bytes > _UNSYNCED_BYTES:
            self.sync()

    def append_later(self, entries: Iterable[Entry]) -> None:
        """Append entries in one write with those that come next, at the latest at the next `flush` or sync: for what a look at
        the directories would tell as well."""
        self._put_off += entries

    def flush(self) -> None:
        """Append what was put off. Raises OSError: then it stays put off."""
        if self._put_off:
            self.append(())

    def _write(self, data: bytes) -> None:
        if os.write(self._open(), data) < len(data):
            # Not the rest in a second write: another process may have appended meanwhile, and its entry would be torn.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)

    def _is_look_due(self) -> bool:
        # By the wall clock: it goes on while this process, or its node, is stopped.
        return self._find_path is not None and abs(time.time() - self._looked_at) >= _LOOK_INTERVAL_S

    def follow(self) -> None:
        """Append to the journal that the home names now. Raises OSError: then the old one stays in use."""
        if self._find_path is None:
            return
        self._looked_at = time.time()
        path = self._find_path()
        if path != self.path:
            self.sync()
            self.close()
            self._read_until = 0
            self.path = path
            self._changed_at = time.monotonic()

    def changed_lately(self) -> bool:
        """Whether this process has just followed to another journal: others of its home may not have yet."""
        return self._changed_at is not None and time.monotonic() < self._changed_at + _CHANGE_TAKES_S

    def _open(self) -> int:
        if self._descriptor < 0:
            try:
                self._descriptor = open_common_file(self.path, os.O_RDWR | os.O_APPEND)
            except UnfitFile as error:
                if self._find_other is None:
                    raise
                pass_over(self.path, error.strerror)
                self.path, self._read_until = self._find_other(self.path), 0
                self._descriptor = open_common_file(self.path, os.O_RDWR | os.O_APPEND)
        return self._descriptor

    def sync(self, deadline_s: float | None = None) -> None:
        """Make all that this process appended outlive this node. Raises OSError."""
        self.flush()
        if self._unsynced:
            try:
                os.fdatasync(self._open())
            except OSError as error:
                if not is_transient(error):
                    raise
                keep_trying(error, self._write_again_and_sync, self.path, deadline_s)
            self._unsynced.clear()
            self._unsynced_bytes = 0

    def _write_again_and_sync(self) -> None:
        """After a sync that failed a second one says nothing of what the first one dropped."""
        self.close()
        self._write(b"".join(self._unsynced))
        os.fdatasync(self._open())

    def read_new(self) -> bytes:
        """What any process appended since this was last asked, unparsed; an entry that is only partly there is given
        again, whole, the next time. Raises OSError."""
        return patiently(self._read_new, self.path, FLICKER_S, self.close)

    def _read_new(self) -> bytes:
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        if size <= self._read_until:
            return b""
        data = os.pread(descriptor, size - self._read_until, self._read_until)
        self._read_until += len(data) if data.endswith(b"}") else max(0, data.rfind(b"\n"))
        return data

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):  # NFS tells here of what it could not write: sync asks for that
                os.close(descriptor)
