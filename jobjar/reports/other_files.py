"""Files in a jar that are not jobs, and directories that a question did not look at.

Reads directories. For large ones it reads what was noted when they were last compared with the ledger. Writes nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable

from jobjar.jar import Jar
from jobjar.ledger.driver import Connection
from jobjar.ledger.large_looks import count_jobs, find_large, is_category, list_others, read_looks, why_not_a_job
from jobjar.ledger.looks import Unseen
from jobjar.reports.refused import Refused
from jobjar.shared_disk.listing import list_everything
from jobjar.units import format_seconds


def find_other_files(jar: Jar, refused: Refused | None = None, large: Collection[str] = ()) -> list[tuple[str, str]]:
    """Files in limbo, unclaimed and claimed that are not jobs: (path relative to the jar, why). `refused` also gets each job in
    unclaimed, since its status is read here anyway. For `large` directories (places), it returns the noted files."""
    layout = jar.layout
    refused = refused or Refused(layout, ())
    found: list[tuple[str, str]] = []
    places = ["limbo", "unclaimed"]
    for place in places:
        category = place.partition("/")[2] if place.startswith("unclaimed") else None
        if category is not None and not refused.look_at_directory(category):
            continue
        if place in large:
            found += list_others(jar.ledger.connection, place).items()
            places += [f"unclaimed/{name}" for name in (known_categories(jar) if place == "unclaimed" else ())]
            continue
        for entry in list_everything(layout.path(place)):
            if place == "unclaimed" and is_category(entry):
                places.append(f"{place}/{entry.name}")
                continue
            why_not = why_not_a_job(entry)
            if why_not:
                found.append((f"{place}/{entry.name}", why_not))
            elif category is not None:
                with contextlib.suppress(FileNotFoundError):  # claimed meanwhile
                    refused.look_at_file(category, entry.name, entry.stat(follow_symlinks=False))
    for entry in list_everything(layout.claimed):
        if not entry.is_symlink():
            found.append((f"claimed/{entry.name}", "claimed/ holds links only"))
    return sorted(found)


def find_large_directories(jar: Jar, unseen: Iterable[Unseen]) -> set[str]:
    """The places of directories with too many files to look at each."""
    return {*find_large(jar.ledger.connection), *(directory.place for directory in unseen)}


def known_categories(jar: Jar) -> list[str]:
    """The categories that the ledger knows; for when unclaimed/ is too large to list."""
    connection: Connection = jar.ledger.connection
    known = {*count_jobs(connection), *read_looks(connection)}
    return sorted(place.removeprefix("unclaimed/") for place in known if place.startswith("unclaimed/"))


def explain_unseen(directory: Unseen) -> str:
    """A line for people: which directory a question did not look at, and what will compare it with the ledger."""
    compared = "was not yet compared with the ledger"
    if directory.compared_at is not None:
        ago = format_seconds(max(0.0, time.time() - directory.compared_at))
        compared = f"was last compared with the ledger at {_format_time(directory.compared_at)} ({ago} ago)"
    what = f"{directory.place}/ ({directory.jobs:,} jobs)"
    how = "a worker that asks for it does that, and `recover_jobs`"
    if directory.is_by_hand:
        return f"{what} was changed by hand at {_format_time(directory.changed_at)}, and {compared}; {how}"
    return f"{what} is too large to be looked through here; it {compared}; {how}"


def _format_time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
