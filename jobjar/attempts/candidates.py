"""Choose which job to try next: the ledger's proposals, kept for a moment, without those that others claimed since.

Between two questions to the ledger, a claim costs no lock and no transaction. On a local disk this home's journal is searched
before each claim (its bytes, not parsed). So jobs that other workers of the home claimed are passed over, and the ledger is
asked again at once if a job became claimable. On a network disk each such read would force the last appends to the server.
There spread.py keeps workers out of each other's way. Writes the ledger; moves nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from functools import partial

from jobjar.attempts.attempt import Claimer
from jobjar.attempts.fitting import find_candidates
from jobjar.attempts.spread import spread
from jobjar.errors import CannotUseJar, LedgerError
from jobjar.jar import Jar
from jobjar.job_file.names import oddity_in_name
from jobjar.ledger.ask_claiming import Candidate
from jobjar.ledger.ask_closed import aborted_batches, throttled_batches
from jobjar.ledger.driver import Connection
from jobjar.ledger.due import has_due
from jobjar.ledger.fail_fast import batches_to_stop
from jobjar.ledger.fold import fold_journal, fold_journals, others_are_due
from jobjar.ledger.home import LOCK_PATIENCE_S
from jobjar.ledger.removed import mark_missed
from jobjar.shared_disk.files import is_gone
from jobjar.shared_disk.listing import is_job_at

# The bytes in a journal that show a move to unclaimed, and one from there.
_CLAIMABLE = b'"to":"unclaimed/'
_CLAIMED = re.compile(rb'"from":("unclaimed/(?:[^"\\]|\\.)*")')
# How long proposals are used if nothing contradicts them. They cannot last: hand-made submissions and due retries enter the
# ledger without an entry in this home's journal. On a network disk they last for JJ_POLL_TIME, because others' journals are
# read only once in that time, but not longer than the second value.
_MAX_AGE_S = 0.25
_MAX_AGE_OVER_NETWORK_S = 1.0
_FEWEST, _MOST = 4, 256
# The candidates to ask for per worker that claims, on a network disk.
_FOR_EACH = 32


def propose(claimer: Claimer, now: float) -> Candidate | None:
    """The job to try next, or None if there is none: categories in order, highest priority first, then oldest.

    `now` is the disk's time. Raises LedgerError, CannotUseJar.
    """
    proposals = claimer.proposals
    appended = _read_journal(claimer) if not claimer.jar.ledger_home.has_other_homes else b""
    if _CLAIMABLE not in appended and time.monotonic() < proposals.stale_at:
        proposals.leave_out(map(_unquote, _CLAIMED.findall(appended)))
        candidate = _next_untaken(claimer, now)
        if candidate is not None:
            return candidate
    renew(claimer, now)
    return _next_untaken(claimer, now)


def _unquote(text: bytes) -> str:
    """Decode a JSON string, quickly if it has no escapes. Returns '', at which no job lies, for a malformed one."""
    try:
        return str(json.loads(text)) if b"\\" in text else text[1:-1].decode()
    except ValueError:
        return ""


def _read_journal(claimer: Claimer) -> bytes:
    journal = claimer.jar.journal
    try:
        return journal.read_new()
    except OSError as error:
        raise CannotUseJar(action="use the journal", path=journal.path, reason=error.strerror) from error


def _next_untaken(claimer: Claimer, now: float) -> Candidate | None:
    passed_over = claimer.passed_over

    def may_be_tried(candidate: Candidate) -> bool:
        return (
            claimer.room.fits(candidate.request)
            and candidate.category not in passed_over.categories
            and not claimer.tokens.is_used_up(candidate.category, candidate.batch)
            and not claimer.closed_batches.has(candidate.category, candidate.batch, now)
            and not (passed_over.jobs and _is_passed_over(claimer, candidate.place, candidate.category, now))
            and (claimer.time_left is None or claimer.time_left.has_room_for(candidate))
        )

    return claimer.proposals.next(may_be_tried)


def _is_passed_over(claimer: Claimer, place: str, category: str, now: float) -> bool:
    """Whether it is too early to try a job again. If its file names a batch, it may be tried once that batch is open."""
    if place not in claimer.passed_over.jobs:
        return False
    batch = claimer.passed_over.read_batches.get(place)
    is_closed = claimer.closed_batches.has(category, batch, now)
    return batch is None or is_closed or claimer.tokens.is_used_up(category, batch)


def refresh(claimer: Claimer, now: float) -> None:
    """`renew`, if that is due soon and the lock is free. For use while a job runs."""
    if time.monotonic() >= claimer.proposals.stale_at - _max_age_s(claimer) / 2:
        with contextlib.suppress(LedgerError, CannotUseJar, OSError):
            claimer.jar.journal.read_new()
            renew(claimer, now, patience_s=0)


def fold_others_if_due(jar: Jar, connection: Connection, everything: bool) -> bool:
    """Fold all journals if `everything`, or if this node has not done so for JJ_POLL_TIME; else only this home's. Returns
    whether all were folded. Runs inside the caller's transaction."""
    is_due = everything or others_are_due(jar.ledger_home.polled_file, jar.settings.poll_time_s)
    if is_due:
        fold_journals(connection, jar.layout, opens_all=everything or not jar.ledger_home.has_other_homes)
    else:
        fold_journal(connection, jar.journal.path)
    return is_due


def renew(claimer: Claimer, now: float, everything: bool = False, patience_s: float = LOCK_PATIENCE_S) -> None:
    """Fold the journals and ask the ledger again. Other homes' journals are folded once per JJ_POLL_TIME and node, or if
    `everything`. Raises the errors of `propose`, OSError."""
    jar, proposals, passed_over = claimer.jar, claimer.proposals, claimer.passed_over
    # Twice as many as were tried since the last time. So there are few while submissions keep coming in.
    wanted = min(_MOST, max(_FEWEST, 2 * proposals.tried))
    workers = [claimer.paths.name]
    jar.journal.flush()  # the lock may take long
    with jar.ledger.writing(patience_s) as connection:
        everything = everything or jar.ledger.is_private or jar.journal.changed_lately()
        if fold_others_if_due(jar, connection, everything):
            proposals.others_folded_at = now
        jar.has_due_dependents = has_due(connection)
        _mark_missing(claimer, connection)
        if jar.ledger_home.has_other_homes:
            workers = claimer.claiming_workers.find(connection, now)
            if len(workers) > 1:
                # Other nodes may have claimed the first ones already; their entries are read a moment later.
                wanted = min(_MOST, max(wanted, _FOR_EACH * len(workers)))
        stopping = frozenset(batches_to_stop(connection) if jar.has_due_dependents else ())
        claimer.closed_batches.renew(throttled_batches(connection), aborted_batches(connection) | stopping)
        passed_over.jobs.forget_old()
        passed_over.categories.forget_old()
        candidates: list[Candidate] = []
        for category in claimer.categories:
            if category in passed_over.categories or claimer.tokens.is_used_up(category, None):
                continue
            if len(candidates) < wanted:
                closed = claimer.closed_batches.find(category, now)
                limit = wanted - len(candidates)
                passed = partial(_is_passed_over, claimer, category=category, now=now) if passed_over.jobs else None
                some, is_kept = find_candidates(claimer, connection, category, now, limit, closed, passed)
                candidates += some
                if is_kept:
                    break
    proposals.renew(spread(candidates, workers, claimer.paths.name, now), _max_age_s(claimer))


def _max_age_s(claimer: Claimer) -> float:
    if not claimer.jar.ledger_home.has_other_homes:
        return _MAX_AGE_S
    return max(_MAX_AGE_S, min(claimer.jar.settings.poll_time_s, _MAX_AGE_OVER_NETWORK_S))


def _mark_missing(claimer: Claimer, connection: Connection) -> None:
    """Note in the ledger which candidates were found missing and still are, or are no jobs. Raises CannotUseJar if the
    claimer's own directory is missing: else it would try the waiting jobs for ever."""
    for candidate in claimer.proposals.missing:
        if oddity_in_name(candidate.name) or not is_job_at(claimer.jar.layout.path(candidate.place)):
            mark_missed(connection, candidate.row, candidate.place)
        elif is_gone(claimer.paths.jobs, is_patient=False):
            raise CannotUseJar(action="claim into", path=claimer.paths.jobs, reason="it was moved or removed")
    claimer.proposals.missing.clear()
