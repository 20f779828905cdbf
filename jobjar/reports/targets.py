"""Resolve the words of `jobjar wait`: jobs, batches, categories, patterns of names, or all. Reads the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from jobjar.errors import AmbiguousTarget, UnknownBatch, UnknownJob, UnknownTarget, UsageError
from jobjar.jar import Jar
from jobjar.ledger import ask_awaited
from jobjar.ledger.ask_awaited import ALL, BATCH, CATEGORY, PATTERN, Awaited
from jobjar.ledger.ask_jobs import find_jobs
from jobjar.selecting.arrays import find_tasks
from jobjar.selecting.named import find_job, is_pattern
from jobjar.selecting.unknown import describe_unlisted, suggest_batch, suggest_target
from jobjar.shared_disk.files import is_directory
from jobjar.text import as_text

# Without --since, jobs that ended at most so long before the wait count.
SINCE_S = 86400.0
_SHOWN = 5


class Target(NamedTuple):
    """What to wait for: single jobs, by id, or by place until they have one; and kinds of jobs."""

    jobs: frozenset[str]
    selections: tuple[Awaited, ...]


def select_all(jar: Jar, since: float | None = None) -> Target:
    """All jobs of the jar that are open or ended after `since` (UTC epoch seconds)."""
    return Target(frozenset(), (_since(jar, Awaited(ALL, None), since),))


def select(
    jar: Jar,
    words: Iterable[str],
    batches: Iterable[str] = (),
    categories: Iterable[str] = (),
    since: float | None = None,
) -> Target:
    """Resolve words: names, ids (or their beginnings) and places of jobs; batches; categories; patterns of job and batch names.
    Jobs that ended before `since` do not count, except single jobs.

    Raises UnknownTarget, AmbiguousTarget, AmbiguousJob, UnknownBatch, UsageError.
    """
    connection = jar.ledger.connection
    jobs: set[str] = set()
    chosen = [Awaited(CATEGORY, as_text(name)) for name in categories]
    for name in map(as_text, batches):
        if not ask_awaited.is_batch(connection, name):
            raise UnknownBatch(name=name, home=jar.layout.home, hint=suggest_batch(jar, name))
        chosen.append(Awaited(BATCH, name))
    for word in map(as_text, words):
        found = _find_kinds(jar, word)
        tasks = None if found else find_tasks(jar, word)
        chosen += found or ([Awaited(BATCH, tasks.array.uid)] if tasks is not None else [])
        if not found and tasks is None:
            jobs.add(_find_one(jar, word))
    if since is not None and not chosen:
        raise UsageError(
            reason="--since goes with --all, batches, categories and patterns; a job that is named counts always"
        )
    return Target(frozenset(jobs), tuple(_since(jar, selection, since) for selection in dict.fromkeys(chosen)))


def _find_kinds(jar: Jar, word: str) -> list[Awaited]:
    """The kinds of jobs that a word means; empty if it can only be a single job."""
    connection = jar.ledger.connection
    kinds = [Awaited(BATCH, word)] if ask_awaited.is_batch(connection, word) else []
    if "/" not in word and word[:1] not in ("", ".") and is_category(jar, word):
        kinds.append(Awaited(CATEGORY, word))
    is_job = ask_awaited.is_job(connection, word)
    if len(kinds) + is_job > 1:
        ways = [f"--{kind.kind} {word}" for kind in kinds]
        if is_job:
            found = find_jobs(jar.ledger, word)
            ways += [f"{_key_of(job.uid, job.place)} for the job" for job in found[:_SHOWN]]
            ways += [f"the id of one of {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        meanings = [f"a {kind.kind}" for kind in kinds] + (["a job"] if is_job else [])
        raise AmbiguousTarget(job=word, meanings=" and ".join(meanings), ways=" or ".join(ways))
    if kinds or is_job or not is_pattern(word):
        return kinds
    kinds = [Awaited(BATCH, name) for name in ask_awaited.batches_like(connection, word)]
    if ask_awaited.any_named_like(connection, word):
        kinds.append(Awaited(PATTERN, word))
    if not kinds:
        raise _unknown(jar, word)
    return kinds


def is_category(jar: Jar, word: str) -> bool:
    """Whether the category has a directory or an open job."""
    return is_directory(f"{jar.layout.unclaimed}/{word}") or ask_awaited.category_has_open_jobs(
        jar.ledger.connection, word
    )


def _unknown(jar: Jar, word: str) -> UnknownTarget:
    hint = suggest_target(jar, word)
    return UnknownTarget(job=word, home=jar.layout.home, hint=hint, passed_over=describe_unlisted(jar))


def _find_one(jar: Jar, word: str) -> str:
    try:
        job = find_job(jar, word)
    except UnknownJob:
        raise _unknown(jar, word) from None
    return _key_of(job.uid, job.place)


def _key_of(uid: str | None, place: str) -> str:
    """The key of a job: its id, or its place until it has one."""
    return uid or place


def _since(jar: Jar, selection: Awaited, since: float | None) -> Awaited:
    """The selection with its start time. By default a batch and a pattern count all their jobs. A category and `all` count the
    jobs that ended in the last day, or since their oldest open job was submitted: these are likely to belong together."""
    if since is None and selection.kind in (ALL, CATEGORY):
        oldest = ask_awaited.oldest_submission(jar.ledger.connection, selection)
        since = min(time.time() - SINCE_S, time.time() if oldest is None else oldest)
    return selection._replace(since=since or 0.0)
