"""Whether workers of another version use the same jar. That is allowed while their ledgers are alike, but people should know.

Reads the workers' directories; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobjar.grouped import name_some
from jobjar.roster import WorkerState
from jobjar.version import VERSION


def other_versions(workers: Iterable[WorkerState]) -> dict[str, list[str]]:
    """The names of running workers of other versions, by version."""
    found: dict[str, list[str]] = {}
    for worker in workers:
        if worker.is_running and not worker.set_aside and worker.version not in ("", VERSION):
            found.setdefault(worker.version, []).append(worker.name)
    return found


def explain_other_versions(workers: Iterable[WorkerState]) -> str | None:
    """For people: which workers run another version, and what to do; None if none does."""
    others = other_versions(workers)
    if not others:
        return None
    them = " and ".join(f"version {version} ({name_some(names)})" for version, names in sorted(others.items()))
    return (
        f"version {VERSION} (here) and {them} of Job Jar use one jar; install one version on all nodes, and restart the workers "
        "of the other"
    )
