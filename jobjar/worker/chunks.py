"""Run chunks of arrays in a worker's loop: what a chunk needs of its worker, and how its attempt ends."""

from __future__ import annotations

import os
from collections.abc import Callable

from jobjar.access.refusals import explain_at
from jobjar.arrays.definition import Unusable, read_usable
from jobjar.arrays.indexes import range_in_name
from jobjar.arrays.run_chunk import ChunkRun
from jobjar.attempts.attempt import INTERRUPTED, AttemptEnd, ClaimedJob, Watch
from jobjar.attempts.verdict import Verdict
from jobjar.attempts.workplace import Workplaces
from jobjar.errors import CannotUseJar
from jobjar.processes.waits import block
from jobjar.stages.complete import WhileRefused
from jobjar.stages.run import REFUSED_DELAY_S
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
    layout, uid = workplaces.claimer.jar.layout, str(job.batch)
    try:
        try:
            definition = read_usable(layout, uid)
            named = range_in_name(job.name)
            wanted = None if named is None else definition.indexes.within(*named)
            if wanted is None:
                raise Unusable(f"its name has no range of indexes of the array {uid}, which has {definition.indexes}")
        except Unusable as why:
            ends.complete(job, AttemptEnd(INTERRUPTED, message=f"held in limbo: {why}"), Verdict.hold(str(why)))
            return
        except OSError as error:
            # Others may read it, or this worker later. Meanwhile other jobs run.
            file = layout.batch(uid).file
            end = AttemptEnd(
                INTERRUPTED, message=f"{file}: {explain_at(error, file, os.R_OK)}", retry_after_s=REFUSED_DELAY_S
            )
            ends.complete(job, end, ends.decide(job, end))
            return
        run = ChunkRun(workplaces, job, definition, wanted, watch, refused)
        ended = block(run.run(disk_now, may_go_on), watch.descriptors)
    except (CannotUseJar, ImportError) as error:
        ends.give_back(job, str(error))
        raise
    ends.complete(run.job._replace(name=ended.name), ended.end, ended.verdict)
    if run.has_failed and definition.fails_fast:
        workplaces.claimer.proposals.stale_at = 0.0  # ask the ledger, which then has it stop, before the next claim
