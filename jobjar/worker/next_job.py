"""Find and claim a worker's next job: by the ledger, by a private ledger while that cannot be used, or by a scan.

Writes the ledger; stages/claim.py moves the job. A kill at any point leaves the job unclaimed, or held by a dead worker, as
stages/claim.py says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from jobjar.access.refusals import explain_directory
from jobjar.access.safe_jar import check_path_is_safe
from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.errors import CannotUseJar, LedgerError
from jobjar.host import node_name
from jobjar.ledger.ask_claiming import next_due
from jobjar.ledger.driver import Connection
from jobjar.ledger.due import has_due
from jobjar.ledger.fold import fold_journals, others_are_due
from jobjar.ledger.rebuild import fill_ledger
from jobjar.ledger.reconcile_file import scan_category
from jobjar.ledger.store import FROM_JOURNALS, Ledger
from jobjar.shared_disk.files import look
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.patience import patience
from jobjar.stages.claim import claim_next
from jobjar.steering.dependents import Settled, settle_dependents
from jobjar.worker.arrivals import Arrivals

# Scans of the directories for hand-made submissions take at most this share of a worker's time.
_SCAN_SHARE = 0.05
_PRIVATE_LEDGER_FOR_S = 30.0
# How long one scan looks at new files. Meanwhile the ledger's lock is held, and orders wait.
_SCAN_S = 0.2
# For a worker whose directories on a network disk are empty: after so many pauses it lists them all, whatever their times say;
# and it folds other nodes' journals this often.
_QUIET_PAUSES = 30
_KEEP_UP_S = 300.0


class ClaimGivenUp(Exception):
    """The worker was told to end during a long search for a job."""


def asked_categories(named: tuple[str, ...] | list[str], is_storage: bool = False) -> tuple[str, ...]:
    """The categories that a worker asks, in order: its node's, those named, the uncategorized jobs (guide). A storage worker
    asks only those named."""
    if is_storage:
        return tuple(dict.fromkeys(named))
    return tuple(dict.fromkeys((node_name(), *named, "")))


class NextJob:
    """Finds and claims a worker's jobs. `disk_now` returns the disk's time."""

    def __init__(
        self,
        claimer: Claimer,
        arrivals: Arrivals,
        disk_now: Callable[[], float],
        log: Callable[[str], None],
        is_to_end: Callable[[], bool],
    ) -> None:
        self._claimer = claimer
        self._jar = claimer.jar
        self._arrivals = arrivals
        self._disk_now = disk_now
        self._log = log
        self._next_scan = 0.0
        self._settle_at = 0.0
        self._home_ledger_at = 0.0
        self._is_to_end = is_to_end
        self._is_claiming = False
        self._scan_took_s = 0.0
        self._has_more_to_scan = False
        self._had_job = False
        self._is_quiet = False

    @property
    def _opens_all(self) -> bool:
        return not self._jar.ledger_home.has_other_homes or self._jar.ledger.is_private

    @property
    def has_more(self) -> bool:
        """Whether the last claim found nothing and stopped before it had tried all jobs."""
        return self._claimer.has_more or self._has_more_to_scan

    def claim(self) -> ClaimedJob | None:
        """Claim the next job. Scans the directories if the ledger knows of none, and from time to time anyway. Raises
        CannotUseJar, UnsafeJar, LedgerError, OSError, ClaimGivenUp."""
        self._is_claiming = True
        try:
            job = self._claim()
        finally:
            self._is_claiming = False
        if job is not None or self._had_job:
            self._arrivals.backoff.reset()
        self._had_job = job is not None
        return job

    def between_pieces(self) -> None:
        """Called between the pieces of long work, such as folding much. Raises ClaimGivenUp if the worker is told to end and
        only seeks a job: another process folds the rest. The end of a job is never given up, because it has to be written."""
        patience.beat()
        if self._is_claiming and self._is_to_end():
            raise ClaimGivenUp

    def _claim(self) -> ClaimedJob | None:
        self._use_home_ledger_again()
        try:
            return self._claim_with_repair()
        except LedgerError as error:
            was_private = self._jar.ledger.is_private
            if was_private and self._jar.ledger.source == FROM_JOURNALS:
                raise
            self._log(f"{error}. Going on with a private ledger")
            self._jar.use_private_ledger(from_copy=not was_private)
            self._home_ledger_at = time.monotonic() + _PRIVATE_LEDGER_FOR_S
            return self._claim_or_scan()

    def _use_home_ledger_again(self) -> None:
        if self._jar.ledger.is_private and time.monotonic() >= self._home_ledger_at:
            self._home_ledger_at = time.monotonic() + _PRIVATE_LEDGER_FOR_S
            ledger = Ledger(self._jar.layout, self._jar.ledger_home, self._log)
            try:
                ledger.open(patience_s=0.1)
            except LedgerError:
                ledger.close()
                return
            self._jar.replace_ledger(ledger)
            self._log("the ledger can be used again")

    def _claim_with_repair(self) -> ClaimedJob | None:
        return self._jar.ledger.repaired(self._claim_or_scan, fill_ledger, self._log)

    def _claim_or_scan(self) -> ClaimedJob | None:
        has_scanned = time.monotonic() >= self._next_scan
        if has_scanned:
            self._scan()
        job = claim_next(self._claimer, self._disk_now(), self._log)
        if self._jar.has_due_dependents and self.settle_dependents() and job is None:
            job = claim_next(self._claimer, self._disk_now(), self._log)
        if has_scanned and self._jar.ledger_home.has_other_homes:
            return job  # the directories' times show later arrivals, and each further scan costs the file server
        if job is None and not self.has_more and not self._claimer.is_ahead:
            # Try again even if the scan found no file: it also folds, and that may have brought a submission.
            self._scan()
            job = claim_next(self._claimer, self._disk_now(), self._log)
        return job

    def settle_dependents(self) -> bool:
        """Let due dependents go on, or cancel them. Returns whether some may be claimed now. What a disk refuses is logged once,
        and tried again after JJ_POLL_TIME. The rest of a batch that failed is looked at again then, too."""
        if time.monotonic() < self._settle_at:
            return False
        self._jar.has_due_dependents = False
        try:
            settled = settle_dependents(self._jar, self._claimer.paths.name, patience.beat)
        except (LedgerError, CannotUseJar, OSError) as error:
            settled = Settled(0, 0, [str(error)])
        if settled.refused or settled.is_stopping:
            self._settle_at = time.monotonic() + self._jar.settings.poll_time_s
            self._jar.has_due_dependents = True
        if settled.refused:
            self._claimer.refusals.log_once("limbo/", f"dependents stay there: {settled.refused[0]}", self._log)
        return settled.released > 0

    def _scan(self) -> None:
        """Enter hand-made submissions into the ledger."""
        started = time.monotonic()
        self._arrivals.begin_scan()
        self._jar.journal.flush()
        self._has_more_to_scan = False
        with self._jar.ledger.writing() as connection:
            # If a scan then finds a file that the ledger does not know, all journals are opened.
            fold_journals(connection, self._jar.layout, opens_all=self._opens_all)
            for category in self._claimer.categories:
                check_path_is_safe(self._jar.layout.category_directory(category))
                self._has_more_to_scan |= self._scan_category(connection, category)
        self._scan_took_s = time.monotonic() - started
        self._next_scan = time.monotonic() + max(self._jar.settings.poll_time_s, self._scan_took_s / _SCAN_SHARE)
        if self._has_more_to_scan:
            self._next_scan = 0.0

    def _scan_category(self, connection: Connection, category: str) -> bool:
        """Scan one category; returns whether there is more to enter. A directory that this user may not list is logged once.
        Jobs that programs submitted there are known without a scan."""
        place, refusals = f"unclaimed/{category}/", self._claimer.refusals
        try:
            has_more = scan_category(connection, self._jar.layout, category, _SCAN_S, self._jar.open_journal)
        except PermissionError:
            status = look(self._jar.layout.category_directory(category))
            if not category or status is None:
                raise
            refusals.log_once(place, explain_directory(status, refusals.user.name), self._log)
            return False
        refusals.end(place)
        return has_more

    def keep_up(self, interval_s: float = 0.0) -> None:
        """Fold the journals, so that little is left to do when a pause ends. On a network disk this is done only if no process
        of this node has done it for `interval_s` seconds."""
        jar = self._claimer.jar
        if jar.ledger_home.has_other_homes and not others_are_due(jar.ledger_home.polled_file, interval_s):
            return
        with contextlib.suppress(LedgerError), jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout, opens_all=self._opens_all)
            jar.has_due_dependents = has_due(connection)

    def sleep_s(self, pause_s: float) -> float:
        """How long a worker without a job sleeps: `pause_s` seconds, but not past the time when a job may be claimed. On a
        network disk it sleeps many times as long if its directories are empty: their times then show every arrival."""
        due_s = self.until_due_s()
        self._is_quiet = (
            due_s == float("inf")
            and not self._jar.ledger.is_private
            and self._arrivals.is_settled()
            and not any(self._has_files(category) for category in self._claimer.categories)
        )
        return pause_s * _QUIET_PAUSES if self._is_quiet else min(pause_s, due_s)

    def _has_files(self, category: str) -> bool:
        directory = self._jar.layout.category_directory(category)
        return any(
            not entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False)
            for entry in list_directory(directory)
        )

    def may_go_on(self) -> bool:
        """Whether a sleeping worker may get a job now that it could not have before. Raises OSError."""
        if self._is_quiet:
            self.keep_up(_KEEP_UP_S)
        may_settle = self._jar.has_due_dependents and time.monotonic() >= self._settle_at
        if self._is_quiet:
            return may_settle
        return may_settle or self._claimer.tokens.may_go_on()

    def until_due_s(self) -> float:
        """Seconds until a delayed job may be claimed, or until a job that was passed over may be tried again."""
        passed_over = self._claimer.passed_over.jobs
        look_again_s = max(passed_over.next_end_s(), self._scan_took_s / _SCAN_SHARE) if passed_over else float("inf")
        with contextlib.suppress(LedgerError, OSError), self._jar.ledger.writing() as connection:
            due = next_due(connection, self._claimer.categories, self._disk_now())
            if due is not None:
                return min(look_again_s, max(0.0, due - self._disk_now()))
        return look_again_s
