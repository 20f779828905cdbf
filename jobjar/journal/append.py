"""Journals: append-only records of moves and outcomes. Each line is one JSON object, and only one host writes to a file.

An append is one `write` of `"\\n" + object`, without a newline after it. An append that a crash or a full disk cut short
therefore never joins the next one, and a part of an object never parses as an object. A reader takes whole entries, waits at
a tail that does not parse, and skips it once a good line follows.

Entries (field `entry`): `submitted` has a job's name and attributes, and is written while its file is still in limbo; `moved`
records a rename that happened; `started` and `ended` belong to an attempt; `worker` records a worker's start and end. Every
entry of a job has the job's id (field `job`). Times are UTC epoch seconds; `moved_at` is the disk's own (the file's ctime).

While a network disk is away, an append is written again until it succeeds. After a failed sync, everything since the last
good sync is written again. So a journal may contain an entry twice, or a part of it before the whole. Folding an entry twice
changes nothing.

A rotated journal (nightly/rotation.py) may be compressed: `X.jsonl` becomes `X.<end>.jsonl.gz`, where `end` is the offset
after its last entry. Offsets count uncompressed bytes, and the journal is still known as `X.jsonl`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jobjar.journal.read import Entry
from jobjar.shared_disk.files import open_common_file
from jobjar.shared_disk.patience import FLICKER_S, is_transient, keep_trying, patiently
from jobjar.shared_disk.regular import UnfitFile, pass_over
from jobjar.text import as_text

# Appended bytes are kept until the next sync, to be written again if that fails. More than this many force a sync.
_UNSYNCED_BYTES = 4 << 20
# How often a process looks whether its home names another journal. How long after that some may not have looked yet.
_LOOK_INTERVAL_S = 1.0
_CHANGE_TAKES_S = 60.0
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode
# What a job was given may be any bytes: words that a person types for a program. Its readers take them.
_ANY_BYTES = ("given",)


def _encode(entry: Entry) -> str:
    """The text of an entry. Its strings are text that every reader takes, also where they quote a path or words that are not."""
    text = _to_json(entry)
    return text if "\\ud" not in text else _to_json(_escape(entry))


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, Mapping):
        return {name: inner if name in _ANY_BYTES else _escape(inner) for name, inner in value.items()}
    return [_escape(inner) for inner in value] if isinstance(value, list | tuple) else value


class Journal:
    """The journal that this process's ledger home appends to. Any number of processes of one host may use it.

    `find_path` returns the path of the home's current journal, which a rotation changes; this object follows. `find_other`
    returns another path if something other than a journal is there.
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
        """Append entries in order, in one write. If this raises OSError, none of the entries may be relied on.

        With `durable`, return only after the entries are synced, so that a crash of this node keeps them.
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
            # This process was stopped since its last look. Its journal may have been compressed meanwhile, and nobody would
            # read what it has just written. So it writes to the current journal too: folding an entry twice changes nothing.
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
        """Append entries in one write with the next ones, at the latest at the next `flush` or sync. Use it only for entries
        that a look at the directories could replace."""
        self._put_off += entries

    def flush(self) -> None:
        """Append the entries that were put off. If this raises OSError, they stay put off."""
        if self._put_off:
            self.append(())

    def _write(self, data: bytes) -> None:
        if os.write(self._open(), data) < len(data):
            # The rest must not go into a second write: another process may have appended meanwhile, which would tear both.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)

    def _is_look_due(self) -> bool:
        # The wall clock goes on while this process, or its node, is stopped.
        return self._find_path is not None and abs(time.time() - self._looked_at) >= _LOOK_INTERVAL_S

    def follow(self) -> None:
        """Switch to the journal that the home names now. If this raises OSError, the old one stays in use."""
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
        """Whether this process has just switched to another journal. Other processes of its home may not have yet."""
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
        """Make everything that this process appended durable, including what was put off. Raises OSError."""
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
        """Write the unsynced bytes again before the next sync, which would not report what a failed one dropped."""
        self.close()
        self._write(b"".join(self._unsynced))
        os.fdatasync(self._open())

    def read_new(self) -> bytes:
        """Return the bytes that any process appended since the last call. If the last entry is incomplete, the next call returns
        it again from its start. Raises OSError."""
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
            with contextlib.suppress(OSError):  # NFS may report failed writes here; sync finds those too
                os.close(descriptor)
