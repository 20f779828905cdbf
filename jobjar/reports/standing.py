"""What keeps a job from running, and what to do about it. This is the one place that asks all that decide it.

`find_standing` says it of a job. `count_jar` and `count_batch` in standing_counts.py say it of all jobs of a jar or a batch.
Reads the ledger, which the caller brings up to date, and the directories; writes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable
from functools import cached_property

from jobjar.access.refusals import explain_disk
from jobjar.attempts.attempt import DESCRIBED
from jobjar.attempts.limits import explain_limit, keys_of
from jobjar.attempts.time_left import NeededTime
from jobjar.causes import Cause, Standing, split_line
from jobjar.errors import BadAttribute, JarError
from jobjar.hearing import Hearing
from jobjar.jar import Jar
from jobjar.job_file.attributes import HEADER_BYTES, read_header
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.job_file.names import id_in_name
from jobjar.journal.submitted import is_held_by_person
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_claiming import candidate_at, workers_with_jobs
from jobjar.ledger.ask_closed import aborted_batches, throttled_batches
from jobjar.ledger.ask_jobs import run_before
from jobjar.ledger.ask_returns import find_return
from jobjar.ledger.ask_selected import SelectedJob
from jobjar.ledger.ask_standing import given_of_job, has_moves, limit_of_job, request_of_job, staging_since
from jobjar.ledger.fail_fast import Failure, batches_to_stop
from jobjar.ledger.large_looks import NOT_EXECUTABLE
from jobjar.ledger.looks import Unseen
from jobjar.liveness import DEAD, UNKNOWN
from jobjar.recovery.others_processes import explain_left_running
from jobjar.reports.dependents import explain_dependent_job, say_unmoved
from jobjar.reports.no_free_worker import explain_short_time, explain_turn, explain_unasked, longest_left_s
from jobjar.reports.other_files import explain_unseen
from jobjar.reports.pilots_standing import explain_pilots
from jobjar.reports.refused import Refused, explain_unmoved
from jobjar.reports.returned import explain_return
from jobjar.reports.too_large import explain_too_large
from jobjar.roster import WorkerState, list_workers, read_worker
from jobjar.shared_disk.contents import LATEST
from jobjar.shared_disk.files import is_job_file, look, read_file
from jobjar.units import format_seconds

_DAY_S = 86400.0


class Look:
    """One look at what jobs wait for: workers and their heartbeats, limits, batches, disks. Each is read once, when a job first
    depends on it. `unseen` are the directories that the ledger was not compared with. Raises OSError, as its callers expect."""

    def __init__(self, jar: Jar, unseen: Iterable[Unseen] = ()) -> None:
        self.jar = jar
        self.now = time.time()
        self.hearing = Hearing(jar.layout)
        self._unseen = {directory.place: directory for directory in unseen if directory.is_by_hand}
        self._unasked: dict[str, Standing | None] = {}
        self._limits: dict[str, Standing | None] = {}
        self._unsafe: dict[str, Standing | None] = {}

    @cached_property
    def workers(self) -> list[WorkerState]:
        return list_workers(self.jar.layout)

    @cached_property
    def running(self) -> list[WorkerState]:
        """The workers that run, as far as this node knows."""
        return [worker for worker in self.workers if worker.is_running and not worker.set_aside]

    @cached_property
    def heard(self) -> list[WorkerState]:
        """The workers that are known to run: those of this node by their processes, others by their heartbeats."""
        return [worker for worker in self.running if worker.alive != UNKNOWN or self.hearing.beats(worker)]

    @cached_property
    def holding(self) -> set[str]:
        return workers_with_jobs(self.jar.ledger.connection)

    @cached_property
    def refused(self) -> Refused:
        return Refused(self.jar.layout, self.heard)

    @cached_property
    def aborted(self) -> frozenset[str]:
        return aborted_batches(self.jar.ledger.connection)

    @cached_property
    def throttled(self) -> dict[str, float]:
        batches = throttled_batches(self.jar.ledger.connection)
        return {name: until for name, until in batches.items() if until > self.now}

    @cached_property
    def failed(self) -> dict[str, Failure]:
        """The batches that stop at a failure, and whose rest nobody has cancelled yet."""
        return batches_to_stop(self.jar.ledger.connection)

    @cached_property
    def unmoved(self) -> str | None:
        """Why dependents and the rest of failed batches cannot be moved, and what to do; None if nothing speaks against it."""
        with contextlib.suppress(OSError):  # what else the disk refuses is said elsewhere
            return explain_unmoved(self.jar.layout, self.heard)
        return None

    @cached_property
    def disk(self) -> Standing | None:
        """That nothing can be written to the jar's disk, so that nobody can journal anything."""
        trouble = explain_disk(self.jar.layout.home)
        return None if trouble is None else split_line(Cause.DISK, trouble)

    def batch(self, name: str | None) -> list[Standing]:
        """What keeps all jobs of a batch from being claimed: it is aborted, throttled, or to stop at a failure."""
        found = []
        if name in self.aborted:
            found.append(
                Standing(
                    Cause.ABORTED, f"its batch {name} is aborted", f"`abort_batch --restart {name}` takes that back"
                )
            )
        if name is not None and name in self.throttled:
            until = f"its batch is throttled until {format_time(self.throttled[name])}, because its jobs failed fast"
            found.append(Standing(Cause.THROTTLED, until, f"`batch_status {name}` says how they failed"))
        if name is not None and name in self.failed:
            why = f"its batch {name} stops at its first failure ({self.failed[name].what}), and is not cancelled yet"
            found.append(split_line(Cause.FAILED_BATCH, f"{why}{say_unmoved(self.unmoved)}"))
        return found

    def limit(self, key: str) -> Standing | None:
        """That a limit is used up."""
        if key not in self._limits:
            self._limits[key] = explain_limit(self.jar.layout, key)
        return self._limits[key]

    def unasked(self, category: str) -> Standing | None:
        """That no worker claims jobs of a category now."""
        if category not in self._unasked:
            self._unasked[category] = explain_unasked(self.jar.layout, category, self.heard)
        return self._unasked[category]

    def left_s(self, category: str) -> float | None:
        """How much time the workers that ask for a category have left, if all of them have an end."""
        return longest_left_s(category, self.heard, self.now)

    def short_time(self, job: SelectedJob) -> Standing | None:
        """That no worker has the time that a job may take."""
        left_s = self.left_s(job.category)
        candidate = None if left_s is None else candidate_at(self.jar.ledger.connection, job.place)
        if left_s is None or candidate is None:
            return None
        needed = NeededTime(self.jar.layout)
        needed_s = needed.by_ledger(candidate) or needed.by_file(candidate)
        return explain_short_time(job.category, needed_s, left_s) if needed_s > left_s else None

    def silent(self, category: str) -> list[Standing]:
        """The workers that ask for a category and may be gone, where no other claims its jobs."""
        silent = [worker for worker in self.running if worker not in self.heard and worker.asks_for(category)]
        found = (self.silence(worker, "a worker that asks for it may be gone: ") for worker in silent[:1])
        return [standing for standing in found if standing is not None]

    def silence(self, worker: WorkerState, start: str) -> Standing | None:
        """That a worker has not been heard of, and what becomes of its jobs."""
        text = self.hearing.explain_silence(worker)
        if text is None:
            return None
        lease_s = self.jar.settings.lease_time_s
        lease = (
            f"; without a beat for JJ_LEASE_TIME ({format_seconds(lease_s)}) others take its jobs back"
            if lease_s
            else ""
        )
        return split_line(Cause.SILENT, f"{start}{text}{lease}")

    def unsafe(self, category: str) -> Standing | None:
        """That workers refuse this jar, because others could put jobs into it."""
        if category not in self._unsafe:
            self._unsafe[category] = None
            try:
                self.jar.check_is_safe([category] if category else [])
            except JarError as error:
                self._unsafe[category] = split_line(Cause.UNSAFE_JAR, str(error))
        return self._unsafe[category]

    def unseen(self, place: str) -> Standing | None:
        """That a directory was changed by hand since the ledger was compared with it."""
        directory = self._unseen.get(place)
        return None if directory is None else split_line(Cause.UNSEEN, explain_unseen(directory))


def find_standing(look_at: Look, job: SelectedJob) -> list[Standing]:
    """Every cause that keeps a job from running now, the first to be seen to first; [] if none does. What goes on by itself
    (causes.GOES_ON) is told by `find_turn`, but for a dependent, and for a job that is staged in behind another."""
    if job.is_dependent:
        return explain_dependent_job(look_at.jar.ledger.connection, job, lambda: look_at.unmoved)
    if job.state == "limbo":
        return [_explain_limbo(look_at.jar, job)]
    if job.state == "claimed":
        return _explain_holder(look_at, job) or _explain_ahead(look_at.jar, job)
    if job.place.startswith("unclaimed/") and job.state in ("unclaimed", "removed"):
        path = look_at.jar.layout.path(job.place)
        with contextlib.suppress(OSError):  # the other causes still help
            status = look(path)
            if status is not None and stat.S_ISREG(status.st_mode) and not is_job_file(status):
                return [Standing(Cause.NOT_A_JOB, "its file has no run bit, so it is no job", f"`chmod +x {path}`")]
    return _explain_waiting(look_at, job) if job.state == "unclaimed" else []


def find_turn(look_at: Look, job: SelectedJob) -> Standing | None:
    """What a job waits for that nothing keeps from running: other jobs. It does not stand still."""
    if job.state == "claimed" and job.kind == DESCRIBED and job.uid:
        since = staging_since(look_at.jar.ledger.connection, job.uid)
        if since is not None:
            for_s = format_seconds(max(0.0, look_at.now - since))
            why = f"its files and its software have been staged in for {for_s}"
            do = "a package that another job installs is waited for; `jobjar history` has its phases, a time limit ends it"
            return Standing(Cause.STAGING_IN, why, do)
    if job.state != "unclaimed":
        return None
    with contextlib.suppress(OSError):
        turn = explain_turn(job.category, look_at.heard, look_at.holding)
        if turn is not None:
            return turn
        free = [one for one in look_at.heard if one.asks_for(job.category) and one.paths.name not in look_at.holding]
        silent = free and look_at.silence(free[0], "the worker that asks for it may have been stopped: ")
        if silent:
            return silent
        if free:
            why = f"nothing keeps it: worker {free[0].name} is free, and asks for it"
            return Standing(Cause.NEXT, why, f"if that stays so, see {free[0].paths.log}")
    return None


def _explain_limbo(jar: Jar, job: SelectedJob) -> Standing:
    path = jar.layout.path(job.place)
    where = jar.layout.category_directory(job.category)
    if is_held_by_person(job.held_reason):
        return Standing(Cause.HELD, f"it is {job.held_reason}", f"`jobjar release {job.uid or job.name}` lets it go on")
    if job.held_reason:
        what = f"correct {path}, then `jobjar release {job.uid or job.name}` lets it go on"
        return Standing(Cause.FAULTY, f"it is held in limbo: {job.held_reason}", what)
    if job.uid is not None and id_in_name(job.name) and not has_moves(jar.ledger.connection, job.uid):
        why = "it is being submitted: its file is in limbo, and its move to unclaimed is still to come"
        return Standing(Cause.SUBMITTING, why, f"if nobody does that any more, move {path} to {where}, or remove it")
    return Standing(Cause.IN_LIMBO, "it is in limbo, where no worker looks", f"move it to {where}")


def _explain_waiting(look_at: Look, job: SelectedJob) -> list[Standing]:
    jar, is_stored = look_at.jar, job.category.startswith(STORAGE_CATEGORY)
    found: list[Standing] = []

    def add(ask: Callable[[], Standing | None]) -> None:
        with contextlib.suppress(OSError):  # the other causes still help
            standing = ask()
            found.extend([] if standing is None else [standing])

    def explain_refused() -> Standing | None:
        refused = look_at.refused.explain(job.place)
        return None if refused is None else split_line(Cause.NOT_PERMITTED, refused)

    add(explain_refused)
    batch = job.batch
    if batch is None:
        with contextlib.suppress(OSError, BadAttribute):  # put there by hand: its file names the batch
            batch = read_header(read_file(jar.layout.path(job.place), size=HEADER_BYTES), job.place).get("batch")
    found += [] if is_stored else look_at.batch(batch)
    if job.not_before > look_at.now:
        found.append(_explain_delay(jar, job))
    for key in keys_of(job.category, batch):
        add(lambda key=key: look_at.limit(key))  # type: ignore[misc]
    unasked = len(found)
    add(lambda: look_at.unasked(job.category))
    if len(found) > unasked and found[-1].cause in (Cause.NO_WORKER, Cause.STOPPING):
        with contextlib.suppress(OSError):
            found += look_at.silent(job.category)
        limit_s = limit_of_job(jar.ledger.connection, job.id)
        add(lambda: explain_pilots(jar.ledger.connection, job.category, limit_s or 0.0))
    add(lambda: look_at.short_time(job))
    add(lambda: explain_too_large(job.category, request_of_job(jar.ledger.connection, job.id), look_at.heard))
    add(lambda: look_at.disk)
    add(lambda: look_at.unsafe(job.category))
    add(lambda: look_at.unseen(os.path.dirname(job.place)))
    went_back = find_return(jar.ledger.connection, job.uid) if job.uid else None
    if went_back is not None:
        is_storage = is_of_storage(went_back.outcome, went_back.message or "")
        cause = Cause.STORAGE if is_storage else Cause.WENT_BACK
        # What the job waits for comes first. But a bare "not before" time needs its cause right after it.
        is_due_told = bool(found) and found[0].cause in (Cause.BEGINS_LATER, Cause.RETRIED_LATER)
        found.insert(1 if is_due_told else len(found), split_line(cause, explain_return(went_back)))
    return found


def _explain_delay(jar: Jar, job: SelectedJob) -> Standing:
    given = given_of_job(jar.ledger.connection, job.id)
    at = format_time(job.not_before)
    if given and json.loads(given).get("begin_at") == job.not_before:
        return Standing(Cause.BEGINS_LATER, f"it is not to begin before {at}")
    return Standing(Cause.RETRIED_LATER, f"it is not to be tried again before {at}")


def _explain_holder(look_at: Look, job: SelectedJob) -> list[Standing]:
    """That the worker which holds a job is dead, or has not been heard of."""
    name, jar = worker_of_place(job.place), look_at.jar
    with contextlib.suppress(OSError):
        worker = None if name is None else read_worker(jar.layout, name)
        if worker is None:
            return []
        if worker.alive == DEAD:
            return [explain_stranded(jar, worker, job.uid)]
        silence = look_at.silence(worker, "its worker ")
        return [silence] if silence else []
    return []


def explain_stranded(jar: Jar, worker: WorkerState, uid: str | None) -> Standing:
    """That a job is with a dead worker, and who takes it back."""
    why = f"it is stranded with the dead worker {worker.paths.name}"
    if uid is not None:
        left = explain_left_running(jar.ledger.connection, jar.layout, worker, {uid})
        if left:
            return split_line(Cause.LEFT_RUNNING, f"{why}; {left[uid]}")
    return Standing(Cause.STRANDED, why, f"run `recover_jobs` on node {worker.recovered_on}")


def is_of_storage(outcome: str, message: str) -> bool:
    """Whether an attempt ended because its files could not be stored (described/store.py)."""
    return outcome == "interrupted" and message.startswith("store: ")


def explain_remedy(why_no_job: str) -> str:
    """What to do about a file that is no job, by why it is none."""
    return "chmod +x it, if it is to run" if why_no_job == NOT_EXECUTABLE else ""


def _explain_ahead(jar: Jar, job: SelectedJob) -> list[Standing]:
    first = run_before(jar.ledger, job.uid, job.place) if job.uid and job.kind == DESCRIBED else None
    if first is None:
        return []
    return [Standing(Cause.AHEAD, f"it is staged behind {first}, which {worker_of_place(job.place)} runs first")]


def format_time(moment: float) -> str:
    """A time for people: local, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(moment, LATEST - _DAY_S)))
