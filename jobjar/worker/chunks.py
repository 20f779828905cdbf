"""Run chunks of arrays in a worker's loop: what a chunk needs of its worker, and how its attempt ends."""

from __future__ import annotations

import os
from collections.abc import Callable

from jobjar.access.refusals import explain_at
from jobjar.arrays.definition import read_definition
from jobjar.arrays.indexes import range_in_name
from jobjar.arrays.run_chunk import ChunkRun
from jobjar.attempts.attempt import FAILED, INTERRUPTED, AttemptEnd, ClaimedJob, Watch
from jobjar.attempts.verdict import Verdict
from jobjar.attempts.workplace import Workplaces
from jobjar.errors import CannotUseJar
from jobjar.shared_disk.contents import Unreadable
from jobjar.shared_disk.regular import UnfitFile
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
    layout = workplaces.claimer.jar.layout
    try:
        uid, paths = str(job.batch), layout.batch(str(job.batch))
        try:
            definition = read_definition(layout, uid)
        except FileNotFoundError:
            _fail(job, ends, f"its array {uid} is gone: somebody removed {paths.path}")
            return
        except (Unreadable, UnfitFile) as error:
            reason = error.strerror if isinstance(error, UnfitFile) else error
            mend = f"mend that file, then: jobjar retry --failed {uid}"
            _fail(job, ends, f"what its array is cannot be read in {paths.file}: {reason}; {mend}")
            return
        except OSError as error:
            # Others may read it, or this worker later. Meanwhile other jobs run.
            reason = f"{paths.file}: {explain_at(error, paths.file, os.R_OK)}"
            end = AttemptEnd(INTERRUPTED, message=reason, retry_after_s=REFUSED_DELAY_S)
            ends.complete(job, end, ends.decide(job, end))
            return
        named = range_in_name(job.name)
        wanted = None if named is None else definition.indexes.within(*named)
        if wanted is None:
            _fail(job, ends, f"its name has no range of indexes of the array {uid}, which has {definition.indexes}")
            return
        run = ChunkRun(workplaces, job, definition, wanted, watch, refused)
        ended = run.run(disk_now, may_go_on)
    except (CannotUseJar, ImportError) as error:
        ends.give_back(job, str(error))
        raise
    ends.complete(run.job._replace(name=ended.name), ended.end, ended.verdict)


def _fail(job: ClaimedJob, ends: Ends, message: str) -> None:
    """Complete a chunk of which no task can be run."""
    ends.complete(job, AttemptEnd(FAILED, message=message), Verdict.complete())
