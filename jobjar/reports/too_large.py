"""Which waiting jobs ask for more than any running worker has.

Reads what workers say that they have (worker.json), by the states that roster.py gives. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobjar.causes import Cause, Standing
from jobjar.job_file.request import request_of_class
from jobjar.roster import WorkerState


def explain_too_large(category: str, request_class: str, running: Iterable[WorkerState]) -> Standing | None:
    """Explain that none of the running workers that ask for this category is large enough for this class of requests; None if
    one is, or if none asks for the category."""
    asking = [worker for worker in running if worker.asks_for(category)]
    if not asking or not request_class:
        return None
    request = request_of_class(request_class)
    # A worker of an earlier release claims whatever it finds.
    if any(worker.capacity is None or worker.capacity.fits(request) for worker in asking):
        return None
    why = f"it asks for {request}, and no running worker that asks for its category has that"
    return Standing(
        Cause.TOO_LARGE,
        why,
        "start one on a node that has it, or see what `start_worker --help` says of what jobs have",
    )
