"""What the pages about the jar, its arrays, workers and failures show. Reads the ledger, and the ends of some outputs."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jobjar.arrays.open_tasks import OpenTasks
from jobjar.attempts.attempt import CANCELLED, SUCCEEDED
from jobjar.errors import UnknownJob, UsageError
from jobjar.jar import Jar
from jobjar.ledger.apply_tasks import OUTCOMES
from jobjar.ledger.ask_arrays import ArrayRow, array_of
from jobjar.ledger.ask_history import (
    attempts_since,
    count_ended_of_array,
    failures_by_tile,
    recent_failures,
    tasks_by_minute,
    tiles_of_array,
)
from jobjar.reports.arrays import describe_array, describe_tasks, format_array, list_arrays, read_output_of_tasks
from jobjar.reports.refresh import describe_source, name_source
from jobjar.reports.sentences import format_end
from jobjar.reports.stats import read_said
from jobjar.selecting.arrays import Tasks
from jobjar.units import parse_moment
from jobjar.web.charts import Piece, Series, draw_area, draw_bars, draw_tiles, draw_time_line, nice_top
from jobjar.web.jobs_view import TAIL_BYTES, show_output
from jobjar.web.looker import Seen
from jobjar.web.past import Span

_DAY_S = 86400.0
_MOST_ATTEMPTS = 1500
_PIECES_A_LINE = 400
# So many failures are looked at, and so many of their outputs are read.
_MOST_FAILURES, _READ_OUTPUTS = 2000, 200
_NUMBERS = re.compile(r"\d+")
# The map of an array: rows of so many tiles. Of an array of not more tasks all rows are read.
_COLUMNS, _MOST_TILES, _ALL_READ = 50, 1000, 20_000


def view_frame(jar: Jar, seen: Seen) -> dict[str, Any]:
    """What each page has at its top."""
    source = describe_source(jar)
    return {
        "home": jar.layout.home,
        "number": seen.number,
        "seen_at": seen.at,
        "source": name_source(source["source"], source["snapshot_age_s"]),
        "warnings_count": len(seen.status["warnings"]),
    }


def view_overview(jar: Jar, seen: Seen, span: str) -> dict[str, Any]:
    """The jar at a glance. `span` is one of past.SPANS. Raises UsageError."""
    if span not in seen.spans:
        raise UsageError(reason=f"there is no span {span!r}; there are: {' '.join(seen.spans)}")
    status, jobs = seen.status, seen.status["jobs"]
    chosen = seen.spans[span]
    workers = [worker for worker in status["workers"]["workers"] if worker["state"] != "dead"]
    return {
        "status": status,
        "counts": [
            ("waiting", jobs["unclaimed"], "unclaimed"),
            ("running", jobs["claimed"], "claimed"),
            ("held", len(jobs["held"]), "held"),
            ("dependent", jobs["dependent"], "dependent"),
            ("ended", jobs["completed"], "ended"),
        ],
        "busy": sum(worker["state"] == "busy" for worker in workers),
        "workers": len(workers),
        "span": chosen,
        "spans": list(seen.spans),
        "charts": chart_span(chosen),
        "tasks": _chart_tasks(jar, chosen),
        "outcomes": _sum_outcomes(status),
        "is_empty": not sum(jobs[state] for state in ("limbo", "unclaimed", "claimed", "completed")),
    }


def _sum_outcomes(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for row in status["outcomes"] if row["last_day"]]


def chart_span(span: Span) -> list[dict[str, Any]]:
    """The charts of a span: what ended, what failed, what waited; each with its sums and its bars as rows."""
    bars = span.bars
    ended = [Series(name, name, [getattr(bar, name) for bar in bars]) for name in ("succeeded", "failed", "cancelled")]
    waiting = [bar.waiting for bar in bars]
    sums = _sums_of(ended)
    told = ", ".join(f"{count:,} {name}" for name, count in sums.items())
    return [
        _chart_bars("throughput", "Jobs that ended", ended, f"Jobs that ended in the last {span.name}: {told}"),
        _chart_bars(
            "failures", "Failures", ended[1:2], f"Jobs that failed in the last {span.name}: {sums['failed']:,}"
        ),
        {
            "id": "depth",
            "title": "Waiting",
            "chart": draw_area(waiting, "waiting", f"Jobs that waited in the last {span.name}: {waiting[-1]:,} now"),
            "top": nice_top(max(waiting, default=0)),
            "sums": {"waiting": waiting[-1]},
        },
    ]


def _chart_bars(name: str, title: str, series: Sequence[Series], label: str) -> dict[str, Any]:
    """A chart of bars, each of which is the sum of all series in its time."""
    return {
        "id": name,
        "title": title,
        "chart": draw_bars(series, label),
        "top": nice_top(max(map(sum, zip(*(each.values for each in series), strict=True)), default=0)),
        "sums": _sums_of(series),
    }


def _sums_of(series: Sequence[Series]) -> dict[str, int]:
    return {each.name: int(sum(each.values)) for each in series}


def _chart_tasks(jar: Jar, span: Span) -> dict[str, Any] | None:
    """Tasks of arrays that ended in a span, as far as minutes are kept; None without any."""
    begins_at = span.bars[0].begins_at
    rows = tasks_by_minute(jar.ledger.connection, begins_at)
    if not rows:
        return None
    kinds = {SUCCEEDED: [0.0] * len(span.bars), "failed": [0.0] * len(span.bars), CANCELLED: [0.0] * len(span.bars)}
    for minute, outcome, tasks in rows:
        number = int((minute * 60 - begins_at) // span.bar_s)
        name = OUTCOMES[outcome]
        if 0 <= number < len(span.bars):
            kinds[name if name in kinds else "failed"][number] += tasks
    series = [Series(name, name, values) for name, values in kinds.items()]
    told = ", ".join(f"{count:,} {name}" for name, count in _sums_of(series).items())
    return _chart_bars(
        "tasks", "Tasks that ended", series, f"Tasks of arrays that ended in the last {span.name}: {told}"
    )


def view_arrays(jar: Jar, seen: Seen) -> dict[str, Any]:
    return {"arrays": [{**array, "sentence": format_array(array)} for array in list_arrays(jar)]}


def view_array(jar: Jar, seen: Seen, uid: str, first: int | None) -> dict[str, Any]:
    """An array: how far it is, the map of its tasks, its failures. `first`: the map is of the tile that begins with this task.
    Raises UnknownJob."""
    array = array_of(jar.ledger.connection, uid)
    if array is None:
        raise UnknownJob(job=uid, home=jar.layout.home, hint="the page of arrays lists those of the last day")
    described = describe_array(jar, array)
    return {
        "array": described,
        "sentence": format_array(described),
        "map": _map_array(jar, array, first),
        "title": uid,
        "command": f"jobjar show {uid}",
    }


def _map_array(jar: Jar, array: ArrayRow, zoomed: int | None) -> dict[str, Any] | None:
    """The map: each tile is so many tasks that follow each other."""
    if array.first is None or array.last is None:
        return None
    step = array.step or 1
    begin, count = array.first, (array.last - array.first) // step + 1
    whole = max(1, math.ceil(count / _MOST_TILES))
    per = whole
    if zoomed is not None:
        begin = max(array.first, min(zoomed, array.last))
        begin -= (begin - array.first) % step
        count, per = min(whole, (array.last - begin) // step + 1), max(1, math.ceil(whole / _MOST_TILES))
    tiles = math.ceil(count / per)
    connection, wide = jar.ledger.connection, per * step
    if count <= _ALL_READ:
        found = tiles_of_array(connection, array.id, begin, wide, tiles)
    else:
        found = failures_by_tile(connection, array.id, begin, wide, tiles)
        ended = count_ended_of_array(connection, array.id, begin, wide, tiles)
        for tile, tasks in ended.items():
            of_tile = found.setdefault(tile, {})
            of_tile[0] = max(0, tasks - sum(of_tile.values()))
    running = {one.part.first for one in OpenTasks(connection, array, only_claimed=True).chunks}
    shapes, kinds = [], []
    for number in range(tiles):
        first = begin + number * wide
        size = min(per, count - number * per)
        outcomes = {OUTCOMES[outcome]: tasks for outcome, tasks in found.get(number, {}).items() if tasks}
        is_running = any(first <= start < first + wide for start in running)
        kind = _kind_of_tile(outcomes, size, is_running)
        last = first + (size - 1) * step
        named = f"task {first}" if size == 1 else f"tasks {first} to {last}"
        told = ", ".join(f"{tasks:,} {name.replace('_', ' ')}" for name, tasks in outcomes.items()) or "none has ended"
        address = f"/task?id={array.uid}&number={first}" if size == 1 else f"/array?id={array.uid}&first={first}"
        shapes.append((kind, f"{named}: {told}", address))
        kinds.append((named, told, address, kind))
    worst = [row for row in kinds if row[3] in ("failed", "partly-failed")]
    label = f"{tiles} tiles of {per} tasks each; {len(worst)} of them have failures"
    return {
        "chart": draw_tiles(shapes, min(_COLUMNS, max(1, tiles)), label),
        "per": per,
        "worst": worst[:50],
        "is_zoomed": zoomed is not None,
        "label": label,
    }


def _kind_of_tile(outcomes: Mapping[str, int], size: int, is_running: bool) -> str:
    ended = sum(outcomes.values())
    bad = ended - outcomes.get(SUCCEEDED, 0) - outcomes.get(CANCELLED, 0)
    if bad:
        return "failed" if bad * 2 >= size else "partly-failed"
    if ended >= size:
        return "cancelled" if outcomes.get(CANCELLED, 0) * 2 > size else "succeeded"
    if is_running:
        return "running"
    return "partly" if ended else "open"


def view_task(jar: Jar, seen: Seen, uid: str, number: int) -> dict[str, Any]:
    """One task of an array, with the end of its output. Raises UnknownJob."""
    array = array_of(jar.ledger.connection, uid)
    if array is None or array.first is None or array.last is None or not array.first <= number <= array.last:
        raise UnknownJob(
            job=f"{uid}[{number}]", home=jar.layout.home, hint="its array has no such task, or is not known"
        )
    (task,) = describe_tasks(jar, array, [number])
    text = b""
    if task.get("output_bytes"):
        for _, piece in read_output_of_tasks(jar, Tasks(array, ((number, number),))):
            text = (text + piece)[-TAIL_BYTES:]
            if len(text) >= TAIL_BYTES:
                break
    return {
        "task": task,
        "array": uid,
        "text": show_output(text),
        "title": task["id"],
        "command": f"jobjar show '{task['id']}'",
    }


def view_workers(jar: Jar, seen: Seen) -> dict[str, Any]:
    """What runs where now, and a time line of each worker over the last day."""
    now = seen.at
    since = now - _DAY_S
    attempts = attempts_since(jar.ledger.connection, since, _MOST_ATTEMPTS)
    is_cut = sum(attempt.ended_at is not None for attempt in attempts) >= _MOST_ATTEMPTS
    if is_cut:
        since = min((attempt.ended_at for attempt in attempts if attempt.ended_at is not None), default=since)
    lines: dict[str, dict[str, list[Piece]]] = {}
    for attempt in attempts:
        if attempt.started_at is None:
            continue
        node = attempt.worker.rpartition(".")[0] or attempt.worker
        kind = attempt.outcome or "running"
        piece = Piece(
            attempt.started_at, attempt.ended_at or now, kind, f"{attempt.uid}: {kind}", f"/job?id={attempt.uid}"
        )
        lines.setdefault(node, {}).setdefault(attempt.worker, []).append(piece)
    nodes = sorted({*(worker.node for worker in seen.workers), *lines})
    return {
        "nodes": [
            {
                "name": node,
                "workers": [worker for worker in seen.workers if worker.node == node],
                "lines": [
                    (name, draw_time_line(_thin(pieces), since, now, f"what {name} ran"), len(pieces))
                    for name, pieces in sorted(lines.get(node, {}).items())
                ],
            }
            for node in nodes
        ],
        "since": since,
        "until": now,
        "is_cut": is_cut,
        "now": time.time(),
        "command": "jobjar workers",
    }


def _thin(pieces: Sequence[Piece]) -> Sequence[Piece]:
    return sorted(pieces, key=lambda piece: piece.begins_at)[-_PIECES_A_LINE:]


def view_failures(jar: Jar, seen: Seen, since: str) -> dict[str, Any]:
    """What failed since then, alike together: how it ended, and the last line of its output. Raises UsageError."""
    try:
        begin = parse_moment(since or "24h")
    except ValueError as error:
        raise UsageError(reason=f"since: {error}") from error
    return {**gather_failures(jar, begin), "given": since or "24h"}


def gather_failures(jar: Jar, since: float) -> dict[str, Any]:
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    count = 0
    for job in recent_failures(jar.ledger.connection, since, _MOST_FAILURES):
        said = read_said(jar, job) if count < _READ_OUTPUTS else job.message
        how = job.outcome, job.exit_status, job.signal
        key = (*how, None if said is None else _NUMBERS.sub("#", said))
        group = groups.setdefault(
            key,
            {
                "how": format_end(*how),
                "said": said,
                "jobs": 0,
                "newest": job.uid,
                "newest_at": job.ended_at,
                "name": job.name,
            },
        )
        group["jobs"] += 1
        group["since"] = job.ended_at
        group["batch"] = job.batch
        count += 1
    found = sorted(groups.values(), key=lambda group: -group["jobs"])
    return {"groups": found, "count": count, "is_cut": count >= _MOST_FAILURES, "since": since}
