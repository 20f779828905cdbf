"""End an attempt: journal its outcome, then move the job to completed, or back to unclaimed.

`ended` is journaled first. Killed after it, recovery does what the entry says instead of running the job again. The
rename is the commit. If it finds the file gone, another node recovered the job: the worker lost its lease, journals
that, and claims no credit. That rename is the fence; the looks before it only spare a lost attempt its trouble.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from jobjar.attempt import INTERRUPTED, LOST, RETRIED_OUTCOMES, AttemptEnd, ClaimedJob, Claimer, retry_pause_s
from jobjar.disk import is_taken_away, look, make_directory, remove_file, rename, server_time
from jobjar.errors import LedgerBusy, LedgerUnavailable
from jobjar.journal import Entry, moved_entry
from jobjar.layout import Layout, category_of_place
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.queries import is_decided_by, was_taken_back
from jobjar.ledger.reconcile import compare_file, list_jar
from jobjar.moves import move_to_free_name
from jobjar.patience import is_transient, patience, patiently
from jobjar.placeholder import is_own, read_placeholder
from jobjar.throttle import note_end, read_threshold

_RETRY_PAUSE_S = 1.0
_YOUNG_S = 1.0
MAX_SPENT_LINKS = 50_000


class Verdict(NamedTuple):
    """Where a job goes after an attempt: `final` to completed, otherwise to unclaimed, not before `not_before`."""

    final: bool
    reason: str
    not_before: float


def decide(job: ClaimedJob, end: AttemptEnd, failures_before: int, now: float) -> Verdict:
    """What follows from how an attempt ended; `failures_before` earlier ones failed. `now` is the disk's time."""
    if end.outcome in (INTERRUPTED, LOST):
        return Verdict(False, "returned", now + end.retry_after_s if end.retry_after_s else 0)
    if end.outcome in RETRIED_OUTCOMES and failures_before < job.retries:
        delay_s = retry_pause_s(job.retry_delay_s, failures_before)
        return Verdict(False, "retried", now + delay_s if delay_s else 0)
    return Verdict(True, "completed", 0)


def ended_entry(claimer: Claimer, job: ClaimedJob, end: AttemptEnd, verdict: Verdict, now: float) -> Entry:
    """The `ended` entry of an attempt, which says what is to follow. What there is nothing to say of is left out."""
    entry = {
        "entry": "ended",
        "job": job.uid,
        "attempt": job.attempt,
        "worker": claimer.paths.name,
        "worker_uid": claimer.worker_id,
        "ended_at": round(now, 6),
        "final": verdict.final,
        "not_before": verdict.not_before,
        "outcome": end.outcome,
        "exit_status": end.exit_status,
        "signal": end.signal,
        "wall_time_s": end.wall_time_s,
        "user_cpu_s": end.user_cpu_s,
        "system_cpu_s": end.system_cpu_s,
        "max_rss_kib": end.max_rss_kib,
        "output_file": end.output_file,
        "message": end.message,
        "pid": end.pid,
        "pid_started": end.pid_started,
    }
    return {name: value for name, value in entry.items() if value is not None}


def complete(
    claimer: Claimer,
    job: ClaimedJob,
    end: AttemptEnd,
    verdict: Verdict,
    now: float,
    may_wait: Callable[[], bool],
    warn: Callable[[str], None],
    before: Sequence[Entry] = (),
    is_next_near: bool = False,
) -> bool:
    """End an attempt as `verdict` says; returns whether this worker still held the job. The entries `before` are journaled in
    one write with its end; with `is_next_near` a move to completed in one with what the worker journals next.

    While the disk refuses (full, read-only) it waits, as long as `may_wait()`; then the job stays with this worker and is
    stranded. The tokens of its limits are given back in any case: it does not run any more.
    """
    threshold = read_threshold(job, end, now)
    ended = ended_entry(claimer, job, end, verdict, now)
    durable = not claimer.jar.ledger_home.shared
    moved: list[Entry] = []

    if _may_be_taken_back(claimer, now - job.claimed_at) and is_taken_away(job.path):
        note_loss(claimer, job, ended, may_wait, warn)
        return False

    def journal_end() -> None:
        claimer.jar.journal.append([*before, ended], durable)

    def move_job() -> None:
        troubles = patience.troubles
        try:
            entry = move_ended_job(claimer.jar.layout, job, verdict, claimer.paths.name)
        except FileNotFoundError:
            # Answered so, perhaps, because it had happened: then the file is there, and nobody else told of it.
            path = f"{claimer.jar.layout.completed}/{job.name}"
            if not verdict.final or look(path) is None or _was_taken_back(claimer, job, unknown=True):
                return
            entry = _moved_entry(job, verdict, claimer.paths.name, path, f"completed/{job.name}")
        else:
            # After an error the destination was believed; that the file is there does not say who moved it.
            if patience.troubles != troubles and _was_taken_back(claimer, job, unknown=False):
                return
        moved.append(entry)

    def journal_move() -> None:
        claimer.jar.journal.append(moved)

    if not _insist(journal_end, may_wait, warn) or not _insist(move_job, may_wait, warn):
        claimer.tokens.give_back(job.tokens)
        return False
    if not moved:
        note_loss(claimer, job, ended, may_wait, warn)
        return False
    claimer.tokens.give_back(job.tokens)
    if is_next_near and verdict.final:
        claimer.jar.journal.append_later(moved)
    elif not _insist(journal_move, may_wait, warn):
        warn(f"the move of {job.name} could not be journaled; a scan will find it")
    take_link_away(claimer, job.link)
    note_end(claimer, job, end, threshold, now, warn)
    return True


def _was_taken_back(claimer: Claimer, job: ClaimedJob, unknown: bool) -> bool:
    """Whether the journals tell that somebody else ended this attempt or made a later one; `unknown` where they cannot be
    read. Who takes a job back journals that, durably, before the file moves."""
    with contextlib.suppress(LedgerBusy, LedgerUnavailable, OSError), claimer.jar.ledger.writing() as connection:
        fold_journals(connection, claimer.jar.layout)
        return was_taken_back(connection, job.uid, job.attempt, claimer.worker_id, job.move_number)
    return unknown


def _may_be_taken_back(claimer: Claimer, age_s: float) -> bool:
    """Whether leases or other nodes may have taken an attempt's job, so that it is worth a look. Where this node has no
    leases another one's need longer than a moment; a hand that was quicker is seen by the rename."""
    is_young = 0 <= age_s < _YOUNG_S
    return claimer.jar.settings.lease_time_s > 0 or not (claimer.jar.ledger_home.shared or is_young)


def note_loss(
    claimer: Claimer, job: ClaimedJob, ended: Entry, may_wait: Callable[[], bool], warn: Callable[[str], None]
) -> None:
    """Say, and journal, that this attempt lost its job; but not where recovery completed the job with this attempt: then
    the attempt decided it, and a `lost` would take that away."""
    claimer.tokens.give_back(job.tokens)
    _take_own_link_away(claimer, job.link)
    try:
        was_decided_here = _is_decided_here(claimer, job)
    except (LedgerBusy, LedgerUnavailable) as error:
        warn(f"{job.name} was taken back while it ran here; which attempt counts cannot be looked up: {error}")
        return
    if was_decided_here:
        warn(f"{job.name} was completed by recovery with what is journaled of the attempt here")
        return
    message = "its worker lost the lease: the job was taken back meanwhile"
    lost = {**ended, "outcome": LOST, "final": False, "message": message}
    warn(f"{job.name} was taken back while it ran here: the lease is lost, and this attempt does not count")
    _insist(lambda: claimer.jar.journal.append([lost]), may_wait, warn)


def _is_decided_here(claimer: Claimer, job: ClaimedJob) -> bool:
    """Whether the job is completed, with the attempt of this worker. Raises LedgerBusy, LedgerUnavailable."""
    layout = claimer.jar.layout
    with claimer.jar.ledger.writing() as connection:
        fold_journals(connection, layout)
        # Whoever moved it may have been killed before that move was journaled.
        difference = compare_file(connection, layout, f"completed/{job.name}")
        is_there = difference is not None and difference.uid == job.uid
        return is_decided_by(connection, job.uid, job.attempt, claimer.worker_id, is_there)


def move_ended_job(layout: Layout, job: ClaimedJob, verdict: Verdict, by: str) -> Entry:
    """COMMIT: from here the job is completed, or unclaimed again. Returns the `moved` entry.

    Raises FileNotFoundError where the job is not here any more, OSError.
    """
    if verdict.final:
        directory, place = layout.completed, "completed"
    else:
        directory = layout.jar_directory(job.category)
        place = f"unclaimed/{job.category}" if job.category else "unclaimed"
        if job.category:
            with contextlib.suppress(FileExistsError):  # the category may have been removed meanwhile
                make_directory(directory)
    name = move_to_free_name(job.path, directory, job.name)
    return _moved_entry(job, verdict, by, f"{directory}/{name}", f"{place}/{name}")


def _moved_entry(job: ClaimedJob, verdict: Verdict, by: str, path: str, place: str) -> Entry:
    try:
        moved_at = server_time(patiently(lambda: os.lstat(path), path))
    except OSError:
        moved_at = job.claimed_at  # claimed again already, and that claim is the later move; or the disk is away
    number = job.move_number + 1
    entry = moved_entry(job.uid, number, job.place, place, moved_at, verdict.reason, by, category=job.category)
    if verdict.not_before:
        entry["not_before"] = verdict.not_before
    return entry


def give_back(claimer: Claimer, job: ClaimedJob) -> None:
    """Return a job that was claimed and not run, and its tokens: its attempt is `interrupted`. Raises FileNotFoundError where
    it is not here any more, OSError."""
    verdict = Verdict(False, "returned", 0)
    try:
        moved = move_ended_job(claimer.jar.layout, job, verdict, claimer.paths.name)
    finally:
        claimer.tokens.give_back(job.tokens)
    take_link_away(claimer, job.link)
    end = AttemptEnd(INTERRUPTED, None, None, 0.0, 0.0, 0.0, 0, None, "it was given back before it ran")
    with contextlib.suppress(OSError):  # the disk is full; a scan will find the job
        claimer.jar.journal.append([ended_entry(claimer, job, end, verdict, moved["moved_at"]), moved])


def return_strays(claimer: Claimer, say: Callable[[str], None], held: Container[str] = ()) -> None:
    """Give back what is in a worker's `jobs/` but for the paths that it still holds: left there when the disk refused an
    earlier way back. Raises OSError while the disk is in trouble."""
    links: list[str] = []
    for place, entry in list_jar(claimer.paths.jobs, f"workers/{claimer.paths.name}/jobs", links):
        if entry.path in held:
            continue
        directory = claimer.jar.layout.jar_directory(category_of_place(place) or "")
        try:
            move_to_free_name(entry.path, directory, entry.name)
            say(f"{entry.name} was still here; given back")
        except OSError as error:
            if is_transient(error):
                raise
    for path in links:
        placeholder = read_placeholder(path)
        if placeholder is not None and is_own(placeholder):  # of a claim that came to nothing
            remove_file(path)


def end_unrun(
    claimer: Claimer, job: ClaimedJob, now: float, may_wait: Callable[[], bool], warn: Callable[[str], None]
) -> None:
    """Say that a job was taken back before it was run, and could not be given back for that."""
    end = AttemptEnd(LOST, None, None, 0.0, 0.0, 0.0, 0, None, None)
    note_loss(claimer, job, ended_entry(claimer, job, end, decide(job, end, 0, now), now), may_wait, warn)


def take_link_away(claimer: Claimer, link: str) -> None:
    """Take a job's link out of claimed/. It is removed later, with others: ext4 makes each new inode dear for seconds
    after an old one was freed, which at a link a job cost half a millisecond a job."""
    if not link:
        return
    try:
        if not claimer.jar.ledger_home.shared:
            os.unlink(link)  # over a network one step is cheaper than two, whatever the server's own disk is
            return
        rename(link, f"{claimer.paths.spent_links}/{claimer.spent_links}")
        claimer.spent_links += 1
    except OSError:
        with contextlib.suppress(OSError):  # what stays behind recovery removes
            os.unlink(link)
    if claimer.spent_links >= MAX_SPENT_LINKS:
        remove_spent_links(claimer)


def _take_own_link_away(claimer: Claimer, link: str) -> None:
    """`take_link_away`, if the link of that name does not lead to another worker, which has the job now."""
    with contextlib.suppress(OSError):
        if link and os.readlink(link).startswith(f".{claimer.paths.name}/"):
            take_link_away(claimer, link)


def remove_spent_links(claimer: Claimer) -> None:
    """Remove the links that were taken out of claimed/; for when there is nothing better to do."""
    for number in range(claimer.spent_links):
        with contextlib.suppress(OSError):  # with the worker's directory, retention removes it
            os.unlink(f"{claimer.paths.spent_links}/{number}")
    claimer.spent_links = 0


def _insist(action: Callable[[], None], may_wait: Callable[[], bool], warn: Callable[[str], None]) -> bool:
    """Do it, and while the disk refuses (full, say) do it again; returns whether it was done."""
    warned = False
    while True:
        try:
            action()
            return True
        except OSError as error:
            if not warned:
                warned = True
                warn(f"the end of a job cannot be written: {error.strerror} ({error.filename or 'journal'}); waiting")
            if not may_wait():
                return False
            time.sleep(_RETRY_PAUSE_S)
