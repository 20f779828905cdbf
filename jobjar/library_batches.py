"""The Python library, continued: batches, what their jobs stored, and limits. `import jobjar` gives all of it.

The jar is that of library.py; every function may raise a `jobjar.JarError`.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

from jobjar.errors import BadLimit, UsageError
from jobjar.library import current_jar

if TYPE_CHECKING:  # peewee takes long to import
    from jobjar.batches.commands import AbortedBatch, SubmittedBatch
    from jobjar.ledger.ask_stored_files import StoredOutput

# Batches


def submit_batch(*files: str | os.PathLike[str], **parameters: object) -> list[SubmittedBatch]:
    """Submit the batches that submit files (paths) describe: all of them, or, where anything is wrong with one, nothing;
    returns (name, jobs) of each. `parameters` replace `$(name)` in the files' values.

    Raises BadSubmitFile (with all that is wrong, by file and line), BatchExists, SubmitFailed (nothing was submitted),
    BatchUnfinished (all is submitted, and what is not claimable yet recover_jobs makes so).
    """
    from jobjar.batches.commands import read_submit_files, submit_batches

    jar = current_jar()
    texts = {name: str(value) for name, value in parameters.items()}
    try:
        return submit_batches(jar, read_submit_files(jar, [os.fspath(file) for file in files], texts))
    finally:
        jar.mirror()


def batch_edit(name: str, **changes: object) -> int:
    """Change a batch; returns how many jobs were submitted. `seeds` ('1-2000') may become more, `priority` holds for its
    waiting jobs and those submitted later, `notes` is text.

    Raises BadChange, UnknownBatch, BatchBusy, SubmitFailed (nothing was changed), BatchUnfinished.
    """
    from jobjar.batches.commands import edit_batch

    jar = current_jar()
    try:
        return edit_batch(jar, name, {key: str(value) for key, value in changes.items()}).jobs
    finally:
        jar.mirror()


def abort_batch(name: str, restart: bool = False, kill: bool = False) -> AbortedBatch:
    """Complete the waiting jobs of a batch as cancelled and kill those that run. With `restart`, submit its jobs that did not
    succeed again, as new jobs: what waits or runs is left alone, unless the batch is aborted, or `kill` asks for that first.
    Returns (name, cancelled, killed, running, restarted, left_alone).

    Raises UnknownBatch, BatchBusy, BadChange (it is aborted, but jobs still run and none was restarted), SubmitFailed.
    """
    from jobjar.batches.commands import abort_batch as abort

    jar = current_jar()
    try:
        return abort(jar, name, restart, kill)
    finally:
        jar.mirror()


def batch_status(name: str | None = None) -> list[dict[str, Any]]:
    """How far the batches are: a dict of each, with the names that `batch_status --format json` uses. With `name` of that one
    alone, with its failed and held jobs. Raises UnknownBatch."""
    from jobjar.reports.batches import gather_batches

    return gather_batches(current_jar(), name)


# Outputs


def list_outputs(name: str | None = None) -> list[StoredOutput]:
    """The stored files of a batch or of a job (its name, id, the beginning of its id, or path); of all where `name` is None.

    Each has the names `job` (an id), `job_name`, `batch`, `attempt`, `source_name`, `storage_name`, `storage_hfn` (host:/path),
    `storage_url`, `storage_size` in bytes, `storage_md5`; what was not recorded is None. Raises UnknownJob, AmbiguousJob.
    """
    from jobjar.reports import stored_files

    return stored_files.list_outputs(current_jar(), name)


def get_output(
    name: str, destination: str | None = None, job: str | None = None, batch: str | None = None, force: bool = False
) -> str:
    """Copy a stored file, verified, to `destination` (a path or a directory; default: here, under its base name); returns
    its path. `job` or `batch` tell it from others of its name. A file that is there is only replaced with `force`.

    Raises UnknownOutput, AmbiguousOutput, UnknownBatch, UnknownJob, AmbiguousJob, CannotGetOutput, CannotFetch, OSError.
    """
    from jobjar.reports import stored_files

    output = stored_files.find_stored_output(current_jar(), name, job, batch)
    return stored_files.copy_output(output, None if destination is None else os.fspath(destination), force)


# Limits


def workload_limit(
    category: str | None = None,
    limit: int | Literal["unchanged"] | None = "unchanged",
    *,
    storage: str | None = None,
    batch: str | None = None,
) -> int | None:
    """Set how many jobs of a category ('': the uncategorized ones), a storage class or a batch may run at once, over all
    nodes: a number, or None for as many as there are. Returns the limit that holds now; without `limit` nothing is changed.

    A limit of what there is not yet is set, with a warning (UserWarning). Raises BadLimit, BadCategory, BadIdentifier,
    UsageError where not one thing is named.
    """
    from jobjar.attempts import limits
    from jobjar.reports.hints import explain_unknown_limit
    from jobjar.reports.refresh import refresh_ledger

    named = {limits.CATEGORY: category, limits.STORAGE: storage, limits.BATCH: batch}
    chosen = [(kind, name) for kind, name in named.items() if name is not None]
    if len(chosen) != 1:
        raise UsageError(reason="name either a category, or storage=…, or batch=…")
    jar, (kind, name) = current_jar(), chosen[0]
    if limit is None or isinstance(limit, int):
        limits.set_limit(jar, kind, name, limit)
        if limit is not None:
            refresh_ledger(jar)
            unknown = explain_unknown_limit(jar, kind, name)
            if unknown is not None:
                warnings.warn(unknown, stacklevel=2)
    elif limit != "unchanged":
        raise BadLimit(value=limit, highest=limits.HIGHEST)
    return limits.read_limit(jar.layout, limits.limit_key(kind, name)).most


def workload_limits() -> list[dict[str, Any]]:
    """The limits that are in force, as dicts with the names that `workload_limit --format json` uses."""
    from jobjar.attempts.limits import describe_limits

    return describe_limits(current_jar().layout)
