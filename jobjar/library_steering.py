"""The Python library, steering: what people do with the jobs that words and filters select.

`import jobjar` gives all of it. Each function selects as the programs do: words (names, ids, beginnings of ids, `@1`, patterns),
or filters, or `all=True`; the user's own jobs, unless `submitter` names others. It does what it can, and returns what it did: the
`jobs`, each with the state that it `was` in before, and the `errors` of the others. With `dry_run` it only says what it would do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from jobjar.host import login
from jobjar.job_file.names import check_category, check_priority
from jobjar.library import refreshed_jar
from jobjar.selecting.selection import make_selection
from jobjar.steering.cancel import Cancel
from jobjar.steering.ended import FAILURES, Remove, Retry
from jobjar.steering.steer import Steered, steer
from jobjar.steering.waiting import Hold, Prioritize, Recategorize, Release

if TYPE_CHECKING:
    from jobjar.library_looking import JobFilters
    from jobjar.steering.verb import Verb


def cancel(
    jobs: str | Iterable[str] = (),
    *,
    reason: str | None = None,
    all: bool = False,
    dry_run: bool = False,
    **filters: Unpack[JobFilters],
) -> Steered:
    """Cancel jobs that wait, are held, or run. Returns when the running ones have ended, at the latest ten seconds after
    JJ_GRACE_TIME. `reason` goes into their history. Raises what `hold` raises."""
    return _steer(Cancel(login(), reason), jobs, all, dry_run, filters)


def hold(
    jobs: str | Iterable[str] = (), *, all: bool = False, dry_run: bool = False, **filters: Unpack[JobFilters]
) -> Steered:
    """Hold waiting jobs in limbo until `release`. Raises UsageError, NothingSelected, UnknownBatch."""
    return _steer(Hold(login()), jobs, all, dry_run, filters)


def release(
    jobs: str | Iterable[str] = (), *, all: bool = False, dry_run: bool = False, **filters: Unpack[JobFilters]
) -> Steered:
    """Let held jobs wait again. Raises what `hold` raises."""
    return _steer(Release(login()), jobs, all, dry_run, filters)


def retry(
    jobs: str | Iterable[str] = (),
    *,
    failed: bool = False,
    with_dependents: bool = False,
    all: bool = False,
    dry_run: bool = False,
    **filters: Unpack[JobFilters],
) -> Steered:
    """Run ended jobs again, as the same jobs; with `failed` those that failed, timed out, were killed, or crashed; with
    `with_dependents` also what was cancelled because of them. Raises what `hold` raises."""
    if failed:
        filters["outcome"] = FAILURES
    return _steer(Retry(login(), with_dependents), jobs, all, dry_run, filters)


def remove(
    jobs: str | Iterable[str] = (), *, all: bool = False, dry_run: bool = False, **filters: Unpack[JobFilters]
) -> Steered:
    """Remove the files of ended jobs; their history stays. Raises what `hold` raises."""
    return _steer(Remove(login()), jobs, all, dry_run, filters)


def set_priority(
    jobs: str | Iterable[str],
    priority: int,
    *,
    all: bool = False,
    dry_run: bool = False,
    **filters: Unpack[JobFilters],
) -> Steered:
    """Give waiting and held jobs another priority. Raises BadPriority, and what `hold` raises."""
    return _steer(Prioritize(login(), check_priority(priority)), jobs, all, dry_run, filters)


def move(
    jobs: str | Iterable[str],
    to: str,
    *,
    all: bool = False,
    dry_run: bool = False,
    **filters: Unpack[JobFilters],
) -> Steered:
    """Put waiting and held jobs into the category `to` ('': none). Raises BadCategory, and what `hold` raises."""
    return _steer(Recategorize(login(), check_category(to) if to else ""), jobs, all, dry_run, filters)


def _steer(verb: Verb, jobs: str | Iterable[str], is_all: bool, is_dry_run: bool, filters: JobFilters) -> Steered:
    selection = make_selection(jobs, is_all, **filters)
    jar = refreshed_jar()
    try:
        return steer(jar, selection, verb, is_dry_run)
    finally:
        jar.mirror()
