"""Read the words that name arrays and their tasks: `ARRAY`, `ARRAY[7]`, `ARRAY[1-10,17]`. Reads the ledger."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from jobjar.errors import AmbiguousJob, OthersJob, UsageError
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.job_file.seeds import join_ranges, parse_seeds
from jobjar.ledger.ask_arrays import ArrayRow, array_of, arrays_like, submission_of

_WORD = re.compile(r"([0-9a-z]{4,12})(?:\[([0-9,\s-]+)\])?")
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
    caller brings the ledger up to date. Raises AmbiguousJob, UsageError."""
    found = _WORD.fullmatch(word)
    if found is None:
        return None
    connection, beginning = jar.ledger.connection, found.group(1)
    uids = [beginning] if len(beginning) == _ID_LETTERS else arrays_like(connection, beginning)
    if len(uids) > 1:
        raise AmbiguousJob(job=word, count=len(uids), ids=", ".join(uids))
    array = array_of(connection, uids[0]) if uids else None
    if array is None:
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


def check_owner(jar: Jar, array: ArrayRow, submitters: Sequence[str]) -> None:
    """Raise OthersJob if an array is another user's, and is not of one of `submitters` (`*`: of anybody)."""
    submitter = submission_of(jar.ledger.connection, array.uid).submitter
    if submitter not in (None, *(submitters or (login(),))) and "*" not in submitters:
        raise OthersJob(job=array.uid, submitter=submitter, user=login())
