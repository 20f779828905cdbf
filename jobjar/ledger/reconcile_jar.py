"""Make a ledger agree with the directories as a whole: list the jars, find what differs, correct it
(reconcile_file.py).

Reads the jars and all rows. Writes rows, and has moves by hand journaled (by_hand.py). Killed midway, the transaction
is taken back, and the next reconciliation does the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from jobjar.job_file.names import oddity_in_name, unnumbered_name
from jobjar.layout import Layout, name_in_place, worker_of_place
from jobjar.ledger.ask_claiming import IS_OPEN, is_with_worker
from jobjar.ledger.by_hand import OpenJournal
from jobjar.ledger.difference import Difference
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_in_pieces, fold_journals
from jobjar.ledger.home import LOCK_PATIENCE_S
from jobjar.ledger.large_looks import begin_look, find_large, note_look
from jobjar.ledger.pieces import in_pieces
from jobjar.ledger.reconcile_file import apply_differences, compare_file
from jobjar.ledger.removed import forget_missed, missed_jobs
from jobjar.ledger.store import Ledger
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.files import is_gone, look
from jobjar.shared_disk.listing import list_jars

# The most that one transaction of `reconcile_in_pieces` looks at: nobody waits for more.
PIECE = 500
# A job in the ledger: row, id, place, name.
Row = tuple[int, str | None, str, str]


class Suspects(NamedTuple):
    """What may differ: places of files that are not known, and rows whose files were not listed."""

    places: list[str]
    rows: list[int]


class Listing(NamedTuple):
    """A listing of the jars: the `places` of their files. `list_again` gives those of a second listing that the first did not
    show. A job in it moved on during the first listing, or back, as one that could not be started, and the entry of its move is
    about to be read. Without `with_completed`, jobs that the ledger has in completed/ are believed to be there."""

    places: Collection[str]
    list_again: Callable[[], set[str]]
    with_completed: bool


class Comparison(NamedTuple):
    """A ledger that is compared with the jars in pieces. With `applies` it is corrected too, and moves by hand are recorded in
    the journal that `open_journal` gives, and not at all without `open_journal`."""

    ledger: Ledger
    layout: Layout
    patience_s: float = LOCK_PATIENCE_S
    meter: Meter = SILENT
    applies: bool = True
    open_journal: OpenJournal | None = None


def list_rows(connection: Connection, with_completed: bool = True) -> Iterator[Row]:
    """The jobs that should have a file: row, id, place and name."""
    states = "state <> 'removed'" if with_completed else IS_OPEN
    yield from connection.execute(f"SELECT id, uid, place, name FROM job WHERE {states}")


def find_suspects(connection: Connection, layout: Layout, places: set[str], rows: Iterable[Row]) -> Suspects:
    """Compare rows with a listing of where they should be. This only reads, so that it may be done without the lock,
    however long it takes. Whether directories and ledger really differ is for `compare_places` and `compare_rows` to
    decide."""
    unknown = set(places)
    unnamed: list[tuple[str, str]] = []
    shared: list[tuple[str, str]] = []
    missing: list[int] = []
    missing_names: set[str] = set()
    for row, uid, place, name in rows:
        if place not in places:
            if is_gone(layout.path(place)):
                missing.append(row)
                if uid is not None:
                    missing_names.add(name)
        elif uid is None:
            unnamed.append((place, name))
        elif place in unknown:
            unknown.discard(place)
        else:
            shared.append((name, place))
    for name, place in shared:
        same = connection.execute(
            "SELECT id FROM job WHERE name = ? AND place = ? AND state <> 'removed'", (name, place)
        )
        missing += [row for (row,) in same.fetchall() if _is_followed(connection, row, name, place)]
    for place, name in unnamed:
        if name not in missing_names and unnumbered_name(name) not in missing_names:
            unknown.discard(place)
    return Suspects(sorted(unknown), missing)


def compare_places(
    connection: Connection,
    layout: Layout,
    places: Iterable[str],
    with_completed: bool = True,
    explained: set[int] | None = None,
) -> list[Difference]:
    """What the files at `places` are, which the ledger does not have there. Rows in `explained` are ignored. The
    rows that these files are, or may be, are added to it."""
    differences = []
    explained = set() if explained is None else explained
    for place in places:
        doubtful = _doubtful_rows(connection, layout, place, with_completed)
        explained.update(doubtful)
        difference = compare_file(connection, layout, place, explained)
        if difference is not None and not (doubtful and difference.kind == "new"):
            differences.append(difference)
            if difference.row is not None:
                explained.add(difference.row)
    return differences


def _doubtful_rows(connection: Connection, layout: Layout, place: str, with_completed: bool) -> set[int]:
    """The rows without an id at a place that may be a job which has one. Such a job was seen after a hand had moved
    it, and before the entry of the claim that named it was read."""
    name = name_in_place(place)
    if oddity_in_name(name):  # no job, and perhaps not even text
        return set()
    query = "SELECT id FROM job WHERE uid IS NULL AND name = ? AND place = ? AND state <> 'removed'"
    unnamed = {row for (row,) in connection.execute(query, (name, place))}
    if not unnamed:
        return unnamed
    states = "" if with_completed else "AND state <> 'completed'"
    named = connection.execute(
        f"SELECT place FROM job WHERE name IN (?, ?) AND uid IS NOT NULL AND state <> 'removed' {states}",
        (name, unnumbered_name(name)),
    ).fetchall()
    return unnamed if any(look(layout.path(there)) is None for (there,) in named) else set()


def compare_rows(
    connection: Connection,
    layout: Layout,
    rows: Sequence[int],
    listing: Listing,
    explained: Collection[int] = (),
) -> list[Difference]:
    """Which of these rows have no file, neither now nor in the listing. Rows in `explained` are ignored."""
    states = "" if listing.with_completed else "AND state <> 'completed'"
    marks = ",".join("?" * len(rows))
    differences: list[Difference] = []
    followed: list[Difference] = []
    taken = set(explained)
    for row, uid, place, name in connection.execute(
        f"SELECT id, uid, place, name FROM job WHERE id IN ({marks}) AND state <> 'removed' {states}", rows
    ).fetchall():
        if row not in taken and _is_followed(connection, row, name, place):
            followed.append(Difference("gone", row, uid, place, place, 0.0))
            continue
        # Look again: it may have come back since the listing.
        if row in taken or place in listing.places or not is_gone(layout.path(place)):
            continue
        if worker_of_place(place) is not None and is_with_worker(connection, uid, place):
            continue  # the job may have removed its own file: its worker's end, or a recovery, records that
        difference = None
        if not listing.with_completed:
            difference = compare_file(connection, layout, f"completed/{name}", taken)
        if difference is None or difference.row != row:
            difference = Difference("gone", row, uid, place, place, 0.0)
        differences.append(difference)
        taken.add(row)
    return followed + _without_jobs_on_their_way(connection, layout, differences, listing)


def _is_followed(connection: Connection, row: int, name: str, place: str) -> bool:
    """Whether a later job has completed at the place of a completed one. The file there is the later one's, and the
    earlier one's was removed before."""
    query = (
        "SELECT 1 FROM job AS later, job WHERE job.id = ? AND later.name = ? AND later.place = ? AND later.uid IS NOT NULL "
        "AND later.state = 'completed' AND job.state = 'completed' "
        "AND (later.moved_at, later.move_number, later.uid) > (job.moved_at, job.move_number, job.uid)"
    )
    return connection.execute(query, (row, name, place)).fetchone() is not None


def _without_jobs_on_their_way(
    connection: Connection, layout: Layout, differences: list[Difference], listing: Listing
) -> list[Difference]:
    """The differences without missing jobs that a second listing shows, or that are back by now."""
    gone = {unnumbered_name(name_in_place(difference.place)) for difference in differences if difference.kind == "gone"}
    if not gone:
        return differences
    shown = {
        unnumbered_name(name_in_place(place))
        for place in listing.list_again()
        if unnumbered_name(name_in_place(place)) in gone and not _is_known(connection, place)
    }
    return [
        difference
        for difference in differences
        if difference.kind != "gone"
        or difference.uid is None
        or not (
            unnumbered_name(name_in_place(difference.place)) in shown
            or look(layout.path(difference.place)) is not None
            or (
                not listing.with_completed and look(f"{layout.completed}/{name_in_place(difference.place)}") is not None
            )
        )
    ]


def _is_known(connection: Connection, place: str) -> bool:
    query = "SELECT 1 FROM job WHERE name = ? AND place = ? AND state <> 'removed'"
    return connection.execute(query, (name_in_place(place), place)).fetchone() is not None


def compare_jars(
    connection: Connection, layout: Layout, places: set[str], with_completed: bool = True
) -> list[Difference]:
    """All differences between the ledger and the jars. `places` is a listing of these (`list_jars`).

    Without `with_completed`, jobs that the ledger has in completed/ are believed to be there.
    """
    suspects = find_suspects(connection, layout, places, list_rows(connection, with_completed))
    differences = compare_places(connection, layout, suspects.places, with_completed)
    explained = {difference.row for difference in differences if difference.row is not None}
    again = functools.cache(lambda: list_jars(layout, with_completed) - places)
    listing = Listing(places, again, with_completed)
    for start in range(0, len(suspects.rows), PIECE):
        rows = suspects.rows[start : start + PIECE]
        differences += compare_rows(connection, layout, rows, listing, explained)
    return differences


def compare_missed(connection: Connection, layout: Layout, rows: Sequence[int], listing: Listing) -> list[Difference]:
    """Which jobs that a claimer missed are gone. The ledger has to know the listed files before."""
    marks = ",".join("?" * len(rows))
    query = f"SELECT id, uid, place FROM job WHERE id IN ({marks}) AND state = 'removed'"
    gone = [Difference("gone", row, uid, place, place, 0.0) for row, uid, place in connection.execute(query, rows)]
    # A file at a missed job's place is another job's by now.
    replaced = [difference for difference in gone if difference.place in listing.places]
    missing = [
        difference
        for difference in gone
        if difference.place not in listing.places and is_gone(layout.path(difference.place))
    ]
    return replaced + _without_jobs_on_their_way(connection, layout, missing, listing._replace(with_completed=False))


def reconcile(
    connection: Connection, layout: Layout, with_completed: bool = True, open_journal: OpenJournal | None = None
) -> list[Difference]:
    """Compare everything and correct the ledger; returns what was different. Runs inside the caller's transaction.
    Moves by hand are recorded in the journal that `open_journal` gives, and not at all without `open_journal`.

    Without `with_completed` the completed jar, which may hold millions, is not listed.
    """
    places = list_jars(layout, with_completed)
    # After the listing: a submission is journaled before its file can be seen, so its file is never taken for a new
    # job.
    fold_journals(connection, layout)
    differences = compare_jars(connection, layout, places, with_completed)
    apply_differences(connection, layout, differences, open_journal)
    return differences


def reconcile_in_pieces(
    ledger: Ledger,
    layout: Layout,
    with_completed: bool = True,
    links: list[str] | None = None,
    patience_s: float = LOCK_PATIENCE_S,
    meter: Meter = SILENT,
    open_journal: OpenJournal | None = None,
) -> list[Difference]:
    """`reconcile` for callers that have not begun a transaction. Listing a jar of millions, and comparing the listing
    with the ledger, takes long and is done without the lock. What then seems to differ is looked at under it, a piece
    at a time.

    Killed midway, the next reconciliation does the rest. The paths of symbolic links are added to `links`. Raises
    LedgerError, CannotUseJar, OSError.
    """
    ledger.ensure_open(patience_s)
    with ledger.errors_named():
        large = {place: begin_look(layout.path(place)) for place in find_large(ledger.connection)}
    meter.begin("listing the directories", "files")
    places = list_jars(layout, with_completed, links, meter)
    comparison = Comparison(ledger, layout, patience_s, meter, True, open_journal)
    differences = find_differences(comparison, places, with_completed)
    if large:
        with ledger.writing(patience_s) as connection:
            for place, before in large.items():
                note_look(connection, place, before)
    return differences


def find_differences(comparison: Comparison, places: set[str], with_completed: bool = True) -> list[Difference]:
    """All differences between a ledger and the jars. `places` is a listing of these from just now. Works in pieces, and
    raises, as `reconcile_in_pieces`."""
    ledger, layout, patience_s, meter, applies, _ = comparison
    # After the listing, as in `reconcile`.
    meter.begin("folding the journals", "bytes")
    fold_in_pieces(ledger, layout, patience_s, meter)
    meter.begin("comparing the ledger with the directories", "jobs", len(places))
    with ledger.errors_named():
        rows = meter.counted(list_rows(ledger.connection, with_completed))
        suspects = find_suspects(ledger.connection, layout, places, rows)
        missed = missed_jobs(ledger.connection) if applies else []
    fold_in_pieces(ledger, layout, patience_s)
    listing = Listing(places, lambda: list_jars(layout, with_completed) - places, with_completed)
    return look_at_suspects(comparison, suspects, listing, missed)


def look_at_suspects(
    comparison: Comparison, suspects: Suspects, listing: Listing, missed: Sequence[int] = ()
) -> list[Difference]:
    """Look at suspects again under the lock, a piece at a time; returns what differs. The second listing is made before the
    lock is taken. Raises as `reconcile_in_pieces`."""
    ledger, layout, patience_s, meter, applies, open_journal = comparison
    again = listing.list_again() if suspects.rows or missed else set()
    listing = listing._replace(list_again=lambda: again)
    differences: list[Difference] = []
    # What was corrected agrees now. Where nothing is corrected, `explained` keeps two files from being one row.
    explained: set[int] = set()
    meter.begin("looking at what seems to differ", "jobs", len(suspects.places) + len(suspects.rows))
    for some_places in in_pieces(suspects.places, PIECE):
        with ledger.writing(patience_s) as connection:
            fold_journals(connection, layout)
            known = None if applies else explained
            of_piece = compare_places(connection, layout, some_places, listing.with_completed, known)
            if applies:
                apply_differences(connection, layout, of_piece, open_journal)
            differences += of_piece
        meter.add(len(some_places))
    # Rows that were found at a file are explained. `compare_rows` looks at all others, also at those that may be one.
    explained = set() if applies else {found.row for found in differences if found.row is not None}
    for rows in in_pieces(suspects.rows, PIECE):
        with ledger.writing(patience_s) as connection:
            fold_journals(connection, layout)
            of_piece = compare_rows(connection, layout, rows, listing, explained)
            if applies:
                apply_differences(connection, layout, of_piece, open_journal)
            differences += of_piece
        meter.add(len(rows))
    for rows in in_pieces(missed, PIECE):
        with ledger.writing(patience_s) as connection:
            fold_journals(connection, layout)
            gone = compare_missed(connection, layout, rows, listing)
            apply_differences(connection, layout, gone, open_journal)
            forget_missed(connection, [difference.row for difference in gone if difference.row is not None])
        differences += gone
    return differences
