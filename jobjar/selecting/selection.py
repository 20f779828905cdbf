"""What a person selects of a jar's jobs: jobs that are named, filters, or all. Reads nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from jobjar.attempts.attempt import OUTCOMES
from jobjar.errors import UsageError
from jobjar.ledger.ask_selected import STATES, UNKNOWN, Filters
from jobjar.selecting.arrays import MARK
from jobjar.text import as_text
from jobjar.units import format_moment, parse_moment

# What options of programs and arguments of the library give words of several kinds for.
_WORDS = {
    "state": "states",
    "outcome": "outcomes",
    "category": "categories",
    "batch": "batches",
    "submitter": "submitters",
    "name": "names",
    "worker": "workers",
    "node": "nodes",
}
# Those whose values are of a fixed set; a comma separates several.
_FIXED = {"state": tuple(STATES), "outcome": (*OUTCOMES, UNKNOWN)}
FILTERS = (*_WORDS, "since", "until", "exit_status", "array")


class Selection(NamedTuple):
    """Jobs of a jar: those that `words` name, and of these those that fit `filters`; without words, all that fit.

    `is_all` says that all are meant, for verbs that change something and refuse to do that to all jobs by mistake.
    """

    words: tuple[str, ...] = ()
    filters: Filters = Filters()
    is_all: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing says which jobs are meant."""
        return not self.words and not self.is_all and self.filters._replace(submitters=()) == Filters()

    @property
    def is_everything(self) -> bool:
        """Whether a question about this selection is about all jobs: nothing narrows it."""
        return not self.words and self.filters._replace(without_chunks=False) == Filters()

    def describe_filters(self) -> str:
        """The filters as a person would type them."""
        words = []
        for option, field in _WORDS.items():
            words += [f"--{option} {value or repr('')}" for value in getattr(self.filters, field)]
        words += [f"--exit-status {status}" for status in self.filters.exit_statuses]
        for name in ("since", "until"):
            moment = getattr(self.filters, name)
            words += [f"--{name} {format_moment(moment)}"] if moment is not None else []
        return " ".join(words)


def make_selection(words: str | Iterable[str] = (), is_all: bool = False, **filters: Any) -> Selection:
    """A selection of words, and of filters by the names of their options (`state`, `exit_status`): a value, or several.

    Times are UTC epoch seconds, or text as people write it. Raises UsageError for a value that is none, with what it may be.
    """
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise UsageError(reason=f"there is no filter {unknown[0]!r}{_meant(unknown[0], FILTERS)}")
    values: dict[str, Any] = {field: _check_words(name, filters.get(name)) for name, field in _WORDS.items()}
    values["exit_statuses"] = tuple(
        status for value in _several(filters.get("exit_status")) for status in _parse_statuses(value)
    )
    arrays = _several(filters.get("array"))
    if arrays and (words or is_all):
        raise UsageError(
            reason="--array names what is meant; leave it out, or leave out --all and the jobs that are named"
        )
    values |= {name: _parse_time(name, filters.get(name)) for name in ("since", "until")}
    if None not in (values["since"], values["until"]) and values["since"] >= values["until"]:
        raise UsageError(reason="--since is not before --until, so no job can fit")
    named = (*_several(words), *(f"{MARK}{as_text(str(array))}" for array in arrays))
    return Selection(named, Filters(**values), is_all)


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def _check_words(name: str, value: Any) -> tuple[str, ...]:
    words = _several(value)
    known = _FIXED.get(name)
    if known is None:
        return tuple(as_text(str(word)) for word in words)
    words = [part.strip() for word in words for part in str(word).split(",")]
    for word in words:
        if word not in known:
            raise UsageError(
                reason=f"there is no {name} {word!r}{_meant(word, known)}; it is one of: {' '.join(known)}"
            )
    return tuple(words)


def _meant(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=2)
    return f", did you mean {' or '.join(near)}?" if near else ""


def _parse_statuses(value: Any) -> list[int]:
    parts = str(value).split(",")
    if not all(re.fullmatch(r" *[0-9]{1,9} *", part) for part in parts):
        raise UsageError(
            reason=f"--exit-status: {value!r} is not a number of 0 to 255, nor several with commas between"
        )
    return [int(part) for part in parts]


def _parse_time(name: str, value: Any) -> float | None:
    if value is None or isinstance(value, int | float):
        return None if value is None else float(value)
    try:
        return parse_moment(str(value))
    except ValueError as error:
        raise UsageError(reason=f"--{name}: {error}") from error
