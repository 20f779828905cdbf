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
from jobjar.jar import Jar
from jobjar.jobname import id_in_name
from jobjar.journal import open_to_read, read_journal
from jobjar.layout import Layout, name_in_place
from jobjar.ledger.agree import compare_jars
from jobjar.ledger.fold import fold_journals, journal_paths
from jobjar.ledger.rebuild import dump_ledger, open_private_copy
from jobjar.ledger.reconcile import is_job_at, list_directory, list_jars
from jobjar.ledger.store import check_database
from jobjar.limits import find_faults
from jobjar.lookup import refresh_private_ledger

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
    lines = _look(jar)
    # A job that is being archived is seen twice, or at its old place, by a listing of that moment: look again.
    if lines and (running_workers(jar.layout) or os.path.isdir(jar.layout.archiving)):
        time.sleep(_SECOND_LOOK_S)
        still = set(_look(jar))
        lines = [line for line in lines if line in still]
    note_torn_lines(jar, note)
    return lines


def _look(jar: Jar) -> list[str]:
    lines: list[str] = []
    with jar.ledger.writing() as connection:
        if not jar.ledger.is_private:
            check_database(jar.ledger_home.database)
        places = list_jars(jar.layout)
        fold_journals(connection, jar.layout)
        lines += [str(difference) for difference in compare_jars(connection, jar.layout, places)]
        rebuilt = open_private_copy(jar.layout)
        if not lines:
            # Where the directories differ, the rows that follow from them do too: said once is enough.
            lines += compare_ledgers(dump_ledger(connection), dump_ledger(rebuilt))
        rebuilt.close()
        lines += check_links(jar, places)
    return lines + check_one_place(jar.layout, places) + find_faults(jar.layout)


def compare_ledgers(live: dict[str, list[tuple[Any, ...]]], rebuilt: dict[str, list[tuple[Any, ...]]]) -> list[str]:
    """The rows that only one of two dumps has."""
    lines = []
    for table, rows in live.items():
        ours, theirs = set(rows), set(rebuilt[table])
        lines += [f"{table}: only in the ledger: {row}" for row in rows if row not in theirs]
        lines += [f"{table}: only in the journals and directories: {row}" for row in rebuilt[table] if row not in ours]
    return lines


def note_torn_lines(jar: Jar, note: Callable[[str], None]) -> None:
    """Note what is torn in the journals: a full disk or a crash leaves that for ever, and readers pass over it."""
    for path in journal_paths(jar.layout):
        with open_to_read(path) as journal:
            end = 0
            for line in read_journal(journal, 0):
                end = line.end
                if line.entry is None:
                    note(f"{os.path.basename(path)}: torn line at byte {line.start}, passed over")
            size = journal.size()
            if size > end:
                note(f"{os.path.basename(path)}: {size - end} bytes at its end are not an entry (yet)")


def check_one_place(layout: Layout, places: set[str]) -> list[str]:
    """Jobs whose name, made here and so given once, is in more than one place. A file without its run bit is no job: it may
    hold a name for a move that was killed, where a rename cannot refuse to overwrite (moves.py)."""
    first: dict[str, str] = {}
    lines = []
    for place in sorted(places):
        uid = id_in_name(name_in_place(place))
        if uid is None or first.setdefault(uid, place) == place or not is_job_at(layout.path(place)):
            continue
        if is_job_at(layout.path(first[uid])):
            lines.append(f"{place}: the same job name is also at {first[uid]}")
        else:
            first[uid] = place
    return lines


def check_links(jar: Jar, places: set[str]) -> list[str]:
    """Links in claimed/ that lead nowhere, and claimed jobs without a link."""
    lines = []
    linked = set()
    for entry in list_directory(jar.layout.claimed):
        if entry.is_symlink() and not entry.name.startswith("."):
            target = linked_place(jar.layout, entry.path)
            if target is not None:
                linked.add(target)
            elif look(entry.path) is not None:
                lines.append(f"claimed/{entry.name}: its job is not there any more")
    for place in places:
        if place.startswith("workers/") and place not in linked:
            lines.append(f"{place}: has no link in claimed/")
    return lines
