"""Tell of ends (JJ_ON_END): who completes a job tells of it, and who completed the last one of a batch, or of all, of that too.

Of the workers that ended jobs of a batch, the one whose attempt ended last tells of the batch: every ledger says which that is,
so nothing is written for it. Until a batch is over, a worker that ended jobs of it looks from time to time. A kill loses what was
not told yet; nobody else tells of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence

from jobjar.attempts.attempt import AttemptEnd, ClaimedJob
from jobjar.attempts.on_end_variables import ALL, BATCH, facts_of_attempt, facts_of_ended, facts_of_several
from jobjar.errors import LedgerError
from jobjar.jar import Jar
from jobjar.ledger.ask_awaited import ALL as ALL_JOBS, BATCH as BATCH_JOBS, Awaited, count_ended
from jobjar.ledger.ask_last_ends import LastEnd, ended_job, is_all_over, is_batch_over, last_end, last_end_of_batch
from jobjar.processes.command_queue import LIMIT_S, EndCommand

# Looks whether batches are over take at most this share of a worker's time.
_SHARE = 0.05
_NEVER = float("inf")
_RECOVERED_WITHIN_S = 600.0


class OnEnd:
    """Tells of the ends that a worker, or a recovery, brings about, by the command of JJ_ON_END. `by` is its name; `worker_id` is
    the worker's id, or ''."""

    def __init__(self, jar: Jar, by: str, worker_id: str, log: Callable[[str], None]) -> None:
        self._jar = jar
        self._by = by
        self._worker_id = worker_id
        self._command = EndCommand(jar.settings.on_end, jar.layout, log)
        # The jobs that this completed in the place of their workers.
        self._recovered: set[str] = set()
        self._batches: set[str] = set()
        # Since when (the disk's time) jobs have ended that `all` is about; None if none has.
        self._all_since: float | None = None
        self._next_look = _NEVER

    def note(self, job: ClaimedJob, end: AttemptEnd) -> None:
        """Note that this worker completed a job."""
        self._tell(facts_of_attempt(job, end))
        self._await_rest(job.batch, job.claimed_at)

    def note_recovered(self, uids: Iterable[str]) -> None:
        """Note that a recovery completed jobs. The ledger has to have that. Raises LedgerError."""
        for uid in uids:
            with self._jar.ledger.errors_named():
                ended = ended_job(self._jar.ledger.connection, uid)
            if ended is not None:
                self._recovered.add(uid)
                self._tell(facts_of_ended(ended))
                self._await_rest(ended.batch, ended.ended_at)

    def _await_rest(self, batch: str | None, since: float) -> None:
        if batch is not None:
            self._batches.add(batch)
        self._all_since = since if self._all_since is None else min(self._all_since, since)
        if self._next_look == _NEVER:
            self._next_look = 0.0

    def turn(self) -> None:
        """Go on, without waiting. Costs almost nothing if there is nothing to tell."""
        self._command.turn()
        if time.monotonic() >= self._next_look:
            self._look()

    def look_now(self) -> None:
        """`turn` for a worker that has folded, and is about to sleep. Ends of the command wake it."""
        if self._next_look != _NEVER:
            self._look()
        self._command.turn()

    def wait_for_room(self, may_wait: Callable[[], bool]) -> None:
        """Wait while too many ends are to be told, as long as `may_wait()`."""
        while self._command.is_full and may_wait():
            self._command.turn()
            time.sleep(0.01)

    def finish(self, within_s: float = LIMIT_S) -> None:
        """Tell what is left to be told, in so many seconds."""
        if self._next_look != _NEVER:
            self._jar.mirror()
            self._look()
        self._command.finish(within_s)

    def _look(self) -> None:
        """Tell of the batches, and of all jobs, if they are over and this completed the last one."""
        began = time.monotonic()
        ledger = self._jar.ledger
        with contextlib.suppress(LedgerError), ledger.errors_named():  # the next look may be possible
            connection = ledger.connection
            for batch in sorted(self._batches):
                if is_batch_over(connection, batch):
                    self._batches.discard(batch)
                    if self._is_own(last_end_of_batch(connection, batch)):
                        ended = count_ended(connection, Awaited(BATCH_JOBS, batch))
                        self._tell(facts_of_several(BATCH, batch, ended.jobs, len(ended.unsuccessful)))
            if self._all_since is not None and is_all_over(connection):
                since, self._all_since = self._all_since, None
                if self._is_own(last_end(connection)):
                    ended = count_ended(connection, Awaited(ALL_JOBS, None, since))
                    self._tell(facts_of_several(ALL, "", ended.jobs, len(ended.unsuccessful)))
        now = time.monotonic()
        is_left = self._batches or self._all_since is not None
        poll_time_s = self._jar.settings.poll_time_s
        self._next_look = now + max(poll_time_s, (now - began) / _SHARE) if is_left else _NEVER

    def _is_own(self, last: LastEnd | None) -> bool:
        return last is not None and (last.worker_uid == self._worker_id or last.job_uid in self._recovered)

    def _tell(self, facts: dict[str, str]) -> None:
        self._command.tell(facts["JJ_MESSAGE"], {**facts, "JJ_WORKER": self._by})


def tell_recovered(jar: Jar, uids: Sequence[str], by: str, log: Callable[[str], None]) -> None:
    """Tell of the jobs that a recovery of this process completed, and wait until that is done: for ten minutes at most. Raises
    LedgerError."""
    if uids and jar.settings.on_end:
        on_end = OnEnd(jar, by, "", log)
        on_end.note_recovered(uids)
        on_end.finish(_RECOVERED_WITHIN_S)
