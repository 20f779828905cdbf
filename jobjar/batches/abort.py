"""Abort a batch: cancel its waiting jobs and kill its running ones. Restart: submit again those that had no success.

Each is one change of the batch (change.py): made wholly or not at all, also after a kill.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from jobjar.batches.change import (
    Change,
    commit,
    is_aborted,
    making,
    stage_jobs,
    take_batch,
)
from jobjar.batches.plan import identify
from jobjar.batches.state import BatchState, check_known, disk_now, read_batch, wait_until_past
from jobjar.batches.waiting_jobs import CHUNK, cancel_batch
from jobjar.errors import BadChange, NotRestarted
from jobjar.grouped import name_some
from jobjar.jar import Jar
from jobjar.job_file.attributes import HEADER_BYTES, read_description
from jobjar.ledger.ask_batch_jobs import (
    count_open_jobs,
    has_jobs_without_end,
    running_jobs,
    unsuccessful_jobs,
    waiting_jobs,
)
from jobjar.ledger.fold import OUTCOME_COMES_WITHIN_S, fold_journals
from jobjar.ledger.reconcile_jar import reconcile_in_pieces
from jobjar.shared_disk.files import read_file
from jobjar.stages.submit import Submission

# abort_batch waits this much longer than JJ_GRACE_TIME for running jobs to end.
_END_WITHIN_S = 10.0


_LOOK_EVERY_S = 0.1


class AbortedBatch(NamedTuple):
    """The result of an abort: how many waiting jobs were cancelled, how many running jobs were asked to end (`killed`), which
    of these still ran at the end of the wait (`running`), how many jobs were submitted again (`restarted`), and how many were
    left alone because they wait, run, or are to be stored."""

    name: str
    cancelled: int
    killed: int
    running: list[str]
    restarted: int
    left_alone: int = 0


def abort_batch(jar: Jar, name: str, restart: bool = False, kill: bool = False) -> AbortedBatch:
    """Complete the waiting jobs of a batch as cancelled, and kill its running jobs. Jobs that wait to be stored are left alone.

    With `restart`, submit its jobs without success again, as new jobs with the same descriptions, and leave waiting and running
    jobs alone. With `kill` too, or where the batch is aborted already, waiting jobs are first cancelled and running jobs killed.
    Raises UnknownBatch, BatchBusy, NotRestarted (jobs of it still run), SubmitFailed, BatchUnfinished.
    """
    check_known(jar, name)
    if restart and not kill and not read_batch(jar, name).is_aborted:
        return AbortedBatch(name, 0, 0, [], *_restart(jar, name, is_whole=False))
    change = take_batch(jar, name)
    with making(jar, change, f"the abort of batch {name}"):
        state = read_batch(jar, name)
        commit(jar, change, {**state.data, "is_aborted": True, "changed_at": disk_now(jar, state.changed_at)})
        jar.journal.append([read_batch(jar, name).entry()], durable=True)
        cancelled, asked, running = _end_jobs(jar, name, change)
    if running and restart:
        raise NotRestarted(
            name=name, reason=f"{len(running)} of its jobs still run ({name_some(running)}); try again when they ended"
        )
    restarted = _restart(jar, name, is_whole=True) if restart else (0, 0)
    return AbortedBatch(name, cancelled, len(asked), running, *restarted)


def _end_jobs(jar: Jar, name: str, change: Change) -> tuple[int, set[str], list[str]]:
    """Cancel and kill until no job of a batch waits or runs. A job that fails meanwhile comes back, and is cancelled too.
    Returns how many were cancelled, which jobs were asked to end, and which still run after the wait."""
    deadline = time.monotonic() + jar.settings.grace_time_s + _END_WITHIN_S
    cancelled, asked = 0, set[str]()
    while True:
        count, running = cancel_batch(jar, name, change.id, change.by, partial(is_aborted, jar, name))
        cancelled += count
        asked.update(running)
        if not running or time.monotonic() > deadline:
            return cancelled, asked, running
        time.sleep(_LOOK_EVERY_S)


def _restart(jar: Jar, name: str, is_whole: bool) -> tuple[int, int]:
    """Submit the jobs again that ended without success up to now. Returns how many, and how many were left alone because they
    wait, run, or are to be stored. `is_whole`: no job may wait or run."""
    change = take_batch(jar, name)
    with making(jar, change, f"the restart of batch {name}"):
        state = read_batch(jar, name)
        if "array" in state.data:
            reason = f"it is an array, which is not restarted; `jobjar retry {name}` runs again what has not succeeded"
            raise BadChange(name=name, reason=reason)
        if state.is_aborted and not is_whole:
            raise NotRestarted(name=name, reason="it was aborted meanwhile; try again")
        until = disk_now(jar)
        # Every later end has a later time, also where times are whole seconds, so the next restart finds it.
        wait_until_past(jar, until)
        reconcile_in_pieces(jar.ledger, jar.layout, open_journal=jar.open_journal)
        _wait_for_outcomes(jar, state, until)
        with jar.ledger.writing() as connection:
            left_alone = count_open_jobs(connection, name)
            is_maker_dead = waiting_jobs(connection, name, 1) or running_jobs(connection, name)
        if is_maker_dead and is_whole:
            raise NotRestarted(name=name, reason="jobs of it came back meanwhile; try again")
        count = stage_jobs(jar, change, _copies(jar, state, until))
        changed = {"is_aborted": False, "restarted_until": until, "changed_at": disk_now(jar, state.changed_at)}
        commit(jar, change, {**state.data, **changed})
    return count, left_alone


def _wait_for_outcomes(jar: Jar, state: BatchState, until: float) -> None:
    """Wait until the outcomes of all jobs that ended up to `until` are known, but not for ever.

    The file of an ended job shows at once. On a network disk its `ended` entry may come later, and a job that succeeded must not
    run again. After OUTCOME_COMES_WITHIN_S seconds no entry is expected any more.
    """
    deadline = time.monotonic() + OUTCOME_COMES_WITHIN_S
    while time.monotonic() < deadline:
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            if not has_jobs_without_end(connection, state.name, until - OUTCOME_COMES_WITHIN_S, until):
                return
        time.sleep(_LOOK_EVERY_S)


def _copies(jar: Jar, state: BatchState, until: float) -> Iterator[Submission]:
    """The jobs of a batch that ended without success since its last restart, read from their files."""
    after = ""
    while True:
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            jobs = unsuccessful_jobs(connection, state.name, state.restarted_until, until, CHUNK, after)
        if not jobs:
            return
        after = jobs[-1].uid
        for job in jobs:
            script = read_file(jar.layout.path(job.place))
            said = read_description(script[:HEADER_BYTES], job.place)
            identifier = identify(state.name, said.name, said.seed)
            yield Submission(None, None, job.priority, job.category, identifier, {}, script)
