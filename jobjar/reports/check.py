"""The check of the promise: compare the ledger, the journals and the directories. Reads; changes nothing.

It folds the journals into a second ledger (ledger/second_ledger.py), which must have the same rows as the live one. If it does
not, the second ledger also reads the directories, and is compared again. Each job must also be in exactly one place. Long steps
run without the lock, so other programs wait for one piece at most.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping

from jobjar.attempts.claimed_links import linked_place, list_links
from jobjar.attempts.limits import find_faults
from jobjar.errors import LedgerUnavailable
from jobjar.grouped import Line
from jobjar.jar import Jar
from jobjar.job_file.names import places_by_shared_id
from jobjar.journal.read import journal_key, open_to_read, read_journal
from jobjar.layout import Layout
from jobjar.ledger.counts import find_wrong_counts
from jobjar.ledger.fold import journal_paths
from jobjar.ledger.reconcile_jar import Comparison, find_differences
from jobjar.ledger.renamed import places_of_known_copies
from jobjar.ledger.second_ledger import SecondLedger, open_second_ledger
from jobjar.ledger.store import check_database
from jobjar.meter import SILENT, Meter
from jobjar.reports.refresh import refresh_private_ledger
from jobjar.reports.refused import find_refused
from jobjar.roster import running_workers
from jobjar.shared_disk.files import look
from jobjar.shared_disk.listing import is_job_at, list_jars
from jobjar.shared_disk.regular import passing_over

_SECOND_LOOK_S = 0.5
# When somebody removed a job's file, a new ledger knows it, but a live one learns it only with its next reconciliation.
_OF_JOBS = ("job", "removed job")


def check_jar(jar: Jar, note: Callable[[str], None] = lambda line: None, meter: Meter = SILENT) -> list[str]:
    """All differences between the ledger, the journals and the directories, a line each. `note` gets all other remarks.

    If there are differences, it looks a second time, since workers journal a move a moment after they made it. Raises
    LedgerError.
    """
    if not os.access(jar.layout.journals, os.W_OK):
        # A user who may only read checks a copy of the jar's own ledger or of the snapshot, plus the newer journal entries.
        refresh_private_ledger(jar)
    elif not os.path.exists(jar.ledger_home.database):
        raise LedgerUnavailable(path=jar.ledger_home.database, reason="there is none yet")
    found = _look(jar, meter)
    lines = found.lines
    # While a job is being archived, a listing may show it twice or at its old place: look again.
    if lines and (running_workers(jar.layout) or os.path.isdir(jar.layout.archiving)):
        time.sleep(_SECOND_LOOK_S)
        found = _look(jar, meter)
        still = set(found.lines)
        lines = [line for line in lines if line in still]
    for line in found.notes:
        note(line)
    for place, reason in find_refused(jar.layout, running_workers(jar.layout)):
        note(f"{place} is passed over: {reason}")
    return lines


class _Found:
    """`lines` are differences; `notes` are worth reporting but are no differences."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []


def _look(jar: Jar, meter: Meter) -> _Found:
    found = _Found()
    layout, ledger = jar.layout, jar.ledger
    ledger.ensure_open()
    if not ledger.is_private:
        meter.begin("looking at the ledger's pages", "ledgers", 1)
        check_database(jar.ledger_home.database)
    with open_second_ledger(ledger) as beside:
        # Fold first, since it takes longest: the later steps should see one moment, as far as possible.
        beside.fold(meter)
        torn = beside.folded()
        meter.begin("listing the directories", "files")
        places = list_jars(layout, meter=meter)
        differences = find_differences(Comparison(ledger, layout, meter=meter, applies=False), places)
        removed = {difference.uid for difference in differences if difference.is_removal}
        # A completed job whose file somebody removed is no difference.
        found.notes = [difference.as_line() for difference in differences if difference.is_removal]
        found.lines = [difference.as_line() for difference in differences if not difference.is_removal]
        if not found.lines:
            # Differing directories make rows differ too; one report is enough.
            found.lines += compare_ledgers(beside, removed, meter)
        with ledger.reading() as connection:
            found.lines += find_wrong_counts(connection)
            held = places_of_known_copies(connection)
    meter.begin("looking for jobs in two places", "files", len(places))
    found.lines += check_links(jar, places)
    found.lines += check_one_place(layout, places - held)
    found.lines += find_faults(layout)
    note_torn_lines(layout, torn, found.notes.append)
    meter.end()
    return found


def compare_ledgers(beside: SecondLedger, removed: Collection[str | None], meter: Meter = SILENT) -> list[str]:
    """The rows that only one of the two ledgers has, except the rows of `removed` jobs."""
    with beside.compared() as connection:
        if not beside.find_tables(connection, meter):
            return []
    # The journals know nothing of moves by hand, so read the directories too before calling rows different.
    meter.begin("comparing what the directories show", "ledgers", 1)
    beside.look_at_directories()
    lines: list[str] = []
    with beside.compared() as connection:
        for table in beside.find_tables(connection, meter):
            kind = f"rows of table {table} are only in the"
            for rows, where in zip(
                beside.find_rows(connection, table), ("ledger", "journals and directories"), strict=True
            ):
                lines += [
                    Line(f"{table}: only in the {where}: {row}", f"{kind} {where}")
                    for row in rows
                    if table not in _OF_JOBS or row[0] not in removed
                ]
    return lines


def note_torn_lines(layout: Layout, folded: Mapping[str, tuple[int, int]], note: Callable[[str], None]) -> None:
    """Note the torn lines and unfinished ends of the journals. A full disk or a crash leaves these for ever; readers pass over
    them. `folded` has the offset and the number of torn lines of each fold. Only journals with torn lines are read from the
    start."""
    for path in journal_paths(layout):
        with passing_over(path), open_to_read(path) as journal:
            offset, torn_lines = folded.get(journal_key(path), (0, 0))
            end = 0 if torn_lines else offset
            for line in read_journal(journal, end):
                end = line.end
                if line.entry is None:
                    torn = f"{os.path.basename(path)}: torn line at byte {line.start}, passed over"
                    note(Line(torn, "lines of journals are torn, and passed over"))
            size = journal.size()
            if size > end:
                note(f"{os.path.basename(path)}: {size - end} bytes at its end are not an entry (yet)")


def check_one_place(layout: Layout, places: Collection[str]) -> list[str]:
    """Jobs whose name is in more than one place, although a name made here is given only once. A file without its run bit is no
    job: it may reserve a name for a killed move, on disks where a rename cannot refuse to overwrite (shared_disk/moves.py)."""
    lines: list[str] = []
    for _, (first, *others) in sorted(places_by_shared_id(places).items()):
        for place in others:
            if not is_job_at(layout.path(place)):
                continue
            if is_job_at(layout.path(first)):
                line = f"{place}: the same job name is also at {first}"
                lines.append(Line(line, "files have the name of a job that is elsewhere too"))
            else:
                first = place
    return lines


def check_links(jar: Jar, places: Collection[str]) -> list[str]:
    """Links in claimed/ that lead nowhere, and claimed jobs that have no link."""
    lines: list[str] = []
    linked = set()
    for entry in list_links(jar.layout).of_jobs:
        place = linked_place(jar.layout, entry.path)
        if place is not None:
            linked.add(place)
        elif look(entry.path) is not None:
            lines.append(Line(f"claimed/{entry.name}: its job is not there any more", "links in claimed/ lead nowhere"))
    for place in places:
        if place.startswith("workers/") and place not in linked and look(jar.layout.path(place)) is not None:
            lines.append(Line(f"{place}: has no link in claimed/", "claimed jobs have no link in claimed/"))
    return lines
