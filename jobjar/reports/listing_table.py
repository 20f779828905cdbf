"""A list of jobs as a table: the cells of its columns, and which columns fit the width of a terminal. Reads and writes nothing
but what a column of commands reads (reports/listing.py)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from jobjar.reports.listing import COLUMNS, DURATIONS, TIMES, ListedJob, iso_time
from jobjar.reports.tables import Paint, format_table
from jobjar.text import printable_name
from jobjar.units import format_moment, format_seconds

# The columns of a table for people, in order; `job` is the last, and gets the room that is left.
_CORE = ("id", "state", "age", "ran", "exit", "worker")
# Columns that come before `job` while there is room, if they tell jobs apart.
_MORE = ("category", "batch", "submitter", "priority", "submitted", "ended")
_LAST = "job"
# Widths in characters: what `job` needs, and what it gets before another column comes in; the widest of the other cells.
_LEAST_LAST, _GOOD_LAST = 12, 24
_WIDEST = 22
_GAP = 2
# Columns that a narrow terminal leaves out, the first one first.
_DROPPED = ("worker", "ran", "age")


def make_table(
    jobs: Sequence[ListedJob],
    names: Sequence[str] | None,
    width: int | None,
    table_format: str,
    paint: Paint | None = None,
) -> str:
    """A table of jobs for people. Without `names`, the columns are those that fit `width` characters; None: any width."""
    chosen = list(names) if names is not None else []
    cells = {name: [_cell(name, job) for job in jobs] for name in chosen or (*_CORE, *_MORE, _LAST)}
    if width is not None:
        # The last column is cut where the line ends.
        last = chosen[-1] if chosen else _LAST
        cells = {
            name: column if name == last else [cut(cell, _WIDEST) for cell in column] for name, column in cells.items()
        }
    if not chosen:
        chosen = _choose(cells, width)
    if width is not None:
        room = width - sum(_width(name, cells[name]) + _GAP for name in chosen[:-1])
        cells[chosen[-1]] = [cut(cell, max(room, 1)) for cell in cells[chosen[-1]]]
    rows = list(zip(*(cells[name] for name in chosen), strict=True))
    if width is None or table_format != "simple":
        return format_table(rows, chosen, table_format, paint)
    # tabulate makes a column two wider than its header, which a terminal has no room for.
    lines = tuple("-" * _width(name, cells[name]) for name in chosen)
    return format_table([tuple(chosen), lines, *rows], (), "plain", paint)


def _choose(cells: dict[str, list[str]], width: int | None) -> list[str]:
    """The columns of a table for people, in order."""
    more = [name for name in _MORE if _is_telling(name, cells[name])]
    chosen = [name for name in _CORE if name == "id" or _is_telling(name, cells[name])]
    if width is not None:
        widths = {name: _width(name, cells[name]) + _GAP for name in (*chosen, *more)}
        needs = min(_GOOD_LAST, _width(_LAST, cells[_LAST]))
        used = sum(widths[name] for name in chosen)
        for name in _DROPPED:
            if name in chosen and used + _LEAST_LAST > width:
                chosen.remove(name)
                used -= widths[name]
        fitting = []
        for name in more:
            if used + widths[name] + needs <= width:
                fitting.append(name)
                used += widths[name]
        more = fitting
    return [*chosen, *more, _LAST]


def _is_telling(name: str, column: Sequence[str]) -> bool:
    """Whether a column says anything: most jobs have no batch and priority 0, and one user may have submitted all."""
    return len(set(column)) > 1 if name == "submitter" else bool(set(column) - {"", "0"})


def _cell(name: str, job: ListedJob) -> str:
    """A cell for people: times are local, durations short."""
    value = COLUMNS[name](job)
    if value is None:
        return ""
    if name in TIMES:
        return format_moment(value)[:16].replace("T", " ")
    if name in DURATIONS:
        return "".join(format_seconds(value).split())
    return printable_name(str(value))


def cell_for_programs(name: str, job: ListedJob) -> str:
    """A cell of comma-separated values: times are ISO 8601 in UTC, durations seconds."""
    value = COLUMNS[name](job)
    if value is None:
        return ""
    if name in TIMES:
        return iso_time(value) or ""
    return f"{value:.3f}" if name in DURATIONS else printable_name(str(value))


def _width(name: str, column: Sequence[str]) -> int:
    return max(map(shown_width, (name, *column)))


def shown_width(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def cut(text: str, width: int) -> str:
    """A text that takes at most so many columns of a terminal; one that is cut ends in `…`."""
    if shown_width(text) <= width:
        return text
    while shown_width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"
