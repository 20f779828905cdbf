"""Questions about what stands still: how many jobs wait for what, and when one of them may start. They are SQL, because each is
answered from an index that it names, and only read."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from jobjar.ledger.driver import Connection

# The newest ends that a rate is measured by.
_NEWEST_ENDS = 2_000
# How many jobs of a queue are looked at for those that may not begin yet.
_HEAD = 100


def count_before(connection: Connection, category: str, priority: int, submitted_at: float | None, row: int) -> int:
    """How many jobs of a category wait and are claimed before the job `row`."""
    higher = connection.execute(
        "SELECT coalesce(sum(jobs), 0) FROM job_count_report WHERE state = 'unclaimed' AND category = ? AND priority > ?",
        (category, priority),
    ).fetchone()[0]
    # NULL comes first. A row value is compared by the index.
    query = "SELECT count(*) FROM job INDEXED BY job_open WHERE state = 'unclaimed' AND category = ?1 AND priority = ?2 AND {}"
    if submitted_at is None:
        same = connection.execute(
            query.format("submitted_at IS NULL AND id < ?3"), (category, priority, row)
        ).fetchone()[0]
        return int(higher + same)
    earlier = connection.execute(
        query.format("(submitted_at, id) < (?3, ?4)"), (category, priority, submitted_at, row)
    ).fetchone()[0]
    unknown = connection.execute(query.format("submitted_at IS NULL"), (category, priority)).fetchone()[0]
    return int(higher + earlier + unknown)


def count_waiting(connection: Connection, categories: Collection[str]) -> int:
    """How many jobs of these categories wait."""
    marks = ",".join("?" * len(categories))
    query = f"SELECT coalesce(sum(jobs), 0) FROM job_count_report WHERE state = 'unclaimed' AND category IN ({marks})"
    return int(connection.execute(query, tuple(categories)).fetchone()[0])


class Ends(NamedTuple):
    """How many jobs workers completed, in how many seconds until now."""

    jobs: int
    seconds: float


def recent_ends(connection: Connection, workers: Collection[str], now: float, window_s: float) -> Ends:
    """The jobs that these workers completed in the last `window_s`: the newest 2,000 of the jar are looked through. They count
    from when the first of them began. Times are the disk's."""
    rows = connection.execute(
        "SELECT started_at, ended_at, worker FROM attempt INDEXED BY attempt_ended WHERE is_final = 1 AND ended_at > ? "
        "ORDER BY ended_at DESC LIMIT ?",
        (now - window_s, _NEWEST_ENDS),
    ).fetchall()
    own = [row for row in rows if row[2] in workers]
    if not own:
        return Ends(0, 0.0)
    began = rows[-1][1] if len(rows) == _NEWEST_ENDS else min(row[1] if row[0] is None else row[0] for row in own)
    return Ends(len(own), max(now - max(began, now - window_s), 1e-3))


def request_of_job(connection: Connection, row: int) -> str:
    """The class of what a job asks for (job_file/request.py)."""
    found = connection.execute("SELECT request FROM job WHERE id = ?", (row,)).fetchone()
    return found[0] if found else ""


def count_of_class(connection: Connection, category: str, request: str) -> int:
    """How many jobs of a class of requests wait in a category."""
    query = "SELECT count(*) FROM job INDEXED BY job_waiting WHERE state = 'unclaimed' AND category = ? AND request = ?"
    return int(connection.execute(query, (category, request)).fetchone()[0])


def given_of_job(connection: Connection, row: int) -> str | None:
    """What a job was given (job_file/given.py), as JSON; None for nothing."""
    found = connection.execute("SELECT given FROM job WHERE id = ?", (row,)).fetchone()
    return None if found is None else found[0]


def has_moves(connection: Connection, uid: str) -> bool:
    """Whether any move of a job is journaled."""
    return connection.execute("SELECT 1 FROM move WHERE job_uid = ? LIMIT 1", (uid,)).fetchone() is not None


class Delayed(NamedTuple):
    """Jobs that wait for a time: how many, when the first of them may be claimed (the disk's time), and whether there may be
    more."""

    jobs: int
    first_at: float
    has_more: bool


def count_begin_later(connection: Connection, now: float, batch: str | None = None) -> Delayed | None:
    """The jobs that were never tried and may not begin yet, among the first 100 that wait of each category, or of a batch; None
    if there are none. Those behind them wait for these in any case, and a jar of millions is answered as a small one."""
    if batch is not None:
        heads = [("INDEXED BY job_batch WHERE batch = ? AND state = 'unclaimed' ORDER BY moved_at LIMIT ?", batch)]
    else:
        order = "priority DESC, submitted_at, id LIMIT ?"
        query = f"INDEXED BY job_open WHERE state = 'unclaimed' AND category = ? ORDER BY {order}"
        rows = connection.execute("SELECT DISTINCT category FROM job_count_report WHERE state = 'unclaimed'")
        heads = [(query, category) for (category,) in rows.fetchall()]
    jobs, first_at, has_more = 0, now, False
    for query, word in heads:
        found = connection.execute(f"SELECT uid, not_before FROM job {query}", (word, _HEAD)).fetchall()
        later = [
            not_before
            for uid, not_before in found
            if not_before > now
            and not connection.execute("SELECT 1 FROM attempt WHERE job_uid = ? LIMIT 1", (uid,)).fetchone()
        ]
        if later:
            first_at = min(later) if not jobs else min(first_at, *later)
            jobs += len(later)
            has_more = has_more or len(later) == _HEAD
    return Delayed(jobs, first_at, has_more) if jobs else None


def count_of_batch(connection: Connection, batch: str) -> int:
    """How many jobs of a batch wait, but for those that wait to be stored."""
    query = (
        "SELECT count(*) FROM job INDEXED BY job_batch WHERE batch = ? AND state = 'unclaimed' "
        "AND substr(category, 1, 8) <> 'STORAGE-'"
    )
    return int(connection.execute(query, (batch,)).fetchone()[0])


def waiting_of_batches(connection: Connection, batch: str | None) -> dict[str, dict[str, int]]:
    """How many jobs of each batch wait, by batch and category; with `batch`, of that alone."""
    if batch is None:
        rows = connection.execute(
            "SELECT batch, category, count(*) FROM job INDEXED BY job_described WHERE kind = 'described' "
            "AND state <> 'completed' AND state = 'unclaimed' AND batch IS NOT NULL GROUP BY category, batch"
        )
    else:
        rows = connection.execute(
            "SELECT batch, category, count(*) FROM job INDEXED BY job_batch WHERE batch = ? AND state = 'unclaimed' "
            "GROUP BY category",
            (batch,),
        )
    found: dict[str, dict[str, int]] = {}
    for name, category, jobs in rows:
        found.setdefault(name, {})[category] = jobs
    return found


def claimed_of_batch(connection: Connection, batch: str) -> list[tuple[str | None, str]]:
    """(id, place) of the jobs of a batch that workers hold."""
    query = "SELECT uid, place FROM job INDEXED BY job_batch WHERE batch = ? AND state = 'claimed'"
    return list(connection.execute(query, (batch,)))


class LeftInLimbo(NamedTuple):
    """Jobs in limbo that nobody holds: those that were put there, those of a submission that did not end, and one name."""

    by_hand: int
    submitted: int
    name: str | None


def count_left_in_limbo(connection: Connection, before: float) -> LeftInLimbo:
    """The jobs that have been in limbo since `before` (the disk's time) without a reason."""
    moved = "EXISTS (SELECT 1 FROM move WHERE job_uid = job.uid)"
    row = connection.execute(
        f"SELECT coalesce(sum({moved} OR uid IS NULL), 0), coalesce(sum(uid IS NOT NULL AND NOT {moved}), 0), min(name) "
        "FROM job WHERE state = 'limbo' AND held_reason IS NULL AND moved_at < ?",
        (before,),
    ).fetchone()
    return LeftInLimbo(*row)


def staging_since(connection: Connection, uid: str) -> float | None:
    """Since when (the disk's time) the newest attempt of a job stages in; None if it does not."""
    row = connection.execute(
        "SELECT name, began_at, ended_at FROM phase WHERE job_uid = ?1 AND attempt = (SELECT max(number) FROM attempt "
        "WHERE job_uid = ?1) ORDER BY began_at DESC LIMIT 1",
        (uid,),
    ).fetchone()
    return row[1] if row is not None and row[0] == "stage_in" and row[2] is None else None


class FinalEnd(NamedTuple):
    """What is known of the attempt that completed a job. `number` is 0 if nothing is."""

    number: int
    message: str | None
    wall_time_s: float | None


def final_end(connection: Connection, uid: str) -> FinalEnd:
    """How the attempt ended that completed a job."""
    row = connection.execute(
        "SELECT number, message, wall_time_s FROM attempt WHERE job_uid = ? AND is_final = 1 "
        "ORDER BY number DESC LIMIT 1",
        (uid,),
    ).fetchone()
    return FinalEnd(0, None, None) if row is None else FinalEnd(*row)


def limit_of_job(connection: Connection, row: int) -> float | None:
    """The time limit of a job in seconds; None for none."""
    found = connection.execute("SELECT time_limit_s FROM job WHERE id = ?", (row,)).fetchone()
    return None if found is None else found[0]
