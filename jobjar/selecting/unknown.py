"""Hints for a person who named no known job, or several: what was meant, and where nobody could look.

Reads the ledger, and lists directories; moves nothing.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable, Sequence

from jobjar.access.refusals import explain_unlisted
from jobjar.grouped import name_some
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.layout import Layout, jobs_place, worker_place
from jobjar.ledger.ask_batches import list_batches
from jobjar.ledger.ask_near import (
    Named,
    categories_of_jobs,
    count_ids,
    count_named_with,
    jobs_named_with,
    newest_jobs,
    newest_names,
)
from jobjar.ledger.models import JobReport
from jobjar.ledger.store import Ledger
from jobjar.shared_disk.files import look
from jobjar.shared_disk.listing import list_directories
from jobjar.text import printable, printable_name

SHORTEST_ID = 4
_SHOWN = 10
_NEWEST = 3
# How alike a word has to be to one that may have been meant (difflib's ratio). Ids of one process differ in one letter.
_LIKENESS = 0.8


def explain_unknown(jar: Jar, text: str) -> str:
    """A hint for an unknown name or id: similar jobs, how to see all jobs, and which directories this user may not list."""
    return _explain_near(jar, text) + describe_unlisted(jar)


def describe_unlisted(jar: Jar) -> str:
    """The directories that this user may not list, where a job could be; empty if there are none."""
    found = find_unlisted(jar.layout)
    more = f"; and {len(found) - _SHOWN} more directories were not looked into" if len(found) > _SHOWN else ""
    return "".join(f"; {line}" for line in found[:_SHOWN]) + more


def _explain_near(jar: Jar, text: str) -> str:
    ledger = jar.ledger
    if 0 < len(text) < SHORTEST_ID and text.isalnum():
        would_fit = count_ids(ledger, text)
        fit = f" ({_jobs(would_fit)} would fit)" if would_fit else ""
        return f"the beginning of an id has to be of {SHORTEST_ID} letters or more{fit}"
    if list_batches(ledger, text):
        return f"there is a batch of this name: `batch_status {text}` names its jobs"
    found = jobs_named_with(ledger, text, _SHOWN) if text else []
    if found:
        count = count_named_with(ledger, text)
        more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
        return f"it is a part of these names: {_list_names(found[:_SHOWN])}{more}"
    meant = _find_meant(ledger, text)
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    newest = newest_jobs(ledger, _NEWEST)
    if not newest:
        return "no job has been in this jar yet; is it the right one? (`jobjar config` says why it is used)"
    return f"the newest are {_list_names(newest)}; `jobjar list` lists them"


def _find_meant(ledger: Ledger, text: str) -> list[str]:
    """Words like this one that name one of the newest jobs, each with the job's id if it is another word."""
    words: dict[str, str] = {}
    for uid, name, submitter in newest_names(ledger):
        word = identifier_in_name(name, submitter) or (name if submitter is None or uid is None else "")
        if word:
            words.setdefault(word, f"{printable_name(word)}{'' if uid is None else f' ({uid})'}")
        if uid is not None:
            words.setdefault(uid, uid)
    return [words[word] for word in difflib.get_close_matches(text, words, n=3, cutoff=_LIKENESS)]


def suggest_target(jar: Jar, word: str) -> str:
    """`; did you mean X?` of batches, categories and jobs that a word may have meant; else nothing."""
    known = {row.name for row in list_batches(jar.ledger, None)} | categories_of_jobs(jar.ledger)
    meant = _find_meant(jar.ledger, word)
    return suggest(word, known) or (f"; did you mean {' or '.join(meant)}?" if meant else "")


def suggest_batch(jar: Jar, name: str) -> str:
    """`; did you mean X?` of batches with a name like this one; else nothing."""
    return suggest(name, {row.name for row in list_batches(jar.ledger, None)})


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X or Y?` where known words are like this one; else nothing."""
    near = difflib.get_close_matches(word, sorted(known), n=3)
    return f"; did you mean {' or '.join(map(printable_name, near))}?" if near else ""


def _list_names(rows: Sequence[Named]) -> str:
    return ", ".join(f"{printable(name)} ({state})" for name, state in rows)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def list_choices(found: Sequence[JobReport]) -> str:
    """The ids (or places) of jobs that share a name, newest first, and how many are not listed."""
    return name_some([f"{job.uid or job.place} ({job.state})" for job in found], _SHOWN)


def find_unlisted(layout: Layout) -> list[str]:
    """Directories of categories and workers that this user may not list, so that searches for jobs pass over them. Each line
    names the owner."""
    places = [f"unclaimed/{name}" for name in list_directories(layout.unclaimed)]
    for name in list_directories(layout.workers):
        jobs = jobs_place(name)
        places += [worker_place(name), jobs, *(f"{jobs}/{inner}" for inner in list_directories(layout.path(jobs)))]
    found: list[str] = []
    for place in places:
        with contextlib.suppress(OSError):  # it lies below a directory that is already listed
            status = look(layout.path(place))
            if status is not None and not os.access(layout.path(place), os.R_OK | os.X_OK):
                found.append(explain_unlisted(place, status))
    return found
