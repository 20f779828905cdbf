"""Questions to the ledger about names like one that no job has. They take the driver's connection and only read."""

from __future__ import annotations

from typing import Any, NamedTuple

# How many of the newest jobs are searched by name.
_NEWEST = 20_000
_CAME_LAST = "SELECT id, name, state, moved_at FROM job ORDER BY id DESC LIMIT ?"


class Named(NamedTuple):
    """A job as it is listed."""

    name: str
    state: str


def count_ids(connection: Any, beginning: str) -> int:
    """How many jobs have an id that begins so."""
    query = "SELECT count(*) FROM job WHERE uid >= ? AND uid < ?"
    return int(connection.execute(query, (beginning, beginning + "\x7f")).fetchone()[0])


def jobs_named_with(connection: Any, part: str, limit: int) -> list[Named]:
    """The newest jobs that have `part` in their names, among those that came last into the ledger."""
    query = f"SELECT name, state FROM ({_CAME_LAST}) WHERE instr(name, ?) ORDER BY moved_at DESC, id DESC LIMIT ?"
    return [Named(*row) for row in connection.execute(query, (_NEWEST, part, limit))]


def count_named_with(connection: Any, part: str) -> int:
    """How many jobs have `part` in their names."""
    return int(connection.execute("SELECT count(*) FROM job WHERE instr(name, ?)", (part,)).fetchone()[0])


def newest_jobs(connection: Any, limit: int) -> list[Named]:
    """The jobs that were moved last."""
    query = f"SELECT name, state FROM ({_CAME_LAST}) ORDER BY moved_at DESC, id DESC LIMIT ?"
    return [Named(*row) for row in connection.execute(query, (_NEWEST, limit))]


def newest_names(connection: Any) -> list[tuple[str | None, str, str | None]]:
    """Id, name and submitter of the jobs that came last into the ledger, the newest first: for what was spelled wrongly."""
    return list(connection.execute("SELECT uid, name, submitter FROM job ORDER BY id DESC LIMIT ?", (_NEWEST // 10,)))


def submitters_of_jobs(connection: Any) -> set[str]:
    """The submitters of the jobs that came last into the ledger."""
    query = "SELECT DISTINCT submitter FROM (SELECT submitter FROM job ORDER BY id DESC LIMIT ?) WHERE submitter IS NOT NULL"
    return {submitter for (submitter,) in connection.execute(query, (_NEWEST,))}


def categories_of_jobs(connection: Any) -> set[str]:
    """The categories that any job has or had."""
    return {category for (category,) in connection.execute("SELECT DISTINCT category FROM job_count_report")}
