"""Questions to the ledger about the jobs that filters select. They take the driver's connection and only read.

Jobs are listed in groups, one for each state; each group is read in the order of an index. So the first page of a jar of
millions costs as much as that of a small one. No index holds ended jobs by their end but that of the attempts which decided
them: they are listed by that. Jobs whose end nobody recorded (a person moved them to completed/) come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jobjar.job_file.names import identifier_in_name
from jobjar.job_file.prerequisites import is_dependent
from jobjar.ledger.ask_claiming import IS_DEPENDENT, IS_HELD
from jobjar.ledger.driver import Connection
from jobjar.ledger.precedence import IS_LATEST

# The words for states that a person may use, and the ledger's states that they mean. `dependent` are those of limbo that wait
# for prerequisites, `held` the others with a reason.
HELD, DEPENDENT = "held", "dependent"
STATES = {
    "running": "claimed",
    HELD: "limbo",
    DEPENDENT: "limbo",
    "waiting": "unclaimed",
    "ended": "completed",
    "removed": "removed",
    "claimed": "claimed",
    "limbo": "limbo",
    "unclaimed": "unclaimed",
    "completed": "completed",
}
# The order in which groups are listed. Removed jobs are listed for those who ask for them by their state.
_GROUPS = ("claimed", "limbo", "unclaimed", "completed", "removed")
_USUAL = _GROUPS[:-1]
# The outcome of jobs whose end nobody recorded.
UNKNOWN = "unknown"
EVERYBODY = "*"
_OPEN_COLUMNS = (
    "job.id, job.uid, job.name, job.place, job.state, job.category, job.priority, job.submitter, job.submitted_at, "
    "job.moved_at, job.not_before, job.held_reason, job.kind, job.batch"
)
_END_COLUMNS = "final.outcome, final.exit_status, final.signal, final.started_at, final.ended_at, final.worker"
# Of a job that runs, the attempt says when that began.
_BEGAN = (
    "CASE job.state WHEN 'claimed' THEN "
    "(SELECT max(started_at) FROM attempt WHERE job_uid = job.uid AND ended_at IS NULL) END"
)
_ANY_COLUMNS = _END_COLUMNS.replace("final.started_at", f"coalesce(final.started_at, {_BEGAN})")
_NO_END = f"NULL, NULL, NULL, {_BEGAN}, NULL, NULL"
_IS_LATEST = IS_LATEST.format(end="final")
# Jobs that a person moved to completed/; those that never had an id were put there.
_BY_HAND = (
    "(job.uid IS NULL OR job.uid IN (SELECT job_uid FROM move INDEXED BY move_to_completed_by_hand "
    "WHERE reason = 'found' AND destination GLOB 'completed/*'))"
)
_HOLDER = "substr(job.place, 9, instr(substr(job.place, 9), '/') - 1)"
# Which names may fit a pattern, as a whole or by an identifier, which follows a `-`. It spares most names a function in Python.
_MAY_FIT = "({0} GLOB ? OR {0} GLOB '*-' || ? || '*')"
_AT_ONCE = 500
# If not more names have a part that fits a pattern, their jobs are looked at; else the jobs of each state in their order.
_FEW = 10_000


class Filters(NamedTuple):
    """What jobs have to be like. Values of one field are alternatives; fields that are set all have to fit.

    `states` are keys of STATES. `names` are patterns (GLOB) of whole names and of identifiers in them. `since` and `until`
    (UTC epoch seconds) bound when a job came to its state: was submitted or went back, was claimed, or ended.
    """

    states: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    submitters: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    exit_statuses: tuple[int, ...] = ()
    workers: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    # Whether chunks of arrays are left out.
    without_chunks: bool = False


NO_FILTERS = Filters()


class SelectedJob(NamedTuple):
    """A job as the ledger has it. `id` is the ledger's row, `uid` the job's id (None: hand-made and not claimed yet). Times are
    UTC epoch seconds. `moved_at` is when it came to its place. The last six are of the attempt that ended it; `started_at`
    is also of one that runs it."""

    id: int
    uid: str | None
    name: str
    place: str
    state: str
    category: str
    priority: int
    submitter: str | None
    submitted_at: float | None
    moved_at: float
    not_before: float
    held_reason: str | None
    kind: str
    batch: str | None
    outcome: str | None
    exit_status: int | None
    signal: int | None
    started_at: float | None
    ended_at: float | None
    final_worker: str | None

    @property
    def is_held(self) -> bool:
        return self.state == "limbo" and self.held_reason is not None and not is_dependent(self.held_reason)

    @property
    def is_dependent(self) -> bool:
        return self.state == "limbo" and is_dependent(self.held_reason)


def jobs_of_filters(connection: Connection, filters: Filters, limit: int | None = None) -> Iterator[SelectedJob]:
    """The jobs that fit: running, held, waiting in the order of claims, ended with the newest end first, removed."""
    left = limit
    for query, values in selection_queries(connection, filters):
        if left == 0:
            return
        for row in connection.execute(f"{query} LIMIT ?", (*values, -1 if left is None else left)):
            yield SelectedJob(*row)
            left = None if left is None else left - 1


def jobs_of_rows(connection: Connection, rows: Sequence[int], filters: Filters) -> list[SelectedJob]:
    """Those of these jobs (by the ledger's rows) that fit, in the order of `rows`. All states count unless filters name some."""
    if filters.names:
        _learn_identifiers(connection)
    condition, values = _conditions(filters, _END_COLUMNS)
    states = _states(filters)
    if states is not None:
        condition += f" AND job.state IN ({_marks(states)})"
        values += states
    query = (
        f"SELECT {_OPEN_COLUMNS}, {_ANY_COLUMNS} FROM job "
        "LEFT JOIN attempt AS final ON job.state = 'completed' "
        f"AND final.job_uid = job.uid AND final.is_final = 1 AND {_IS_LATEST} WHERE job.id IN ({{}}) AND {condition}"
    )
    found: dict[int, SelectedJob] = {}
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        for row in connection.execute(query.format(_marks(some)), (*some, *values)):
            found[row[0]] = SelectedJob(*row)
    return [found[row] for row in dict.fromkeys(rows) if row in found]


def selection_queries(connection: Connection, filters: Filters) -> Iterator[tuple[str, list[Any]]]:
    """The queries that `jobs_of_filters` asks, with their values, in order. Each ends so that a LIMIT can follow."""
    states = _states(filters)
    if filters.names:
        _learn_identifiers(connection)
    named = _few_named(connection, filters.names) if filters.names else None
    if named == []:
        return
    for state in _GROUPS:
        if state not in (_USUAL if states is None else states):
            continue
        if filters.categories and not count_in_states(connection, [state], filters.categories):
            continue  # else all jobs of this state might be read for nothing
        if state == "completed":
            yield from _ended_queries(connection, filters, named)
        elif not filters.outcomes and not filters.exit_statuses and (state == "claimed" or not _needs_worker(filters)):
            condition, values = _conditions(filters, "", named)
            order = (
                "job.category, job.priority DESC, job.submitted_at, job.id"
                if state == "unclaimed"
                else "job.moved_at DESC"
            )
            yield (
                f"SELECT {_OPEN_COLUMNS}, {_NO_END} FROM job WHERE job.state = '{state}' AND {condition} ORDER BY {order}",
                values,
            )


def _ended_queries(
    connection: Connection, filters: Filters, named: list[int] | None
) -> Iterator[tuple[str, list[Any]]]:
    yield _decided_query(filters, f"{_OPEN_COLUMNS}, {_END_COLUMNS}", named)
    if filters.exit_statuses or _needs_worker(filters) or (filters.outcomes and UNKNOWN not in filters.outcomes):
        return
    condition, values = _conditions(filters._replace(outcomes=()), "", named)
    # Whoever asks for them by name gets every one, also those of which an entry was lost.
    condition += "" if filters.outcomes else f" AND {_BY_HAND}"
    yield (
        f"SELECT {_OPEN_COLUMNS}, {_NO_END} FROM job WHERE job.state = 'completed' AND NOT EXISTS (SELECT 1 FROM attempt "
        f"WHERE attempt.job_uid = job.uid AND attempt.is_final = 1) AND {condition} ORDER BY job.moved_at DESC",
        values,
    )


def _decided_query(filters: Filters, columns: str, named: Sequence[int] | None) -> tuple[str, list[Any]]:
    condition, values = _conditions(filters, _END_COLUMNS, named)
    tables = "attempt AS final INDEXED BY attempt_ended CROSS JOIN job ON job.uid = final.job_uid"
    if named is not None or filters.batches:
        index = "" if named is not None else "INDEXED BY job_of_batch"
        tables = f"job {index} CROSS JOIN attempt AS final ON final.job_uid = job.uid"
        condition += " AND job.batch IS NOT NULL" if filters.batches else ""
    return (
        f"SELECT {columns} FROM {tables} WHERE final.is_final = 1 AND job.state = 'completed' "
        f"AND {_IS_LATEST} AND {condition} ORDER BY final.ended_at DESC",
        values,
    )


def decided_query(
    connection: Connection, filters: Filters, columns: str, rows: Sequence[int] | None = None
) -> tuple[str, list[Any]]:
    """A query, with its values, for `columns` of the ended jobs that fit (`job`) and of the attempts that decided them (`final`),
    the newest end first; a LIMIT can follow. With `rows`, only of jobs of these rows."""
    if filters.names:
        _learn_identifiers(connection)
    return _decided_query(
        filters, columns, _few_named(connection, filters.names) if filters.names and rows is None else rows
    )


def open_queries(
    connection: Connection, filters: Filters, columns: str, rows: Sequence[int] | None = None
) -> Iterator[tuple[str, list[Any]]]:
    """Queries, with their values, for `columns` of the jobs that fit and have not ended, one for each state; a GROUP BY can
    follow. With `rows`, only of jobs of these rows."""
    if filters.outcomes or filters.exit_statuses or _needs_worker(filters):
        return
    if filters.names:
        _learn_identifiers(connection)
    condition, values = _conditions(filters, "", rows)
    index = "INDEXED BY job_open" if rows is None else ""
    for state in ("claimed", "limbo", "unclaimed"):
        yield f"SELECT {columns} FROM job {index} WHERE job.state = '{state}' AND {condition}", values


def _few_named(connection: Connection, patterns: Sequence[str]) -> list[int] | None:
    """The jobs (by row) whose names may fit, by the index of names; None if these are more than `_FEW`."""
    condition = " OR ".join([_MAY_FIT.format("name")] * len(patterns))
    query = f"SELECT id FROM job INDEXED BY job_name WHERE {condition} LIMIT {_FEW + 1}"
    rows = [row for (row,) in connection.execute(query, [pattern for pattern in patterns for _ in range(2)])]
    return rows if len(rows) <= _FEW else None


def _states(filters: Filters) -> list[str] | None:
    """The ledger's states that filters ask for; None if they name none."""
    return list(dict.fromkeys(STATES[word] for word in filters.states)) or None


def _needs_worker(filters: Filters) -> bool:
    return bool(filters.workers or filters.nodes)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _conditions(filters: Filters, end_columns: str, named: Sequence[int] | None = None) -> tuple[str, list[Any]]:
    """What filters other than the ledger's state come to. With `end_columns` the query has the attempt that ended the job. Only
    jobs of `named` can fit, if that is given."""
    parts, values = ["1"], list[Any]()

    def add(condition: str, *more: Any) -> None:
        parts.append(condition)
        values.extend(more)

    def add_alternatives(column: str, words: Sequence[Any]) -> None:
        if words:
            add(f"{column} IN ({_marks(words)})", *words)

    if filters.without_chunks:
        add("job.kind <> 'chunk'")
    if named is not None:
        add(f"job.id IN ({_marks(named)})", *named)
    of_limbo = [word for word in (HELD, DEPENDENT) if word in filters.states]
    if of_limbo and "limbo" not in filters.states:
        which = {HELD: IS_HELD, DEPENDENT: IS_DEPENDENT}
        add(f"(job.state <> 'limbo' OR {' OR '.join(which[word] for word in of_limbo)})")
    add_alternatives("job.category", filters.categories)
    add_alternatives("job.batch", filters.batches)
    if EVERYBODY not in filters.submitters:
        add_alternatives("job.submitter", filters.submitters)
    if filters.names:
        one = f"({_MAY_FIT.format('job.name')} AND (job.name GLOB ? OR job_identifier(job.name, job.submitter) GLOB ?))"
        add(f"({' OR '.join([one] * len(filters.names))})", *(name for name in filters.names for _ in range(4)))
    came_at = "coalesce(final.ended_at, job.moved_at)" if end_columns else "job.moved_at"
    if filters.since is not None:
        add(f"{came_at} >= ?", filters.since)
    if filters.until is not None:
        add(f"{came_at} < ?", filters.until)
    if end_columns:
        add_alternatives(
            f"coalesce(final.outcome, CASE job.state WHEN 'completed' THEN '{UNKNOWN}' END)", filters.outcomes
        )
        add_alternatives("final.exit_status", filters.exit_statuses)
    worker = _HOLDER if not end_columns else f"CASE job.state WHEN 'claimed' THEN {_HOLDER} ELSE final.worker END"
    add_alternatives(worker, filters.workers)
    if filters.nodes:
        # A worker's name is its node's, a dot, and its process's number, which another may have had (`rain.7-2`).
        add(
            f"({' OR '.join([f'(substr({worker}, 1, ?) = ? AND substr({worker}, ?) NOT GLOB ?)'] * len(filters.nodes))})",
            *(value for node in filters.nodes for value in (len(node) + 1, f"{node}.", len(node) + 2, "*[^0-9-]*")),
        )
    return " AND ".join(parts), values


def _learn_identifiers(connection: Connection) -> None:
    connection.create_function("job_identifier", 2, identifier_in_name, deterministic=True)


def count_in_states(
    connection: Connection, states: Sequence[str], categories: Sequence[str], without_chunks: bool = False
) -> int | None:
    """How many jobs are in these states (keys of STATES; none: all but removed) and categories (none: all), by the counts that
    the ledger keeps. None for held and dependent jobs, which are not counted apart."""
    if not {HELD, DEPENDENT}.isdisjoint(states) and "limbo" not in states:
        return None
    wanted = [STATES[word] for word in states] or _USUAL
    query = f"SELECT coalesce(sum(jobs), 0) FROM job_count_report WHERE state IN ({_marks(wanted)})"
    if categories:
        query += f" AND category IN ({_marks(categories)})"
    if without_chunks:
        query += " AND kind <> 'chunk'"
    return int(connection.execute(query, (*wanted, *categories)).fetchone()[0])


def rows_named(connection: Connection, pattern: str) -> list[int]:
    """The jobs (by row) with a name, or an identifier in it, that matches a pattern, newest names first."""
    _learn_identifiers(connection)
    # Reads the index of names; the table only for names that have such a part.
    query = (
        "SELECT id FROM job WHERE id IN (SELECT id FROM job WHERE name GLOB ?1 OR name GLOB '*-' || ?1 || '*') "
        "AND (name GLOB ?1 OR job_identifier(name, submitter) GLOB ?1) ORDER BY name DESC"
    )
    return [row for (row,) in connection.execute(query, (pattern,))]


def latest_of_submitter(connection: Connection, submitter: str, number: int) -> str | None:
    """The id of the job that a user submitted last (1), second to last (2) and so on, by a program or the library; None if there
    are not so many. The names that programs make begin with their time, so the index of names has them in order."""
    query = (
        "SELECT uid, name, submitted_at FROM job WHERE name >= '0' AND name < ':' AND instr(name, ?1) AND submitter = ?2 "
        "ORDER BY name DESC"
    )
    newest: list[tuple[float, str, str]] = []
    second = ""
    for uid, name, submitted_at in connection.execute(query, (f"-{submitter[:32]}", submitter)):
        if identifier_in_name(name, submitter) is None:
            continue
        # Names of one second are in the order of their ids, which two processes draw at random.
        if len(newest) >= number and name[:16] != second:
            break
        newest.append((submitted_at or 0.0, name, uid))
        second = name[:16]
    newest.sort(reverse=True)
    return newest[number - 1][2] if len(newest) >= number else None


def submitters_of_filters(connection: Connection, filters: Filters, most: int = 10_000) -> dict[str, int]:
    """The submitters of the first `most` jobs that would fit if anybody might have submitted them, and how many each has."""
    counts: dict[str, int] = {}
    for job in jobs_of_filters(connection, filters._replace(submitters=()), most):
        counts[job.submitter or ""] = counts.get(job.submitter or "", 0) + 1
    return counts
