"""Explain what a selection means: jobs, arrays, tasks of arrays, and files that are no jobs. Reads what explain.py reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jobjar.errors import JarError, UnknownJob
from jobjar.jar import Jar
from jobjar.ledger.looks import Unseen
from jobjar.reports.explain import Explanation, explain_job, explain_no_job
from jobjar.reports.explain_array import explain_tasks
from jobjar.reports.standing import Look
from jobjar.selecting.arrays import find_tasks
from jobjar.selecting.select import select_each
from jobjar.selecting.selection import Selection


class Explained(NamedTuple):
    """The explanations of a selection, and what is wrong with those of its words that name none."""

    jobs: list[Explanation]
    errors: list[JarError]


def explain_selected(
    jar: Jar, selection: Selection, unseen: Iterable[Unseen] = (), limit: int | None = None
) -> Explained:
    """Explain the jobs of a selection, at most `limit`; an array that a word names in one answer, tasks of one by what they have
    in common. `unseen` is what `refresh_ledger` returned. A word that names a file in limbo or unclaimed/ which is no job is
    explained too. Raises NothingSelected, UnknownBatch."""
    look_at = Look(jar, unseen)
    explained, errors, words = list[Explanation](), list[JarError](), list[str]()
    for word in selection.words:
        try:
            tasks = find_tasks(jar, word)
        except JarError as error:
            errors.append(error)
            continue
        if tasks is None:
            words.append(word)
        else:
            explained += explain_tasks(look_at, tasks)
    if selection.words and not words:
        return Explained(explained, errors)
    selected = select_each(jar, selection._replace(words=tuple(words)), limit)
    explained += [explain_job(look_at, job) for job in selected.jobs[:limit]]
    for unknown in selected.errors:
        found = explain_no_job(jar, str(unknown.fields["job"])) if isinstance(unknown, UnknownJob) else None
        explained += [] if found is None else [found]
        errors += [unknown] if found is None else []
    return Explained(explained, errors)
