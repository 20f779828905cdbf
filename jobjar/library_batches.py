"""The Python library, continued: batches, the outputs of their jobs, and limits. `import jobjar` gives all of it.

The jar is that of library.py. Every function may raise a `jobjar.JarError`.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

from jobjar.errors import BadLimit, UsageError
from jobjar.library import current_jar

if TYPE_CHECKING:  # peewee takes long to import
    from jobjar.batches.abort import AbortedBatch
    from jobjar.batches.submit import SubmittedBatch
    from jobjar.ledger.ask_stored_files import StoredOutput

# Batches


def submit_batch(*files: str | os.PathLike[str], fail_fast: bool = False, **parameters: object) -> list[SubmittedBatch]:
    """Submit the batches that submit files (paths) describe; returns (name, jobs) of each. If anything is wrong with one file,
    nothing is submitted. With `fail_fast` the rest of a batch is cancelled when one of its jobs has failed for good. `parameters`
    replace `$(name)` in the files' values.

    Raises BadSubmitFile (all errors, by file and line), BatchExists, SubmitFailed (nothing was submitted), BatchUnfinished
    (all is submitted, but some jobs cannot be claimed until recover_jobs has run).
    """
    from jobjar.batches.submit import read_submit_files, submit_batches

    jar = current_jar()
    texts = {name: str(value) for name, value in parameters.items()}
    try:
        batches = read_submit_files(jar, [os.fspath(file) for file in files], texts)
        return submit_batches(jar, [batch.failing_fast() for batch in batches] if fail_fast else batches)
    finally:
        jar.mirror()


def batch_edit(name: str, **changes: object) -> int:
    """Change a batch; returns how many jobs were submitted. `seeds` ('1-2000') may only grow. `priority` applies to waiting
    jobs and to those submitted later. `notes` is text.

    Raises BadChange, UnknownBatch, BatchBusy, SubmitFailed (nothing was changed), BatchUnfinished.
    """
    from jobjar.batches.edit import edit_batch

    jar = current_jar()
    try:
        return edit_batch(jar, name, {key: str(value) for key, value in changes.items()}).jobs
    finally:
        jar.mirror()


def abort_batch(name: str, restart: bool = False, kill: bool = False) -> AbortedBatch:
    """Complete the waiting jobs of a batch as cancelled, and kill the running ones. With `restart`, submit its jobs that did
    not succeed again, as new jobs. Jobs that wait or run are then left alone, unless the batch is already aborted; with `kill`
    they are cancelled and killed first. Returns (name, cancelled, killed, running, restarted, left_alone).

    Raises UnknownBatch, BatchBusy, BadChange (it is aborted, but jobs still run and none was restarted), SubmitFailed,
    BatchUnfinished (the change is made, but some jobs are where they were until recover_jobs has run).
    """
    from jobjar.batches.abort import abort_batch as abort
    from jobjar.steering.dependents import fold_and_settle

    jar = current_jar()
    try:
        return abort(jar, name, restart, kill)
    finally:
        fold_and_settle(jar)


def batch_status(name: str | None = None) -> list[dict[str, Any]]:
    """The progress of each batch, as a dict with the names that `batch_status --format json` uses. With `name`, only that batch,
    with its failed and held jobs. Raises UnknownBatch."""
    from jobjar.reports.batches import gather_batches

    return gather_batches(current_jar(), name)


# Outputs


def list_outputs(name: str | None = None) -> list[StoredOutput]:
    """The stored files of a batch or of a job (its name, id, the beginning of its id, or path); all files if `name` is None.

    Each has `job` (an id), `job_name`, `batch`, `attempt`, `source_name`, `storage_name`, `storage_hfn` (host:/path),
    `storage_url`, `storage_size` in bytes, `storage_md5`. A value that was not recorded is None.
    Raises UnknownJob, AmbiguousJob.
    """
    from jobjar.reports import stored_files

    return stored_files.list_outputs(current_jar(), name)


def get_output(
    name: str, destination: str | None = None, job: str | None = None, batch: str | None = None, force: bool = False
) -> str:
    """Copy a stored file, verify it, and return the copy's path. `destination` is a path or a directory; the default is the
    file's base name in the current directory. `job` or `batch` select among files of the same name. An existing file is
    replaced only with `force`.

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
    """Set how many jobs of a category ('': jobs without one), a storage class or a batch may run at once, over all nodes.
    `limit` is a number, or None for no limit; without it, nothing is changed. Returns the limit in force.

    A limit for something that does not exist yet is set, with a warning (UserWarning). Raises BadLimit, BadCategory,
    BadIdentifier, and UsageError if not exactly one thing is named.
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
    """The limits in force, as dicts with the names that `workload_limit --format json` uses."""
    from jobjar.attempts.limits import describe_limits

    return describe_limits(current_jar().layout)
