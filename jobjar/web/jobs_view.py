"""What the pages about jobs show: a page of a list, and one job. Reads the ledger and the ends of outputs; writes nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import time
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from jobjar.errors import JarError, UsageError
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.ledger.ask_history import dependents_of
from jobjar.ledger.ask_pages import ORDERS, STATE, Cursor, job_called, page_of_jobs
from jobjar.ledger.ask_selected import Filters, jobs_of_rows
from jobjar.ledger.models import JobReport
from jobjar.reports.explain import explain_job
from jobjar.reports.jobs import describe_job
from jobjar.reports.listing import describe_listed
from jobjar.reports.output import OpenOutput
from jobjar.reports.standing import Look
from jobjar.selecting.named import find_job, is_pattern
from jobjar.selecting.select import count_selected
from jobjar.selecting.selection import Selection, make_selection
from jobjar.text import as_text, printable
from jobjar.web.charts import Piece, draw_lines, draw_time_line
from jobjar.web.looker import Seen

PAGE = 100
# The end of an output that a page shows.
TAIL_BYTES = 1 << 16
_TAIL_LINES = 200
_MOST_DEPENDENTS = 100
_PIECES = 200
FILTERS = ("state", "outcome", "category", "batch", "submitter", "node", "worker", "exit_status", "since", "until")


def read_filters(query: Mapping[str, str]) -> tuple[Selection, dict[str, str]]:
    """The selection that a form's fields make, and the fields that say something. `category` may be empty on purpose: `-`.
    Raises UsageError."""
    given = {name: query[name].strip() for name in FILTERS if query.get(name, "").strip()}
    values: dict[str, Any] = {**given, **({"category": ""} if given.get("category") == "-" else {})}
    words = query.get("search", "").strip()
    if words:
        given["search"] = words
        values["name"] = words if is_pattern(words) else f"*{words}*"
    selection = make_selection((), False, **{name: value for name, value in values.items() if name != "search"})
    return selection, given


def view_jobs(jar: Jar, seen: Seen, query: dict[str, str]) -> dict[str, Any]:
    """A page of jobs that fit the form. Raises UsageError."""
    selection, given = read_filters(query)
    order = query.get("order") or STATE
    if order not in ORDERS:
        raise UsageError(reason=f"jobs are not sorted by {order!r} here; there are: {' '.join(ORDERS)}")
    cursor = read_cursor(query.get("after", ""))
    filters = selection.filters
    with_chunks = query.get("chunks") == "1"
    filters = filters._replace(without_chunks=not with_chunks)
    connection = jar.ledger.connection
    try:
        page = page_of_jobs(connection, filters, order, cursor, PAGE)
    except ValueError as error:
        raise UsageError(reason=f"this address names no page ({error}); begin again with the first") from error
    now = time.time()
    kept = {**given, **({"chunks": "1"} if with_chunks else {})}
    return {
        "jobs": [describe_listed(jar, job, now) for job in page.jobs],
        "next": write_cursor(page.next) if page.next is not None else None,
        "read_all": page.read_all,
        "is_first": cursor is None,
        "given": given,
        "kept": kept,
        "order": order,
        "with_chunks": with_chunks,
        "count": count_selected(jar, selection),
        "only_job": _exact(jar, given.get("search")) if cursor is None else None,
        "command": "jobjar list " + _words(given) if given else "jobjar list",
    }


def _words(given: Mapping[str, str]) -> str:
    words = []
    for name, value in given.items():
        option = "--name" if name == "search" else f"--{name.replace('_', '-')}"
        shown = value if name != "search" or is_pattern(value) else f"*{value}*"
        words.append(f"{option} {shlex.quote('' if name == 'category' and value == '-' else shown)}")
    return " ".join(words)


def _exact(jar: Jar, word: str | None) -> str | None:
    """The id of the one job that is called exactly so."""
    return job_called(jar.ledger.connection, as_text(word)) if word else None


def write_cursor(cursor: Cursor) -> str:
    """A cursor as part of an address."""
    return base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode().rstrip("=")


def read_cursor(text: str) -> Cursor | None:
    """The inverse; None for "". Raises UsageError."""
    if not text:
        return None
    try:
        name, key = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(reason="this address names no page; begin again with the first") from error
    if not isinstance(name, str) or not isinstance(key, list) or any(isinstance(part, (list, dict)) for part in key):
        raise UsageError(reason="this address names no page; begin again with the first")
    if any(isinstance(part, int) and abs(part) >= 1 << 63 for part in key):
        raise UsageError(reason="this address names no page; begin again with the first")
    return name, tuple(key)


def view_job(jar: Jar, seen: Seen, word: str) -> dict[str, Any]:
    """All of one job. Raises UnknownJob, AmbiguousJob."""
    job = find_job(jar, word)
    now = time.time()
    described = describe_job(jar, job)
    rows = jobs_of_rows(jar.ledger.connection, [job.id], Filters())
    explained = explain_job(Look(jar), rows[0]) if rows else None
    last = described["attempts"][-1] if described["attempts"] else None
    name = identifier_in_name(job.name, job.submitter) or job.uid or job.name
    shown = job.uid or job.place
    return {
        "job": described,
        "listed": describe_listed(jar, rows[0], now) if rows else None,
        "title": name,
        "word": shown,
        "explained": explained,
        "sentence": explained.sentence if explained is not None else "",
        "is_open": job.state not in ("completed", "removed"),
        "attempts": [_view_attempt(attempt, now) for attempt in described["attempts"]],
        "tail": None if last is None else read_tail(jar, last["output_path"]),
        "last": last,
        "dependents": dependents_of(jar.ledger.connection, job.uid, _MOST_DEPENDENTS) if job.uid else [],
        "commands": _commands(job, shown),
        "now": now,
    }


def _commands(job: JobReport, shown: str) -> list[tuple[str, str]]:
    quoted = shlex.quote(shown)
    follow = " -f" if job.state == "claimed" else ""
    return [("this page", f"jobjar show {quoted}"), ("its output", f"jobjar output{follow} {quoted}"),
            ("why", f"jobjar explain {quoted}"), ("its history", f"jobjar history {quoted}")]  # fmt: skip


def _view_attempt(attempt: dict[str, Any], now: float) -> dict[str, Any]:
    """An attempt with its time line, and the charts of its variables."""
    begins_at = attempt["started_at"]
    phases = attempt["phases"]
    begins_at = min(
        [moment for moment in (begins_at, *(phase["began_at"] for phase in phases)) if moment], default=None
    )
    line = Markup("")
    if begins_at is not None:
        until = attempt["ended_at"] or now
        pieces = [
            Piece(phase["began_at"], phase["ended_at"] or until, f"phase-{phase['name']}", phase["name"])
            for phase in phases
        ] or [Piece(begins_at, until, attempt["outcome"] or "running", attempt["outcome"] or "running")]
        line = draw_time_line(pieces[:_PIECES], begins_at, until, f"time line of attempt {attempt['number']}")
    charts = []
    for name, values in attempt["history"].items():
        points = [(told["told_at"], number) for told in values if (number := _number(told["value"])) is not None]
        if len(points) > 1:
            chart = draw_lines([points], f"{printable(name)} over time, {len(points)} values")
            numbers = [number for _, number in points]
            charts.append({"name": name, "chart": chart, "points": points, "low": min(numbers), "high": max(numbers)})
    return {**attempt, "line": line, "charts": charts}


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 9e99 else None


def read_tail(jar: Jar, path: str | None) -> dict[str, Any] | None:
    """The last lines of an output, as text; how many bytes there are, and whether there is more before them. None: there is
    nothing, or it cannot be read here."""
    if path is None:
        return None
    with contextlib.suppress(JarError, OSError), contextlib.closing(OpenOutput(jar, path)) as output:
        size = output.size()
        start = max(0, size - TAIL_BYTES)
        data = output.read_piece(start, size - start)
        lines = data.split(b"\n")
        text = b"\n".join(lines[-_TAIL_LINES - 1 :])
        return {"text": show_output(text), "size": size, "is_cut": start > 0 or len(lines) > _TAIL_LINES + 1}
    return None


def show_output(data: bytes) -> str:
    """What a job wrote, for a page: escapes of terminals and bytes that are no text are shown, and do nothing."""
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\t", "        ")
    return printable(text)
