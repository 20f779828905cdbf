"""Run chunks of arrays in a worker's loop: what a chunk needs of its worker, and how its attempt ends."""

from __future__ import annotations

from collections.abc import Callable

from jobjar.arrays.definition import read_definition
from jobjar.arrays.indexes import range_in_name
from jobjar.arrays.run_chunk import ChunkRun
from jobjar.attempts.attempt import FAILED, AttemptEnd, ClaimedJob, Watch
from jobjar.attempts.verdict import Verdict
from jobjar.attempts.workplace import Workplaces
from jobjar.errors import CannotUseJar
from jobjar.shared_disk.files import look
from jobjar.stages.complete import WhileRefused
from jobjar.worker.ends import Ends


def work_chunk(
    job: ClaimedJob,
    workplaces: Workplaces,
    ends: Ends,
    watch: Watch,
    refused: WhileRefused,
    disk_now: Callable[[], float],
    may_go_on: Callable[[], bool],
) -> None:
    """Run a claimed chunk and end its attempt. Raises CannotUseJar, ImportError, LedgerError: it was given back."""
    layout = workplaces.claimer.jar.layout
    try:
        if look(layout.batch(str(job.batch)).file) is None:
            message = f"its array {job.batch} is gone: somebody removed {layout.batch(str(job.batch)).path}"
            ends.complete(job, AttemptEnd(FAILED, message=message), Verdict.complete())
            return
        definition = read_definition(layout, str(job.batch))
        named = range_in_name(job.name)
        wanted = None if named is None else definition.indexes.within(*named)
        if wanted is None:
            message = f"its name has no range of indexes of the array {definition.uid}, which has {definition.indexes}"
            ends.complete(job, AttemptEnd(FAILED, message=message), Verdict.complete())
            return
        run = ChunkRun(workplaces, job, definition, wanted, watch, refused)
        ended = run.run(disk_now, may_go_on)
    except (CannotUseJar, ImportError) as error:
        ends.give_back(job, str(error))
        raise
    ends.complete(run.job._replace(name=ended.name), ended.end, ended.verdict)
    if run.has_failed and definition.fails_fast:
        workplaces.claimer.proposals.stale_at = 0.0  # ask the ledger, which then has it stop, before the next claim
