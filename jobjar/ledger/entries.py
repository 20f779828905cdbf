"""Whether journal entries are valid: types, ranges, and names that are names.

Anybody who may write to a jar may append to a journal, and what is folded becomes paths, process ids and dates. An
invalid entry counts as torn. Folding is the busiest path there is, so rows are checked a column at a time, in a few
passes that the interpreter does by itself (`check_rows`). Applying entries one at a time shows which is invalid. Reads
what it is given; writes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobjar.shared_disk.contents import (
    LATEST,
    is_category,
    is_count,
    is_name,
    is_number,
    is_pid,
    is_text,
    is_time,
    or_none,
)

_Check = Callable[[Sequence[Any]], bool]
_NO_NAMES = {"", ".", ".."}


def are_paths(values: Sequence[Any]) -> bool:
    """Whether all are paths that stay below where they begin."""
    together = "\0".join(values)  # TypeError: not all are texts
    if together.count("\0") >= max(1, len(values)):
        return False
    return ".." not in together or not any(".." in value.split("/") for value in values)


def are_names(values: Sequence[Any]) -> bool:
    """Whether each can be one part of a path."""
    together = "\0".join(values)
    return "/" not in together and together.count("\0") < max(1, len(values)) and _NO_NAMES.isdisjoint(values)


def _are_few(fits: Callable[[Any], bool]) -> _Check:
    """The check of columns in which the same values come again and again."""
    return lambda values: all(map(fits, set(values)))


def _without_none(values: Sequence[Any]) -> Sequence[Any]:
    return [value for value in values if value is not None] if None in values else values


def _are_numbers(values: Sequence[Any]) -> bool:
    return math.isfinite(sum(values))  # an infinite one, or NaN, makes the sum so; TypeError: not all are numbers


def _are_times(values: Sequence[Any]) -> bool:
    return not values or (_are_numbers(values) and min(values) >= 0 and max(values) < LATEST)


def _or_none(check: _Check) -> _Check:
    return lambda values: check(_without_none(values))


_counts, _names, _texts = _are_few(is_count), _are_few(is_name), _are_few(is_text)
_names_or_none, _texts_or_none = _or_none(_names), _or_none(_texts)
_categories, _pids_or_none = _are_few(is_category), _or_none(_are_few(is_pid))
_times_or_none, _numbers_or_none = _or_none(_are_times), _or_none(_are_numbers)

# The check of each column, by kind of rows as apply.py makes them. None: the value comes from a row that is checked, or
# SQLite makes it a text.
MOVES: tuple[_Check | None, ...] = (are_names, _counts, _are_times, are_paths, are_paths)
CLAIMS: tuple[_Check | None, ...] = (None, _counts, _names, _names)
STARTS: tuple[_Check | None, ...] = (are_names, _counts, _names, _names, _pids_or_none, _numbers_or_none)
ENDS: tuple[_Check | None, ...] = (
    *(are_names, _counts, _names, _names, _pids_or_none, _numbers_or_none, _times_or_none, _texts, None),
    *(_numbers_or_none,) * 6,
    _or_none(are_names),
    None,
)
SUBMISSIONS: tuple[_Check | None, ...] = (
    *(are_names, _texts_or_none, _times_or_none, are_names, _categories),
    *(_numbers_or_none,) * 3,
    *(_texts, _names_or_none, _numbers_or_none),
)
# For rows of jobs: the columns that do not come from other rows.
JOBS: tuple[_Check | None, ...] = (None, None, None, None, _categories, None, None, None, _numbers_or_none)


def check_rows(rows: Sequence[Sequence[Any]], checks: Sequence[_Check | None]) -> None:
    """Raise ValueError, TypeError or OverflowError if one of the rows does not come from a valid entry."""
    if rows:
        for check, column in zip(checks, zip(*rows, strict=False), strict=False):
            if check is not None and not check(column):
                raise ValueError("none of ours")


def given_text(fields: Any) -> str:
    """The text that ledgers keep of what a job was given. Raises ValueError, TypeError or RecursionError if it is not that."""
    if type(fields) is not dict:
        raise TypeError("given is no object")
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True, allow_nan=False)
    if not is_text(text):
        raise ValueError("given is too long")
    return text


def _is_path(value: Any) -> bool:
    return is_text(value) and are_paths((value,))


# The checks of the rows that ledger/apply_others.py makes, by column. Other columns may be any text, or missing.
_COLUMN_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("uid", "worker_uid", "node", "queue", "state"), is_name),
    **dict.fromkeys(("attempt", "failures", "is_aborted", "ordinal", "is_gone", "revision"), is_count),
    **dict.fromkeys(("told_at", "began_at", "changed_at", "restarted_until", "intended_at", "since"), is_time),
    **dict.fromkeys(("value", "text", "description", "stream", "path"), is_text),
    **dict.fromkeys(("started_at", "ended_at", "submitted_at", "paused_at", "removed_at"), or_none(is_time)),
    **dict.fromkeys(("process_started", "exit_status"), or_none(is_number)),
    **dict.fromkeys(("storage_size", "jobs"), or_none(is_count)),
    "pid": is_pid,
    "source_name": _is_path,
    "until": is_number,
}
_text_or_none = or_none(is_text)
_WITHOUT_A_CHECK = ("number",)  # apply_others.py makes it from the value


def check_row(row: Mapping[str, Any], is_name_a_path: bool) -> None:
    """Raise ValueError if a row of rows_of_other does not come from a valid entry."""
    for column, value in row.items():
        fits = _COLUMN_CHECKS.get(column, _text_or_none)
        if column == "name":
            fits = is_name if is_name_a_path else is_text
        if column not in _WITHOUT_A_CHECK and not fits(value):
            raise ValueError(f"{column} cannot be that")
