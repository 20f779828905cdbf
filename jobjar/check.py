"""The promise, as code: compare a ledger, the journals and the directories. Reads; changes nothing.

The journals and the directories are folded into a private ledger in memory, which must say what the live one says, row
for row; and each job has to be in exactly one place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from jobjar.claimed_links import linked_place
from jobjar.control import running_workers
from jobjar.disk import look
from jobjar.errors import LedgerUnavailable
from jobjar.grouped import Line
from jobjar.jar import Jar
from jobjar.jobname import id_in_name
from jobjar.journal import open_to_read, read_journal
from jobjar.layout import Layout, name_in_place
from jobjar.ledger.agree import compare_jars
from jobjar.ledger.counts import find_wrong_counts
from jobjar.ledger.fold import fold_journals, journal_paths
from jobjar.ledger.rebuild import dump_ledger, open_private_copy
from jobjar.ledger.reconcile import is_job_at, list_directory, list_jars
from jobjar.ledger.renamed import known_copies
from jobjar.ledger.store import check_database
from jobjar.limits import find_faults
from jobjar.lookup import refresh_private_ledger
from jobjar.refused import find_refused
from jobjar.regular import passing_over

_SECOND_LOOK_S = 0.5


def check_jar(jar: Jar, note: Callable[[str], None] = lambda line: None) -> list[str]:
    """Each difference between the ledger, the journals and the directories, as a line; `note` gets what is none.

    Where there are some, it looks again: what workers are just doing is journaled a moment after it is done. Raises
    LedgerBusy, LedgerCorrupt, LedgerUnavailable.
    """
    if not os.access(jar.layout.journals, os.W_OK):
        # Who only reads checks what the jar's own ledger or the snapshot knows, with what was journaled since.
        refresh_private_ledger(jar)
    elif not os.path.exists(jar.ledger_home.database):
        raise LedgerUnavailable(path=jar.ledger_home.database, reason="there is none yet")
    removals: list[str] = []
    lines = _look(jar, removals)
    # A job that is being archived is seen twice, or at its old place, by a listing of that moment: look again.
    if lines and (running_workers(jar.layout) or os.path.isdir(jar.layout.archiving)):
        time.sleep(_SECOND_LOOK_S)
        still = set(_look(jar, removals))
        lines = [line for line in lines if line in still]
    for line in removals:
        note(line)
    note_torn_lines(jar, note)
    for place, reason in find_refused(jar.layout, running_workers(jar.layout)):
        note(f"{place} is passed over: {reason}")
    return lines


def _look(jar: Jar, removals: list[str]) -> list[str]:
    """The differences; `removals` becomes what somebody removed that had ended, which is none."""
    lines: list[str] = []
    with jar.ledger.writing() as connection:
        if not jar.ledger.is_private:
            check_database(jar.ledger_home.database)
        places = list_jars(jar.layout)
        fold_journals(connection, jar.layout)
        differences = compare_jars(connection, jar.layout, places)
        lines += [difference.as_line() for difference in differences if not difference.is_removal]
        removed = {difference.uid for difference in differences if difference.is_removal}
        removals[:] = [difference.as_line() for difference in differences if difference.is_removal]
        rebuilt = open_private_copy(jar.layout)
        if not lines:
            # Where the directories differ, the rows that follow from them do too: said once is enough.
            ours, theirs = (_without_jobs(dump_ledger(ledger), removed) for ledger in (connection, rebuilt))
            lines += compare_ledgers(ours, theirs)
        rebuilt.close()
        lines += find_wrong_counts(connection)
        lines += check_links(jar, places)
        held = known_copies(connection)
    return lines + check_one_place(jar.layout, places - held) + find_faults(jar.layout)


def _without_jobs(dump: dict[str, list[tuple[Any, ...]]], uids: set[str | None]) -> dict[str, list[tuple[Any, ...]]]:
    """A dump without the rows of some jobs: a new ledger has them as removed, a living one will with its next reconciliation."""
    if not uids:
        return dump
    of_jobs = ("job", "removed job")
    return {table: [row for row in rows if table not in of_jobs or row[0] not in uids] for table, rows in dump.items()}


def compare_ledgers(live: dict[str, list[tuple[Any, ...]]], rebuilt: dict[str, list[tuple[Any, ...]]]) -> list[str]:
    """The rows that only one of two dumps has."""
    lines: list[str] = []
    for table, rows in live.items():
        ours, theirs = set(rows), set(rebuilt[table])
        kind = f"rows of table {table} are only in the"
        lines += [Line(f"{table}: only in the ledger: {row}", f"{kind} ledger") for row in rows if row not in theirs]
        lines += [
            Line(f"{table}: only in the journals and directories: {row}", f"{kind} journals and directories")
            for row in rebuilt[table]
            if row not in ours
        ]
    return lines


def note_torn_lines(jar: Jar, note: Callable[[str], None]) -> None:
    """Note what is torn in the journals: a full disk or a crash leaves that for ever, and readers pass over it."""
    for path in journal_paths(jar.layout):
        with passing_over(path), open_to_read(path) as journal:
            end = 0
            for line in read_journal(journal, 0):
                end = line.end
                if line.entry is None:
                    torn = f"{os.path.basename(path)}: torn line at byte {line.start}, passed over"
                    note(Line(torn, "lines of journals are torn, and passed over"))
            size = journal.size()
            if size > end:
                note(f"{os.path.basename(path)}: {size - end} bytes at its end are not an entry (yet)")


def check_one_place(layout: Layout, places: set[str]) -> list[str]:
    """Jobs whose name, made here and so given once, is in more than one place. A file without its run bit is no job: it may
    hold a name for a move that was killed, where a rename cannot refuse to overwrite (moves.py)."""
    first: dict[str, str] = {}
    lines: list[str] = []
    for place in sorted(places):
        uid = id_in_name(name_in_place(place))
        if uid is None or first.setdefault(uid, place) == place or not is_job_at(layout.path(place)):
            continue
        if is_job_at(layout.path(first[uid])):
            line = f"{place}: the same job name is also at {first[uid]}"
            lines.append(Line(line, "files have the name of a job that is elsewhere too"))
        else:
            first[uid] = place
    return lines


def check_links(jar: Jar, places: set[str]) -> list[str]:
    """Links in claimed/ that lead nowhere, and claimed jobs without a link."""
    lines: list[str] = []
    linked = set()
    for entry in list_directory(jar.layout.claimed):
        if entry.is_symlink() and not entry.name.startswith("."):
            target = linked_place(jar.layout, entry.path)
            if target is not None:
                linked.add(target)
            elif look(entry.path) is not None:
                lines.append(
                    Line(f"claimed/{entry.name}: its job is not there any more", "links in claimed/ lead nowhere")
                )
    for place in places:
        if place.startswith("workers/") and place not in linked:
            lines.append(Line(f"{place}: has no link in claimed/", "claimed jobs have no link in claimed/"))
    return lines
