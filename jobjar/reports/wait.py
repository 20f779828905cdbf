"""Wait until jobs have ended, and report how: single jobs, batches, categories, patterns of names, or all.

Brings the ledger up to date at each look and reads it; moves dependents that are due, and nothing else. Single jobs are followed
by their ids. Batches, categories, patterns and `all` are asked again at each look, so jobs submitted meanwhile are waited for
too. Their outcomes are counted once, at the end.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobjar.attempts.attempt import OUTCOMES, SUCCEEDED
from jobjar.errors import JarError, TimedOut
from jobjar.grouped import name_some
from jobjar.jar import Jar
from jobjar.job_file.names import unnumbered_name
from jobjar.journal.submitted import is_held_by_person
from jobjar.layout import name_in_place, worker_of_place
from jobjar.ledger import ask_awaited
from jobjar.ledger.ask_awaited import ALL, BATCH, CATEGORY, OpenJob
from jobjar.ledger.ask_claiming import candidate_at
from jobjar.ledger.ask_jobs import find_jobs
from jobjar.ledger.ask_near import categories_of_jobs
from jobjar.ledger.due import has_due
from jobjar.ledger.fold import OUTCOME_COMES_WITHIN_S
from jobjar.processes.wake import DirectoryWatch, wait_readable
from jobjar.reports.jobs import explain_waiting
from jobjar.reports.progress import OnProgress, Progress
from jobjar.reports.refresh import refresh_ledger
from jobjar.reports.targets import Target, is_category
from jobjar.selecting.unknown import suggest
from jobjar.shared_disk.files import look
from jobjar.shared_disk.listing import list_directory, list_held
from jobjar.shared_disk.patience import patiently
from jobjar.steering.dependents import settle_dependents

# These count as unsuccessful, though they are no outcomes.
HELD, REMOVED, UNKNOWN = "held", "removed", "unknown"
# Explain standing jobs after so long; then after pauses that double each time, up to the longest pause.
_FIRST_CAUSES_S = 5.0
# Jobs are counted so often for those who want to know how far a wait is.
_COUNT_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 600.0
_MOST_CAUSES = 20
_MOST_EXPLAINED = 1000
_SHOWN = 5
_WORDS = {UNKNOWN: "ended, and nothing tells how"}


class Tally(NamedTuple):
    """How many jobs there are, how many are still open, and the outcome of each unsuccessful job by its id (or `held`,
    `removed`, `unknown`)."""

    jobs: int
    open: int
    unsuccessful: dict[str, str]

    @property
    def is_success(self) -> bool:
        return not self.unsuccessful and not self.open


class Wait:
    """A wait for `target`. `log` gets a line at once for each held job, and later the reasons why jobs stand still.

    `on_progress` is told how far it is, about once a second. With `fails_fast` it is over with the first job that did not
    succeed. Another thread may end it: `is_over` is asked at each look."""

    def __init__(
        self,
        jar: Jar,
        target: Target,
        log: Callable[[str], None] = lambda line: None,
        on_progress: OnProgress | None = None,
        fails_fast: bool = False,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._jar = jar
        self._on_progress = on_progress
        self._fails_fast = fails_fast
        self._is_over = is_over
        self._counts_at = 0.0
        self._running_single = 0
        self._log = log
        self._selections = target.selections
        # Single jobs that have not ended, and the outcomes of those that have.
        self._single = set(target.jobs)
        self._single_ended: dict[str, str] = {}
        # All jobs that have not ended; and ended jobs of kinds that no count of outcomes includes.
        self._wanted = set(target.jobs)
        self._vanished: dict[str, str] = {}
        self._held: set[str] = set()
        self._held_logged: set[str] = set()
        self._open: dict[str, OpenJob] = {}
        # When (monotonic) a job was first seen removed, or completed without a known outcome.
        self._unexplained: dict[str, float] = {}

    def run(self, timeout_s: float | None = None) -> Tally:
        """Wait until every job has ended or is held, or with `fails_fast` until one has failed; returns the tally. Raises
        TimedOut."""
        started = time.monotonic()
        deadline = None if timeout_s is None else started + timeout_s
        causes_at, pause_s = started + _FIRST_CAUSES_S, _FIRST_CAUSES_S
        unknown_until: float | None = None
        watch, is_watched = DirectoryWatch(), False
        try:
            while True:
                look_began = time.monotonic()
                settle_due(self._jar)
                self._look()
                now = time.monotonic()
                if not self._wanted - self._held and not self._count_missing():
                    tally = self.tally()
                    # Another node's entry may arrive some seconds after the file that it is about.
                    unknown_until = unknown_until or now + OUTCOME_COMES_WITHIN_S
                    if UNKNOWN not in tally.unsuccessful.values() or now >= unknown_until:
                        return tally
                failed = self._show_progress(now)
                if failed is not None:
                    return failed
                poll_time_s = self._jar.settings.poll_time_s
                left_s = poll_time_s if deadline is None else min(poll_time_s, deadline - now)
                if self._is_over():
                    return self.tally()
                if left_s <= 0:
                    self._log_causes()
                    tally = self.tally()
                    raise TimedOut(what=f"the end of {tally.open} of {tally.jobs} jobs", timeout_s=timeout_s)
                if now >= causes_at:
                    self._log_causes()
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    causes_at = now + pause_s
                if not is_watched:
                    # Costs the kernel some time for each file there that it knows. What ended meanwhile shows in one more look.
                    watch.watch([self._jar.layout.completed])
                    is_watched = True
                    refresh_patiently(self._jar)
                    continue
                wait_readable(watch.descriptors(), left_s)
                watch.drain()
                # If looks take long, do not look each time a job ends.
                time.sleep(min(now - look_began, left_s))
                refresh_patiently(self._jar)
        finally:
            watch.close()

    def tally(self) -> Tally:
        """The tally so far."""
        succeeded = sum(outcome == SUCCEEDED for outcome in self._single_ended.values())
        unsuccessful = {key: outcome for key, outcome in self._single_ended.items() if outcome != SUCCEEDED}
        unsuccessful.update({**self._vanished, **dict.fromkeys(self._held, HELD)})
        for selection in self._selections:
            ended = ask_awaited.count_ended(self._jar.ledger.connection, selection)
            succeeded += ended.jobs - len(ended.unsuccessful)
            unsuccessful.update(ended.unsuccessful)
        still_open = len(self._wanted - self._held) + self._count_missing()
        return Tally(succeeded + len(unsuccessful) + still_open, still_open, unsuccessful)

    def _show_progress(self, now: float) -> Tally | None:
        """Show how far it is, if that is wanted and was not shown for a second; returns the tally if the wait is over for a
        failure."""
        if now < self._counts_at or (self._on_progress is None and not self._fails_fast):
            return None
        tally = self.tally()
        # What a day of a million jobs came to takes its time to count.
        self._counts_at = now + max(_COUNT_PAUSE_S, 10 * (time.monotonic() - now))
        if self._on_progress is not None:
            running = self._running_single + sum(job.state == "claimed" for job in self._open.values())
            ended = tally.jobs - tally.open
            self._on_progress(Progress(tally.jobs, ended, len(tally.unsuccessful), running))
        # A held job has not failed; of one of unknown end more may be known soon.
        failures = [outcome for outcome in tally.unsuccessful.values() if outcome not in (HELD, UNKNOWN)]
        return tally if self._fails_fast and failures else None

    def outcomes(self) -> dict[str, str | None]:
        """The outcome of each job by its id; None if it is held, was removed, or has no known outcome."""
        outcomes = {**self._single_ended, **self._vanished}
        for selection in self._selections:
            outcomes.update(ask_awaited.list_outcomes(self._jar.ledger.connection, selection))
        outcomes.update(dict.fromkeys(self._held, HELD))
        return {key: outcome if outcome in OUTCOMES else None for key, outcome in outcomes.items()}

    def unseen(self) -> list[str]:
        """Sentences about jobs and places that the wait ignored."""
        lines = []
        for selection in self._selections:
            if selection.kind not in (ALL, CATEGORY):
                continue
            connection = self._jar.ledger.connection
            before = ask_awaited.count_ended_before(connection, selection)
            if before:
                since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(selection.since))
                lines.append(f"not looked at: {_count(before)} that ended before {since} (--since says another time)")
            in_limbo = ask_awaited.count_in_limbo(connection, selection)
            if in_limbo:
                lines.append(f"not looked at: {_count(in_limbo)} in limbo, where no worker looks")
            word = selection.word
            is_known = before or in_limbo or not word or is_category(self._jar, word)
            if not is_known and not ask_awaited.count_ended(connection, selection).jobs:
                near = suggest(word or "", categories_of_jobs(self._jar.ledger))
                lines.append(f"there is no category {word}: no unclaimed/{word}, and no job of it{near}")
        return lines

    def _count_missing(self) -> int:
        """How many jobs of the batches are submitted but not in the jar yet."""
        batches = [selection.word or "" for selection in self._selections if selection.kind == BATCH]
        return sum(ask_awaited.count_missing(self._jar.ledger.connection, batch) for batch in batches)

    # Looking

    def _look(self) -> None:
        """Find out which jobs are open now, which have ended since the last look, and which are held."""
        connection = self._jar.ledger.connection
        self._open = {
            job.key: job for selection in self._selections for job in ask_awaited.open_jobs(connection, selection)
        }
        held = {uid for selection in self._selections for uid in ask_awaited.held_among(connection, selection)}
        self._wanted |= self._open.keys() | held
        self._held = held
        for key in self._open.keys() & self._vanished.keys():
            del self._vanished[key]
        self._take_ended(self._wanted - self._open.keys() - held)
        self._log_held()

    def _take_ended(self, keys: set[str]) -> None:
        """Take those of `keys` that have ended out of the wanted ones. A job's place becomes its id once it is claimed."""
        jar = self._jar
        gone = [key for key in keys if "/" in key and look(jar.layout.path(key)) is None]
        # A claim first renames the file, then journals an entry. So before the entry arrives, look for the file among the
        # workers' jobs. Read the journals after that: they then have the entry of a job that has left the worker again.
        in_hands = _held_without_id(jar) if gone else set()
        if gone:
            refresh_patiently(jar)
        for key in gone:
            if unnumbered_name(name_in_place(key)) in in_hands or look(jar.layout.path(key)) is not None:
                continue
            uid = ask_awaited.id_of_place(jar.ledger.connection, key)
            if uid is None:
                self._end(key, REMOVED)
                continue
            self._wanted.discard(key)
            self._wanted.add(uid)
            keys.add(uid)
            if key in self._single:
                self._single.remove(key)
                self._single.add(uid)
        found = ask_awaited.job_outcomes(jar.ledger.connection, sorted(key for key in keys if "/" not in key))
        self._running_single = sum(state == "claimed" for state, _ in found.values())
        for uid, (state, outcome) in found.items():
            if state == "held":
                self._held.add(uid)
            if state not in ("completed", "removed"):
                self._unexplained.pop(uid, None)
                continue
            # A file shows at once. Its entry shows with the next look or, from another node, some seconds later.
            since = self._unexplained.setdefault(uid, time.monotonic())
            if state == "completed" and outcome is not None:
                self._end(uid, outcome)
            elif time.monotonic() - since > OUTCOME_COMES_WITHIN_S:
                self._end(uid, REMOVED if state == "removed" else UNKNOWN)

    def _end(self, key: str, outcome: str) -> None:
        self._wanted.discard(key)
        self._unexplained.pop(key, None)
        if key in self._single:
            self._single_ended[key] = outcome
        elif outcome in (REMOVED, UNKNOWN):
            self._vanished[key] = outcome

    # Reporting

    def _log_held(self) -> None:
        new = sorted(self._held - self._held_logged)
        self._held_logged = set(self._held)
        layout = self._jar.layout
        for uid, (name, place, reason) in ask_awaited.held_reasons(self._jar.ledger.connection, new[:_SHOWN]).items():
            what = "" if is_held_by_person(reason) else f"correct {layout.path(place)}, then "
            self._log(f"{uid} ({name}) is held in limbo: {reason}; {what}`jobjar release {uid}` lets it go on")
        if len(new) > _SHOWN:
            self._log(f"{len(new) - _SHOWN} more are held in limbo (`system_status` shows them)")

    def _log_causes(self) -> None:
        """Log why jobs stand still, a line for each cause; nothing if none does."""
        jar = self._jar
        rest = sorted(self._wanted - self._held - self._open.keys())[:_MOST_EXPLAINED]
        still = [*self._open.values(), *ask_awaited.find_open(jar.ledger.connection, rest)]
        # Jobs that agree in these values share a cause.
        alike: dict[tuple[object, ...], list[OpenJob]] = {}
        for job in still:
            worker = worker_of_place(job.place) if job.state == "claimed" else None
            alike.setdefault((job.state, job.category, job.batch, job.not_before > time.time(), worker), []).append(job)
        causes: dict[str, list[str]] = {}
        for jobs in list(alike.values())[:_MOST_CAUSES]:
            for described in find_jobs(jar.ledger, jobs[0].key)[:1]:
                why = explain_waiting(jar, described)
                if why:
                    causes.setdefault("; ".join(why), []).extend(job.key for job in jobs)
        for cause, keys in causes.items():
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            self._log(f"{os.path.basename(keys[0])}{more}: {cause}")
        missing = self._count_missing()
        if missing:
            self._log(
                f"{_count(missing)} were submitted, and are not in the jar yet (`recover_jobs` goes on with that)"
            )


def refresh_patiently(jar: Jar) -> None:
    """`refresh_ledger` for a caller with time: if a disk refuses for longer than a flicker, it tries again."""
    patiently(lambda: refresh_ledger(jar), jar.layout.home)


def settle_due(jar: Jar) -> None:
    """Let dependents go on that are due, if this user may: it may be that no worker is there to do it."""
    if not jar.ledger.is_private and has_due(jar.ledger.connection):
        with contextlib.suppress(JarError, OSError):  # somebody else can
            settle_dependents(jar)


def _held_without_id(jar: Jar) -> set[str]:
    """The names of files that workers hold but whose claim the ledger does not know yet."""
    names = set()
    for worker in list_directory(jar.layout.workers):
        for place, entry in list_held(jar.layout.worker(worker.name)):
            known = candidate_at(jar.ledger.connection, place)
            if known is None or known.uid is None:
                names.add(unnumbered_name(entry.name))
    return names


def format_tally(tally: Tally, batches: Sequence[str] = ()) -> str:
    """A verdict in one line: `3 of 20 failed: <ids>`, and what to type next. `batches` are the batches that were waited for."""
    if not tally.jobs:
        return "there was no job to wait for"
    if not tally.unsuccessful:
        return f"{tally.jobs - tally.open} of {tally.jobs} succeeded"
    by_outcome: dict[str, list[str]] = {}
    for key, outcome in tally.unsuccessful.items():
        by_outcome.setdefault(outcome, []).append(key)
    order = (*OUTCOMES, HELD, REMOVED, UNKNOWN)
    parts: list[str] = []
    for outcome in sorted(by_outcome, key=lambda name: order.index(name) if name in order else len(order)):
        keys = sorted(by_outcome[outcome])
        of_all = f" of {tally.jobs}" if not parts else ""
        words = _WORDS.get(outcome, outcome.replace("_", " "))
        parts.append(f"{len(keys)}{of_all} {words}: {name_some([os.path.basename(key) for key in keys], _SHOWN)}")
    return f"{'; '.join(parts)} ({_advise(by_outcome, batches)})"


def _advise(by_outcome: dict[str, list[str]], batches: Sequence[str]) -> str:
    """The command to type next."""
    ended = [key for outcome, keys in by_outcome.items() if outcome not in (HELD, REMOVED) for key in sorted(keys)]
    if ended and len(batches) == 1:
        return f"`batch_status {batches[0]}` says why, `abort_batch --restart {batches[0]}` submits what failed again"
    first = ended or [key for keys in by_outcome.values() for key in keys]
    return f"`jobjar show {os.path.basename(first[0])}` says why"


def _count(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"
