"""Journals: append-only records of moves and outcomes, one JSON object a line, one writing host a file.

An append is one `write` of `"\\n" + object`, without a newline after it. So an append that a crash or a full disk cut
short never joins the next one, and the part of an object that is there never parses as an object: a reader takes whole
entries, waits for a tail that does not parse, and passes over it once a good line follows.

Entries (field `entry`): `submitted` a job's name and attributes, written while its file is still in limbo; `moved` a
rename that happened; `started` and `ended` of an attempt; `worker` a worker's start and end. Every entry of a job names
it by its id (field `job`). Times are UTC epoch seconds; those named `moved_at` are the disk's own (the moved file's ctime).
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jobjar.disk import open_common_file

Entry = dict[str, Any]

_CHUNK_BYTES = 1 << 20
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode
_decode = json.JSONDecoder().decode


class Journal:
    """The journal that this process's ledger home appends to. Safe for any number of processes of one host."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1
        self._is_synced = True
        self._read_until = 0

    def append(self, entries: Iterable[Entry], durable: bool = False) -> None:
        """Append entries in order, all in one write. Raises OSError: then none of them may be relied on.

        `durable`: return only when they would outlive this node.
        """
        data = "".join("\n" + _encode(entry) for entry in entries).encode()
        if not data:
            return
        descriptor = self._open()
        self._is_synced = False
        if os.write(descriptor, data) < len(data):
            # Not the rest in a second write: another process may have appended meanwhile, and its entry would be torn.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        if durable:
            self.sync()

    def _open(self) -> int:
        if self._descriptor < 0:
            self._descriptor = open_common_file(self.path, os.O_RDWR | os.O_APPEND)
        return self._descriptor

    def sync(self) -> None:
        """Make all that this process appended outlive this node. Raises OSError."""
        if not self._is_synced:
            os.fdatasync(self._descriptor)
            self._is_synced = True

    def read_new(self) -> bytes:
        """What any process appended since this was last asked, unparsed; an entry that is only partly there is given
        again, whole, the next time. Raises OSError."""
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        if size <= self._read_until:
            return b""
        data = os.pread(descriptor, size - self._read_until, self._read_until)
        self._read_until += len(data) if data.endswith(b"}") else max(0, data.rfind(b"\n"))
        return data

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Line(NamedTuple):
    """One line of a journal: `entry` is None where it is torn; `end` is the offset after it."""

    entry: Entry | None
    start: int
    end: int


def parse_line(line: bytes) -> Entry | None:
    """The entry in a line, or None."""
    try:
        entry = _decode(line.decode())
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and "entry" in entry else None


def read_whole_lines(descriptor: int, offset: int, at_most: int) -> tuple[list[Entry], int]:
    """The entries of an open journal from `offset` on, and the offset after them; parsed in one go, which costs half as much
    as line by line. No entry, and `offset` again, where a line among them is torn: `read_journal` tells which.

    A last line without a newline after it is taken where it is whole, as `read_journal` does.
    """
    data = os.pread(descriptor, at_most, offset)
    if not data.endswith(b"}") or len(data) == at_most:
        data = data[: max(0, data.rfind(b"\n"))]
    try:
        lines = data.decode().split("\n")
        lines = [line for line in lines if line]
        entries = _decode(f"[{','.join(lines)}]")
    except (ValueError, RecursionError):
        return [], offset
    if len(entries) != len(lines) or not all(isinstance(entry, dict) and "entry" in entry for entry in entries):
        return [], offset
    return entries, offset + len(data)


def read_journal(descriptor: int, offset: int, end: int | None = None) -> Iterator[Line]:
    """The lines of an open journal from `offset` on, up to `end` or what is there.

    A torn line is given only once a good one follows it; a tail that does not parse is not given at all.
    """
    tail = b""
    tail_start = offset
    torn: list[Line] = []
    position = offset
    while True:
        wanted = _CHUNK_BYTES if end is None else min(_CHUNK_BYTES, end - position)
        chunk = os.pread(descriptor, wanted, position) if wanted > 0 else b""
        position += len(chunk)
        data = tail + chunk
        lines = data.split(b"\n")
        last = lines.pop()
        start = tail_start
        for line in lines:
            entry_end = start + len(line)
            yield from _take(line, start, entry_end, torn)
            start = entry_end + 1
        tail, tail_start = last, start
        if not chunk:
            # The newest entry has no newline after it: it is whole when it parses.
            if tail and parse_line(tail) is not None:
                yield from _take(tail, tail_start, tail_start + len(tail), torn)
            return


def _take(line: bytes, start: int, end: int, torn: list[Line]) -> Iterator[Line]:
    if not line:
        return
    entry = parse_line(line)
    if entry is None:
        torn.append(Line(None, start, end))
        return
    yield from torn
    torn.clear()
    yield Line(entry, start, end)
