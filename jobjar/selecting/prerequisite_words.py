"""Which jobs, batches and arrays the words of `after` mean, when a job or an array is submitted. Folds the journals and reads
the ledger."""

from __future__ import annotations

from typing import Any

from jobjar.errors import AmbiguousTarget, BadScript, UnknownJob, UnknownTarget
from jobjar.jar import Jar
from jobjar.job_file.prerequisites import (
    AFTER_EACH,
    BATCH,
    BATCH_MARK,
    JOB,
    KINDS,
    MOST,
    MOST_OF_ARRAY,
    TASKS,
    LookedUp,
    take_words,
)
from jobjar.ledger.ask_awaited import is_batch, is_job
from jobjar.ledger.dependents import leads_to_batch
from jobjar.ledger.fold import fold_journals
from jobjar.selecting.arrays import find_tasks
from jobjar.selecting.named import find_job
from jobjar.selecting.unknown import describe_unlisted, suggest_target
from jobjar.text import as_text


def settle_prerequisites(
    jar: Jar, given: dict[str, Any], batch: str | None, where: str, looked_up: LookedUp | None
) -> None:
    """Put what they mean in place of the words in `given`; a job of `batch` is submitted. `looked_up` keeps what was found for
    jobs that are submitted together; None: a batch is restarted, and its jobs wait for nothing any more. Raises UnknownTarget,
    AmbiguousJob, AmbiguousTarget, LedgerError, and BadScript, also if the job would wait for itself."""
    if looked_up is None:
        take_words(given)
        return
    if AFTER_EACH in given:
        reason = f"{AFTER_EACH} is for the tasks of an array: give it with --array, --each-line or --each-json"
        raise BadScript(where=where, reason=reason)
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


def settle_prerequisites_of_array(
    jar: Jar, given: dict[str, Any], indexes: tuple[int, int, int], where: str
) -> dict[str, list[dict[str, str]]]:
    """Take the words of an array out of `given`, and return what they mean. `indexes`: its first, its last, the step; each has to
    be one of an array that its tasks follow one by one. Raises what `settle_prerequisites` raises, and UsageError."""
    words = take_words(given)
    each = words.pop(AFTER_EACH, None)
    if words:
        settle_prerequisites(jar, words, None, where, {})
    if each is not None:
        words[AFTER_EACH] = [
            {TASKS: uid} for uid in dict.fromkeys(_find_array(jar, word, indexes, where) for word in each)
        ]
        jar.has_new_dependents = True
    if words and not 0 < sum(map(len, words.values())) <= MOST_OF_ARRAY:
        reason = f"an array waits for 1 to {MOST_OF_ARRAY} jobs, batches and arrays; name a batch or an array instead"
        raise BadScript(where=where, reason=reason)
    return words


def _find_array(jar: Jar, word: str, indexes: tuple[int, int, int], where: str) -> str:
    """The array whose tasks those with these indexes follow."""
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
    word = as_text(word)
    tasks = find_tasks(jar, word.removeprefix(BATCH_MARK))
    if tasks is None or tasks.ranges is not None:
        why = "name the whole array" if tasks is not None else "there is no such array; it takes the id of one"
        raise BadScript(where=where, reason=f"{AFTER_EACH}: {word}: {why}")
    array, (first, last, step) = tasks.array, indexes
    if array.first is None or array.last is None or array.step is None:
        raise BadScript(where=where, reason=f"{AFTER_EACH}: nothing tells yet what the array {array.uid} is; try again")
    is_within = array.first <= first and last <= array.last
    fits = (first - array.first) % array.step == 0 and (step % array.step == 0 or first == last)
    if not (is_within and fits):
        theirs, own = (_name_indexes(*some) for some in ((array.first, array.last, array.step), indexes))
        reason = f"{AFTER_EACH}: {array.uid} has the indexes {theirs}, and this array {own}: each task needs a partner"
        raise BadScript(where=where, reason=reason)
    return array.uid


def _name_indexes(first: int, last: int, step: int) -> str:
    return f"{first}-{last}" + (f":{step}" if step != 1 else "")


def _look_up(jar: Jar, word: str, kind: str, where: str) -> dict[str, str]:
    connection = jar.ledger.connection
    name = word.removeprefix(BATCH_MARK)
    if is_batch(connection, name):
        if name == word and is_job(connection, word):
            ways = f"{BATCH_MARK}{word} for the batch, or the job's id"
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
