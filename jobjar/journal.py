"""Journals: append-only records of moves and outcomes, one JSON object a line, one writing host a file.

An append is one `write` of `"\\n" + object`, without a newline after it. So an append that a crash or a full disk cut
short never joins the next one, and the part of an object that is there never parses as an object: a reader takes whole
entries, waits for a tail that does not parse, and passes over it once a good line follows.

Entries (field `entry`): `submitted` a job's name and attributes, written while its file is still in limbo; `moved` a
rename that happened; `started` and `ended` of an attempt; `worker` a worker's start and end. Every entry of a job names
it by its id (field `job`). Times are UTC epoch seconds; those named `moved_at` are the disk's own (the moved file's ctime).

A network disk that is away: an append, and a sync with all that was appended since the last one, is written again until
it is there. So an entry may be there twice, or a part of it before the whole; folding one twice changes nothing.

A journal that was rotated (rotation.py) may be compressed: `X.jsonl` becomes `X.<end>.jsonl.gz`, where `end` is the offset
up to which there are entries. Offsets are those of the uncompressed bytes, and it is known by the name `X.jsonl` still.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from jobjar.disk import look, open_common_file
from jobjar.patience import FLICKER_S, is_transient, keep_trying, patiently
from jobjar.regular import UnfitFile, open_regular, pass_over

if TYPE_CHECKING:
    from jobjar.packed import PackedFile

Entry = dict[str, Any]

_CHUNK_BYTES = 1 << 20
# No entry is as long: what goes on for longer without a line end is torn, and is not kept until one comes.
_LONGEST_LINE = 64 << 20
# What was appended since the last sync is kept, to be appended again when the next one fails; not more than this.
_UNSYNCED_BYTES = 4 << 20
# How often a process looks whether its home names another journal by now; and for how long after that some may not have.
_LOOK_INTERVAL_S = 1.0
_CHANGE_TAKES_S = 60.0
_COMPRESSED = re.compile(r"(.+)\.([0-9]+)\.jsonl\.gz")
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode
_decode = json.JSONDecoder().decode


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


class JournalFile:
    """A journal that is open to be read, compressed or not."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = patiently(lambda: open_regular(path), path, FLICKER_S)
        self._unpacked: PackedFile | None = None
        if path.endswith(".gz"):
            from jobjar.packed import PackedFile

            self._unpacked = PackedFile(self._descriptor, path)

    def __enter__(self) -> JournalFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._unpacked is not None:
            self._unpacked.close()
        os.close(self._descriptor)

    def read_at(self, wanted: int, position: int) -> bytes:
        """Up to `wanted` uncompressed bytes. Raises OSError."""
        try:
            return self._read(wanted, position)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        # Another node compressed it at this moment: the same bytes are there by another name.
        other = open_to_read(self._path)
        self.close()
        self._path, self._descriptor, self._unpacked = other._path, other._descriptor, other._unpacked
        return self._read(wanted, position)

    def _read(self, wanted: int, position: int) -> bytes:
        if self._unpacked is None:
            return _read(self._descriptor, wanted, position)
        return self._unpacked.read_at(wanted, position)

    def has_more(self, offset: int) -> bool:
        """Whether there are bytes after `offset`. Raises OSError."""
        if self._unpacked is None:
            try:
                return self._file_size() > offset
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
        return bool(self.read_at(1, offset))

    def _file_size(self) -> int:
        return patiently(lambda: os.fstat(self._descriptor).st_size, self._path, FLICKER_S)

    def size(self) -> int:
        """How many uncompressed bytes there are. Raises OSError."""
        if self._unpacked is None:
            return self._file_size()
        return self._unpacked.size()


def open_to_read(path: str) -> JournalFile:
    """Open a journal; one that is compressed at this moment is found by its other name. Raises FileNotFoundError."""
    try:
        return JournalFile(path)
    except FileNotFoundError:
        directory, key = os.path.dirname(path), journal_key(path)
        for other in list_journals(directory):
            if journal_key(other) == key and other != path:
                return JournalFile(other)
        raise


def journal_key(path: str) -> str:
    """The name that a journal is known by, compressed or not: `X.jsonl`."""
    name = os.path.basename(path)
    found = _COMPRESSED.fullmatch(name)
    return f"{found.group(1)}.jsonl" if found else name


def folded_end(path: str) -> int:
    """The offset up to which a compressed journal has entries; 0 for one that may still grow."""
    found = _COMPRESSED.fullmatch(os.path.basename(path))
    return int(found.group(2)) if found else 0


def compressed_path(path: str, end: int) -> str:
    """What the journal at `path` is called when it is compressed."""
    return f"{path.removesuffix('.jsonl')}.{end}.jsonl.gz"


def list_journals(directory: str, names: Iterable[str] | None = None) -> list[str]:
    """The paths of all journals of a directory: each once, not compressed where it is there as both. `names`: all files there."""
    names = set(patiently(lambda: os.listdir(directory), directory, FLICKER_S) if names is None else names)
    found = {name: name for name in names if name.endswith(".jsonl") and name[0] != "."}
    for name in sorted((name for name in names if name.endswith(".jsonl.gz") and name[0] != "."), key=folded_end):
        key = journal_key(name)
        if key not in names or (key != name and _is_shorter(f"{directory}/{key}", folded_end(name))):
            found[key] = name
    return sorted(f"{directory}/{name}" for name in found.values())


def _is_shorter(path: str, end: int) -> bool:
    """Whether a journal is not the one that was compressed, but was made anew since by a process that was stopped."""
    status = look(path)
    return status is None or status.st_size < end


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


def read_whole_lines(journal: JournalFile, offset: int, at_most: int) -> tuple[list[Entry], int]:
    """The entries of an open journal from `offset` on, and the offset after them; parsed in one go, which costs half as much
    as line by line. No entry, and `offset` again, where a line among them is torn: `read_journal` tells which.

    A last line without a newline after it is taken where it is whole, as `read_journal` does.
    """
    data = journal.read_at(at_most, offset)
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


def read_journal(journal: int | JournalFile, offset: int, end: int | None = None) -> Iterator[Line]:
    """The lines of an open journal (or of a descriptor of one) from `offset` on, up to `end` or what is there.

    A torn line is given only once a good one follows it; a tail that does not parse is not given at all.
    """
    tail = b""
    tail_start = offset
    torn: list[Line] = []
    position, dropped = offset, 0
    while True:
        wanted = _CHUNK_BYTES if end is None else min(_CHUNK_BYTES, end - position)
        if wanted <= 0:
            chunk = b""
        else:
            chunk = _read(journal, wanted, position) if isinstance(journal, int) else journal.read_at(wanted, position)
        position += len(chunk)
        data = tail + chunk
        lines = data.split(b"\n")
        last = lines.pop()
        start = tail_start
        for line in lines:
            entry_end = start + dropped + len(line)
            yield from _take(b"too long" if dropped else line, start, entry_end, torn)
            start, dropped = entry_end + 1, 0
        tail, tail_start = last, start
        if len(tail) > _LONGEST_LINE:
            tail, dropped = b"", dropped + len(tail)
        if not chunk:
            # The newest entry has no newline after it: it is whole when it parses.
            if tail and not dropped and parse_line(tail) is not None:
                yield from _take(tail, tail_start, tail_start + len(tail), torn)
            return


def _read(descriptor: int, wanted: int, position: int) -> bytes:
    return patiently(lambda: os.pread(descriptor, wanted, position), "a journal", FLICKER_S)


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
