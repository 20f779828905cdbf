"""Questions to the ledger for a shell that completes words: names and ids that begin so. They have to be quick, so they take the
ledger as it is, without bringing it up to date. They only read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from jobjar.job_file.names import identifier_in_name
from jobjar.ledger.driver import Connection, quick_driver, quote_path

# More words than a person looks through; jobs that are older than so many are named by their ids.
_MOST = 50
_NEWEST = 2_000


@contextlib.contextmanager
def reading(database: str) -> Iterator[Connection]:
    """A connection to a ledger, to read a few words. Raises the driver's errors."""
    with contextlib.closing(
        quick_driver().connect(f"file:{quote_path(database)}?mode=ro", uri=True, timeout=0.1)
    ) as one:
        yield one


def job_words(connection: Connection, beginning: str, states: Sequence[str] = ()) -> list[str]:
    """Ids and identifiers of jobs that begin so, the newest first; of jobs in these states, or of all."""
    marks = ",".join("?" * len(states))
    of_state = f" AND state IN ({marks})" if states else ""
    words: dict[str, None] = {}
    newest = f"SELECT uid, name, submitter FROM job WHERE 1{of_state} ORDER BY id DESC LIMIT {_NEWEST}"
    for uid, name, submitter in connection.execute(newest, tuple(states)):
        word = identifier_in_name(name, submitter) or uid or name
        if word.startswith(beginning):
            words.setdefault(word)
        if len(words) >= _MOST:
            break
    if beginning:
        query = f"SELECT uid FROM job WHERE uid >= ? AND uid < ?{of_state} LIMIT {_MOST}"
        words |= dict.fromkeys(uid for (uid,) in connection.execute(query, (beginning, f"{beginning}\x7f", *states)))
    return list(words)


def category_words(connection: Connection) -> list[str]:
    """The categories that any job has or had."""
    return [
        category for (category,) in connection.execute("SELECT DISTINCT category FROM job_count_report") if category
    ]


def batch_words(connection: Connection) -> list[str]:
    """The batches."""
    return [name for (name,) in connection.execute("SELECT name FROM batch ORDER BY id DESC")]
