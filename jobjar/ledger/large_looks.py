"""What was seen of large directories of jobs when they were compared with the ledger: when that was, how long it took,
and which files there are no jobs.

Reads and writes the tables directory_look and other_file. They belong to this ledger alone: they say what its node saw,
and may be lost. A directory is known by its place: limbo, unclaimed, unclaimed/CATEGORY.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from jobjar.job_file.names import oddity_in_name
from jobjar.ledger.driver import Connection
from jobjar.shared_disk.files import is_job_file, look
from jobjar.shared_disk.placeholder import read_placeholder
from jobjar.text import is_text

# A directory of at most this many jobs is small: questions look at it, and nothing is kept about it.
SMALL = 10_000
# A directory that was changed within this time may change again and keep the same time. Its disk keeps fractions of a
# second, or whole seconds.
_TICK_S, _COARSE_TICK_S = 0.05, 2.0
# A directory that differs again and again is noted again only after this time.
_PAUSE_S = 10.0
# How many files that are no jobs are noted for a directory.
_MOST_OTHERS = 1000
NOT_EXECUTABLE = "it is not executable"


class Look(NamedTuple):
    """A comparison of a directory: the directory's own time before (nanoseconds; 0: it differs, or may have been
    changed in that same moment), how many jobs the ledger had there, how long it took, when it was (this node's
    clock)."""

    changed_ns: int
    jobs: int
    took_s: float
    compared_at: float


class Before(NamedTuple):
    """A large directory before it is listed: its own time, and when that was read (monotonic clock)."""

    changed_ns: int
    began: float


def count_jobs(connection: Connection) -> dict[str, int]:
    """How many jobs the ledger has in limbo and in each directory of unclaimed/, by place, without empty ones."""
    query = (
        "SELECT CASE WHEN state = 'limbo' OR category = '' THEN state ELSE 'unclaimed/' || category END AS place, sum(jobs) "
        "FROM job_count_report WHERE state IN ('limbo', 'unclaimed') GROUP BY place"
    )
    return dict(connection.execute(query))


def find_large(connection: Connection) -> list[str]:
    """The places of the large directories."""
    return [place for place, jobs in count_jobs(connection).items() if jobs > SMALL]


def read_looks(connection: Connection) -> dict[str, Look]:
    """The last comparison of each large directory, by place."""
    query = "SELECT place, changed_ns, jobs, took_s, compared_at FROM directory_look"
    return {place: Look(*rest) for place, *rest in connection.execute(query)}


def begin_look(path: str) -> Before:
    """What has to be known of a directory before it is listed."""
    status = look(path)
    return Before(0 if status is None else status.st_mtime_ns, time.monotonic())


def note_look(
    connection: Connection, place: str, before: Before, agrees: bool = True, others: Mapping[str, str] | None = None
) -> None:
    """Note that a large directory was compared with the ledger: whether the two agree now, and, with `others`, which
    files in it are no jobs, and why. Writes nothing that is known already."""
    now = time.time()
    jobs = count_jobs(connection).get(place, 0)
    tick_s = _TICK_S if before.changed_ns % 1_000_000_000 else _COARSE_TICK_S
    is_settled = agrees and abs(now - before.changed_ns / 1e9) > tick_s
    changed_ns = before.changed_ns if is_settled else 0
    known = read_looks(connection).get(place)
    if known is None or known.changed_ns != changed_ns or (not is_settled and now - known.compared_at > _PAUSE_S):
        connection.execute(
            "INSERT OR REPLACE INTO directory_look VALUES (?, ?, ?, ?, ?)",
            (place, changed_ns, jobs, time.monotonic() - before.began, now),
        )
    if others is None:
        return
    some = dict(sorted(others.items())[:_MOST_OTHERS])
    noted = list_others(connection, place)
    if some != noted:
        connection.executemany("DELETE FROM other_file WHERE place = ?", [(other,) for other in noted])
        connection.executemany("INSERT OR REPLACE INTO other_file VALUES (?, ?)", some.items())


def list_others(connection: Connection, place: str) -> dict[str, str]:
    """The files that were noted in a directory as no jobs, and why, by place."""
    # The range of all that begins with `place/`: `0` comes right after `/`.
    query = "SELECT place, reason FROM other_file WHERE place >= ? AND place < ? ORDER BY place"
    rows = connection.execute(query, (f"{place}/", f"{place}0"))
    return {other: reason for other, reason in rows if "/" not in other[len(place) + 1 :]}


def find_others(entries: Iterable[os.DirEntry[str]], place: str) -> dict[str, str]:
    """Those of these entries of a directory that are no jobs, and why, by place, without categories and what has
    gone."""
    found = {}
    for entry in entries:
        if place == "unclaimed" and is_category(entry):
            continue
        why_not = why_not_a_job(entry)
        if why_not:
            # A name that is not UTF-8 is written as a program would print it: the ledger holds only text.
            found[f"{place}/{entry.name if is_text(entry.name) else ascii(entry.name)[1:-1]}"] = why_not
    return found


def is_category(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of unclaimed/ is a category."""
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and is_text(entry.name)


def why_not_a_job(entry: os.DirEntry[str] | Path) -> str | None:
    """Why an entry of a directory of jobs is no job; None if it is one, or has gone."""
    oddity = oddity_in_name(entry.name)
    if oddity:
        return f"its name: {oddity}"
    with contextlib.suppress(OSError):  # gone meanwhile
        if entry.is_symlink():
            if read_placeholder(os.fspath(entry)) is not None:
                return (
                    "it holds the name for a move; where its process was killed, recover_jobs on that node removes it"
                )
            return "it is a symbolic link"
        if not entry.is_file():
            return "it is not a regular file"
        if not is_job_file(entry.stat(follow_symlinks=False)):
            return NOT_EXECUTABLE
    return None
