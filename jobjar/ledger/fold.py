"""Fold journals into the ledger: each entry once, with the same result in any order of journals (apply.py).

Reads journals from the positions that the ledger records. Writes rows and the new positions in the same transaction.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from jobjar.errors import LedgerCorrupt
from jobjar.host import node_name
from jobjar.journal.growth import marked_sizes
from jobjar.journal.read import (
    Entry,
    JournalFile,
    folded_end,
    journal_key,
    list_journals,
    open_to_read,
    read_journal,
    read_whole_lines,
)
from jobjar.layout import Layout
from jobjar.ledger.apply import apply_entries
from jobjar.ledger.driver import Connection
from jobjar.ledger.home import LOCK_PATIENCE_S
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.files import list_names, open_common_file
from jobjar.shared_disk.mounts import is_local
from jobjar.shared_disk.patience import FLICKER_S, patience, patiently
from jobjar.shared_disk.regular import UnfitFile, open_regular, pass_over

if TYPE_CHECKING:
    from jobjar.ledger.store import Ledger

# How much of a journal is read into memory at a time.
_CHUNK_BYTES = 1 << 20
# The same where others wait: some hundred entries.
_PIECE_BYTES = 1 << 15
# An entry of a job's outcome may still come for so long after the job was completed or removed. A network disk keeps
# appended lines to itself for less time.
OUTCOME_COMES_WITHIN_S = 5.0
# How many entries of several journals are applied together.
_BATCH = 5_000
# Fewer entries are applied in a moment.
_LONG = 500


class _Read(NamedTuple):
    """What was read of a journal: its entries, how many lines were taken and how many of these were torn, and the
    offsets before and after them."""

    journal: str
    entries: list[Entry]
    taken: int
    torn: int
    start: int
    end: int


def folded_until(connection: Connection, journal: str) -> int:
    """The offset up to which a journal (`X.jsonl`) was folded."""
    row = connection.execute("SELECT offset FROM journal_position WHERE journal = ?", (journal,)).fetchone()
    return int(row[0]) if row else 0


def fold_journal(connection: Connection, path: str, limit: int | None = None) -> int:
    """Fold what is new in one journal, at most `limit` lines, and record how far. Returns the number of lines taken.
    Runs inside the caller's transaction."""
    taken = 0
    for read in _read_new(path, folded_until(connection, journal_key(path)), limit):
        taken += _apply(connection, [read])
    return taken


def fold_piece(connection: Connection, path: str) -> int:
    """Fold the next piece of one journal, as much as is read at a time, and record how far. Returns the offset up to
    which the journal is folded. Runs inside the caller's transaction."""
    offset = folded_until(connection, journal_key(path))
    for read in _read_new(path, offset):
        _apply(connection, [read])
        return read.end
    return offset


def fold_journals(
    connection: Connection,
    layout: Layout,
    until: Mapping[str, int] | None = None,
    meter: Meter = SILENT,
    opens_all: bool = True,
) -> int:
    """Fold what is new in all journals, with `until` only up to these offsets, by the journals' keys.

    Returns the number of lines taken. Runs inside the caller's transaction. The meter counts bytes. Without
    `opens_all`, a journal of another node is not opened if its recorded size (journal/growth.py) is folded already;
    entries appended just now may be missing then.
    """
    names = list_names(layout.journals, FLICKER_S)
    sizes = {} if opens_all else marked_sizes(names)
    positions = dict(connection.execute("SELECT journal, offset FROM journal_position"))
    taken = waiting = 0
    reads: list[_Read] = []
    with _without_collection():
        for path in list_journals(layout.journals, names):
            key = journal_key(path)
            if key in sizes and sizes[key] <= positions.get(key, 0) and not _is_own(path):
                continue
            end = sys.maxsize if until is None else until.get(key, 0)
            for read in _read_new(path, positions.get(key, 0), end=end):
                reads.append(read)
                waiting += len(read.entries)
                meter.add(read.end - read.start)
                if waiting >= _BATCH:
                    taken += _apply(connection, reads)
                    reads, waiting = [], 0
        return taken + _apply(connection, reads)


def fold_in_pieces(ledger: Ledger, layout: Layout, patience_s: float = LOCK_PATIENCE_S, meter: Meter = SILENT) -> None:
    """Fold what is new in all journals, a few hundred lines per transaction. Journals are read without the lock.

    Killed midway, what was folded stays folded. An empty ledger is filled in one transaction: a worker that found half
    of it would number its attempts wrongly. Raises LedgerError.
    """
    with ledger.writing(patience_s) as connection:
        positions = dict(connection.execute("SELECT journal, offset FROM journal_position"))
        if not positions:
            fold_journals(connection, layout, meter=meter)
            return
    for path in journal_paths(layout):
        for read in _read_new(path, positions.get(journal_key(path), 0), chunk_bytes=_PIECE_BYTES):
            meter.add(read.end - read.start)
            with ledger.writing(patience_s) as connection:
                folded = folded_until(connection, read.journal)
                if folded == read.start:
                    _apply(connection, [read])
                elif folded < read.end:
                    # Another process folded a part and left little, or made the ledger anew: fold the rest at once.
                    fold_journals(connection, layout)
                    return


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Switch garbage collection off. Entries form no cycles, and searching them all takes a quarter of a long fold."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _apply(connection: Connection, reads: list[_Read]) -> int:
    """Apply what was read, of all journals together: a job's entries come from several."""
    if not reads:
        return 0
    if len(reads) > 1 or len(reads[0].entries) >= _LONG:
        patience.between_pieces()
    together = [entry for read in reads for entry in read.entries] if len(reads) > 1 else reads[0].entries
    refused = apply_entries(connection, together)
    for read in reads:
        torn = read.torn
        if refused:  # which journals have them? Applying an entry again changes nothing
            none_of_ours = refused if len(reads) == 1 else apply_entries(connection, read.entries)
            if none_of_ours:
                pass_over(read.journal, f"{none_of_ours} of its lines say what no entry may say")
            torn += none_of_ours
        connection.execute(
            "INSERT INTO journal_position VALUES (?, ?, ?) ON CONFLICT (journal) DO UPDATE SET "
            "offset = excluded.offset, torn_lines = torn_lines + excluded.torn_lines",
            (read.journal, read.end, torn),
        )
    return sum(read.taken for read in reads)


def _read_new(
    path: str, offset: int, limit: int | None = None, end: int = sys.maxsize, chunk_bytes: int = _CHUNK_BYTES
) -> Iterator[_Read]:
    """What a journal has from `offset` up to `end`, in pieces; with `limit`, one piece of at most `limit` lines. A
    file that is damaged or no journal gives nothing."""
    try:
        yield from _read_fit(path, offset, limit, end, chunk_bytes)
    except UnfitFile as error:
        pass_over(path, error.strerror)


def _read_fit(path: str, offset: int, limit: int | None, end_of_all: int, chunk_bytes: int) -> Iterator[_Read]:
    if offset and folded_end(path) == offset:
        return  # compressed, and wholly folded
    try:
        # Opened anew each time: a network disk shows what another node appended only to those who open the file.
        journal = open_to_read(path)
    except FileNotFoundError:
        return
    with journal:
        if offset and _is_own(path):
            _check_end(journal, path, offset)
        if not journal.has_more(offset):
            return
        end_of_all = min(end_of_all, _sync_own(path))
        while offset < end_of_all and journal.has_more(offset):
            entries: list[Entry] = []
            end = offset
            if limit is None:
                entries, end = read_whole_lines(journal, offset, min(chunk_bytes, end_of_all - offset))
            taken, torn = len(entries), 0
            if end == offset:
                taken, torn, end = _read_one_by_one(journal, entries, offset, limit, end_of_all)
            if not taken:
                return
            yield _Read(journal_key(path), entries, taken, torn, offset, end)
            offset = end
            if limit is not None:
                return


def _is_own(path: str) -> bool:
    """Whether this node appends to a journal, or did so before."""
    return os.path.basename(path).startswith(f"{node_name()}.") and path.endswith(".jsonl")


def _check_end(journal: JournalFile, path: str, offset: int) -> None:
    """Raise LedgerCorrupt if no line of this node's own journal ends at `offset`. A crash of the node then took back
    what the ledger has folded, in spite of a sync, and the ledger has more than could be made again."""
    around = journal.read_at(2, offset - 1)
    if not around or around[1:] not in (b"", b"\n"):
        reason = f"it has folded {offset} bytes of {os.path.basename(path)}, of which a crash took some back"
        raise LedgerCorrupt(path=path, reason=reason)


def _sync_own(path: str) -> int:
    """The offset up to which a journal may be read. If this node writes it to a network disk, it is synced first: a
    crash of the node could else take back what its ledger, on a disk of its own, had folded."""
    if not _is_own(path) or _is_local(os.path.dirname(path)):
        return sys.maxsize
    try:
        # Open it for writing only: MooseFS does not sync through a descriptor that may read and has not written.
        descriptor = patiently(lambda: open_regular(path, os.O_WRONLY), path, FLICKER_S)
    except (FileNotFoundError, PermissionError):
        return sys.maxsize
    try:
        size = os.fstat(descriptor).st_size
        os.fdatasync(descriptor)
        return size
    finally:
        os.close(descriptor)


_is_local = functools.cache(is_local)


def _read_one_by_one(
    journal: JournalFile, entries: list[Entry], offset: int, limit: int | None, end: int
) -> tuple[int, int, int]:
    """Read a part of a journal that does not parse as a whole, line by line, and add the good lines to `entries`.
    Returns how many lines were taken, how many of them are torn, and the offset after them."""
    taken = torn = 0
    for line in read_journal(journal, offset, end):
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
    return list_journals(layout.journals)


def unfolded_bytes(connection: Connection, layout: Layout) -> int:
    """How many bytes of all journals a ledger has not folded yet."""
    positions = dict(connection.execute("SELECT journal, offset FROM journal_position"))
    unfolded = 0
    for path in journal_paths(layout):
        with contextlib.suppress(OSError):  # it is being compressed at this moment, or is no journal
            size = folded_end(path) or os.stat(path).st_size
            unfolded += max(0, size - positions.get(journal_key(path), 0))
    return unfolded


def others_are_due(polled_file: str, poll_time_s: float) -> bool:
    """Whether this node has not looked at the other nodes' journals for `poll_time_s`. If so, it notes that it does
    now."""
    now = time.time()
    try:
        if 0 <= now - os.lstat(polled_file).st_mtime < poll_time_s:
            return False
    except FileNotFoundError:
        pass
    try:
        descriptor = open_common_file(polled_file, os.O_WRONLY)
    except UnfitFile as error:
        pass_over(polled_file, error.strerror)
        return True
    os.utime(descriptor)
    os.close(descriptor)
    return True
