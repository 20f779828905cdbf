"""The Python library, waiting: until jobs have ended. `import jobjar` gives all of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable

from jobjar.errors import UsageError
from jobjar.jar import Jar
from jobjar.library import current_jar, open_own_jar


def wait(
    jobs: str | Iterable[str] | None = (),
    timeout: float | None = None,
    *,
    batch: str | None = None,
    category: str | None = None,
    all: bool = False,
    since: float | None = None,
    fail_fast: bool = False,
    log: Callable[[str], None] | None = None,
) -> dict[str, str | None]:
    """Wait until jobs have ended; returns each one's outcome by its id, None if the job was removed or is held. With `fail_fast`
    it returns as soon as a job has not succeeded, without those that have not ended. An array has one outcome: succeeded if all
    its tasks have, failed if one did not, cancelled if the others never ran.

    `jobs` are words as `jobjar wait` takes them: names, ids, paths, batches, categories, patterns. Use `batch`, `category`
    ('': jobs without one) or `all` where a word could mean something else. `timeout` is in seconds.

    Jobs of a batch, a category, a pattern or `all` that ended before `since` (UTC epoch seconds) do not count. Without
    `since`, a category and `all` include the jobs that ended within the last day, or after the submission of their oldest
    open job, if that is earlier.
    A held job is not waited for; `log` gets a line about it at once. After some seconds `log` also gets the reasons why jobs
    stand still, and again after longer and longer pauses.
    Raises TimedOut, UnknownTarget, AmbiguousTarget, AmbiguousJob, UnknownBatch, UsageError.
    """
    return _wait(current_jar(), jobs, timeout, batch, category, all, since, fail_fast, log)


async def wait_async(
    jobs: str | Iterable[str] | None = (),
    timeout: float | None = None,
    *,
    batch: str | None = None,
    category: str | None = None,
    all: bool = False,
    since: float | None = None,
    fail_fast: bool = False,
    log: Callable[[str], None] | None = None,
) -> dict[str, str | None]:
    """`wait` for asyncio: it waits in a thread, and other tasks go on. `log` is called in that thread. A task that is cancelled
    ends at once, its thread at the next look (JJ_POLL_TIME)."""
    is_over = threading.Event()

    def run() -> dict[str, str | None]:
        # A jar of its own: this thread's ledger is no other thread's.
        with open_own_jar() as jar:
            return _wait(jar, jobs, timeout, batch, category, all, since, fail_fast, log, is_over.is_set)

    try:
        return await asyncio.to_thread(run)
    finally:
        is_over.set()


def _wait(
    jar: Jar,
    jobs: str | Iterable[str] | None,
    timeout: float | None,
    batch: str | None,
    category: str | None,
    all: bool,
    since: float | None,
    fail_fast: bool,
    log: Callable[[str], None] | None,
    is_over: Callable[[], bool] = lambda: False,
) -> dict[str, str | None]:
    from jobjar.reports.array_outcomes import join_chunks
    from jobjar.reports.targets import select, select_all
    from jobjar.reports.wait import Wait, refresh_patiently

    words = [jobs] if isinstance(jobs, str) else list(jobs or ())
    batches, categories = ([] if name is None else [name] for name in (batch, category))
    if all and (words or batches or categories):
        raise UsageError(
            reason="all=True waits for every job of the jar; leave it out, or leave out what else is named"
        )
    refresh_patiently(jar)
    target = select_all(jar, since) if all else select(jar, words, batches, categories, since)
    waiting = Wait(jar, target, log or (lambda line: None), fails_fast=fail_fast, is_over=is_over)
    waiting.run(timeout)
    return join_chunks(jar, target, waiting.outcomes())
