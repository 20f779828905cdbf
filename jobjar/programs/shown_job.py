"""A job's description as text: all of it in a pipe; on a terminal what fits its width. Reads and writes nothing."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Sequence
from typing import Any

from jobjar.reports.dependents import name_prerequisites
from jobjar.reports.history import name_place
from jobjar.reports.listing_table import cut, shown_width
from jobjar.reports.tables import format_table
from jobjar.units import format_bytes, format_seconds

# Details of attempts that get tables of their own. Attempts of plain jobs have only the warnings.
_DETAILS = ("phases", "variables", "history", "warnings", "stored_files")
_LONGEST_VALUE = 30
_MOST_VARIABLES = 20
_GAP = "  "
# A column of a table is cut to no fewer characters.
_LEAST = 8
# Fields that the first sentence on a terminal says, or that a table there has.
_SAID_FIRST = ("waits_because",)
_MOVES = ("when", "why", "from", "to", "by")


def format_description(description: dict[str, Any]) -> str:
    """A job's description as text. Times are local dates; unknown fields are omitted."""
    sections = [format_table(_format_fields(description), (), "plain")]
    for attempt in description["attempts"]:
        rows = [
            (name.replace("_", " "), _date(value) if name.endswith("_at") else str(value))
            for name, value in attempt.items()
            if value is not None and name not in ("number", *_DETAILS)
        ]
        sections.append(f"Attempt {attempt['number']}\n" + format_table(rows, (), "plain"))
        sections += _format_details(attempt)
    moves = [_format_move(move) for move in description["moves"]]
    if moves:
        sections.append("Moves\n" + format_table(moves, _MOVES, "simple"))
    return "\n\n".join(sections)


def format_for_terminal(first: str, description: dict[str, Any], width: int) -> str:
    """The same for a person at a terminal of `width` characters, after the sentence `first`: a line an attempt, places without
    the job's name, columns cut where they have no room. `--format json` has all of it."""
    name, attempts = description["name"], description["attempts"]
    sentence, _, lines_of_output = first.partition("\n")
    sections = ["\n".join([_wrap(sentence, width), *([lines_of_output] if lines_of_output else [])])]
    shown = {**description, "place": _short_place(description["place"], name)}
    sections.append(_format_pairs(_format_fields(shown, _SAID_FIRST), width))
    if attempts:
        rows = [_format_attempt(attempt) for attempt in attempts]
        sections.append(f"Attempts\n{_fit(rows, ('', 'worker', 'began', 'took', 'outcome', 'cpu', 'memory'), width)}")
        files = [
            (f"{what} {attempt['number']}", str(attempt[key]))
            for attempt in attempts
            for what, key in (("message", "message"), ("output", "output_path"), ("error", "error_path"))
            if attempt[key] is not None
        ]
        sections += [_format_pairs(files, width)] if files else []
    for attempt in attempts:
        sections += [
            f"{title} of attempt {attempt['number']}\n{_fit(rows, columns, width)}"
            for title, rows, columns in _list_details(attempt)
        ]
    moves = [
        (*_format_move(move)[:2], *_short_ends(move, name), _format_move(move)[4]) for move in description["moves"]
    ]
    sections += [f"Moves\n{_fit(moves, _MOVES, width)}"] if moves else []
    return "\n\n".join(sections)


def _format_fields(description: dict[str, Any], left_out: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The fields of a job that have a value, as words."""
    lines = []
    for name, value in description.items():
        if name in ("attempts", "moves", *left_out) or value is None:
            continue
        shown = _date(value) if name in ("submitted_at", "not_before", "begin_at") else value
        shown = "; ".join(value) if name == "waits_because" else _format_words(name, shown)
        shown = name_prerequisites(value) if name == "prerequisites" else shown
        lines.append((name.replace("_", " "), str(shown)))
    return lines


def _format_attempt(attempt: dict[str, Any]) -> tuple[str, ...]:
    """A row of the attempts table."""
    status = f", signal {attempt['signal']}" if attempt["signal"] is not None else ""
    if not status and attempt["exit_status"]:
        status = f", exit {attempt['exit_status']}"
    cpu_s = [attempt[name] for name in ("user_cpu_s", "system_cpu_s") if attempt[name] is not None]
    return (
        str(attempt["number"]),
        attempt["worker"],
        "" if attempt["started_at"] is None else _date(attempt["started_at"])[:19],
        "" if attempt["wall_time_s"] is None else format_seconds(attempt["wall_time_s"]),
        f"{attempt['outcome'] or 'runs'}{status}",
        format_seconds(sum(cpu_s)) if cpu_s else "",
        "" if attempt["max_rss_kib"] is None else format_bytes(attempt["max_rss_kib"] * 1024),
    )


def _short_ends(move: dict[str, Any], name: str) -> tuple[str, str]:
    """From where to where a job was moved, in short."""
    origin, destination = move["from"], move["to"]
    return "" if origin is None else _short_place(origin, name), (
        "(removed)" if destination is None else _short_place(destination, name)
    )


def _short_place(place: str, name: str) -> str:
    """A place without the job's name; with it if the file has another one there."""
    short, its_name = name_place(place), place.rpartition("/")[2]
    return short if its_name in ("", name) else f"{short}/{its_name}"


def _wrap(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )


def _format_pairs(pairs: Sequence[tuple[str, str]], width: int) -> str:
    """Names and values, a pair a line. A long value goes on below itself; a path is not cut, so that it can be copied."""
    first = max(len(name) for name, _ in pairs)
    lines = []
    for name, value in pairs:
        start = f"{name:<{first}}{_GAP}"
        wrapped = _wrap(f"{'x' * len(start)}{value}", width, " " * len(start))
        lines.append(start + wrapped[len(start) :])
    return "\n".join(lines)


def _fit(rows: Sequence[Sequence[Any]], columns: Sequence[str], width: int) -> str:
    """A table in so many characters: the widest columns are cut."""
    cells = [[str(cell) for cell in row] for row in ([columns, *rows] if columns else rows)]
    widths = [max(shown_width(row[at]) for row in cells) for at in range(len(cells[0]))]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    cells = [[cut(cell, widths[at]) for at, cell in enumerate(row)] for row in cells]
    if columns:
        cells.insert(1, ["-" * one for one in widths])
    return format_table(cells, (), "plain")


def _format_words(name: str, value: Any) -> Any:
    """Words and variables of a job as they would be typed. A long list of variables is cut: JSON has all of it."""
    if name not in ("arguments", "tags", "environment"):
        return value
    if name != "environment":
        return shlex.join(value)
    words = [shlex.quote(f"{variable}={text}") for variable, text in value.items()]
    more = len(words) - _MOST_VARIABLES
    return " ".join(words[:_MOST_VARIABLES]) + (f" … and {more} more (--format json)" if more > 0 else "")


def _format_move(move: dict[str, Any]) -> tuple[str, ...]:
    """A row of the moves table. A move with reason `found` was made by hand. For a removal by hand, the time is when the file was
    found missing, since nobody saw it go."""
    why, by = ("by hand", "") if move["reason"] == "found" else (move["reason"], move["by"])
    return _date(move["moved_at"]), why, move["from"] or "", move["to"] or "(removed)", by


def _format_details(attempt: dict[str, Any]) -> list[str]:
    """The details of an attempt, a section of text for each kind."""
    return [
        f"{title} of attempt {attempt['number']}\n" + format_table(rows, columns, "simple" if columns else "plain")
        for title, rows, columns in _list_details(attempt)
    ]


def _list_details(attempt: dict[str, Any]) -> list[tuple[str, list[Any], tuple[str, ...]]]:
    """The details of an attempt, a table for each kind: its title, rows and columns."""
    attempt = {**{name: [] for name in _DETAILS}, "variables": {}, "history": {}, **attempt}
    phases = [
        (
            phase["name"],
            _date(phase["began_at"]),
            "" if phase["ended_at"] is None else f"{max(0.0, phase['ended_at'] - phase['began_at']):.3f} s",
            "" if phase["exit_status"] is None else phase["exit_status"],
            phase["message"] or "",
        )
        for phase in attempt["phases"]
    ]
    variables = [
        (name, value, _format_history(attempt["history"].get(name, []))) for name, value in attempt["variables"].items()
    ]
    files = [
        (file["source_name"], file["size"], file["md5"], file["hfn"] or file["url"] or file["storage_name"])
        for file in attempt["stored_files"]
    ]
    tables: list[tuple[str, list[Any], tuple[str, ...]]] = [
        ("Phases", phases, ("phase", "began", "took", "status", "error")),
        ("Variables", variables, ("name", "value", "before")),
        ("Warnings", [(text,) for text in attempt["warnings"]], ()),
        ("Stored files", files, ("name", "size", "md5", "where")),
    ]
    return [table for table in tables if table[1]]


def _format_history(values: list[dict[str, Any]]) -> str:
    """The history of a variable: its first value, and how many values it had in what time."""
    if len(values) < 2:
        return ""
    first, last = values[0], values[-1]
    value = first["value"]
    shown = value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 3]}..."
    return f"{shown} first, {last['ordinal']} values in {format_seconds(max(0.0, last['told_at'] - first['told_at']))}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f"{seconds % 1:.3f}"[1:]
