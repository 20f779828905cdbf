"""Move one job from the unclaimed jar to a worker.

The steps: take a proposed job (attempts/candidates.py), rename it to the worker, journal `moved`, make the link in claimed/.
The rename is the commit: if two workers try, one gets the job. A kill midway leaves the job unclaimed, or held by a dead
worker; recovery returns it then.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobjar.access.access import may_run
from jobjar.access.refusals import explain_file
from jobjar.attempts.ahead import may_be_taken_ahead
from jobjar.attempts.attempt import DESCRIBED, ClaimedJob, Claimer
from jobjar.attempts.candidates import propose, renew
from jobjar.attempts.claim_undone import (
    NotYet,
    hold,
    is_held_once,
    move_back,
    move_back_if_possible,
    next_move,
    put_off,
    refuse_early,
)
from jobjar.attempts.claimed_file import given_of, identify, read_description_in
from jobjar.attempts.claimed_links import link_in_claimed
from jobjar.attempts.copied_output import MARK, names_its_output
from jobjar.attempts.limits import Token
from jobjar.attempts.passed_over import (
    Refused,
    batch_of,
    forget,
    has_time_for,
    is_hand_made,
    is_refused,
    is_unnamed,
    pass_over,
    why_not_moved,
)
from jobjar.errors import (
    BadAttribute,
    BadScript,
    CannotUseJar,
    JarError,
    LedgerError,
    LedgerUnavailable,
    SecondFile,
)
from jobjar.host import login_of
from jobjar.job_file.attributes import HEADER_BYTES
from jobjar.job_file.given import Given
from jobjar.job_file.names import carried_id, id_in_name, oddity_in_name
from jobjar.job_file.prerequisites import has_words, take_words
from jobjar.journal.entries import About, MoreOfMove, warned_at_claim_entry
from jobjar.journal.read import Entry
from jobjar.layout import held_place, name_in_place
from jobjar.ledger.ask_claiming import Candidate, candidate_at, last_attempt_number
from jobjar.ledger.by_hand import arrival
from jobjar.ledger.driver import Connection
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.renamed import explain_second_file, own_name
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.files import is_directory, is_job_file, look, make_directory, read_file, read_status, rename
from jobjar.shared_disk.moves import move_to_free_name, move_to_own

if TYPE_CHECKING:
    from jobjar.job_file.description import Description

# On a network disk each worker begins with other jobs than its fellows (attempts/spread.py). When few are left, it reaches jobs
# that others took. After this many it renews its proposals at once, without waiting for JJ_POLL_TIME.
_RENEW_AFTER_GONE = 2
# Limits of one call: the jobs it tries, and the time it takes. Between two calls a worker looks at its orders.
_TRIES, _TURN_S = 256, 0.1


def claim_next(claimer: Claimer, now: float, warn: Callable[[str], None]) -> ClaimedJob | None:
    """Claim the next job. Returns None if there is none, or if the search has taken long enough. In the second case
    `claimer.has_more` is true, and the next call goes on.

    `now` is the disk's time. A job with bad attributes goes to limbo, and the next one is tried. A job that this claimer
    cannot have now is passed over for a while.
    Raises LedgerError (nothing is claimed), CannotUseJar if the disk refuses.
    """
    # A file's time may show a move that this ledger does not know. Only another home can have made it; its journal explains it.
    # The same can happen for a moment after a rotation: the processes of this home do not all append to one journal then.
    claimer.has_more = False
    claimer.asked_at = now
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
                if gone % _RENEW_AFTER_GONE == 0:
                    renew(claimer, now, everything=True)
                continue
            if may_be_stale and _may_have_moved(claimer, candidate, moved_at):
                may_be_stale = False
                renew(claimer, now, everything=True)
                continue
        if claimer.is_ahead and not may_be_taken_ahead(claimer, candidate, now):
            claimer.proposals.put_back()  # the next call proposes it again
            return None
        claimed = _claim_within_limits(claimer, candidate, now, warn)
        if claimed is not None:
            claimer.claims += 1
            return claimed
    claimer.has_more = True
    return None


def _claim_within_limits(
    claimer: Claimer, candidate: Candidate, now: float, warn: Callable[[str], None]
) -> ClaimedJob | None:
    """Take the tokens of the job's limits, then `_claim` it. The claimed job holds the tokens; a failed claim gives them back.
    Returns None also if a limit is used up."""
    started = time.monotonic()
    # Two kinds of jobs are looked at before they are moved: hand-made ones, which are read anyway, and those refused before.
    looks_at_file = is_hand_made(candidate) or candidate.place in claimer.refusals
    if (looks_at_file and is_refused(claimer, candidate, warn)) or not has_time_for(claimer, candidate):
        pass_over(claimer, candidate, time.monotonic() - started)
        return None
    batch = batch_of(claimer, candidate) if looks_at_file else candidate.batch
    is_to_wait = batch != candidate.batch and claimer.closed_batches.has(candidate.category, batch, now)
    tokens = None if is_to_wait else claimer.tokens.take(candidate.category, batch)
    if tokens is None:
        if batch != candidate.batch:  # else the ledger knows the batch, and leaves the job out by itself
            pass_over(claimer, candidate, time.monotonic() - started)
        return None
    claimed: ClaimedJob | None = None
    try:
        claim = _claim_unnamed if is_unnamed(candidate) else _claim
        claimed = claim(claimer, candidate, warn, tokens)
    except Refused as refusal:
        if refusal.is_of_category:
            claimer.passed_over.categories.add(candidate.category, time.monotonic() - started)
            claimer.refusals.log_once(f"unclaimed/{candidate.category}", refusal.reason, warn)
        else:
            claimer.refusals.log_once(candidate.place, refusal.reason, warn)
            pass_over(claimer, candidate, time.monotonic() - started)
        return None
    finally:
        if claimed is None:
            claimer.tokens.give_back(tokens)
    if looks_at_file:
        forget(claimer, candidate.place)
    if claimer.refusals and claimed is not None:
        claimer.refusals.end(f"unclaimed/{candidate.category}")
    if claimed is None:
        return None
    return claimed._replace(tokens=tokens, link=link_in_claimed(claimer, claimed.name, claimed.path))


def _moved_at(claimer: Claimer, candidate: Candidate) -> float | None:
    """When a candidate's file was last moved; None if it is gone. A look is cheaper than a move that fails."""
    try:
        return disk_time(os.lstat(claimer.jar.layout.path(candidate.place)))
    except FileNotFoundError:
        claimer.lost_tries += 1
        claimer.proposals.missing.append(candidate)
        return None
    except OSError:
        return candidate.moved_at  # the claim itself reports what is wrong


def _may_have_moved(claimer: Claimer, candidate: Candidate, moved_at: float) -> bool:
    """Whether a candidate's file may have been moved since the last move that this ledger knows. That is certain if its time
    differs. It is possible if its time is a whole second, and others were last folded before that second was over."""
    if moved_at != candidate.moved_at:
        return True
    return moved_at == int(moved_at) and claimer.proposals.others_folded_at < moved_at + 1.0


def _claim_unnamed(
    claimer: Claimer, candidate: Candidate, warn: Callable[[str], None], tokens: tuple[Token, ...]
) -> ClaimedJob | None:
    """`_claim` under the home's lock: no scan here may see the job between its rename and the entry that names it."""
    claimed: ClaimedJob | None = None
    try:
        with claimer.jar.ledger.writing() as connection:
            if carried_id(candidate.name):
                # A scan may have seen it before its `submitted` entry was read, which may say more than the file.
                fold_journals(connection, claimer.jar.layout)
                candidate = candidate_at(connection, candidate.place) or candidate
            if candidate.uid is not None and candidate.move_number > 0:
                # A job that a person renamed gets its own name back with the rename that claims it.
                own = own_name(connection, candidate.uid, candidate.name, candidate.priority)
                candidate = candidate._replace(name=own)
            claimed = _claim(claimer, candidate, warn, tokens, connection)
    except LedgerUnavailable as error:
        if claimed is None:
            raise
        # The job is ours, and its claim is journaled. The ledger will fold the entry later.
        warn(f"{error}")
    return claimed


def _claim(
    claimer: Claimer,
    candidate: Candidate,
    warn: Callable[[str], None],
    tokens: tuple[Token, ...],
    connection: Connection | None = None,
) -> ClaimedJob | None:
    """Try to get one job. Returns None if this worker cannot have it. Raises Refused, CannotUseJar, LedgerUnavailable.

    `tokens` were taken for this job. `connection` is needed for a job without an id.
    """
    source = claimer.jar.layout.path(candidate.place)
    if oddity_in_name(candidate.name):
        claimer.proposals.missing.append(candidate)
        return None
    try:
        name, path = _move_to_worker(claimer, source, candidate)
        status = read_status(path)
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
            # It lost its run bit, or somebody put a link here. It goes back where it was, for people to look at.
            move_back(path, source, candidate)
            claimer.proposals.missing.append(candidate)
            return None
        if not claimer.tokens.still_holds(tokens):
            # The tokens were taken back (their lease was over) before this worker held a job. Nobody has seen this claim yet.
            move_back(path, source, candidate)
            return None
        if not may_run(path, status, claimer.refusals.user):
            # This worker could not run it. Another user's worker may be able to, and the owner can mend it.
            move_back(path, source, candidate)
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
            hold(claimer, candidate, path, str(error))
            return None
        except NotYet as not_yet:
            put_off(claimer, candidate, path, not_yet)
            return None
    except Refused:
        raise
    except BaseException as error:
        # The journal cannot be written, or the ledger is damaged. Give the job back for other workers.
        move_back_if_possible(path, source)
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
            # The name belongs to this job alone, and this worker put no copy there. So nothing can be overwritten.
            rename(source, usual)
            return candidate.name
        return move_to_own(source, directory, candidate.name)

    try:
        name = take()
    except FileNotFoundError:
        # Only this worker moves files there, and it had none of this name. So the rename happened, though it reported an
        # error (FUSE, NFS).
        if is_free and look(usual) is not None and look(source) is None:
            claimer.taken_paths.add(usual)
            return candidate.name, usual
        # If the worker's own directory is gone, it must not claim into a new one that nobody knows.
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
    connection: Connection | None,
    candidate: Candidate,
    name: str,
    path: str,
    status: os.stat_result,
    warn: Callable[[str], None],
) -> ClaimedJob:
    """Journal the claim, and any oddities found in the first lines of the job's file."""
    settings = claimer.jar.settings
    place = held_place(claimer.paths.name, candidate.category, name)
    uid, found, oddities, beginning = identify(connection, candidate, path, status)
    in_file = found or {}
    description: Description | None = None
    if in_file.get("kind", candidate.kind) == DESCRIBED:
        if beginning is None:
            beginning = read_file(path, size=HEADER_BYTES)
        in_file, description, oddities = read_description_in(candidate, beginning, in_file, status)
    is_dependent = _settle_prerequisites(claimer, candidate, found, in_file)
    given = given_of(candidate, in_file) or (Given() if is_dependent else None)
    if given is not None:
        refuse_early(claimer, given, candidate, uid, found, max(claimer.asked_at, disk_time(status)))
    entries, candidate = arrival(candidate, uid, found is not None)
    attempts = candidate.attempts if connection is None else last_attempt_number(connection, uid)
    more: MoreOfMove = {"attempt": attempts + 1}
    if found is not None:
        more["found"] = found
    entry = next_move(claimer, candidate, place, status, "claimed", **more)
    entries.append(entry)
    attempt = attempts + 1
    if oddities:
        about = About(uid, attempt, claimer.paths.name, claimer.worker_id)
        entries.append(warned_at_claim_entry(about, oddities))
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
        submitter=candidate.submitter or login_of(status.st_uid),
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
        pipes_output=bool(status.st_mode & MARK) or (beginning is not None and names_its_output(beginning)),
        description=description,
        given=given,
        share=claimer.room.take(uid, "" if given is None else given.request),
    )


def _settle_prerequisites(claimer: Claimer, candidate: Candidate, found: Entry | None, in_file: Entry) -> bool:
    """Look up what the file of a job that nobody submitted says that it waits for. For any other job this was done before, or
    a person let it go on. Returns whether it waits. Raises BadAttribute, LedgerError."""
    if not in_file and not found:
        return False  # most jobs
    words: dict[str, Any] = {}
    for said in (in_file, found or {}):
        if has_words(said.get("given", {})):
            words = take_words(said["given"])
    if words and found is not None and is_held_once(candidate):
        from jobjar.selecting.prerequisite_words import settle_prerequisites

        try:
            settle_prerequisites(claimer.jar, words, in_file.get("batch"), candidate.place, {})
        except LedgerError:
            raise
        except JarError as error:
            raise BadScript(where=candidate.place, reason=str(error)) from error
        found["given"] = in_file["given"] = {**found.get("given", {}), **words}
        return True
    return False


def _first_given(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
