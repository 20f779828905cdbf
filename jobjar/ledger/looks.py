"""Look at the directories as far as a question may: at small ones, and at larger ones if that takes but a moment.

A worker's scan or a recovery compares the others; a question says when that was. Reads directories and rows; writes
what differs (ledger/reconcile_jar.py). Killed midway, the next question does the rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from jobjar.journal.read import list_journals
from jobjar.layout import Layout, name_in_place
from jobjar.ledger.by_hand import OpenJournal
from jobjar.ledger.counts import count_minutes
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.home import LOCK_PATIENCE_S
from jobjar.ledger.large_looks import SMALL, Before, Look, begin_look, count_jobs, find_others, note_look, read_looks
from jobjar.ledger.reconcile_jar import Comparison, Listing, Row, Suspects, find_suspects, look_at_suspects
from jobjar.ledger.removed import missed_jobs
from jobjar.ledger.store import Ledger
from jobjar.shared_disk.files import is_gone, look
from jobjar.shared_disk.listing import leaving_places, list_allowed, list_directory, list_worker_jobs

# A directory that is not small is looked at if that takes no longer.
_LOOK_S = 0.2
# The time that a file takes, if nobody has looked yet.
_FILE_S = 10e-6
# The clock of a disk that keeps fractions of seconds may stand still for so long.
_TICK_S = 0.02


class Unseen(NamedTuple):
    """A directory that was too large for a look and has changed since it was last compared with the ledger: how many
    jobs the ledger has there, when it was compared (this node's clock; None: never), when it changed (the disk's).
    `is_by_hand`: no program has journaled anything since it changed."""

    place: str
    jobs: int
    compared_at: float | None
    changed_at: float
    is_by_hand: bool


class _Listing:
    """The places of the files in all jars but completed/, without directories that take too long."""

    def __init__(self, layout: Layout, jobs: Mapping[str, int], looks: Mapping[str, Look]) -> None:
        self._layout = layout
        self._jobs = jobs
        self._looks = looks
        self.places: set[str] = set()
        self.left_out: set[str] = set()
        # Large directories that were looked at: their state before, and their entries.
        self.large: dict[str, tuple[Before, list[os.DirEntry[str]]]] = {}
        self._take("limbo")
        if "limbo" not in self.left_out:
            self.places.update(leaving_places(layout))
        for category in self._take("unclaimed"):
            self._take(f"unclaimed/{category}")
        self.places.update(list_worker_jobs(layout))

    def _take(self, place: str) -> list[str]:
        """Take in the files of a directory. Returns its subdirectories; if it takes too long, those that are known."""
        entries = None if self._takes_long(place) else self._read(place)
        if entries is None:
            self.left_out.add(place)
            return [known.partition("/")[2] for known in {*self._jobs, *self._looks} if known.startswith(f"{place}/")]
        directories = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_file(follow_symlinks=False):
                self.places.add(f"{place}/{entry.name}")
            elif entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
        return directories

    def _takes_long(self, place: str) -> bool:
        jobs, known = self._jobs.get(place, 0), self._looks.get(place)
        file_s = known.took_s / known.jobs if known is not None and known.jobs else _FILE_S
        return jobs > SMALL and jobs * file_s > _LOOK_S

    def _read(self, place: str) -> list[os.DirEntry[str]] | None:
        """The entries of a directory; None if it has more than the ledger knows, and reading them takes too long."""
        path = self._layout.path(place)
        before = begin_look(path)
        entries = []
        for entry in list_allowed(path) if "/" in place else list_directory(path):
            entries.append(entry)
            if len(entries) % SMALL == 0 and time.monotonic() - before.began > _LOOK_S:
                return None
        if len(entries) > SMALL:
            self.large[place] = before, entries
        return entries


def look_at_small(
    ledger: Ledger, layout: Layout, patience_s: float = LOCK_PATIENCE_S, open_journal: OpenJournal | None = None
) -> list[Unseen]:
    """Fold what is new, and make the ledger agree with the directories that are small enough for a question. Returns
    the others that have changed. completed/ is believed. Raises LedgerError,
    OSError."""
    ledger.ensure_open(patience_s)
    with ledger.errors_named():
        jobs, looks = count_jobs(ledger.connection), read_looks(ledger.connection)
    listing = _Listing(layout, jobs, looks)
    with ledger.writing(patience_s) as connection:
        # After the listing: a submission is journaled before its file can be seen.
        fold_journals(connection, layout)
        count_minutes(connection)
    with ledger.errors_named():
        connection = ledger.connection
        suspects = find_suspects(connection, layout, listing.places, _rows(connection, listing.left_out))
        # Only a listing of all directories shows where these are.
        missed = [] if listing.left_out else missed_jobs(connection)
    # A file that is not where it should be may be in a directory that is not listed. It is looked for there by name.
    found = _find_by_name(ledger.connection, layout, suspects.rows, listing.left_out)
    suspects = suspects._replace(places=sorted({*suspects.places, *found}))

    def list_again() -> set[str]:
        return (_Listing(layout, jobs, looks).places | found) - listing.places

    comparison = Comparison(ledger, layout, patience_s, open_journal=open_journal)
    look_at_suspects(comparison, suspects, Listing(listing.places, list_again, with_completed=False), missed)
    if listing.large:
        unknown = set(suspects.places)
        with ledger.writing(patience_s) as connection:
            for place, (before, entries) in listing.large.items():
                odd = (entry for entry in entries if entry.name.startswith(".") or f"{place}/{entry.name}" in unknown)
                note_look(connection, place, before, others=find_others(odd, place))
    return list(_find_unseen(layout, count_jobs(ledger.connection), looks, listing.left_out))


def look_for(
    ledger: Ledger, layout: Layout, name: str, known: Collection[Row], open_journal: OpenJournal | None = None
) -> bool:
    """Look for jobs that somebody named, for a question that left out large directories: at the files of the jobs
    that the ledger knows (`known`), and for a file of this name or at this place. Returns whether the ledger
    changed."""
    directories = {"limbo", "unclaimed", *count_jobs(ledger.connection), *read_looks(ledger.connection)}
    rows = [
        row for row, _, place, _ in known if place.rpartition("/")[0] in directories and is_gone(layout.path(place))
    ]
    if rows:
        # A change of a batch is moving these at this moment.
        leaving = set(leaving_places(layout))
        known = [row for row in known if row[2] not in leaving]
        rows = [row for row, _, place, _ in known if row in rows]
    names = {name} if not rows else {name for row, _, _, name in known if row in rows}
    places = {f"{directory}/{name}" for directory in directories for name in names}
    if name.rpartition("/")[0] in directories:
        places.add(name)
    held = {place for _, _, place, _ in known}
    found = {place for place in places - held if not name_in_place(place).startswith(".") and look(layout.path(place))}
    if not rows and (known or not found):
        return False
    comparison = Comparison(ledger, layout, open_journal=open_journal)
    listing = Listing(set(), lambda: found, with_completed=False)
    return bool(look_at_suspects(comparison, Suspects(sorted(found), rows), listing))


def _rows(connection: Connection, left_out: set[str]) -> Iterator[Row]:
    """The jobs that the ledger has with workers and in the directories that were listed: row, id, place and name."""
    columns = "SELECT id, uid, place, name FROM job WHERE"
    yield from connection.execute(f"{columns} state = 'claimed'")
    if "limbo" not in left_out:
        yield from connection.execute(f"{columns} state = 'limbo'")
    for (category,) in connection.execute(
        "SELECT DISTINCT category FROM job_count_report WHERE state = 'unclaimed'"
    ).fetchall():
        if (f"unclaimed/{category}" if category else "unclaimed") not in left_out:
            yield from connection.execute(f"{columns} state = 'unclaimed' AND category = ?", (category,))


def _find_unseen(
    layout: Layout, jobs: Mapping[str, int], looks: Mapping[str, Look], left_out: set[str]
) -> Iterator[Unseen]:
    """The directories that were not looked at and have changed since they were compared."""
    if not left_out:
        return
    journals = (look(path) for path in list_journals(layout.journals))
    journaled_at = max((status.st_mtime for status in journals if status is not None), default=0.0)
    for place in sorted(left_out):
        status, known = look(layout.path(place)), looks.get(place)
        if status is not None and (known is None or known.changed_ns != status.st_mtime_ns):
            is_by_hand = status.st_mtime > journaled_at + _TICK_S
            compared_at = None if known is None else known.compared_at
            yield Unseen(place, jobs.get(place, 0), compared_at, status.st_mtime, is_by_hand)


def _find_by_name(connection: Connection, layout: Layout, rows: list[int], directories: set[str]) -> set[str]:
    if not directories:
        return set()
    names = [connection.execute("SELECT name FROM job WHERE id = ?", (row,)).fetchone() for row in rows]
    places = (f"{directory}/{name[0]}" for name in names if name for directory in directories)
    return {place for place in places if look(layout.path(place)) is not None}
