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
from jobjar.described.steps import RUN, Cut, Steps, Turn
from jobjar.described.way import Way
from jobjar.errors import CannotUseJar, LedgerError
from jobjar.processes import waits
from jobjar.processes.waits import block
from jobjar.stages.complete import WhileRefused
from jobjar.stages.run import REFUSED_DELAY_S
from jobjar.worker.ends import Ends


class ChunkWork(Way):
    """The way of a chunk. `may_go_on` says, between tasks, whether the worker may begin another. `has_free_slot` says whether
    this worker could run another chunk at once; a worker of one slot has none."""

    hears_orders = True

    def __init__(
        self,
        job: ClaimedJob,
        workplaces: Workplaces,
        ends: Ends,
        watch: Watch,
        refused: WhileRefused,
        disk_now: Callable[[], float],
        may_go_on: Callable[[], bool],
        has_free_slot: Callable[[], bool] | None = None,
    ) -> None:
        self._claimed = job
        self._workplaces = workplaces
        self._ends = ends
        self._watch = watch
        self._refused = refused
        self._disk_now = disk_now
        self._may_go_on = may_go_on
        self._has_free_slot = has_free_slot
        self._run: ChunkRun | None = None
        self._is_given_back = False

    @property
    def job(self) -> ClaimedJob:  # type: ignore[override]
        """The chunk as it is held now: it may have given tasks away."""
        return self._claimed if self._run is None else self._run.job

    def work(self) -> None:
        """Run the chunk alone and end its attempt. Raises CannotUseJar, ImportError, LedgerError: it was given back."""
        block(self._steps(), self._watch.descriptors)

    def steps(self) -> Steps[None]:
        try:
            yield Turn(RUN)
        except Cut as cut:
            self._give_back(str(cut))
            return
        yield from self._steps()

    def end_refused(self, why: str) -> bool:
        self._give_back(why)
        return True

    def _give_back(self, why: str) -> None:
        if not self._is_given_back:
            self._is_given_back = True
            self._ends.give_back(self.job, why)

    def _steps(self) -> waits.Steps[None]:
        job, ends = self._claimed, self._ends
        layout, uid = self._workplaces.claimer.jar.layout, str(job.batch)
        try:
            try:
                definition = read_usable(layout, uid)
                named = range_in_name(job.name)
                wanted = None if named is None else definition.indexes.within(*named)
                if wanted is None:
                    raise Unusable(
                        f"its name has no range of indexes of the array {uid}, which has {definition.indexes}"
                    )
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
            run = self._run = ChunkRun(
                self._workplaces, job, definition, wanted, self._watch, self._refused, self._has_free_slot
            )
            ended = yield from run.run(self._disk_now, self._may_go_on)
        except (CannotUseJar, ImportError, LedgerError) as error:
            self._give_back(str(error))
            raise
        ends.complete(run.job._replace(name=ended.name), ended.end, ended.verdict)
        if run.has_failed and definition.fails_fast:
            # Ask the ledger, which then has it stop, before the next claim.
            self._workplaces.claimer.proposals.stale_at = 0.0
