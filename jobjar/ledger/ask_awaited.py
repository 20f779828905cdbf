"""Questions to the ledger for people who wait for jobs: which jobs are open, and how the others ended.

The functions take the driver's connection and only read. Open jobs are found by the indexes of open jobs, and jobs that
ended since a time by the index of ended attempts: a jar's older history costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobjar.ledger.ask_batch_jobs import COMPLETED_AT
from jobjar.ledger.ask_claiming import IS_DEPENDENT, IS_HELD, IS_OPEN
from jobjar.ledger.driver import Connection
from jobjar.ledger.precedence import IS_LATEST

# Kinds of selections.
ALL, CATEGORY, BATCH, PATTERN = "all", "category", "batch", "pattern"
_MATCHES = {ALL: "?1 IS NULL", CATEGORY: "category = ?1", BATCH: "batch = ?1", PATTERN: "name GLOB ?1"}
# A batch has an index of its own. The planner takes it only where it cannot use the partial one.
_OPEN = {kind: f"{IS_OPEN} AND " if kind != BATCH else "" for kind in _MATCHES}
# A job that was submitted again as another job does not count any more.
_IS_REPLACED = (
    "(job.batch IS NOT NULL AND ended.outcome IS NOT 'succeeded' AND EXISTS (SELECT 1 FROM batch WHERE name = job.batch "
    "AND restarted_until > 0 AND restarted_until >= " + COMPLETED_AT.format(job="job") + "))"
)
_IS_LATEST = IS_LATEST.format(end="ended")
_HELD = IS_HELD


class Awaited(NamedTuple):
    """The jobs that somebody waits for: all of them, or those of a category, a batch, or a pattern of names. `word`
    is that category, batch or pattern. What ended before `since` (the disk's time) does not count."""

    kind: str
    word: str | None
    since: float = 0.0


class OpenJob(NamedTuple):
    """A job that waits, for a worker or for prerequisites, or is claimed. `key` is its id, or its place until it has one."""

    key: str
    state: str
    category: str
    batch: str | None
    not_before: float
    place: str


def open_jobs(connection: Connection, selection: Awaited) -> list[OpenJob]:
    """The jobs of a selection that wait or are claimed; for a batch or a pattern also those that somebody put into
    limbo."""
    of_limbo = f"{IS_DEPENDENT} OR held_reason IS NULL" if selection.kind in (BATCH, PATTERN) else IS_DEPENDENT
    query = (
        "SELECT coalesce(uid, place), state, category, batch, not_before, place FROM job "
        f"WHERE {_OPEN[selection.kind]}state IN ('unclaimed', 'claimed', 'limbo') "
        f"AND (state <> 'limbo' OR {of_limbo}) AND {_MATCHES[selection.kind]}"
    )
    return [OpenJob(*row) for row in connection.execute(query, (selection.word,))]


def find_open(connection: Connection, keys: Sequence[str]) -> list[OpenJob]:
    """The jobs of these keys that have not ended."""
    query = (
        "SELECT coalesce(uid, place), state, category, batch, not_before, place FROM job "
        "WHERE {} AND state IN ('unclaimed', 'claimed', 'limbo')"
    )
    found = []
    for key in keys:
        if "/" in key:
            rows = connection.execute(query.format("name = ? AND place = ?"), (key.rpartition("/")[2], key))
        else:
            rows = connection.execute(query.format("uid = ?"), (key,))
        found += [OpenJob(*row) for row in rows]
    return found


def held_among(connection: Connection, selection: Awaited) -> list[str]:
    """The ids of the jobs of a selection that are held in limbo, with a reason."""
    query = (
        f"SELECT uid FROM job WHERE {_OPEN[selection.kind]}{_HELD} AND uid IS NOT NULL AND {_MATCHES[selection.kind]}"
    )
    return [uid for (uid,) in connection.execute(query, (selection.word,))]


def held_reasons(connection: Connection, uids: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """(name, place, reason) of each of these jobs that is held, by its id."""
    rows = (
        connection.execute(
            f"SELECT uid, name, place, held_reason FROM job WHERE uid = ? AND {_HELD}", (uid,)
        ).fetchone()
        for uid in uids
    )
    return {uid: (name, place, reason) for uid, name, place, reason in filter(None, rows)}


def count_in_limbo(connection: Connection, selection: Awaited) -> int:
    """How many jobs of a selection are in limbo without a reason: somebody put them there, or is about to submit
    them."""
    query = (
        f"SELECT count(*) FROM job WHERE {_OPEN[selection.kind]}state = 'limbo' AND held_reason IS NULL "
        f"AND {_MATCHES[selection.kind]}"
    )
    return int(connection.execute(query, (selection.word,)).fetchone()[0])


class Ended(NamedTuple):
    """How jobs of a selection ended: how many there are, and the outcome of each that did not succeed, by its id.
    That is `removed` if the file was removed before the job ended, and `unknown` if nothing says how it ended."""

    jobs: int
    unsuccessful: dict[str, str]


def count_ended(connection: Connection, selection: Awaited) -> Ended:
    """How the jobs of a selection ended."""
    values = (selection.word, selection.since)
    key, ended_as, rest = _ended_query(selection)
    if selection.kind == ALL:
        # An index alone counts the successes. That pays on a day of a million jobs.
        failed = dict(
            connection.execute(f"SELECT {key}, {ended_as} {rest} AND ended.outcome IS NOT 'succeeded'", values)
        )
        query = "SELECT count(*) FROM attempt WHERE is_final = 1 AND ended_at >= ?2 AND ?1 IS NULL AND outcome = 'succeeded'"
        return Ended(int(connection.execute(query, values).fetchone()[0]) + len(failed), failed)
    jobs, failed = 0, {}
    query = (
        f"SELECT {ended_as} AS ended_as, count(*), group_concat(CASE WHEN ended.outcome IS NOT 'succeeded' THEN {key} END, ' ') "
        f"{rest} GROUP BY ended_as"
    )
    for outcome, count, keys in connection.execute(query, values):
        jobs += count
        failed.update(dict.fromkeys((keys or "").split(), outcome))
    return Ended(jobs, failed)


def list_outcomes(connection: Connection, selection: Awaited) -> Iterator[tuple[str, str]]:
    """(id, outcome as in `Ended`) of each job of a selection that ended."""
    key, ended_as, rest = _ended_query(selection)
    yield from connection.execute(f"SELECT {key}, {ended_as} {rest}", (selection.word, selection.since))


def _ended_query(selection: Awaited) -> tuple[str, str, str]:
    """The parts of a query for the jobs of a selection that ended: the id, the outcome, and the rest. ?1 is the
    selection's `word`, ?2 its `since`."""
    ended_as = "coalesce(ended.outcome, CASE job.state WHEN 'removed' THEN 'removed' ELSE 'unknown' END)"
    if selection.kind in (BATCH, PATTERN):
        return (
            "job.uid",
            ended_as,
            (
                f"FROM job LEFT JOIN attempt AS ended ON ended.job_uid = job.uid AND ended.is_final = 1 AND {_IS_LATEST} "
                f"WHERE job.{_MATCHES[selection.kind]} AND job.state IN ('completed', 'removed') AND job.uid IS NOT NULL "
                f"AND (?2 <= 0 OR coalesce(ended.ended_at, job.moved_at) >= ?2) AND NOT {_IS_REPLACED}"
            ),
        )
    matches = "job.category = ?1" if selection.kind == CATEGORY else "?1 IS NULL"
    return (
        "job.uid",
        ended_as,
        (
            "FROM attempt AS ended CROSS JOIN job ON job.uid = ended.job_uid WHERE ended.is_final = 1 AND ended.ended_at >= ?2 "
            f"AND {matches} AND job.state = 'completed' AND {_IS_LATEST} AND NOT {_IS_REPLACED}"
        ),
    )


def count_ended_before(connection: Connection, selection: Awaited) -> int:
    """How many jobs of a selection ended before its time."""
    if selection.kind == ALL:
        query = "SELECT count(*) FROM attempt WHERE is_final = 1 AND ended_at < ?2 AND ?1 IS NULL"
    else:
        query = (
            "SELECT count(*) FROM attempt AS ended CROSS JOIN job ON job.uid = ended.job_uid "
            f"WHERE ended.is_final = 1 AND ended.ended_at < ?2 AND job.{_MATCHES[selection.kind]}"
        )
    return int(connection.execute(query, (selection.word, selection.since)).fetchone()[0])


def id_of_place(connection: Connection, place: str) -> str | None:
    """The id of the job that went from a place last; None if none is known to have gone from there."""
    query = "SELECT job_uid FROM move WHERE origin = ? ORDER BY moved_at DESC"
    row = connection.execute(query, (place,)).fetchone()
    return None if row is None else row[0]


def oldest_submission(connection: Connection, selection: Awaited) -> float | None:
    """When the oldest job of a selection that has not ended was submitted; None if there is none."""
    query = (
        f"SELECT min(submitted_at) FROM job WHERE {_OPEN[selection.kind]}state IN ('unclaimed', 'claimed', 'limbo') "
        f"AND {_MATCHES[selection.kind]}"
    )
    row = connection.execute(query, (selection.word,)).fetchone()
    return None if row is None else row[0]


def count_missing(connection: Connection, batch: str) -> int:
    """How many jobs of a batch nobody has seen yet, though its submitter counted them; 0 if the batch is aborted."""
    query = (
        "SELECT coalesce(max(0, jobs - (SELECT count(*) FROM job INDEXED BY job_batch WHERE batch = ?1)), 0) FROM batch "
        "WHERE name = ?1 AND is_aborted = 0"
    )
    row = connection.execute(query, (batch,)).fetchone()
    return 0 if row is None else int(row[0])


def is_job(connection: Connection, word: str) -> bool:
    """Whether a job has this name or id."""
    query = "SELECT 1 FROM job WHERE uid = ?1 UNION ALL SELECT 1 FROM job WHERE name = ?1 LIMIT 1"
    return connection.execute(query, (word,)).fetchone() is not None


def is_batch(connection: Connection, word: str) -> bool:
    """Whether there is a batch of this name, or a job that says it belongs to it."""
    query = "SELECT 1 FROM batch WHERE name = ?1 UNION ALL SELECT 1 FROM job WHERE batch = ?1 LIMIT 1"
    return connection.execute(query, (word,)).fetchone() is not None


def batches_like(connection: Connection, pattern: str) -> list[str]:
    """The batches whose names match a pattern."""
    return [
        name for (name,) in connection.execute("SELECT name FROM batch WHERE name GLOB ? ORDER BY name", (pattern,))
    ]


def any_named_like(connection: Connection, pattern: str) -> bool:
    """Whether any job's name matches a pattern."""
    return connection.execute("SELECT 1 FROM job WHERE name GLOB ? LIMIT 1", (pattern,)).fetchone() is not None


def category_has_open_jobs(connection: Connection, category: str) -> bool:
    query = f"SELECT 1 FROM job WHERE {IS_OPEN} AND category = ? LIMIT 1"
    return connection.execute(query, (category,)).fetchone() is not None


def job_outcomes(connection: Connection, uids: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """State and outcome of each of these jobs that the ledger knows, by its id. The state of a held job is `held`."""
    found: dict[str, tuple[str, str | None]] = {}
    for start in range(0, len(uids), 500):
        some = uids[start : start + 500]
        marks = ",".join("?" * len(some))
        for uid, state, outcome in connection.execute(
            f"SELECT uid, CASE WHEN {IS_HELD} THEN 'held' ELSE state END, outcome "
            f"FROM job_report WHERE uid IN ({marks})",
            some,
        ):
            found[uid] = (state, outcome)
    return found
