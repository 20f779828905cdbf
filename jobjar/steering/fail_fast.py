"""Cancel the rest of a batch that is to stop at its first failure (`fail_fast`), once something of it has failed for good.

Whoever settles dependents does this too (dependents.py). What waits or is held is cancelled as recovery/cancelling.py says. The
worker of a running job gets the control file of a cancellation (control.py), which stays until the job has ended. A batch is due
in the ledger until nothing of its rest is open. So the next look meets what a kill left, and a job that came back meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from jobjar import control
from jobjar.access.refusals import explain_at
from jobjar.jar import Jar
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_steered import SteeredJob, steered_jobs
from jobjar.ledger.driver import Connection
from jobjar.ledger.fail_fast import due_batches, forget_batch, is_failing, last_failure, rest_of_batch


def stop_failed_batches(
    jar: Jar,
    connection: Connection,
    most: int,
    cancel: Callable[[str, Sequence[SteeredJob]], int],
    refused: list[str],
) -> tuple[int, bool]:
    """Cancel at most `most` waiting jobs of each batch that has failed, and have the running ones ended. `cancel` takes the
    reason and jobs, and returns how many it cancelled. Returns how many were cancelled, and whether some of the rest are still
    open. `refused` gets what could not be done. Raises what `cancel` raises."""
    cancelled, is_open = 0, False
    for name in due_batches(connection):
        failure = last_failure(connection, name)
        rest = [] if failure is None else rest_of_batch(connection, name, failure)
        if not rest and (failure is not None or not is_failing(connection, name)):
            forget_batch(connection, name)
            continue
        is_open = True
        if failure is None:
            continue  # the next look has the whole of it
        message = f"{name} stops at its first failure: {failure.what}"
        waiting = [row for row, state in rest if state != "claimed"]
        if waiting:
            cancelled += cancel(message, list(steered_jobs(connection, waiting[:most])))
        for known in steered_jobs(connection, [row for row, state in rest if state == "claimed"]):
            _end_running(jar, known, message, refused)
    return cancelled, is_open


def _end_running(jar: Jar, known: SteeredJob, message: str, refused: list[str]) -> None:
    """Have a job's worker end it as cancelled, unless it was asked already."""
    worker, uid = worker_of_place(known.job.place), known.job.uid
    if worker is None or uid is None:
        return
    try:
        paths = jar.layout.worker(worker)
        if control.cancel_request(paths, uid, (known.job.attempts,)) is None:
            with contextlib.suppress(FileNotFoundError):  # the worker's directory is gone: its job is elsewhere
                control.request_cancel(jar.layout, worker, uid, known.job.attempts, message)
    except OSError as error:
        refused.append(f"{known.title}: {explain_at(error, jar.layout.path(known.job.place))}")
