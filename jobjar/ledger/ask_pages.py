"""Pages of the jobs that filters select, each found by where the one before it ended: the thousandth costs what the first does.
They take the driver's connection and only read.

A page is read from one of several runs of an index, one after the other. Where few jobs fit, a page reads so many rows and no
more: it is short then, and says where to look further.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jobjar.ledger.ask_history import FAILED, are_failures_few
from jobjar.ledger.ask_selected import (
    _BY_HAND,
    _END_COLUMNS,
    _IS_LATEST,
    _NO_END,
    _OPEN_COLUMNS,
    UNKNOWN,
    Filters,
    SelectedJob,
    _conditions,
    _learn_identifiers,
    _states,
    jobs_of_rows,
)
from jobjar.ledger.driver import Connection

# So many rows of an index are read for one page.
_READ = 8_000
_READ_NAMES = 60_000
_READ_INDEX = 100_000
FAILED_OUTCOMES = frozenset(["failed", "timed_out", "killed", "crashed"])
_COLUMNS_OF_END = f"{_OPEN_COLUMNS}, {_END_COLUMNS}"
# The orders that a page can have: as jobs are claimed and end, or by name (names begin with the time of submission) or end.
STATE, NEWEST, OLDEST, ENDED, ENDED_FIRST = "state", "newest", "oldest", "ended", "ended-first"
ORDERS = (STATE, NEWEST, OLDEST, ENDED, ENDED_FIRST)
# Where a page begins: which run of an index, and the key before it.
Cursor = tuple[str, tuple[Any, ...]]


class PageOfJobs(NamedTuple):
    """Jobs, and where the next page begins; None: there are no more. `read_all`: no rows were left out."""

    jobs: list[SelectedJob]
    next: Cursor | None
    read_all: bool


class _Part(NamedTuple):
    jobs: list[SelectedJob]
    # The key after which to go on; None: this run has no more.
    key: tuple[Any, ...] | None
    read_all: bool = True


_Read = Callable[[Connection, Filters, tuple[Any, ...], int], _Part]


def page_of_jobs(connection: Connection, filters: Filters, order: str, cursor: Cursor | None, limit: int) -> PageOfJobs:
    """At most `limit` jobs that fit, in this order, from the cursor on. Raises ValueError for a cursor that is none."""
    runs = _runs(filters, order)
    names = [name for name, _ in runs]
    at, key = (names[0] if names else "", ()) if cursor is None else cursor
    if cursor is not None and at not in names:
        raise ValueError(f"there is no run {at!r}")
    jobs: list[SelectedJob] = []
    for number, (name, read) in enumerate(runs):
        if number < (names.index(at) if names else 0):
            continue
        part = read(connection, filters, key if name == at else (), limit - len(jobs))
        jobs += part.jobs
        if part.key is not None:
            return PageOfJobs(jobs, (name, part.key), part.read_all)
        if len(jobs) >= limit:
            following = names[number + 1 :]
            return PageOfJobs(jobs, (following[0], ()) if following else None, True)
    return PageOfJobs(jobs, None, True)


def job_called(connection: Connection, word: str) -> str | None:
    """The id of the job that has this id, or this whole name."""
    query = "SELECT uid FROM job WHERE uid = ?1 UNION ALL SELECT uid FROM job WHERE name = ?1 LIMIT 1"
    row = connection.execute(query, (word,)).fetchone()
    return None if row is None else row[0]


def _runs(filters: Filters, order: str) -> list[tuple[str, _Read]]:
    if order in (ENDED, ENDED_FIRST):
        return [(order, _read_ended if order == ENDED else _read_ended_first)]
    if order in (NEWEST, OLDEST) or filters.names:
        return [(OLDEST, _read_oldest) if order == OLDEST else (NEWEST, _read_newest)]
    states = _states(filters) or ["claimed", "limbo", "unclaimed", "completed"]
    of_end = bool(filters.outcomes or filters.exit_statuses)
    of_worker = bool(filters.workers or filters.nodes)
    runs: list[tuple[str, _Read]] = []
    if "claimed" in states and not of_end:
        runs.append(("claimed", _read_claimed))
    if "limbo" in states and not of_end and not of_worker:
        runs.append(("limbo", _read_limbo))
    if "unclaimed" in states and not of_end and not of_worker:
        runs.append(("waiting", _read_waiting))
    if "completed" in states:
        runs.append(("ended", _read_ended))
        if not filters.exit_statuses and not of_worker and (not filters.outcomes or UNKNOWN in filters.outcomes):
            runs.append(("by-hand", _read_by_hand))
    if "removed" in states and not of_end and not of_worker:
        runs.append(("removed", _read_removed))
    return runs


def _read_state(state: str) -> _Read:
    """Jobs of a state that no index has in the order of their moves: there are few of them."""

    def read(connection: Connection, filters: Filters, key: tuple[Any, ...], limit: int) -> _Part:
        condition, values = _conditions(filters, "")
        if key:
            condition += " AND (job.moved_at, job.id) < (?, ?)"
            values += _checked(key, float, int)
        rows = connection.execute(
            f"SELECT {_OPEN_COLUMNS}, {_NO_END} FROM job WHERE job.state = '{state}' AND {condition} "
            "ORDER BY job.moved_at DESC, job.id DESC LIMIT ?",
            (*values, limit),
        )
        jobs = [SelectedJob(*row) for row in rows]
        return _Part(jobs, (jobs[-1].moved_at, jobs[-1].id) if jobs and len(jobs) == limit else None)

    return read


_read_claimed, _read_limbo, _read_removed = _read_state("claimed"), _read_state("limbo"), _read_state("removed")


def _read_by_hand(connection: Connection, filters: Filters, key: tuple[Any, ...], limit: int) -> _Part:
    condition, values = _conditions(filters._replace(outcomes=()), "")
    if key:
        condition += " AND (job.moved_at, job.id) < (?, ?)"
        values += _checked(key, float, int)
    rows = connection.execute(
        f"SELECT {_OPEN_COLUMNS}, {_NO_END} FROM job WHERE job.state = 'completed' AND {_BY_HAND} AND NOT EXISTS "
        "(SELECT 1 FROM attempt WHERE attempt.job_uid = job.uid AND attempt.is_final = 1) "
        f"AND {condition} ORDER BY job.moved_at DESC, job.id DESC LIMIT ?",
        (*values, limit),
    )
    jobs = [SelectedJob(*row) for row in rows]
    return _Part(jobs, (jobs[-1].moved_at, jobs[-1].id) if jobs and len(jobs) == limit else None)


def _read_waiting(connection: Connection, filters: Filters, key: tuple[Any, ...], limit: int) -> _Part:
    """Jobs that wait, in the order of claims: category, priority from the highest, submission. Each step of the key is a range
    of the index of its own."""
    condition, values = _conditions(filters, "")
    steps: list[tuple[str, list[Any]]] = [("1", [])]
    if key:
        category, priority, submitted_at, row = _checked(key, str, int, (float, type(None)), int)
        same = "job.category = ? AND job.priority = ? AND "
        if submitted_at is None:
            steps = [
                (f"{same} job.submitted_at IS NULL AND job.id > ?", [category, priority, row]),
                (f"{same} job.submitted_at IS NOT NULL", [category, priority]),
            ]
        else:
            steps = [(f"{same} (job.submitted_at, job.id) > (?, ?)", [category, priority, submitted_at, row])]
        steps += [
            ("job.category = ? AND job.priority < ?", [category, priority]),
            ("job.category > ?", [category]),
        ]
    jobs: list[SelectedJob] = []
    for step, more in steps:
        rows = connection.execute(
            f"SELECT {_OPEN_COLUMNS}, {_NO_END} FROM job INDEXED BY job_open WHERE job.state = 'unclaimed' AND {step} "
            f"AND {condition} ORDER BY job.category, job.priority DESC, job.submitted_at, job.id LIMIT ?",
            (*more, *values, limit - len(jobs)),
        )
        jobs += [SelectedJob(*row) for row in rows]
        if len(jobs) >= limit:
            last = jobs[-1]
            return _Part(jobs, (last.category, last.priority, last.submitted_at, last.id))
    return _Part(jobs, None)


def _read_ends(is_reversed: bool) -> _Read:
    """Ended jobs by their ends. So many ends are read, whether they fit or not."""
    sign, order = (">", "ASC") if is_reversed else ("<", "DESC")

    def read(connection: Connection, filters: Filters, key: tuple[Any, ...], limit: int) -> _Part:
        _learn_identifiers(connection)
        condition, values = _conditions(filters, _END_COLUMNS)
        # Only what is in the index is read of those that do not fit.
        span, of_span = "is_final = 1", list[Any]()
        if key:
            span += f" AND (ended_at, outcome, job_uid) {sign} (?, ?, ?)"
            of_span += _checked(key, float, str, str)
        for bound, mark in ((filters.since, ">="), (filters.until, "<")):
            if bound is not None:
                span += f" AND ended_at {mark} ?"
                of_span.append(bound)
        ordered = f"ORDER BY ended_at {order}, outcome {order}, job_uid {order}"
        columns = "SELECT ended_at, outcome, job_uid, number, worker_uid FROM attempt INDEXED BY"
        is_few = (
            bool(filters.outcomes) and FAILED_OUTCOMES.issuperset(filters.outcomes) and are_failures_few(connection)
        )
        rest = filters._replace(states=(), since=None, until=None, without_chunks=False)
        of_outcome = rest._replace(outcomes=()) == Filters() and bool(filters.outcomes)
        most = 4 * limit if rest == Filters() else _READ_INDEX if of_outcome else _READ
        found = f"{columns} attempt_failed WHERE {FAILED} AND {span} {ordered}"
        if not is_few:
            found = f"{columns} attempt_ended WHERE {span} {ordered} LIMIT {most}"
        fit = ""
        if filters.outcomes and UNKNOWN not in filters.outcomes:
            fit = f"WHERE outcome IN ({','.join('?' * len(filters.outcomes))})"
        rows = connection.execute(
            f"SELECT {_COLUMNS_OF_END} FROM (SELECT job_uid, number, worker_uid FROM ({found}) {fit} "
            f"{ordered} {f'LIMIT {20 * limit}' if of_outcome else ''}) "
            "AS found CROSS JOIN attempt AS final USING (job_uid, number, worker_uid) CROSS JOIN job ON job.uid = final.job_uid "
            f"WHERE job.state = 'completed' AND {_IS_LATEST} AND {condition} "
            f"ORDER BY final.ended_at {order}, final.outcome {order}, final.job_uid {order} LIMIT ?",
            (*of_span, *(filters.outcomes if fit else ()), *values, limit),
        )
        jobs = [SelectedJob(*row) for row in rows]
        if len(jobs) == limit:
            last = jobs[-1]
            return _Part(jobs, (last.ended_at, last.outcome, last.uid))
        if is_few:
            return _Part(jobs, None)
        query = f"{columns} attempt_ended WHERE {span} {ordered} LIMIT 1 OFFSET {most - 1}"
        further = connection.execute(query, of_span).fetchone()
        return _Part(jobs, None if further is None else tuple(further[:3]), further is None)

    return read


_read_ended, _read_ended_first = _read_ends(is_reversed=False), _read_ends(is_reversed=True)


def _read_names(is_reversed: bool) -> _Read:
    """Jobs by their names, which begin with the time of submission. So many names are read, whether they fit or not."""
    sign, order = ("<", "DESC") if is_reversed else (">", "ASC")

    def read(connection: Connection, filters: Filters, key: tuple[Any, ...], limit: int) -> _Part:
        span, of_span = "1", list[Any]()
        if key:
            span = f"(name, id) {sign} (?, ?)"
            of_span += _checked(key, str, int)
        globs = " OR ".join(["name GLOB ?"] * len(filters.names)) or "1"
        rest = filters._replace(names=())
        is_narrow = rest._replace(without_chunks=False) != Filters()
        most = _READ if is_narrow else _READ_NAMES
        names = (
            f"SELECT id, name FROM job INDEXED BY job_name WHERE {span} ORDER BY name {order}, id {order} LIMIT {most}"
        )
        rows = iter(
            connection.execute(
                f"SELECT id, name FROM ({names}) WHERE {globs} ORDER BY name {order}, id {order}",
                (*of_span, *filters.names),
            )
        )
        jobs: list[SelectedJob] = []
        states = _states(filters)
        while some := list(itertools.islice(rows, 200)):
            found = {job.id: job for job in jobs_of_rows(connection, [row for row, _ in some], rest)}
            for row, name in some:
                job = found.get(row)
                if job is not None and (states is not None or job.state != "removed"):
                    jobs.append(job)
                if len(jobs) == limit:
                    return _Part(jobs, (name, row))
        query = f"SELECT name, id FROM job INDEXED BY job_name WHERE {span} ORDER BY name {order}, id {order} LIMIT 1 OFFSET ?"
        further = connection.execute(query, (*of_span, most - 1)).fetchone()
        return _Part(jobs, None if further is None else tuple(further), further is None)

    return read


_read_newest, _read_oldest = _read_names(is_reversed=True), _read_names(is_reversed=False)


def _checked(key: Sequence[Any], *types: Any) -> list[Any]:
    """A key that somebody else wrote, if its parts are of these types. Raises ValueError."""
    if len(key) != len(types):
        raise ValueError(f"a key of {len(types)} parts is wanted")
    values = [
        float(part) if wanted is float and type(part) is int else part for part, wanted in zip(key, types, strict=True)
    ]
    if not all(
        isinstance(part, wanted) and not isinstance(part, bool) for part, wanted in zip(values, types, strict=True)
    ):
        raise ValueError("a key of other types is wanted")
    return values
