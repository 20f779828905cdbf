"""Hints for a person who named a job that does not run, or set a limit on something unknown.

Reads the ledger; moves nothing.
"""

from __future__ import annotations

import difflib

from jobjar.attempts.limits import BATCH, STORAGE
from jobjar.host import node_name
from jobjar.jar import Jar
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.job_file.prerequisites import is_dependent
from jobjar.ledger.ask_batches import list_batches
from jobjar.ledger.ask_near import categories_of_jobs
from jobjar.ledger.models import JobReport
from jobjar.roster import list_workers
from jobjar.shared_disk.listing import list_directories


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
        known = asked | {*list_directories(jar.layout.unclaimed)} | {"", node_name(), *jar.settings.categories}
        if prefix + name not in known:
            known |= categories_of_jobs(ledger)
    if prefix + name in known:
        return None
    near = difflib.get_close_matches(prefix + name, [other for other in known if other.startswith(prefix)], n=3)
    meant = f"; did you mean {' or '.join(other.removeprefix(prefix) for other in near)}?" if near else ""
    return f"there is no {what} {name!r} yet: the limit will hold when there is one{meant}"


def after_not_running(jar: Jar, job: JobReport) -> tuple[str, str]:
    """The state of a job that does not run, in words, and what to do instead of killing it."""
    path = jar.layout.path(job.place)
    if job.state == "completed":
        outcome = f", {job.outcome}" if job.outcome else ""
        return f"completed{outcome}", f"it has ended; `jobjar show {job.uid or job.name}` says how"
    if job.state == "removed":
        return "removed", "its file was taken away, so no worker will run it"
    if job.state == "limbo" and is_dependent(job.held_reason):
        return "waiting for its prerequisites", f"to have it never run: `jobjar cancel {job.uid or job.name}`"
    if job.state == "limbo":
        return "in limbo", f"no worker claims it there; to have it never run: rm {path}"
    return "waiting", f"to hold it back: mv {path} {jar.layout.limbo}/; to have it never run: rm {path}"
