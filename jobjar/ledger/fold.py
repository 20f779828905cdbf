"""Fold journals into the ledger: each entry once, with the same result in whatever order journals are read (apply.py).

Reads journals from the positions that the ledger records; writes rows and the new positions in the same transaction.
"""

from __future__ import annotations

import os
import time
from typing import Any

from jobjar.disk import open_common_file
from jobjar.journal import Entry, read_journal, read_whole_lines
from jobjar.layout import Layout
from jobjar.ledger.apply import apply_entries, apply_entry

# So much of a journal is put together in memory at a time.
_CHUNK_BYTES = 1 << 20


def fold_entry(connection: Any, entry: Entry) -> None:
    """Apply one entry. Entries of kinds that this version does not know change nothing."""
    apply_entry(connection, entry)


def fold_journal(connection: Any, path: str, limit: int | None = None) -> int:
    """Fold what is new in one journal, at most `limit` lines, and record how far; returns the number of lines taken.
    Inside the caller's transaction."""
    name = os.path.basename(path)
    row = connection.execute("SELECT offset FROM journal_position WHERE journal = ?", (name,)).fetchone()
    return _fold_from(connection, path, row[0] if row else 0, limit)


def _fold_from(connection: Any, path: str, offset: int, limit: int | None = None) -> int:
    try:
        # Opened afresh each time: a network disk shows what another node appended to those who open the file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    taken = torn = 0
    try:
        size = os.fstat(descriptor).st_size
        while offset < size:
            entries, end = ([], offset) if limit is not None else read_whole_lines(descriptor, offset, _CHUNK_BYTES)
            if end == offset:
                lines, torn_lines, end = _read_one_by_one(descriptor, entries, offset, limit)
                if not lines:
                    break
                taken += lines
                torn += torn_lines
            else:
                taken += len(entries)
            torn += apply_entries(connection, entries)
            offset = end
            if limit is not None:
                break
    finally:
        os.close(descriptor)
    if taken:
        connection.execute(
            "INSERT INTO journal_position VALUES (?, ?, ?) ON CONFLICT (journal) DO UPDATE SET "
            "offset = excluded.offset, torn_lines = torn_lines + excluded.torn_lines",
            (os.path.basename(path), offset, torn),
        )
    return taken


def _read_one_by_one(descriptor: int, entries: list[Entry], offset: int, limit: int | None) -> tuple[int, int, int]:
    """Where a part of a journal does not parse as a whole: take what does into `entries`. Returns how many lines were taken,
    how many of them are torn, and the offset after them."""
    taken = torn = 0
    for line in read_journal(descriptor, offset):
        if line.entry is None:
            torn += 1
        else:
            entries.append(line.entry)
        taken, offset = taken + 1, line.end
        if taken == (limit or 1000):
            break
    return taken, torn, offset


def journal_paths(layout: Layout) -> list[str]:
    """Every journal of the jar."""
    return sorted(
        f"{layout.journals}/{name}"
        for name in os.listdir(layout.journals)
        if name.endswith(".jsonl") and name[0] != "."
    )


def fold_journals(connection: Any, layout: Layout) -> int:
    """Fold what is new in all journals; returns the number of lines taken."""
    positions = dict(connection.execute("SELECT journal, offset FROM journal_position"))
    return sum(_fold_from(connection, path, positions.get(os.path.basename(path), 0)) for path in journal_paths(layout))


def others_are_due(polled_file: str, poll_time_s: float) -> bool:
    """Whether this node has not looked at the other nodes' journals for `poll_time_s`; if so, notes that it does now."""
    now = time.time()
    try:
        if 0 <= now - os.stat(polled_file).st_mtime < poll_time_s:
            return False
    except FileNotFoundError:
        pass
    descriptor = open_common_file(polled_file, os.O_WRONLY)
    os.utime(descriptor)
    os.close(descriptor)
    return True
