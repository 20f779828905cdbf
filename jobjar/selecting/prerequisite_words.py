"""Which jobs and batches the words of `after` mean, when a job is submitted. Folds the journals and reads the ledger."""

from __future__ import annotations

from typing import Any

from jobjar.errors import AmbiguousTarget, BadScript, UnknownJob, UnknownTarget
from jobjar.jar import Jar
from jobjar.job_file.prerequisites import BATCH, JOB, KINDS, MOST, LookedUp, take_words
from jobjar.ledger.ask_awaited import is_batch, is_job
from jobjar.ledger.dependents import leads_to_batch
from jobjar.ledger.fold import fold_journals
from jobjar.selecting.named import find_job
from jobjar.selecting.unknown import describe_unlisted, suggest_target
from jobjar.text import as_text

# `batch:NAME` is a batch, where a job has that name too.
_BATCH_MARK = f"{BATCH}:"


def settle_prerequisites(
    jar: Jar, given: dict[str, Any], batch: str | None, where: str, looked_up: LookedUp | None
) -> None:
    """Put what they mean in place of the words in `given`; a job of `batch` is submitted. `looked_up` keeps what was found for
    jobs that are submitted together; None: a batch is restarted, and its jobs wait for nothing any more. Raises UnknownTarget,
    AmbiguousJob, AmbiguousTarget, LedgerError, and BadScript, also if the job would wait for itself."""
    if looked_up is None:
        take_words(given)
        return
    for kind in KINDS:
        if kind not in given:
            continue
        found = {}
        for word in given[kind]:
            if word not in looked_up:
                with jar.ledger.writing() as connection:
                    fold_journals(connection, jar.layout)
                looked_up[word] = _look_up(jar, as_text(word), kind, where)
            found[tuple(looked_up[word].items())] = looked_up[word]
        if not 0 < len(found) <= MOST:
            raise BadScript(where=where, reason=f"{kind}: give 1 to {MOST:,} jobs or batches")
        given[kind] = list(found.values())
        if batch is not None and leads_to_batch(jar.ledger.connection, batch, given[kind]):
            reason = f"{kind}: a job of batch {batch} would wait for that batch itself, and never run"
            raise BadScript(where=where, reason=reason)
    jar.has_new_dependents = True


def _look_up(jar: Jar, word: str, kind: str, where: str) -> dict[str, str]:
    connection = jar.ledger.connection
    name = word.removeprefix(_BATCH_MARK)
    if is_batch(connection, name):
        if name == word and is_job(connection, word):
            ways = f"{_BATCH_MARK}{word} for the batch, or the job's id"
            raise AmbiguousTarget(job=word, meanings="a batch and a job", ways=ways)
        return {BATCH: name}
    try:
        job = find_job(jar, word)
    except UnknownJob:
        hint = suggest_target(jar, name)
        what = f"{kind}: {word}"
        raise UnknownTarget(job=what, home=jar.layout.home, hint=hint, passed_over=describe_unlisted(jar)) from None
    if job.uid is None:
        reason = f"{kind}: {word} was put into the jar by hand, and has no id until a worker claims it"
        raise BadScript(where=where, reason=reason)
    return {JOB: job.uid}
