"""The verbs about jobs that have ended: retry and remove.

Retry: one rename from completed/ back to the job's category, then `moved`, with a number that begins a new life
(journal/entries.py). A kill between leaves a job that waits, which is found as a move by hand: that begins the same life. Remove:
unlink the file, then `moved` to nowhere. A kill between leaves a job without a file, which the next recovery finds removed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from jobjar.access.refusals import explain_at
from jobjar.arrays.retry import find_dependents, retry_tasks
from jobjar.attempts.attempt import CRASHED, FAILED, KILLED, SUCCEEDED, TIMED_OUT
from jobjar.batches.state import read_batch
from jobjar.errors import JarError, UnknownBatch
from jobjar.jar import Jar
from jobjar.job_file.prerequisites import BATCH, JOB
from jobjar.journal.entries import MoreOfMove, first_of_life, moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import NOWHERE
from jobjar.ledger.ask_arrays import array_of
from jobjar.ledger.ask_selected import Filters
from jobjar.ledger.ask_steered import SteeredJob, steered_jobs
from jobjar.ledger.dependents import cancelled_because_of
from jobjar.ledger.judge_dependents import reason_again
from jobjar.selecting.arrays import Tasks, check_owner, failed_tasks
from jobjar.shared_disk.files import is_job_file, look
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import open_directory_below
from jobjar.steering.moving import Left, Move, append, move_all
from jobjar.steering.verb import SteeredTasks, Verb, explain_state
from jobjar.steering.waiting import AbortedBatches, move_to_categories

# The outcomes of jobs that failed, whoever ended them.
FAILURES = (FAILED, TIMED_OUT, KILLED, CRASHED)
_UNKNOWN = "no journal knows it: a hand put it there before any worker had claimed it"


class Retry(Verb):
    """Ended jobs wait again, as the same jobs with their history, and with all their retries. One whose prerequisites may still
    end as it wants waits for them first. `with_dependents`: also those that were cancelled because of these, to wait again."""

    done = "retried"
    states = ("ended",)

    def __init__(self, by: str, with_dependents: bool = False) -> None:
        super().__init__(by)
        self._with_dependents = with_dependents
        self._aborted = AbortedBatches()
        self._restarted: dict[str, float] = {}
        self._dependents: set[int] = set()

    def refuse(self, jar: Jar, known: SteeredJob) -> str | None:
        reason = explain_state(known, self.states)
        if reason is None and known.job.uid is None:
            reason = _UNKNOWN
        if reason is None:
            reason = self._aborted.explain(jar, known) or self._explain_restart(jar, known)
        if reason is None:
            status = look(jar.layout.path(known.job.place))
            if status is not None and not is_job_file(status):
                reason = "its file cannot be run any more: the job removed its own, or its run bit was taken"
        return reason

    def _explain_restart(self, jar: Jar, known: SteeredJob) -> str | None:
        """Why a job of a batch is left alone that a restart has replaced by a new one."""
        name = known.job.batch
        if name is None or known.outcome == SUCCEEDED:
            return None
        if name not in self._restarted:
            try:
                self._restarted[name] = read_batch(jar, name).restarted_until
            except UnknownBatch:
                self._restarted[name] = 0.0
        is_replaced = known.job.moved_at <= self._restarted[name]
        return f"abort_batch --restart {name} has submitted it again, as a new job" if is_replaced else None

    def takes_tasks(self, tasks: Tasks) -> bool:
        return True

    def tasks_of_filters(self, jar: Jar, filters: Filters) -> list[Tasks]:
        return list(failed_tasks(jar, filters, self.by))

    def change_tasks(
        self, jar: Jar, tasks: Tasks, submitters: Sequence[str], is_dry_run: bool
    ) -> tuple[list[SteeredTasks], list[JarError]]:
        check_owner(jar, tasks.array, submitters)
        uid = tasks.array.uid
        numbers = retry_tasks(jar, uid, tasks.ranges, is_dry_run)
        done, errors = [SteeredTasks(uid, ended=len(numbers))], list[JarError]()
        for array, ranges in find_dependents(jar, uid, numbers).items() if self._with_dependents else ():
            found = array_of(jar.ledger.connection, array)
            if found is not None:
                try:
                    more, why_not = self.change_tasks(jar, Tasks(found, tuple(ranges)), submitters, is_dry_run)
                    done, errors = done + more, errors + why_not
                except JarError as error:
                    errors.append(error)
        return done, errors

    def follow_tasks(self, jar: Jar, arrays: Sequence[str]) -> list[int]:
        if not self._with_dependents:
            return []
        rows = cancelled_because_of(jar.ledger.connection, [(BATCH, array) for array in arrays])
        self._dependents.update(rows)
        return rows

    def change(self, jar: Jar, jobs: Sequence[SteeredJob]) -> Left:
        connection = jar.ledger.connection
        reasons = {
            known.job.row: reason_again(connection, str(known.job.uid), known.job.row in self._dependents)
            for known in jobs
        }

        def plan(known: SteeredJob) -> Move:
            more: MoreOfMove = {"held_reason": str(reasons[known.job.row]), "category": known.job.category}
            return Move("limbo", known.own_name, more, begins_life=True)

        first = move_all(jar, [known for known in jobs if reasons[known.job.row] is not None], "again", self.by, plan)
        rest = [known for known in jobs if reasons[known.job.row] is None]
        then = move_to_categories(jar, rest, "again", self.by, begins_life=True)
        return Left(first.missed + then.missed, first.refused + then.refused)

    def follow(self, jar: Jar, jobs: Sequence[SteeredJob]) -> list[int]:
        if not self._with_dependents:
            return []
        connection = jar.ledger.connection
        ended = {(JOB, str(known.job.uid)) for known in jobs}
        ended |= {(BATCH, known.job.batch) for known in jobs if known.job.batch is not None}
        submitters = {known.job.submitter for known in jobs}
        found = steered_jobs(connection, cancelled_because_of(connection, sorted(ended)))
        rows = [known.job.row for known in found if known.job.submitter in submitters]
        self._dependents.update(rows)
        return rows


class Remove(Verb):
    """The files of ended jobs are removed now, instead of by retention. The history stays."""

    done = "removed"
    states = ("ended",)

    def refuse(self, jar: Jar, known: SteeredJob) -> str | None:
        return explain_state(known, self.states) or (None if known.job.uid is not None else _UNKNOWN)

    def change(self, jar: Jar, jobs: Sequence[SteeredJob]) -> Left:
        left = Left([], [])
        entries: list[Entry] = []
        now = round(jar.disk_now(), 6)
        try:
            for known in jobs:
                job = known.job
                try:
                    _unlink(jar, job.place)
                except FileNotFoundError:
                    left.missed.append(known)
                    continue
                except OSError as error:
                    left.refused.append((known, explain_at(error, jar.layout.path(job.place))))
                    continue
                number, uid = first_of_life(job.move_number), str(job.uid)
                more = MoreOfMove(after=job.moved_at, category=job.category)
                entries.append(moved_entry(uid, number, job.place, NOWHERE, now, "removed", self.by, **more))
        finally:
            append(jar, entries)
        return left


def _unlink(jar: Jar, place: str) -> None:
    """Remove the file at a place, and follow no link on the way there. Raises FileNotFoundError, OSError."""
    path = jar.layout.path(place)
    directory = patiently(lambda: open_directory_below(jar.layout.home, *place.split("/")[:-1]), path)
    try:
        # COMMIT: from here the job is removed
        patiently(lambda: os.unlink(os.path.basename(path), dir_fd=directory), path)
    finally:
        os.close(directory)
