"""Hints for a person who named no known job, several jobs, or a job that does not run.

Reads the ledger; moves nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from jobjar.attempts.limits import BATCH, STORAGE
from jobjar.grouped import name_some
from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.ledger.ask_batches import list_batches
from jobjar.ledger.ask_near import Named, categories_of_jobs, count_ids, count_named_with, jobs_named_with, newest_jobs
from jobjar.ledger.models import JobReport
from jobjar.reports.refused import find_unlisted
from jobjar.roster import list_workers
from jobjar.shared_disk.listing import list_directory
from jobjar.text import printable

SHORTEST_ID = 4
_SHOWN = 10
_NEWEST = 3


def explain_unknown(jar: Jar, text: str) -> str:
    """A hint for an unknown name or id: similar jobs, how to see all jobs, and which directories this user may not list."""
    return _explain_near(jar, text) + describe_unlisted(jar)


def describe_unlisted(jar: Jar) -> str:
    """The directories that this user may not list, where a job could be; empty if there are none."""
    found = find_unlisted(jar.layout)
    more = f"; and {len(found) - _SHOWN} more directories were not looked into" if len(found) > _SHOWN else ""
    return "".join(f"; {line}" for line in found[:_SHOWN]) + more


def _explain_near(jar: Jar, text: str) -> str:
    ledger = jar.ledger
    if 0 < len(text) < SHORTEST_ID and text.isalnum():
        would_fit = count_ids(ledger, text)
        fit = f" ({_jobs(would_fit)} would fit)" if would_fit else ""
        return f"the beginning of an id has to be of {SHORTEST_ID} letters or more{fit}"
    if list_batches(ledger, text):
        return f"there is a batch of this name: `batch_status {text}` names its jobs"
    found = jobs_named_with(ledger, text, _SHOWN) if text else []
    if found:
        count = count_named_with(ledger, text)
        more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
        return f"it is a part of these names: {_list_names(found[:_SHOWN])}{more}"
    newest = newest_jobs(ledger, _NEWEST)
    if not newest:
        return "no job has been in this jar yet; is it the right one? (`jobjar config` says why it is used)"
    return f"the newest are {_list_names(newest)}; a job's name is that of its file (`ls {jar.layout.completed}`)"


def _list_names(rows: Sequence[Named]) -> str:
    return ", ".join(f"{printable(name)} ({state})" for name, state in rows)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def explain_unknown_limit(jar: Jar, kind: str, name: str) -> str | None:
    """A hint for a limit on an unknown category, storage class or batch: that nothing has this name yet, and which names are
    similar. None if the name is known. The caller brings the ledger up to date first."""
    ledger = jar.ledger
    if kind == BATCH:
        what, prefix = "batch", ""
        known = {row.name for row in list_batches(ledger, None)}
    else:
        what, prefix = ("storage class", STORAGE_CATEGORY) if kind == STORAGE else ("category", "")
        asked = {
            category for worker in list_workers(jar.layout) for category in (*worker.categories, worker.process.node)
        }
        made = {entry.name for entry in list_directory(jar.layout.unclaimed) if entry.is_dir(follow_symlinks=False)}
        known = asked | made | {"", node_name(), *jar.settings.categories}
        if prefix + name not in known:
            known |= categories_of_jobs(ledger)
    if prefix + name in known:
        return None
    near = difflib.get_close_matches(prefix + name, [other for other in known if other.startswith(prefix)], n=3)
    meant = f"; did you mean {' or '.join(other.removeprefix(prefix) for other in near)}?" if near else ""
    return f"there is no {what} {name!r} yet: the limit will hold when there is one{meant}"


def list_choices(found: Sequence[JobReport]) -> str:
    """The ids (or places) of jobs that share a name, newest first, and how many are not listed."""
    return name_some([f"{job.uid or job.place} ({job.state})" for job in found], _SHOWN)


def after_not_running(jar: Jar, job: JobReport) -> tuple[str, str]:
    """The state of a job that does not run, in words, and what to do instead of killing it."""
    path = jar.layout.path(job.place)
    if job.state == "completed":
        outcome = f", {job.outcome}" if job.outcome else ""
        return f"completed{outcome}", f"it has ended; `jobjar show {job.uid or job.name}` says how"
    if job.state == "removed":
        return "removed", "its file was taken away, so no worker will run it"
    if job.state == "limbo":
        return "in limbo", f"no worker claims it there; to have it never run: rm {path}"
    return "waiting", f"to hold it back: mv {path} {jar.layout.limbo}/; to have it never run: rm {path}"
