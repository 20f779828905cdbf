"""The jobs that a selection means. Reads the ledger, which the caller brings up to date (reports/refresh.py)."""

from __future__ import annotations

from typing import NamedTuple

from jobjar.errors import JarError, NothingSelected, OthersJob, UnknownBatch, UsageError
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.ledger.ask_arrays import rows_of_chunks
from jobjar.ledger.ask_awaited import is_batch
from jobjar.ledger.ask_near import categories_of_jobs, submitters_of_jobs
from jobjar.ledger.ask_selected import (
    EVERYBODY,
    Filters,
    SelectedJob,
    count_in_states,
    jobs_of_filters,
    jobs_of_rows,
    rows_named,
    submitters_of_filters,
)
from jobjar.selecting.arrays import find_tasks
from jobjar.selecting.named import find_job, is_pattern
from jobjar.selecting.selection import Selection
from jobjar.selecting.unknown import suggest, suggest_batch
from jobjar.shared_disk.listing import list_directories
from jobjar.text import as_text


class Selected(NamedTuple):
    """The jobs of a selection, and what is wrong with those of its words that name none."""

    jobs: list[SelectedJob]
    errors: list[JarError]


def select_jobs(jar: Jar, selection: Selection, limit: int | None = None) -> list[SelectedJob]:
    """The jobs that a question means: those that are named, in this order, or all that fit, in that of `jobs_of_filters`.
    At most `limit`. Jobs that were removed are among them only if they are named, or asked for by their state.

    Raises UnknownJob, AmbiguousJob, NothingSelected, UnknownBatch."""
    selected = _select(jar, selection, limit)
    if selected.errors:
        raise selected.errors[0]
    return selected.jobs[:limit]


def select_each(jar: Jar, selection: Selection, limit: int | None = None) -> Selected:
    """The jobs that `select_jobs` gives. A word that names no job is an error among others; the other jobs are there all the
    same. Raises NothingSelected, UnknownBatch."""
    return _select(jar, selection, limit)


def select_jobs_to_change(jar: Jar, selection: Selection) -> Selected:
    """The jobs that a verb which changes jobs means. They are this user's, or those of the submitters that the selection names
    (`*`: of anybody). A word that names no job, or somebody else's, is an error among others; the other jobs are changed all the
    same. Raises UsageError if nothing is selected, NothingSelected, UnknownBatch."""
    if selection.is_empty:
        raise UsageError(reason="name jobs or filters, or use --all")
    filters = selection.filters
    if filters.submitters:
        return _select(jar, selection)
    if selection.words:
        selected = _select(jar, selection)
        own, errors = [], selected.errors
        for job in selected.jobs:
            if job.submitter in (None, login()):
                own.append(job)
            else:
                errors.append(OthersJob(job=job.uid or job.name, submitter=job.submitter, user=login()))
        return Selected(own, errors)
    return _select(jar, selection._replace(filters=filters._replace(submitters=(login(),))))


def _select(jar: Jar, selection: Selection, limit: int | None = None) -> Selected:
    connection, filters = jar.ledger.connection, selection.filters
    for name in filters.batches:
        if not is_batch(connection, name):
            raise UnknownBatch(name=name, home=jar.layout.home, hint=suggest_batch(jar, name))
    if not selection.words:
        jobs = list(jobs_of_filters(connection, filters, limit))
        if not jobs:
            raise nothing_selected(jar, selection)
        return Selected(jobs, [])
    rows: list[int] = []
    errors: list[JarError] = []
    for word in selection.words:
        try:
            rows += find_rows(jar, word)
        except JarError as error:
            errors.append(error)
    jobs = jobs_of_rows(connection, rows, filters)
    if not jobs and not errors:
        raise nothing_selected(jar, selection)
    return Selected(jobs, errors)


def find_rows(jar: Jar, word: str) -> list[int]:
    """The ledger's rows of the jobs that a word names: one, those whose names fit a pattern (`*nightly*`), or the chunks of an
    array. Raises UnknownJob, AmbiguousJob, UsageError."""
    tasks = find_tasks(jar, word)
    if tasks is not None:
        if tasks.ranges is not None:
            raise UsageError(
                reason=f"{word}: this is for whole arrays and their chunks; name the array, {tasks.array.uid}"
            )
        return rows_of_chunks(jar.ledger.connection, tasks.array.uid)
    if is_pattern(word):
        found = rows_named(jar.ledger.connection, as_text(word))
        if found:
            return found
    return [find_job(jar, word).id]


def nothing_selected(jar: Jar, selection: Selection) -> NothingSelected:
    """The error for a selection that no job fits: what was asked for, what may have been meant, and whose jobs would fit."""
    filters = selection.filters
    connection = jar.ledger.connection
    hints = []
    if filters.categories:
        known = {*categories_of_jobs(jar.ledger), *list_directories(jar.layout.unclaimed)}
        hints += [
            f"; there is no category {name!r}{suggest(name, known)}"
            for name in filters.categories
            if name and name not in known
        ]
    named = [name for name in filters.submitters if name not in (EVERYBODY, login())]
    if named:
        known = submitters_of_jobs(jar.ledger)
        hints += [f"; no job is of {name}{suggest(name, known)}" for name in named if name not in known]
    if filters.submitters == (login(),):
        others = submitters_of_filters(connection, filters)
        hints += [f"; {count:,} of {name or 'nobody known'} would" for name, count in sorted(others.items())[:3]]
        hints += ["; --submitter takes those of others"] if others else []
    described = selection.describe_filters()
    words = " ".join(selection.words)
    asked = " among ".join(part for part in (described, words) if part)
    return NothingSelected(filters=f" {asked}" if asked else ": there is none", hint="".join(hints))


def count_selected(jar: Jar, selection: Selection) -> int | None:
    """How many jobs a selection has, where the ledger keeps such a count: by state and category. Else None."""
    filters = selection.filters
    if selection.words or filters._replace(states=(), categories=(), without_chunks=False) != Filters():
        return None
    return count_in_states(jar.ledger.connection, filters.states, filters.categories, filters.without_chunks)
