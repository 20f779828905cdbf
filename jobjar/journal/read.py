"""Read journals: whole entries from an offset on, whatever a crash or a full disk left between them. Rotated and compressed
journals are read too. append.py describes the format. This module writes nothing.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from jobjar.shared_disk.files import list_names, look
from jobjar.shared_disk.patience import FLICKER_S, patiently
from jobjar.shared_disk.regular import open_regular

Entry = dict[str, Any]


_CHUNK_BYTES = 1 << 20


# No entry is this long. A longer line is torn, and its beginning is not kept in memory.
_LONGEST_LINE = 64 << 20


_COMPRESSED = re.compile(r"(.+)\.([0-9]+)\.jsonl\.gz")


_decode = json.JSONDecoder().decode


class JournalFile:
    """A journal that is open for reading, compressed or not."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = patiently(lambda: open_regular(path), path, FLICKER_S)
        self._unpacked: PackedFile | None = None
        if path.endswith(".gz"):
            from jobjar.journal.packed import PackedFile

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
        """Read up to `wanted` uncompressed bytes at `position`. Raises OSError."""
        try:
            return self._read(wanted, position)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        # Another node has just compressed it: the same bytes are there under another name.
        other = open_to_read(self._path)
        self.close()
        self._path, self._descriptor, self._unpacked = other._path, other._descriptor, other._unpacked
        return self._read(wanted, position)

    def _read(self, wanted: int, position: int) -> bytes:
        if self._unpacked is None:
            return _read(self._descriptor, wanted, position)
        return self._unpacked.read_at(wanted, position)

    def has_more(self, offset: int) -> bool:
        """Whether there are uncompressed bytes after `offset`. Raises OSError."""
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
        """Return the number of uncompressed bytes. Raises OSError."""
        if self._unpacked is None:
            return self._file_size()
        return self._unpacked.size()


def open_to_read(path: str) -> JournalFile:
    """Open a journal. One that was just compressed is found under its other name. Raises FileNotFoundError, OSError."""
    try:
        return JournalFile(path)
    except FileNotFoundError:
        directory, key = os.path.dirname(path), journal_key(path)
        for other in list_journals(directory):
            if journal_key(other) == key and other != path:
                return JournalFile(other)
        raise


def journal_key(path: str) -> str:
    """Return the name by which a journal is known, compressed or not: `X.jsonl`."""
    name = os.path.basename(path)
    found = _COMPRESSED.fullmatch(name)
    return f"{found.group(1)}.jsonl" if found else name


def folded_end(path: str) -> int:
    """Return the offset after the last entry of a compressed journal; 0 for a journal that may still grow."""
    found = _COMPRESSED.fullmatch(os.path.basename(path))
    return int(found.group(2)) if found else 0


def compressed_path(path: str, end: int) -> str:
    """Return the path of the journal at `path` after it is compressed."""
    return f"{path.removesuffix('.jsonl')}.{end}.jsonl.gz"


def list_journals(directory: str, names: Iterable[str] | None = None) -> list[str]:
    """List the paths of all journals of a directory, each once. If a journal is there in both forms, the uncompressed one
    counts, unless it is shorter than the other. `names` are all files there. Raises OSError."""
    names = set(list_names(directory, FLICKER_S) if names is None else names)
    found = {name: name for name in names if name.endswith(".jsonl") and name[0] != "."}
    for name in sorted((name for name in names if name.endswith(".jsonl.gz") and name[0] != "."), key=folded_end):
        key = journal_key(name)
        if key not in names or (key != name and _is_shorter(f"{directory}/{key}", folded_end(name))):
            found[key] = name
    return sorted(f"{directory}/{name}" for name in found.values())


def _is_shorter(path: str, end: int) -> bool:
    """Whether the journal at `path` is shorter than `end`. Then a process that had been stopped created it anew after the
    original was compressed."""
    status = look(path)
    return status is None or status.st_size < end


class Line(NamedTuple):
    """One line of a journal. `entry` is None for a torn line. `end` is the offset after the line."""

    entry: Entry | None
    start: int
    end: int


def parse_line(line: bytes) -> Entry | None:
    """Parse the entry in a line; None for a torn line."""
    try:
        entry = _decode(line.decode())
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and "entry" in entry else None


def read_whole_lines(journal: JournalFile, offset: int, at_most: int) -> tuple[list[Entry], int]:
    """Read entries of an open journal from `offset` on, `at_most` bytes. Returns them and the offset after them.

    They are parsed in one go, at half the cost of line by line. If any line is torn, the result is no entry and `offset`
    itself: `read_journal` shows which line. A last line without a newline is taken if it is whole, as in `read_journal`.
    Raises OSError.
    """
    data = journal.read_at(at_most, offset)
    if not data.endswith(b"}") or len(data) == at_most:
        data = data[: max(0, data.rfind(b"\n"))]
    try:
        lines = data.decode().strip("\n")
        entries: list[Entry] = _decode("[" + lines.replace("\n", ",") + "]")
        kinds = [entry["entry"] for entry in entries]
    except (ValueError, RecursionError, TypeError, KeyError):
        return [], offset
    if len(kinds) != lines.count("\n") + 1:  # a line has several entries, or none
        return [], offset
    return entries, offset + len(data)


def read_journal(journal: int | JournalFile, offset: int, end: int | None = None) -> Iterator[Line]:
    """Yield the lines of an open journal (or of its descriptor) from `offset` to `end`, or to the end of the file.

    A torn line is yielded only once a good one follows it. A tail that does not parse is not yielded. Raises OSError.
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
            # The newest entry has no newline after it. If it parses, it is whole.
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
