"""Questions of workers and recovery to the ledger. They use SQL by the driver, because they are asked for each job,
and only read. Questions of people about single jobs are in ask_jobs.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from jobjar.job_file.names import id_in_name, unnumbered_name
from jobjar.job_file.prerequisites import DEPENDENT_ON
from jobjar.layout import jobs_place, name_in_place, worker_of_place
from jobjar.ledger.driver import Connection


class Candidate(NamedTuple):
    """A job that the ledger believes claimable, with what its claimer needs to know. `uid` is None until somebody
    names it."""

    row: int
    uid: str | None
    name: str
    place: str
    category: str
    priority: int
    submitter: str | None
    submitted_at: float | None
    retries: int | None
    retry_delay_s: float | None
    time_limit_s: float | None
    move_number: int
    moved_at: float
    attempts: int
    kind: str = ""
    batch: str | None = None
    seed: int | None = None
    found_number: int | None = 0
    # What else it was given, as JSON (job_file/given.py).
    given: str | None = None
    # The class of what it asks for (job_file/request.py).
    request: str = ""

    @property
    def order(self) -> tuple[Any, ...]:
        """By this the jobs of a category are claimed."""
        return (-self.priority, self.submitted_at is not None, self.submitted_at or 0.0, self.row)

    @property
    def was_submitted(self) -> bool:
        """Whether the submitter's entry is known. For any other job its file alone says what it is, at each of its
        claims."""
        return self.found_number == 0 and self.submitted_at is not None


# Jobs that have not ended, in the words that the index job_open needs: `IN` would not do. Naming one state is enough.
IS_OPEN = "(state = 'limbo' OR state = 'unclaimed' OR state = 'claimed')"
# Jobs that wait for prerequisites. The others of limbo that have a reason are held.
IS_DEPENDENT = f"(state = 'limbo' AND held_reason GLOB '{DEPENDENT_ON}*')"
IS_HELD = f"(state = 'limbo' AND held_reason NOT GLOB '{DEPENDENT_ON}*')"

CANDIDATE_COLUMNS = (
    "id, uid, name, place, category, priority, submitter, submitted_at, "
    "retries, retry_delay_s, time_limit_s, move_number, moved_at, "
    "coalesce((SELECT max(number) FROM attempt WHERE job_uid = job.uid), 0), kind, batch, seed, found_number, given, request"
)
# `+?`: a bare parameter in a comparison makes SQLite (with STAT4) plan the statement again at each call.
_CANDIDATES = f"""
SELECT {CANDIDATE_COLUMNS} FROM job
WHERE state <> 'completed' AND state = 'unclaimed' AND category = +? AND not_before <= +?%s
ORDER BY priority DESC, submitted_at, id LIMIT +?"""
_ALL_CANDIDATES = _CANDIDATES % ""
_PLACE = Candidate._fields.index("place")
# How many of a category's first jobs are looked at for those that fit into a worker's time: 2 to 4 ms.
MOST_HEADS = 10_000
_CHUNKS_OR = "kind = 'chunk' OR coalesce(nullif(time_limit_s, 0), given ->> '$.job_runtime_s', 0)"


def _among_heads(query: str, condition: str) -> str:
    """The rows of a query for candidates that fulfil a condition, among the first MOST_HEADS. The heads come from the index
    alone; CROSS JOIN keeps their order."""
    heads = query.replace(f"SELECT {CANDIDATE_COLUMNS}", "SELECT id AS head")
    return (
        f"SELECT {CANDIDATE_COLUMNS} FROM ({heads}) CROSS JOIN job ON job.id = head WHERE {_CHUNKS_OR} {condition} +?"
    )


def claim_candidates(
    connection: Connection,
    category: str,
    now: float,
    limit: int,
    without: Collection[str] = (),
    is_passed_over: Callable[[str], bool] | None = None,
    left_s: float | None = None,
    fits: Callable[[Candidate], bool] | None = None,
) -> list[Candidate]:
    """The first `limit` claimable jobs of a category: highest priority first, then oldest submission. Jobs of the
    batches `without`, and those at places that are passed over, are left out. With `left_s`, only
    those among the first MOST_HEADS that may take no longer; `fits` says it of chunks, whose rows do not."""
    query: str = _ALL_CANDIDATES
    values: tuple[Any, ...] = (category, now)
    if without:
        query = _CANDIDATES % f" AND (batch IS NULL OR batch NOT IN ({','.join('?' * len(without))}))"
        values += tuple(without)
    if is_passed_over is None and left_s is None:
        return [Candidate(*row) for row in connection.execute(query, (*values, limit))]
    # Read on until there are enough: nobody knows how many are passed over. The index has them in this order.
    if left_s is None:
        rows = connection.execute(query, (*values, -1))
    else:
        rows = connection.execute(_among_heads(query, "<="), (*values, MOST_HEADS, left_s))
    candidates = (Candidate(*row) for row in rows if is_passed_over is None or not is_passed_over(row[_PLACE]))
    return list(itertools.islice(candidates if fits is None else filter(fits, candidates), limit))


def heads_that_need_more(connection: Connection, category: str, now: float, left_s: float) -> list[Candidate]:
    """Those of the first MOST_HEADS claimable jobs of a category that may take longer than `left_s`, and all chunks among
    them."""
    rows = connection.execute(_among_heads(_ALL_CANDIDATES, ">"), (category, now, MOST_HEADS, left_s))
    return [Candidate(*row) for row in rows]


_OF_CLASS = _CANDIDATES.replace("FROM job\n", "FROM job INDEXED BY job_waiting\n") % " AND request = +?%s"
_CLASSES = """
WITH RECURSIVE class (request) AS (
    SELECT (SELECT min(request) FROM job INDEXED BY job_waiting WHERE state = 'unclaimed' AND category = ?1)
    UNION ALL
    SELECT (SELECT min(request) FROM job INDEXED BY job_waiting
        WHERE state = 'unclaimed' AND category = ?1 AND request > class.request)
    FROM class WHERE class.request IS NOT NULL)
SELECT request FROM class WHERE request IS NOT NULL"""


def waiting_classes(connection: Connection, category: str) -> list[str]:
    """The classes of requests of the jobs that wait in a category: each costs one step in an index."""
    return [request for (request,) in connection.execute(_CLASSES, (category,))]


def candidates_of_classes(
    connection: Connection,
    category: str,
    classes: Iterable[str],
    now: float,
    limit: int,
    without: Collection[str] = (),
    is_passed_over: Callable[[str], bool] | None = None,
    fits: Callable[[Candidate], bool] | None = None,
) -> list[Candidate]:
    """`claim_candidates` of some classes of requests only. With `fits`, only those among the first MOST_HEADS of each class
    that it says it of."""
    some = f" AND (batch IS NULL OR batch NOT IN ({','.join('?' * len(without))}))" if without else ""
    found: list[Candidate] = []
    for request in classes:
        most = -1 if fits is None else MOST_HEADS
        cursor = connection.execute(_OF_CLASS % some, (category, now, request, *without, most))
        rows = (Candidate(*row) for row in cursor if is_passed_over is None or not is_passed_over(row[_PLACE]))
        found += itertools.islice(rows if fits is None else filter(fits, rows), limit)
    found.sort(key=lambda candidate: candidate.order)
    return found[:limit]


def recent_claims(connection: Connection, since: float) -> list[str]:
    """The places of the jobs that were claimed at `since` (the disk's time) or later and are still held."""
    query = "SELECT place FROM job WHERE state <> 'completed' AND state = 'claimed' AND moved_at >= ?"
    return [place for (place,) in connection.execute(query, (since,))]


def recent_starts(connection: Connection, since: float) -> list[str]:
    """The names of the workers that started at `since` (their node's time) or later and have not ended. Only the
    newest thousand are searched, which spares a jar with a long history the rest."""
    newest = "id > (SELECT max(id) - 1000 FROM worker)"
    query = f"SELECT name FROM worker WHERE {newest} AND started_at >= ? AND ended_at IS NULL"
    return [name for (name,) in connection.execute(query, (since,))]


def workers_without_jobs(connection: Connection, but: str, limit: int) -> list[str]:
    """The names of at most `limit` workers that have not ended and hold no job, newest first, without the one of the
    id `but`. Only the newest thousand are searched, as in `recent_starts`."""
    holding = workers_with_jobs(connection)
    query = (
        "SELECT name FROM worker WHERE id > (SELECT max(id) - 1000 FROM worker) AND ended_at IS NULL AND uid <> ? "
        "ORDER BY id DESC"
    )
    names = (name for (name,) in connection.execute(query, (but,)) if name not in holding)
    return list(itertools.islice(names, limit))


def workers_with_jobs(connection: Connection) -> set[str]:
    """The names of the workers that hold jobs."""
    query = "SELECT place FROM job WHERE state <> 'completed' AND state = 'claimed'"
    return {place.split("/", 2)[1] for (place,) in connection.execute(query)}


def candidate_at(connection: Connection, place: str) -> Candidate | None:
    """The job that the ledger knows at a place, or None."""
    row = connection.execute(
        f"SELECT {CANDIDATE_COLUMNS} FROM job WHERE name = ? AND place = ? AND state <> 'removed' "
        "ORDER BY moved_at DESC LIMIT 1",
        (name_in_place(place), place),
    ).fetchone()
    return Candidate(*row) if row else None


def claimed_by(connection: Connection, worker: str) -> dict[str, str]:
    """The places of the jobs that a worker of this name holds, by the ledger; by their ids."""
    beginning = f"{jobs_place(worker)}/"
    rows = connection.execute(
        "SELECT uid, place FROM job WHERE state <> 'completed' AND state = 'claimed' AND uid IS NOT NULL"
    )
    return {uid: place for uid, place in rows if place.startswith(beginning)}


def is_with_worker(connection: Connection, uid: str | None, place: str) -> bool:
    """Whether, by the ledger, a worker that is not known to have ended runs a job at `place`."""
    worker = worker_of_place(place)
    query = (
        "SELECT 1 FROM worker JOIN attempt ON attempt.worker_uid = worker.uid WHERE worker.name = ? "
        "AND worker.ended_at IS NULL AND job_uid = ?"
    )
    return worker is not None and connection.execute(query, (worker, uid)).fetchone() is not None


def next_due(connection: Connection, categories: Sequence[str], now: float) -> float | None:
    """When the next delayed job of these categories, or the next of a throttled batch, may be claimed; None if there
    is none."""
    marks = ",".join(f"?{number}" for number in range(2, len(categories) + 2))
    row = connection.execute(
        "SELECT min(due) FROM (SELECT min(not_before) AS due FROM job WHERE state <> 'completed' AND state = 'unclaimed' "
        f"AND not_before > ?1 AND category IN ({marks}) UNION ALL "
        "SELECT min(until) FROM throttle WHERE until > ?1 AND EXISTS (SELECT 1 FROM job "
        f"WHERE batch = throttle.batch AND state = 'unclaimed' AND category IN ({marks})))",
        (now, *categories),
    ).fetchone()
    return None if row is None else row[0]


def uid_is_taken(connection: Connection, uid: str) -> bool:
    return connection.execute("SELECT 1 FROM job WHERE uid = ?", (uid,)).fetchone() is not None


def last_attempt_number(connection: Connection, uid: str) -> int:
    """The number of a job's newest attempt; 0 before the first."""
    row = connection.execute("SELECT max(number) FROM attempt WHERE job_uid = ?", (uid,)).fetchone()
    return row[0] or 0


def was_recovered(connection: Connection, uid: str, number: int, worker_uid: str, move_number: int) -> bool:
    """Whether somebody took a job back from a worker's attempt `number`, which the job's move `move_number` began:
    ended that attempt, or journaled the move that took it away, as far as is folded. A move by hand does not count,
    nor does a claim after it."""
    query = (
        "SELECT 1 FROM attempt WHERE job_uid = ?1 AND worker_uid = ?3 AND number = ?2 "
        "AND outcome IN ('stranded', 'crashed', 'lost') "
        "UNION ALL SELECT 1 FROM move WHERE job_uid = ?1 AND number = ?4 + 1 AND reason NOT IN ('claimed', 'found')"
    )
    return connection.execute(query, (uid, number, worker_uid, move_number)).fetchone() is not None


def was_followed(connection: Connection, uid: str, number: int, worker_uid: str, move_number: int) -> bool:
    """Whether another attempt of a job was made since a worker's attempt `number` began, or the job was moved on.
    Moves by hand do not count."""
    query = (
        "SELECT 1 FROM attempt WHERE job_uid = ?1 AND (number > ?2 OR (number = ?2 AND worker_uid <> ?3)) "
        "UNION ALL SELECT 1 FROM move WHERE job_uid = ?1 AND number > ?4 AND reason <> 'found'"
    )
    return connection.execute(query, (uid, number, worker_uid, move_number)).fetchone() is not None


def count_attempts(connection: Connection, uid: str, outcomes: Iterable[str], after: int = 0) -> int:
    """How many attempts of a job ended with one of `outcomes`. Only those after attempt `after`, and after the one
    with which the job last completed, count: a job that was taken out of completed/ by hand begins anew."""
    wanted = tuple(outcomes)
    marks = ",".join("?" * len(wanted))
    row = connection.execute(
        f"SELECT count(*) FROM attempt WHERE job_uid = ? AND outcome IN ({marks}) AND number > max(?, "
        "coalesce((SELECT max(number) FROM attempt WHERE job_uid = ? AND is_final = 1), 0))",
        (uid, *wanted, after, uid),
    ).fetchone()
    return int(row[0])


def is_decided_by(connection: Connection, uid: str, number: int, worker_uid: str, is_completed: bool) -> bool:
    """Whether a job that is completed (by the ledger, or by `is_completed`, because the caller found it there) was
    decided by one worker alone, from its attempt `number` on."""
    row = connection.execute(
        "SELECT (state = 'completed' OR ?), "
        "(SELECT group_concat(DISTINCT worker_uid) FROM attempt WHERE job_uid = uid AND number >= ? AND is_final = 1) "
        "FROM job WHERE uid = ?",
        (is_completed, number, uid),
    ).fetchone()
    return row is not None and bool(row[0]) and row[1] == worker_uid


_LAST_WORD = """
WITH said AS (
    SELECT job_uid, number, started_at, worker, worker_uid FROM attempt WHERE is_final = 1 AND worker_uid = ?
    ORDER BY ended_at DESC, number DESC LIMIT 1
), claim AS (
    -- On a disk whose times are whole seconds earlier attempts, and later ones, may have been claimed at the same time.
    SELECT said.job_uid, said.number, move.number AS move_number, move.destination AS place
    FROM said JOIN move ON move.job_uid = said.job_uid AND move.moved_at = said.started_at AND move.reason = 'claimed'
        AND move.actor = said.worker
    ORDER BY move.number DESC LIMIT 1 OFFSET (
        SELECT count(*) FROM attempt AS later, said WHERE later.job_uid = said.job_uid AND later.worker_uid = said.worker_uid
            AND later.started_at = said.started_at AND later.number > said.number)
)
SELECT claim.job_uid, claim.number, claim.place, (
    SELECT max(CASE
        WHEN move.origin = claim.place AND move.number = claim.move_number + 1 AND move.reason = 'completed' THEN 2
        WHEN move.origin = claim.place OR move.reason = 'claimed' THEN 1 END)
    FROM move WHERE move.job_uid = claim.job_uid AND move.number > claim.move_number)
FROM claim"""


class FinalAttempt(NamedTuple):
    """A worker's last attempt that, by its own entry, completes the job, and where it held that job. `was_moved_on`:
    by the journals, the job went another way from there; None if they have no later move."""

    uid: str
    number: int
    place: str
    was_moved_on: bool | None


def final_attempt(connection: Connection, worker_uid: str) -> FinalAttempt | None:
    """The newest attempt of a worker with which a job would be completed, or None."""
    row = connection.execute(_LAST_WORD, (worker_uid,)).fetchone()
    return FinalAttempt(row[0], row[1], row[2], None if row[3] is None else row[3] == 1) if row else None


def completed_among(connection: Connection, uids: Sequence[str]) -> list[tuple[str, str]]:
    """(id, place) of each of these jobs that is completed, as far as the ledger knows."""
    query = "SELECT uid, place FROM job WHERE uid = ? AND state = 'completed'"
    rows = (connection.execute(query, (uid,)).fetchone() for uid in uids)
    return [(uid, place) for uid, place in filter(None, rows)]


class HeldAttempt(NamedTuple):
    """The attempt for which a worker claimed a job, as far as journals say."""

    number: int
    pid: int | None
    pid_started: float | None
    outcome: str | None
    is_final: bool


def attempt_of_worker(connection: Connection, uid: str, worker_uid: str) -> HeldAttempt | None:
    """The newest attempt of a job by a worker, or None."""
    row = connection.execute(
        "SELECT number, pid, pid_started, outcome, is_final FROM attempt WHERE job_uid = ? AND worker_uid = ? "
        "ORDER BY number DESC LIMIT 1",
        (uid, worker_uid),
    ).fetchone()
    return HeldAttempt(row[0], row[1], row[2], row[3], bool(row[4])) if row else None


def uid_of_scratch(connection: Connection, name: str, worker_uid: str) -> str | None:
    """The id of the job for which a worker's scratch directory is named, or None."""
    row = connection.execute(
        "SELECT uid FROM job WHERE uid = ? OR name IN (?, ?) "
        "ORDER BY EXISTS (SELECT 1 FROM attempt WHERE job_uid = job.uid AND worker_uid = ?) DESC LIMIT 1",
        (id_in_name(name), name, unnumbered_name(name), worker_uid),
    ).fetchone()
    return None if row is None else row[0]


def worker_of_attempt(connection: Connection, uid: str, number: int, worker_uid: str) -> str | None:
    """The name of the worker that made an attempt, or None if nothing is known of it."""
    row = connection.execute(
        "SELECT worker FROM attempt WHERE job_uid = ? AND number = ? AND worker_uid = ?", (uid, number, worker_uid)
    ).fetchone()
    return None if row is None else row[0]


def has_warning(connection: Connection, uid: str, number: int, worker_uid: str, text: str) -> bool:
    """Whether an attempt has this warning."""
    query = "SELECT 1 FROM warning WHERE job_uid = ? AND attempt = ? AND worker_uid = ? AND text = ?"
    return connection.execute(query, (uid, number, worker_uid, text)).fetchone() is not None


def stored_names(connection: Connection, uid: str) -> set[str]:
    """The names of the published files of a job that any attempt stored."""
    return {name for (name,) in connection.execute("SELECT source_name FROM stored_file WHERE job_uid = ?", (uid,))}
