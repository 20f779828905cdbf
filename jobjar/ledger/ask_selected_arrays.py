"""Which arrays, and which of their tasks, a word or filters mean. The functions take the driver's connection."""

from __future__ import annotations

from collections.abc import Sequence

from jobjar.ledger.ask_arrays import ArrayRow
from jobjar.ledger.driver import Connection


def first_chunks(connection: Connection, part: str) -> list[tuple[str, str, str | None]]:
    """A chunk of each array: the array's id, and the chunk's name, which has `part` in it, and its submitter."""
    query = (
        "SELECT array.uid, name, submitter FROM array CROSS JOIN job ON job.uid = "
        "(SELECT min(uid) FROM job INDEXED BY job_of_batch WHERE batch = array.uid) WHERE instr(name, ?)"
    )
    return connection.execute(query, (part,)).fetchall()


def numbers_that_ended(
    connection: Connection, array: int, outcomes: Sequence[int], statuses: Sequence[int]
) -> list[int]:
    """The indexes of the tasks that ended without success in one of these ways, and with one of these statuses; none: any."""
    conditions, values = ["array = ?", "outcome <> 0"], [array]
    for column, asked in (("outcome", outcomes), ("status", statuses)):
        if asked:
            conditions.append(f"{column} IN ({','.join('?' * len(asked))})")
            values += asked
    query = f"SELECT number FROM task INDEXED BY task_failed WHERE {' AND '.join(conditions)}"
    return [number for (number,) in connection.execute(query, values)]


def all_arrays(connection: Connection) -> list[ArrayRow]:
    """All arrays, the newest last."""
    return [ArrayRow(*row) for row in connection.execute("SELECT * FROM array ORDER BY uid")]
