"""Find and claim a worker's next job: by its ledger, by a private one while that cannot be used, by a look at the directories.

Writes the ledger; stages/claim.py moves the job. Killed anywhere, the job is unclaimed or held, as that says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from jobjar.arrivals import Arrivals
from jobjar.attempt import ClaimedJob, Claimer
from jobjar.errors import LedgerBusy, LedgerUnavailable
from jobjar.jar import check_path_is_safe
from jobjar.jobname import node_name
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.queries import next_due
from jobjar.ledger.rebuild import fill_ledger
from jobjar.ledger.reconcile import scan_category
from jobjar.ledger.store import FROM_JOURNALS, Ledger
from jobjar.stages.claim import claim_next

# Scanning directories for hand-made submissions takes at most this share of a worker's time.
_SCAN_SHARE = 0.05
_PRIVATE_LEDGER_FOR_S = 30.0


def asked_categories(named: tuple[str, ...] | list[str], is_storage: bool = False) -> tuple[str, ...]:
    """The categories that a worker asks, in order: its node's, those named, the uncategorized jobs (guide); of a storage
    worker those named alone."""
    if is_storage:
        return tuple(dict.fromkeys(named))
    return tuple(dict.fromkeys((node_name(), *named, "")))


class NextJob:
    """What a worker asks for jobs. `disk_now` tells the disk's time."""

    def __init__(
        self, claimer: Claimer, arrivals: Arrivals, disk_now: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        self._claimer = claimer
        self._jar = claimer.jar
        self._arrivals = arrivals
        self._disk_now = disk_now
        self._say = say
        self._next_scan = 0.0
        self._home_ledger_at = 0.0

    def claim(self) -> ClaimedJob | None:
        """The next job; looks through the directories where the ledger knows none, and now and then anyway. Raises
        CannotUseJar, UnsafeJar, LedgerBusy, LedgerUnavailable, OSError."""
        self._use_home_ledger_again()
        try:
            return self._claim_with_repair()
        except (LedgerBusy, LedgerUnavailable) as error:
            was_private = self._jar.ledger.is_private
            if was_private and self._jar.ledger.source == FROM_JOURNALS:
                raise
            self._say(f"{error}. Going on with a private ledger")
            self._jar.use_private_ledger(from_copy=not was_private)
            self._home_ledger_at = time.monotonic() + _PRIVATE_LEDGER_FOR_S
            return self._claim_or_scan()

    def _use_home_ledger_again(self) -> None:
        if self._jar.ledger.is_private and time.monotonic() >= self._home_ledger_at:
            self._home_ledger_at = time.monotonic() + _PRIVATE_LEDGER_FOR_S
            ledger = Ledger(self._jar.layout, self._jar.ledger_home, self._say)
            try:
                ledger.open(patience_s=0.1)
            except (LedgerBusy, LedgerUnavailable):
                ledger.close()
                return
            self._jar.replace_ledger(ledger)
            self._say("the ledger can be used again")

    def _claim_with_repair(self) -> ClaimedJob | None:
        return self._jar.ledger.repaired(self._claim_or_scan, fill_ledger, self._say)

    def _claim_or_scan(self) -> ClaimedJob | None:
        if time.monotonic() >= self._next_scan:
            self._scan()
        job = claim_next(self._claimer, self._disk_now(), self._say)
        if job is None:
            # Whatever the scan itself found: it also folds, and a submission may have come with that.
            self._scan()
            job = claim_next(self._claimer, self._disk_now(), self._say)
        return job

    def _scan(self) -> None:
        """Take hand-made submissions into the ledger."""
        started = time.monotonic()
        self._arrivals.begin_scan()
        self._jar.journal.flush()
        with self._jar.ledger.writing() as connection:
            fold_journals(connection, self._jar.layout)
            for category in self._claimer.categories:
                check_path_is_safe(self._jar.layout.jar_directory(category))
                scan_category(connection, self._jar.layout, category)
        duration_s = time.monotonic() - started
        self._next_scan = time.monotonic() + max(self._jar.settings.poll_time_s, duration_s / _SCAN_SHARE)

    def keep_up(self) -> None:
        """Fold what others did meanwhile, so that the end of a pause finds little to do."""
        jar = self._claimer.jar
        with contextlib.suppress(LedgerBusy, LedgerUnavailable), jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)

    def until_due_s(self) -> float:
        """How long it is until a delayed job may be claimed."""
        with contextlib.suppress(LedgerBusy, LedgerUnavailable, OSError), self._jar.ledger.writing() as connection:
            due = next_due(connection, self._claimer.categories, self._disk_now())
            if due is not None:
                return max(0.0, due - self._disk_now())
        return float("inf")
