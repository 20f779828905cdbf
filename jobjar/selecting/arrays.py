"""Read the words that name arrays and their tasks: `ARRAY`, `ARRAY[7]`, `ARRAY[1-10,17]`. Reads the ledger.

ARRAY is an array's id, four letters or more of its beginning, or the array's name. `array:ARRAY`, as `--array` has it, can be no
job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobjar.errors import AmbiguousJob, OthersJob, UnknownJob, UsageError
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.job_file.seeds import join_ranges, parse_seeds
from jobjar.ledger.apply_tasks import OUTCOMES
from jobjar.ledger.ask_arrays import ArrayRow, array_of, arrays_like, chunks_cut_short, submission_of
from jobjar.ledger.ask_jobs import find_jobs
from jobjar.ledger.ask_selected import Filters, jobs_of_filters
from jobjar.ledger.ask_selected_arrays import all_arrays, first_chunks, numbers_that_ended
from jobjar.text import as_text

_WORD = re.compile(r"(.+?)(?:\[([0-9,\s-]+)\])?", re.DOTALL)
_ID = re.compile(r"[0-9a-z]{4,12}")
MARK = "array:"
_ID_LETTERS = 12
_MOST_RANGES = 8


class Tasks(NamedTuple):
    """An array, and ranges of its indexes, each with its first and its last; None: the array as a whole."""

    array: ArrayRow
    ranges: tuple[tuple[int, int], ...] | None


def name_tasks(array: ArrayRow, ranges: Sequence[tuple[int, int]]) -> str:
    """The word that names these tasks; if they are in many ranges, the one that has them all."""
    joined = join_ranges(ranges).ranges
    if len(joined) > _MOST_RANGES:
        joined = ((joined[0][0], joined[-1][1]),)
    return f"{array.uid}[{','.join(str(first) if first == last else f'{first}-{last}' for first, last in joined)}]"


def find_tasks(jar: Jar, word: str) -> Tasks | None:
    """What a word names, if that is an array or tasks of one; None if it is not. Four letters of an array's id are enough. The
    caller brings the ledger up to date. Raises AmbiguousJob, UnknownJob (only where the word must be an array), UsageError."""
    found = _WORD.fullmatch(word.removeprefix(MARK))
    array = None if found is None else _find_array(jar, word, as_text(found.group(1)))
    if array is None or found is None:
        if word.startswith(MARK):
            hint = "--array takes an array's name or id; `jobjar list` lists arrays"
            raise UnknownJob(job=word.removeprefix(MARK), home=jar.layout.home, hint=hint)
        return None
    if found.group(2) is None:
        return Tasks(array, None)
    try:
        ranges = parse_seeds(found.group(2)).ranges
    except ValueError as error:
        raise UsageError(reason=f"{word}: {error}") from error
    if (
        array.first is not None
        and array.last is not None
        and (ranges[0][0] < array.first or ranges[-1][1] > array.last)
    ):
        indexes = f"{array.first}-{array.last}" + (f":{array.step}" if array.step != 1 else "")
        raise UsageError(reason=f"{word}: the array's tasks have the indexes {indexes}")
    return Tasks(array, ranges)


def _find_array(jar: Jar, word: str, title: str) -> ArrayRow | None:
    connection = jar.ledger.connection
    uids = []
    if _ID.fullmatch(title):
        uids = [title] if len(title) == _ID_LETTERS else arrays_like(connection, title)
    array = array_of(connection, uids[0]) if len(uids) == 1 else None
    if array is None and not uids[1:]:
        uids = [
            uid
            for uid, name, submitter in first_chunks(connection, title)
            if (identifier_in_name(name, submitter) or "").rpartition("+")[0] == title
        ]
        if len(uids) == 1 and not word.startswith(MARK):
            uids += [str(job.uid or job.place) for job in find_jobs(jar.ledger, title)]
        array = array_of(connection, uids[0]) if uids else None
    if len(uids) > 1:
        raise AmbiguousJob(job=word, count=len(uids), ids=", ".join(uids))
    return array


def failed_tasks(jar: Jar, filters: Filters, user: str) -> Iterator[Tasks]:
    """The tasks that ended without success in arrays that filters mean: those of `user`, or of the submitters that are named. An
    outcome and an exit status are of tasks; other filters fit an array if they fit one of its chunks."""
    connection = jar.ledger.connection
    asked = [OUTCOMES.index(outcome) for outcome in filters.outcomes if outcome in OUTCOMES]
    rest = filters._replace(states=(), outcomes=(), exit_statuses=(), submitters=filters.submitters or (user,))
    for array in all_arrays(connection):
        if (filters.outcomes and not asked) or (filters.batches and array.uid not in filters.batches):
            continue
        is_narrow = bool(filters.outcomes or filters.exit_statuses)
        numbers = numbers_that_ended(connection, array.id, asked, filters.exit_statuses)
        if not numbers and (is_narrow or not chunks_cut_short(connection, array.uid)):
            continue
        if any(True for _ in jobs_of_filters(connection, rest._replace(batches=(array.uid,)), 1)):
            yield Tasks(array, join_ranges((number, number) for number in numbers).ranges if is_narrow else None)


def check_owner(jar: Jar, array: ArrayRow, submitters: Sequence[str]) -> None:
    """Raise OthersJob if an array is another user's, and is not of one of `submitters` (`*`: of anybody)."""
    submitter = submission_of(jar.ledger.connection, array.uid).submitter
    if submitter not in (None, *(submitters or (login(),))) and "*" not in submitters:
        raise OthersJob(job=array.uid, submitter=submitter, user=login())
