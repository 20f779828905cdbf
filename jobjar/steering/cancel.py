"""Cancel jobs, wherever they are: those that wait or are held complete without a run, those that run are ended by their workers.

What waits goes the way that recovery/cancelling.py describes, and its words on crashes hold here. A running job's worker gets a
control file, on any node. This then waits until the job has ended, or has come back and is cancelled as one that waits. The
control file stays until the job has ended: if the worker is dead, or is killed meanwhile, recovery does what the file says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from jobjar import control
from jobjar.access.refusals import explain_at
from jobjar.attempts.attempt import CANCELLED
from jobjar.attempts.tokens_left import recover_tokens
from jobjar.errors import CannotUseJar, JarError
from jobjar.jar import Jar
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_claiming import Candidate
from jobjar.ledger.ask_selected import DEPENDENT, HELD
from jobjar.ledger.ask_steered import SteeredJob, steered_jobs
from jobjar.ledger.fold import fold_journals
from jobjar.recovery.cancelling import begin_cancellation, complete_taken, end_cancellation, take
from jobjar.recovery.recover import Recovery, recover_worker
from jobjar.recovery.tidy import tidy_links
from jobjar.roster import read_worker
from jobjar.selecting.arrays import Tasks, check_owner
from jobjar.shared_disk.files import sync_directory
from jobjar.stages.complete_without_run import Cancellation
from jobjar.steering.moving import Left
from jobjar.steering.steer import steer_rows
from jobjar.steering.tasks import cancel_tasks
from jobjar.steering.verb import SteeredTasks, Verb, explain_state
from jobjar.steering.waiting import refuse_storing

# This waits so much longer than JJ_GRACE_TIME for running jobs to end.
_END_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.1


class Cancel(Verb):
    """`reason` is a person's, for the job's history."""

    done = "cancelled"
    states = ("waiting", HELD, DEPENDENT, "running")

    def __init__(self, by: str, reason: str | None = None) -> None:
        super().__init__(by)
        self._reason = reason
        self._order: Cancellation | None = None
        # The running jobs that workers were asked to end, by row, as they were first seen and as they were asked about.
        self._asked: dict[int, tuple[SteeredJob, SteeredJob]] = {}
        self._recovered: set[str] = set()

    def refuse(self, jar: Jar, known: SteeredJob) -> str | None:
        return explain_state(known, self.states) or refuse_storing(known)

    def takes_tasks(self, tasks: Tasks) -> bool:
        return tasks.ranges is not None

    def change_tasks(
        self, jar: Jar, tasks: Tasks, submitters: Sequence[str], is_dry_run: bool
    ) -> tuple[list[SteeredTasks], list[JarError]]:
        check_owner(jar, tasks.array, submitters)
        again = Cancel(self.by, self._reason)
        done, errors = cancel_tasks(jar, tasks, self._reason, is_dry_run, lambda rows: steer_rows(jar, rows, again))
        return [done], errors

    def prepare(self, jar: Jar) -> None:
        try:
            message = f"cancelled by {self.by}{f': {self._reason}' if self._reason else ''}"
            self._order = begin_cancellation(jar, self.by, message)
        except OSError as error:
            reason = explain_at(error, jar.layout.limbo)
            raise CannotUseJar(action="write to", path=jar.layout.limbo, reason=reason) from error

    def change(self, jar: Jar, jobs: Sequence[SteeredJob]) -> Left:
        assert self._order is not None
        left = Left([], [])
        taken: list[tuple[str, Candidate, str]] = []
        for known in jobs:
            try:
                if known.state == "claimed":
                    # Asked in `finish`: its worker would take another job that is to be cancelled, and begin it.
                    self._asked[known.job.row] = known, known
                else:
                    taken.append((take(jar, self._order, known.job), known.job, known.own_name))
            except FileNotFoundError:
                left.missed.append(known)
            except OSError as error:
                left.refused.append((known, explain_at(error, jar.layout.path(known.job.place))))
        if taken:
            try:
                complete_taken(jar, self._order, taken)
            except OSError as error:
                reason = f"{explain_at(error, jar.journal.path)}; recover_jobs does the rest"
                raise CannotUseJar(action="cancel jobs in", path=jar.layout.home, reason=reason) from error
        return left

    def _ask(self, jar: Jar, first: SteeredJob, now: SteeredJob) -> None:
        """Have the worker end a running job. Raises FileNotFoundError if its directory is gone, OSError."""
        assert self._order is not None
        worker = worker_of_place(now.job.place)
        if worker is None or now.job.uid is None:
            raise FileNotFoundError(now.job.place)
        control.request_cancel(jar.layout, worker, now.job.uid, now.job.attempts, self._order.message)
        self._asked[now.job.row] = first, now

    def finish(self, jar: Jar) -> Left:
        """Wait until the running jobs have ended, or have come back and are cancelled."""
        left = Left([], [])
        try:
            self._ask_all(jar, left)
            deadline = time.monotonic() + jar.settings.grace_time_s + _END_WITHIN_S
            self._recover_dead(jar)
            while self._asked:
                with jar.ledger.writing() as connection:
                    fold_journals(connection, jar.layout)
                    jobs = list(steered_jobs(connection, self._asked))
                for now in jobs:
                    self._look_at(jar, now, left)
                if self._asked and time.monotonic() > deadline and not self._recover_dead(jar):
                    self._give_up(left)
                if self._asked:
                    time.sleep(_LOOK_EVERY_S)
        finally:
            if self._order is not None:
                end_cancellation(jar, self._order.id)
                sync_directory(jar.layout.limbo)
        return left

    def _ask_all(self, jar: Jar, left: Left) -> None:
        for first, now in list(self._asked.values()):
            try:
                self._ask(jar, first, now)
            except FileNotFoundError:
                continue  # the next look shows where it is
            except OSError as error:
                left.refused.append((first, explain_at(error, jar.layout.path(now.job.place))))
                del self._asked[now.job.row]

    def _recover_dead(self, jar: Jar) -> bool:
        """Recover the dead workers of this node that were asked: that cancels their jobs. Returns whether there was one. Raises
        LedgerError, CannotUseJar, OSError."""
        workers = {str(worker_of_place(asked.job.place)) for _, asked in self._asked.values()}
        recovered = False
        for name in sorted(workers - self._recovered):
            worker = read_worker(jar.layout, name)
            if worker is not None and worker.is_to_recover:
                recovery = Recovery()
                recover_worker(jar, worker, recovery)
                recover_tokens(jar, recovery.log)
                tidy_links(jar, recovery.log)
                self._recovered.add(name)
                recovered = True
        return recovered

    def _look_at(self, jar: Jar, now: SteeredJob, left: Left) -> None:
        """See what became of a job that was asked to end."""
        first, asked = self._asked[now.job.row]
        worker = worker_of_place(asked.job.place)
        try:
            if now.state == "claimed":
                if (now.job.place, now.job.attempts) != (asked.job.place, asked.job.attempts):
                    self._ask(jar, first, now)
                return
            if worker is not None and now.job.uid is not None and now.outcome != CANCELLED:
                control.withdraw_cancel(jar.layout, worker, now.job.uid)
            reason = self.refuse(jar, now)
            if reason is None:
                again = self.change(jar, [now])
                if again.missed:
                    return  # it has just been claimed again
                left.refused.extend((first, why) for _, why in again.refused)
            elif now.outcome != CANCELLED:
                left.refused.append((first, reason))
        except FileNotFoundError:
            return  # the next look shows where it is
        except OSError as error:
            left.refused.append((first, explain_at(error, jar.layout.path(now.job.place))))
        del self._asked[now.job.row]

    def _give_up(self, left: Left) -> None:
        for first, asked in self._asked.values():
            worker = worker_of_place(asked.job.place)
            reason = f"worker {worker} was asked to end it, and has not yet; if that is dead, recover_jobs ends it as cancelled"
            left.refused.append((first, reason))
        self._asked.clear()
