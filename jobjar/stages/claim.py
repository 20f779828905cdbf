"""Move one job from the unclaimed jar to a worker.

Take what is proposed (attempts/candidates.py), rename it to the worker (the commit: of two that try, one gets it), journal
`moved`, make the link in claimed/. Killed midway the job is still unclaimed, or held by a dead worker, whose jobs recovery
returns.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobjar.access.access import may_run, name_of
from jobjar.access.refusals import explain_file
from jobjar.attempts.ahead import may_be_taken_ahead
from jobjar.attempts.attempt import DESCRIBED, ClaimedJob, Claimer
from jobjar.attempts.candidates import propose, renew
from jobjar.attempts.claimed_file import found_when_held, identify, read_description_in
from jobjar.attempts.claimed_links import link_in_claimed
from jobjar.attempts.copied_output import MARK, names_its_output
from jobjar.attempts.limits import Token
from jobjar.attempts.oddities import oddities_entry
from jobjar.attempts.passed_over import (
    Refused,
    batch_of,
    forget,
    is_hand_made,
    is_refused,
    is_unnamed,
    pass_over,
    why_not_moved,
)
from jobjar.attempts.throttle import is_closed
from jobjar.errors import BadAttribute, CannotUseJar, LedgerUnavailable, SecondFile
from jobjar.job_file.attributes import HEADER_BYTES
from jobjar.job_file.names import carried_id, id_in_name, new_id, oddity_in_name
from jobjar.journal.append import moved_entry
from jobjar.journal.read import Entry
from jobjar.layout import held_place, name_in_place
from jobjar.ledger.ask_claiming import Candidate, candidate_at, last_attempt_number
from jobjar.ledger.by_hand import arrival_entry
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.renamed import explain_second_file, own_name
from jobjar.shared_disk.files import disk_time, is_directory, is_job_file, look, make_directory, read_file, rename
from jobjar.shared_disk.moves import move, move_to_free_name, move_to_own
from jobjar.shared_disk.patience import patiently

if TYPE_CHECKING:
    from jobjar.job_file.description import Description

# On a network disk, where a worker comes to jobs that are other workers' first (attempts/spread.py) when there are few left:
# after so many that were gone, what the others did is looked at before JJ_POLL_TIME is over.
_GONE_IN_A_ROW = 2
# What one call tries, at most, and how long it goes on: between two of them a worker looks at its orders.
_TRIES, _TURN_S = 256, 0.1


def claim_next(claimer: Claimer, now: float, warn: Callable[[str], None]) -> ClaimedJob | None:
    """Claim the next job, or None where there is none, or where looking for it has taken long enough: `proposals.has_more`
    tells so, and the next call goes on.

    `now` is the disk's time. A job that cannot be run because of its attributes goes to limbo, and the next is tried; one that
    this claimer cannot have now is passed over for a while.
    Raises LedgerBusy, LedgerCorrupt, LedgerUnavailable (nothing is claimed), CannotUseJar where the disk refuses.
    """
    # Only another home can have moved a job that is here again: what the file's time shows its journal explains.
    # And for a moment after a rotation, while not all processes of this home append to the same journal.
    proposals = claimer.proposals
    proposals.has_more = False
    gone, until = 0, time.monotonic() + _TURN_S
    looks_first, may_be_stale = claimer.jar.ledger_home.has_other_homes or claimer.jar.journal.changed_lately(), True
    for tries in range(_TRIES):
        if tries and time.monotonic() > until:
            break
        candidate = propose(claimer, now)
        if candidate is None:
            return None
        if looks_first:
            moved_at = _moved_at(claimer, candidate)
            if moved_at is None:
                gone += 1
                if gone % _GONE_IN_A_ROW == 0:
                    renew(claimer, now, everything=True)
                continue
            if may_be_stale and _may_have_moved(claimer, candidate, moved_at):
                may_be_stale = False
                renew(claimer, now, everything=True)
                continue
        if claimer.is_ahead and not may_be_taken_ahead(claimer, candidate, now):
            proposals.tried -= 1  # it is the next, for whoever can run it
            return None
        claimed = _claim_within_limits(claimer, candidate, now, warn)
        if claimed is not None:
            claimer.claims += 1
            return claimed
    proposals.has_more = True
    return None


def _claim_within_limits(
    claimer: Claimer, candidate: Candidate, now: float, warn: Callable[[str], None]
) -> ClaimedJob | None:
    """`_claim`, with the tokens of its limits taken before and given back if it comes to nothing; None also where one is
    used up. The claimed job holds them."""
    started = time.monotonic()
    # Only a hand-made one, which is read anyway, and one that was refused before are looked at before they are moved.
    is_told_by_file = is_hand_made(candidate) or candidate.place in claimer.refusals
    if is_told_by_file and is_refused(claimer, candidate, warn):
        pass_over(claimer, candidate, time.monotonic() - started)
        return None
    batch = batch_of(claimer, candidate) if is_told_by_file else candidate.batch
    is_to_wait = batch != candidate.batch and is_closed(claimer, candidate.category, batch, now)
    tokens = None if is_to_wait else claimer.tokens.take(candidate.category, batch)
    if tokens is None:
        if batch != candidate.batch:  # else the ledger, which knows the batch, leaves it out
            pass_over(claimer, candidate, time.monotonic() - started)
        return None
    claimed: ClaimedJob | None = None
    try:
        claim = _claim_unnamed if is_unnamed(candidate) else _claim
        claimed = claim(claimer, candidate, warn, tokens)
    except Refused as refusal:
        if refusal.is_of_category:
            claimer.proposals.closed_categories.add(candidate.category, time.monotonic() - started)
            claimer.refusals.tell(f"unclaimed/{candidate.category}", refusal.reason, warn)
        else:
            claimer.refusals.tell(candidate.place, refusal.reason, warn)
            pass_over(claimer, candidate, time.monotonic() - started)
        return None
    finally:
        if claimed is None:
            claimer.tokens.give_back(tokens)
    if is_told_by_file:
        forget(claimer, candidate.place)
    if claimer.refusals and claimed is not None:
        claimer.refusals.end(f"unclaimed/{candidate.category}")
    if claimed is None:
        return None
    return claimed._replace(tokens=tokens, link=link_in_claimed(claimer, claimed.name, claimed.path))


def _moved_at(claimer: Claimer, candidate: Candidate) -> float | None:
    """When a candidate's file was last moved; None where it is gone, which one look tells cheaper than a move that fails."""
    try:
        return disk_time(os.lstat(claimer.jar.layout.path(candidate.place)))
    except FileNotFoundError:
        claimer.lost_tries += 1
        claimer.proposals.missing.append(candidate)
        return None
    except OSError:
        return candidate.moved_at  # the claim itself tells what is wrong


def _may_have_moved(claimer: Claimer, candidate: Candidate, moved_at: float) -> bool:
    """Whether a candidate's file was, or on a disk whose times are whole seconds may have been, moved since the last move of
    it that this ledger knows."""
    if moved_at != candidate.moved_at:
        return True
    return moved_at == int(moved_at) and claimer.proposals.others_folded_at < moved_at + 1.0


def _claim_unnamed(
    claimer: Claimer, candidate: Candidate, warn: Callable[[str], None], tokens: tuple[Token, ...]
) -> ClaimedJob | None:
    """`_claim` under the home's lock, so that no scan here sees the job between its rename and the entry that names it."""
    claimed: ClaimedJob | None = None
    try:
        with claimer.jar.ledger.writing() as connection:
            if carried_id(candidate.name):
                # Seen before its submission was read, perhaps: that may say more than the file does.
                fold_journals(connection, claimer.jar.layout)
                candidate = candidate_at(connection, candidate.place) or candidate
            if candidate.uid is not None and candidate.move_number > 0:
                # One that a hand renamed gets its own name back with the rename that claims it.
                own = own_name(connection, candidate.uid, candidate.name, candidate.priority)
                candidate = candidate._replace(name=own)
            claimed = _claim(claimer, candidate, warn, tokens, connection)
    except LedgerUnavailable as error:
        if claimed is None:
            raise
        # The job is ours, and its claim is journaled: what the ledger could not take it will fold later.
        warn(f"{error}")
    return claimed


def _claim(
    claimer: Claimer,
    candidate: Candidate,
    warn: Callable[[str], None],
    tokens: tuple[Token, ...],
    connection: Any = None,
) -> ClaimedJob | None:
    """Try to get one job; None where it is not to be had (any more). Raises CannotUseJar, LedgerUnavailable.

    `tokens` are what was taken for it. `connection` is needed for a job without an id.
    """
    source = claimer.jar.layout.path(candidate.place)
    if oddity_in_name(candidate.name):
        claimer.proposals.missing.append(candidate)
        return None
    try:
        name, path = _move_to_worker(claimer, source, candidate)
        status = patiently(lambda: os.lstat(path), path)
    except FileNotFoundError:
        claimer.lost_tries += 1
        claimer.proposals.missing.append(candidate)
        return None
    except PermissionError as error:
        raise why_not_moved(claimer, candidate, source, error) from error
    except OSError as error:
        raise CannotUseJar(action="claim", path=source, reason=error.strerror) from error
    try:
        if not is_job_file(status):
            # Its run bit went, or somebody put a link here: back where it was, for people to look at.
            move_to_free_name(path, os.path.dirname(source), candidate.name)
            claimer.proposals.missing.append(candidate)
            return None
        if not claimer.tokens.still_holds(tokens):
            # Its lease was over before this worker held a job: nobody has seen this one yet.
            move_to_free_name(path, os.path.dirname(source), candidate.name)
            return None
        if not may_run(path, status, claimer.refusals.user):
            # Its worker could not run it. Another user's can, perhaps, and its owner can mend that.
            move_to_free_name(path, os.path.dirname(source), candidate.name)
            raise Refused(explain_file(status, claimer.refusals.user.name))
        try:
            if connection is not None:
                in_place = name_in_place(candidate.place)
                second = explain_second_file(connection, candidate.uid, in_place)
                if second is not None:
                    raise SecondFile(reason=second)
            return _record_claim(claimer, connection, candidate, name, path, status, warn)
        except (BadAttribute, SecondFile) as error:
            warn(f"{candidate.place} is held in limbo: {error}")
            _hold(claimer, candidate, path, str(error))
            return None
    except Refused:
        raise
    except BaseException as error:
        # The journal cannot be written, or the ledger is damaged: give the job back, for whoever can.
        with contextlib.suppress(OSError):  # then it stays here, and the worker gives it back before it claims another
            move(path, source)
        if isinstance(error, PermissionError) and error.filename == path:
            raise Refused(explain_file(status, claimer.refusals.user.name)) from error
        if isinstance(error, OSError):
            raise CannotUseJar(action="record the claim of", path=source, reason=error.strerror) from error
        raise


def _move_to_worker(claimer: Claimer, source: str, candidate: Candidate) -> tuple[str, str]:
    """COMMIT: from here the job is this worker's. Returns its file's name and path."""
    directory = f"{claimer.paths.jobs}/{candidate.category}" if candidate.category else claimer.paths.jobs

    usual = f"{directory}/{candidate.name}"
    is_free = usual not in claimer.taken_paths

    def take() -> str:
        if not claimer.jar.ledger_home.has_other_homes:
            return move_to_free_name(source, directory, candidate.name)
        if is_free and id_in_name(candidate.name):
            # No other job has that name, and this worker did not put a copy of it there: there is nothing to overwrite.
            rename(source, usual)
            return candidate.name
        return move_to_own(source, directory, candidate.name)

    try:
        name = take()
    except FileNotFoundError:
        # Only this worker moves anything there, and had nothing there: a rename that failed has happened (FUSE, NFS).
        if is_free and look(usual) is not None and look(source) is None:
            claimer.taken_paths.add(usual)
            return candidate.name, usual
        # A worker whose own directory is gone must not claim into one that nobody knows.
        if not candidate.category or is_directory(directory) or look(source) is None:
            raise
        with contextlib.suppress(FileExistsError):
            make_directory(directory)
        name = take()
    path = f"{directory}/{name}"
    claimer.taken_paths.add(path)
    return name, path


def _record_claim(
    claimer: Claimer,
    connection: Any,
    candidate: Candidate,
    name: str,
    path: str,
    status: os.stat_result,
    warn: Callable[[str], None],
) -> ClaimedJob:
    """Journal the claim, and what is odd in the first lines of a file that nobody submitted."""
    settings = claimer.jar.settings
    place = held_place(claimer.paths.name, candidate.category, name)
    uid, found, oddities, beginning = identify(connection, candidate, path, status)
    in_file = found or {}
    description: Description | None = None
    if in_file.get("kind", candidate.kind) == DESCRIBED:
        if beginning is None:
            beginning = read_file(path, size=HEADER_BYTES)
        in_file, description, oddities = read_description_in(candidate, beginning, in_file)
    entries, candidate = _arrival(candidate, uid, found is not None)
    entry = _moved_entry(claimer, candidate, uid, place, status, "claimed")
    attempts = candidate.attempts if connection is None else last_attempt_number(connection, uid)
    attempt = entry["attempt"] = attempts + 1
    if found is not None:
        entry["found"] = found
    entries.append(entry)
    if oddities:
        entries.append(oddities_entry(claimer, uid, attempt, oddities))
        for text in oddities:
            warn(f"{candidate.place}: {text}")
    claimer.jar.journal.append(entries)
    return ClaimedJob(
        uid=uid,
        name=name,
        path=path,
        place=place,
        category=candidate.category,
        priority=candidate.priority,
        submitter=candidate.submitter or name_of(status.st_uid),
        attempt=attempt,
        move_number=entry["number"],
        retries=_first_given(in_file.get("retries"), candidate.retries, settings.retries),
        retry_delay_s=_first_given(in_file.get("retry_delay_s"), candidate.retry_delay_s, settings.retry_delay_s),
        time_limit_s=_first_given(in_file.get("time_limit_s"), candidate.time_limit_s, settings.time_limit_s),
        link="",
        claimed_at=entry["moved_at"],
        kind=in_file.get("kind", candidate.kind),
        batch=in_file.get("batch", candidate.batch),
        seed=in_file.get("seed", candidate.seed),
        inode=status.st_ino if not claimer.jar.ledger_home.has_other_homes else 0,
        copies_output=bool(status.st_mode & MARK) or (beginning is not None and names_its_output(beginning)),
        description=description,
    )


def _first_given(*values: Any) -> Any:
    for value in values:
        if value is not None:
            return value
    return None


def _moved_entry(
    claimer: Claimer, candidate: Candidate, uid: str, place: str, status: os.stat_result, reason: str
) -> Entry:
    number, moved_at, by = candidate.move_number + 1, disk_time(status), claimer.paths.name
    return moved_entry(uid, number, candidate.place, place, moved_at, reason, by, worker_uid=claimer.worker_id)


def _arrival(candidate: Candidate, uid: str, is_read: bool) -> tuple[list[Entry], Candidate]:
    """What there is to tell of a job before its claim, where a hand submitted it: that this was its first move; and the candidate
    with that move counted. `is_read`: nobody's word on its submission is known."""
    if not is_read or candidate.move_number > 0 or candidate.was_submitted:
        return [], candidate
    return [arrival_entry(uid, candidate.place, candidate.moved_at)], candidate._replace(move_number=1)


def _hold(claimer: Claimer, candidate: Candidate, path: str, reason: str) -> None:
    """Put a job that must not run into limbo, with the reason in the report."""
    name = move_to_free_name(path, claimer.jar.layout.limbo, candidate.name)
    path = f"{claimer.jar.layout.limbo}/{name}"
    status = patiently(lambda: os.lstat(path), path)
    uid = candidate.uid or new_id()
    entries, candidate = _arrival(candidate, uid, True)
    entry = _moved_entry(claimer, candidate, uid, f"limbo/{name}", status, "held")
    entry["held_reason"] = reason
    entry["category"] = candidate.category
    entry["found"] = found_when_held(candidate, status)
    claimer.jar.journal.append([*entries, entry])
