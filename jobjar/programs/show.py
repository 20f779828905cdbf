"""jobjar show: print all that is known of a job."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from jobjar.errors import UsageError
from jobjar.programs.command import make_parser, named_jar, run, warn_of_source
from jobjar.programs.options import add_job, add_text_format
from jobjar.programs.terminal import is_terminal
from jobjar.text import printable

# Details of attempts that get tables of their own. Attempts of plain jobs have only the warnings.
_DETAILS = ("phases", "variables", "history", "warnings", "stored_files")
_LONGEST_VALUE = 30
_MOST_VARIABLES = 20


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar show") -> int:
    parser = make_parser(
        program,
        "Print all that is known of a job: where it is, how it ended, its attempts and its moves. Of an array, how far its "
        "tasks are; ARRAY[7] is one of its tasks.",
    )
    add_text_format(parser)
    add_job(parser)

    def body(options: argparse.Namespace) -> int:
        from jobjar.programs.show_array import show_tasks
        from jobjar.reports.jobs import describe_job
        from jobjar.reports.refresh import describe_source, refresh_ledger
        from jobjar.reports.sentences import tell_job
        from jobjar.selecting.arrays import find_tasks
        from jobjar.selecting.named import find_job

        if not options.job:
            raise UsageError(reason="name a job")
        with named_jar(options, program_path) as jar:
            refresh_ledger(jar)
            tasks = find_tasks(jar, options.job)
            if tasks is not None:
                show_tasks(jar, tasks, as_json=options.format == "json")
                warn_of_source(program, describe_source(jar))
                return 0
            description = describe_job(jar, find_job(jar, options.job))
            first = tell_job(jar, description, time.time()) if is_terminal() and options.format != "json" else ""
            source = describe_source(jar)
        if options.format == "json":
            print(json.dumps({**description, **source}, indent=1))
        else:
            if first:
                print(printable(f"{first}\n"))
            print(printable(format_description(description)))
            warn_of_source(program, source)
        return 0

    return run(parser, argv, body)


def format_description(description: dict[str, Any]) -> str:
    """A job's description as text. Times are local dates; unknown fields are omitted."""
    from jobjar.reports.tables import format_table

    lines = []
    for name, value in description.items():
        if name in ("attempts", "moves") or value is None:
            continue
        shown = _date(value) if name in ("submitted_at", "not_before", "begin_at") else value
        shown = "; ".join(value) if name == "waits_because" else _format_words(name, shown)
        lines.append((name.replace("_", " "), str(shown)))
    sections = [format_table(lines, (), "plain")]
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
        sections.append("Moves\n" + format_table(moves, ("when", "why", "from", "to", "by"), "simple"))
    return "\n\n".join(sections)


def _format_words(name: str, value: Any) -> Any:
    """Words and variables of a job as they would be typed. A long list of variables is cut: JSON has all of it."""
    if name not in ("arguments", "tags", "environment"):
        return value
    import shlex

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
    """The details of a described job's attempt, a section of text for each kind."""
    from jobjar.reports.tables import format_table

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
    tables = (
        ("Phases", phases, ("phase", "began", "took", "status", "error")),
        ("Variables", variables, ("name", "value", "before")),
        ("Warnings", [(text,) for text in attempt["warnings"]], ()),
        ("Stored files", files, ("name", "size", "md5", "where")),
    )
    of = f"of attempt {attempt['number']}"
    return [
        f"{title} {of}\n" + format_table(rows, columns, "simple" if columns else "plain")
        for title, rows, columns in tables
        if rows
    ]


def _format_history(values: list[dict[str, Any]]) -> str:
    """The history of a variable: its first value, and how many values it had in what time."""
    from jobjar.units import format_seconds

    if len(values) < 2:
        return ""
    first, last = values[0], values[-1]
    value = first["value"]
    shown = value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 3]}..."
    return f"{shown} first, {last['ordinal']} values in {format_seconds(max(0.0, last['told_at'] - first['told_at']))}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f"{seconds % 1:.3f}"[1:]
