"""The only backward edges of a job's way: take dead workers' jobs back, and put right what a crash left behind.

For each dead worker of this node: end the sessions that it left. Complete the jobs whose outcome is journaled, and those that it
was asked to cancel. Return the others to unclaimed, or complete them as crashed after JJ_CRASH_LIMIT times. Then tidy what else
a crash left (tidy.py), and reconcile the ledger. Each job's step is one rename, journaled before and after. Two recoveries may
run at once. After a kill the next one does the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os

from jobjar.arrays.sharing import entry_of_sharing, settle_shared
from jobjar.attempts.attempt import CHUNK, LOST
from jobjar.attempts.tokens_left import recover_tokens
from jobjar.batches.unfinished import cancel_returned, settle_all
from jobjar.control import withdraw_cancel
from jobjar.grouped import Line
from jobjar.host import login, node_name
from jobjar.jar import Jar
from jobjar.job_file.names import id_in_name, is_same_name
from jobjar.journal.entries import ended_entry
from jobjar.layout import category_of_place, name_in_place, unclaimed_place
from jobjar.ledger.ask_claiming import Candidate, attempt_of_worker, candidate_at, claimed_by, final_attempt
from jobjar.ledger.fold import fold_in_pieces, fold_journal, fold_journals
from jobjar.ledger.pieces import in_pieces
from jobjar.ledger.reconcile_file import apply_difference, compare_file
from jobjar.ledger.reconcile_jar import PIECE, reconcile_in_pieces
from jobjar.liveness import DEAD
from jobjar.meter import SILENT, Meter
from jobjar.packages.build_claim import remove_halves
from jobjar.recovery.cancelling import settle_cancellations
from jobjar.recovery.crashed import judge_stranded
from jobjar.recovery.fileless import as_claimed, end_fileless, output_left, owner_stays
from jobjar.recovery.kept import journal_kept, journal_kept_scratch
from jobjar.recovery.orphans import end_orphans, remove_attempt, tidy_underway
from jobjar.recovery.others_processes import explain_left_running
from jobjar.recovery.tidy import tidy_up
from jobjar.roster import ASIDE, WorkerState, journal_end, list_workers
from jobjar.shared_disk.files import make_directory, remove_file, rename
from jobjar.shared_disk.listing import is_job_at, list_held
from jobjar.shared_disk.moves import move_to_free_name
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.placeholder import is_abandoned, read_placeholder
from jobjar.shared_disk.trees import enter_directory, remove_entry
from jobjar.stages.complete import move_ended_job


class Recovery:
    """What a recovery did, in lines for people. `by` is the worker that recovers, or else this user on this node."""

    def __init__(self, by: str = "") -> None:
        self.by = by or f"{login()}@{node_name()}"
        self.lines: list[str] = []
        # Lines about findings with which nothing was wrong.
        self.notes: list[str] = []
        self.returned = 0
        # The ids of the jobs that it completed.
        self.completed_jobs: list[str] = []

    @property
    def completed(self) -> int:
        return len(self.completed_jobs)

    def log(self, line: str) -> None:
        self.lines.append(line)


def recover_node(jar: Jar, meter: Meter = SILENT) -> Recovery:
    """Recover all that dead workers of this node, and workers that were given up, left. Reconcile the ledger with the
    directories. This goes in pieces, so that no process waits long for the lock.

    Raises LedgerError, CannotUseJar; what was done until then stays done.
    """
    recovery = Recovery()
    meter.begin("folding the journals", "bytes")
    fold_in_pieces(jar.ledger, jar.layout, meter=meter)
    workers = list_workers(jar.layout)
    meter.begin("taking back what dead workers held", "workers", len(workers))
    for worker in meter.counted(workers):
        if worker.is_to_recover:
            recover_worker(jar, worker, recovery)
    recover_tokens(jar, recovery.log)
    settle_all(jar, recovery.log)
    settle_cancellations(jar, recovery.log)
    tidy_up(jar, recovery.log)
    links: list[str] = []
    differences = reconcile_in_pieces(jar.ledger, jar.layout, links=links, meter=meter, open_journal=jar.open_journal)
    for difference in differences:
        line = difference.as_line()
        if difference.is_removal:
            recovery.notes.append(line)
        else:
            recovery.log(Line(f"ledger: {line}", line.kind))
    tidy_underway(jar, recovery.log)  # the ledger knows by now which jobs are completed
    remove_halves(jar.layout.software)
    for some_links in in_pieces(links, PIECE):
        with jar.ledger.writing():
            for path in some_links:
                _free_name(path)
    cancel_returned(jar, recovery.log)
    meter.end()
    return recovery


def _free_name(path: str) -> None:
    """Remove the placeholder of a move during which a process of this node was killed (shared_disk/placeholder.py). Call it
    under the home's lock: of two calls at once, the second could remove a living process's placeholder."""
    with contextlib.suppress(OSError):  # a placeholder that stays only costs a job its name
        placeholder = read_placeholder(path)
        if placeholder is not None and is_abandoned(placeholder):
            remove_file(path)


def recover_worker(jar: Jar, worker: WorkerState, recovery: Recovery) -> bool:
    """Take back the jobs of one dead worker. Returns False if it still holds jobs that another user has to end. If its
    directory was set aside meanwhile, the new directory of its name is not touched."""
    held = []
    sought: set[str] = set()  # the jobs of which no process is left
    with owner_stays(jar, worker) as is_owner:
        if is_owner:
            held = [place for place, _ in list_held(worker.paths)]
    how = "was given up, as gone for good" if worker.is_given_up else "died"
    if not worker.ended:
        # A job may have removed its own file. Its processes have to end all the same.
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            claimed = claimed_by(connection, worker.name)
        there = {id_in_name(name): name for name in map(name_in_place, held)}
        fileless = {
            uid: place
            for uid, place in claimed.items()
            # A chunk may have another range by now, which is not journaled.
            if place not in held and not is_same_name(there.get(uid, ""), name_in_place(place))
        }
        sought = set(claimed)
        end_orphans(jar, worker, sought, recovery.log)
        with jar.ledger.writing() as connection:
            left = explain_left_running(connection, jar.layout, worker, set(fileless))
        for uid, reason in left.items():
            recovery.log(f"{worker.name}: {name_in_place(fileless[uid])} {reason}")
        if left:
            return False
        held += end_fileless(jar, worker, fileless, f"its worker {worker.name} {how}")
    if held:
        jobs = identify_held(jar, held)
        uids = {candidate.uid for candidate in jobs.values() if candidate.uid}
        end_orphans(jar, worker, uids - sought, recovery.log)
        with jar.ledger.writing() as connection:
            left = explain_left_running(connection, jar.layout, worker, uids)
        for place in held:
            why = left.get(jobs[place].uid or "") if place in jobs else None
            if why is not None:
                recovery.log(f"{worker.name}: {name_in_place(place)} stays with it: {why}")
                continue
            recover_job(jar, worker, place, recovery, f"its worker {worker.name} {how}")
        if left:
            return False  # the rest is done once these jobs have ended
    settle_shared(jar, worker.paths, recovery.log)
    for path in (worker.paths.scratch, worker.paths.discarded_links):
        _remove_inner(jar, worker, path, recovery)
    with owner_stays(jar, worker) as is_owner:
        if is_owner:
            remove_file(worker.paths.next_output)
    if not worker.ended:
        _journal_loss(jar, worker, recovery)
        _journal_death(jar, worker, recovery)
    return True


def _remove_inner(jar: Jar, worker: WorkerState, path: str, recovery: Recovery) -> None:
    """Remove the content of a directory of a dead worker. Mount points stay, with the directories that lead to them."""
    descriptor = -1
    with owner_stays(jar, worker) as is_owner:
        if is_owner:
            descriptor = _open_own(worker, path, recovery)
    if descriptor < 0:
        return
    try:
        # Use the open directory: before all is removed, its path may come to lead to a living worker's.
        for name in os.listdir(descriptor):
            kept = remove_entry(descriptor, path, name)
            if kept:
                journal_kept_scratch(jar, worker, name, kept, recovery.log)
    finally:
        os.close(descriptor)


def _open_own(worker: WorkerState, path: str, recovery: Recovery) -> int:
    """Open a directory inside a dead worker's. Returns -1 if it is missing, or if a job mounted another one in its place."""
    directory = worker.paths.path
    try:
        above = patiently(lambda: os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), directory)
    except FileNotFoundError:
        return -1
    try:
        return patiently(lambda: enter_directory(above, os.path.basename(path)), path)
    except FileNotFoundError:
        return -1
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if not worker.ended:  # the recovery that notes the death logs it, later ones do not
            recovery.log(f"{path} stays as it is: something is mounted there")
        return -1
    finally:
        os.close(above)


def set_aside(jar: Jar, worker: WorkerState) -> None:
    """Recover a dead worker's jobs, then move its directory out of the way of a new worker with the same process id. If a job
    stays in the directory, that is not moved."""
    if not recover_worker(jar, worker, Recovery(worker.name)):  # the new worker has this name too
        return
    recover_tokens(jar, jar.log)
    # Under the lock, because every recovery of the dead worker checks before each of its steps whose directory it is.
    with owner_stays(jar, worker) as is_owner, contextlib.suppress(FileNotFoundError):  # it has just been archived
        if is_owner:
            rename(worker.paths.path, f"{worker.paths.path}{ASIDE}{worker.worker_id}")


def identify_held(jar: Jar, places: list[str]) -> dict[str, Candidate]:
    """What the ledger knows of held jobs, by their places. If a claim was not journaled, the job is known by its file's name."""
    found = {}
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        for place in places:
            candidate = candidate_at(connection, place)
            if candidate is None:
                difference = compare_file(connection, jar.layout, place)
                if difference is not None:
                    apply_difference(connection, difference)
                    candidate = candidate_at(connection, place)
            if candidate is not None:
                found[place] = candidate
    return found


def recover_job(jar: Jar, worker: WorkerState, place: str, recovery: Recovery, cause: str) -> None:
    """Complete a held job whose outcome is journaled, or that was cancelled. Return any other job; its attempt is stranded, for
    the reason `cause`."""
    with owner_stays(jar, worker) as is_owner, jar.ledger.writing() as connection:
        if not is_owner:
            return
        candidate = candidate_at(connection, place)
        if candidate is None or candidate.uid is None:
            # No entry names this job, so its return loses nothing that was recorded.
            _return_unnamed(jar, place, recovery)
            return
        uid = candidate.uid
        attempt = attempt_of_worker(connection, uid, worker.worker_id)
        job = as_claimed(jar, candidate, place, attempt)
        entries, verdict = judge_stranded(jar, connection, worker, job, attempt, cause)
        if candidate.kind == CHUNK:
            shared = entry_of_sharing(connection, job)
            if shared is not None:
                entries = [shared, *entries]
                job = job._replace(move_number=shared["number"])
        # What follows depends on these entries, so they have to outlive this node before the file moves.
        jar.journal.append(entries, durable=jar.ledger_home.has_other_homes)
        directory = jar.layout.completed if verdict.final else jar.layout.category_directory(job.category)
        _free_name(f"{directory}/{job.name}")
        try:
            moved = move_ended_job(jar.layout, job, verdict, recovery.by)
        except FileNotFoundError:
            return  # another recovery was quicker
        jar.journal.append([moved])
        fold_journal(connection, jar.journal.path)
    if worker.alive == DEAD:
        kept = remove_attempt(jar.layout, uid, job.attempt, worker.worker_id)
        journal_kept(jar, worker.about(uid, job.attempt), kept, recovery.log)
    if verdict.final:
        with contextlib.suppress(OSError):  # it names an attempt that is over
            withdraw_cancel(jar.layout, worker.paths.name, uid)
        recovery.completed_jobs.append(uid)
        recovery.log(f"{worker.name}: completed {job.name} ({verdict.explanation})")
    else:
        recovery.returned += 1
        recovery.log(f"{worker.name}: returned {job.name} to {moved['to'].rpartition('/')[0]}")


def _return_unnamed(jar: Jar, place: str, recovery: Recovery) -> None:
    category = category_of_place(place) or ""
    directory = jar.layout.category_directory(category)
    with contextlib.suppress(FileExistsError):
        make_directory(directory)
    with contextlib.suppress(FileNotFoundError):  # another recovery was quicker
        move_to_free_name(jar.layout.path(place), directory, name_in_place(place))
        recovery.returned += 1
        recovery.log(f"returned {name_in_place(place)} to {os.path.relpath(directory, jar.layout.home)}")


def _journal_loss(jar: Jar, worker: WorkerState, recovery: Recovery) -> None:
    """Journal `lost` for a dead worker's last job, if it had lost that job's lease. Such a worker was killed after it journaled
    `ended` and before it found the job gone. Nothing is journaled unless the job is known to have gone another way."""
    with owner_stays(jar, worker) as is_owner, jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        final = final_attempt(connection, worker.worker_id) if is_owner else None
        if final is None:
            return
        name = name_in_place(final.place)
        was_moved_on = final.was_moved_on
        if was_moved_on is None:
            # The process that took it back may have been killed before it journaled that move.
            was_moved_on = is_job_at(jar.layout.path(unclaimed_place(category_of_place(final.place) or "", name)))
        if not was_moved_on:
            return
        message = "its worker lost the lease, and died: the job was taken back meanwhile"
        output = output_left(worker.paths, name, final.number)
        about = worker.about(final.uid, final.number)
        entry = ended_entry(about, jar.disk_now(), False, LOST, output_file=output, message=message)
        jar.journal.append([entry], durable=jar.ledger_home.has_other_homes)
        fold_journal(connection, jar.journal.path)
    recovery.log(f"{worker.name}: its attempt of {name} is lost: the job was taken back before it had ended")


def _journal_death(jar: Jar, worker: WorkerState, recovery: Recovery) -> None:
    """Record in the journal and in the worker's directory that it died."""
    with owner_stays(jar, worker) as is_owner:
        if is_owner:
            now = jar.disk_now()
            journal_end(jar, worker, round(now, 6), "died")
            recovery.log(f"{worker.name}: noted that it {'is gone' if worker.is_given_up else 'died'}")
