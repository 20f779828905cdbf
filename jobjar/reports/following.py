"""Follow what jobs write while they run, on this node or another, until they have ended.

Brings the ledger up to date and reads it, and output files; writes nothing else. A job is followed through all of its attempts.
A file on a network disk is opened anew for each look, since only that shows what another node wrote. A directory's entry tells
that a job has moved on, so the ledger is asked when a job's file has left its place, and else as often as a node looks at others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from jobjar.attempts.attempt import PUBLISHED
from jobjar.errors import JarError, NoOutput
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.ledger.ask_awaited import id_of_place
from jobjar.ledger.ask_jobs import files_of_attempt, find_jobs, list_attempts
from jobjar.ledger.fold import OUTCOME_COMES_WITHIN_S
from jobjar.ledger.models import Attempt, JobReport
from jobjar.reports.jobs import choose_attempt, describe_job, output_path
from jobjar.reports.output import OpenOutput, check_tail
from jobjar.reports.sentences import format_end
from jobjar.reports.wait import refresh_patiently
from jobjar.shared_disk.files import look

# Pauses between looks at files: they double while nothing comes.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
# After so long a job that stands still gets another line, if the cause is another one.
_CAUSES_PAUSE_S = 5.0
_OVER = ("completed", "removed")


class Followed:
    """A job whose output is followed. `say` gets lines for people: why it has not begun, how its attempts and it ended.

    With `number` or `worker`, only attempts that they fit are followed, until the first of them has ended. `tail` lines
    of what is there already are read; None: all. `is_over`: the job has ended, and all that it wrote was read.
    `is_whole`: nothing was missing of that.
    """

    def __init__(
        self,
        jar: Jar,
        job: JobReport,
        log: Callable[[str], None] = lambda line: None,
        number: int | None = None,
        worker: str | None = None,
        tail: int | None = None,
    ) -> None:
        check_tail(tail)
        self._jar, self._job, self._log = jar, job, log
        self._number, self._worker, self._tail = number, worker, tail
        self.name = identifier_in_name(job.name, job.submitter) or job.uid or job.name
        self.is_over, self.is_whole = False, True
        self._attempt: Attempt | None = None
        # Attempts that were chosen, or came before the one that was.
        self._seen: set[tuple[int, str]] = set()
        self._offset = 0
        self._has_read = False
        self._unexplained_since: float | None = None
        self._causes, self._causes_at = "", 0.0
        self._logged: set[str] = set()

    def take_look(self) -> Iterator[bytes]:
        """Take in what the ledger, which was just brought up to date, says of the job, and read what there is to read."""
        job = self._find()
        attempts = list_attempts(self._jar.ledger, job.uid) if job.uid else []
        if self._attempt is None:
            self._begin_with_best(job, attempts)
        while self._attempt is not None:
            attempt = next((each for each in attempts if _key(each) == _key(self._attempt)), self._attempt)
            self._attempt = attempt
            has_ended = attempt.ended_at is not None
            yield from self.read(is_last=has_ended)
            if has_ended and self._is_one_meant():
                self._log(f"attempt {attempt.number}: {_describe_end(attempt)}")
                self.is_over = True
                return
            later = next((each for each in attempts if _key(each) not in self._seen and self._fits(each)), None)
            if has_ended and not attempt.is_final and (later is not None or job.state not in _OVER):
                goes_on = "its outputs are to be stored" if attempt.outcome == PUBLISHED else "it is to be run again"
                self._log_once(f"attempt {attempt.number} on {attempt.worker}: {_describe_end(attempt)}; {goes_on}")
            if later is None:
                break
            self._begin(later)
        self._tail = None  # what comes from now on was not there
        self._end_or_explain(job)

    def read(self, is_last: bool = False) -> Iterator[bytes]:
        """What the attempt has written since the last time. `is_last`: it has ended, so what cannot be read now never can be."""
        attempt = self._attempt
        if attempt is None:
            return
        try:
            path = output_path(self._jar, attempt, files_of_attempt(self._jar.ledger, attempt))
            if path is None:
                return
            with contextlib.closing(OpenOutput(self._jar, path)) as output:
                size = output.size()
                if not self._has_read and self._tail is not None:
                    self._offset = output.find_tail(self._tail)
                elif size < self._offset:  # the job emptied it
                    self._offset = 0
                self._has_read = True
                for piece in output.read_from(self._offset):
                    self._offset += len(piece)
                    yield piece
        except (JarError, OSError) as error:
            # It may not be there yet, or its directory was just set aside, or a server was away.
            if is_last:
                self._log_once(f"attempt {attempt.number}: what it wrote cannot be read: {error}")
                self.is_whole = False

    def has_moved(self) -> bool:
        """Whether the job's file has left the place that the ledger has for it."""
        try:
            return look(self._jar.layout.path(self._job.place)) is None
        except OSError:
            return False

    def _begin_with_best(self, job: JobReport, attempts: list[Attempt]) -> None:
        try:
            best = choose_attempt(job, attempts, self._number, self._worker)
        except NoOutput:
            return  # it has not begun
        self._seen |= {_key(attempt) for attempt in attempts[: attempts.index(best)]}
        self._begin(best)

    def _begin(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._seen.add(_key(attempt))
        self._offset, self._has_read = 0, False

    def _fits(self, attempt: Attempt) -> bool:
        return self._number in (None, attempt.number) and self._worker in (None, attempt.worker)

    def _is_one_meant(self) -> bool:
        return self._number is not None or self._worker is not None

    def _find(self) -> JobReport:
        """The job as the ledger has it now. One that was put there by hand has an id from its claim on."""
        job, ledger = self._job, self._jar.ledger
        uid = job.uid or (id_of_place(ledger.connection, job.place) if self.has_moved() else None)
        found = find_jobs(ledger, uid or job.place)
        if len(found) == 1:
            self._job = found[0]
        return self._job

    def _end_or_explain(self, job: JobReport) -> None:
        is_gone = job.uid is None and self.has_moved()
        if job.state in _OVER or is_gone:
            # A file shows at once. Its entry shows with the next look or, from another node, some seconds later.
            now = time.monotonic()
            self._unexplained_since = self._unexplained_since or now
            is_explained = job.state == "completed" and job.outcome is not None
            if is_explained or now - self._unexplained_since > OUTCOME_COMES_WITHIN_S:
                self._end(job)
            return
        self._unexplained_since = None
        if time.monotonic() >= self._causes_at:
            self._causes_at = time.monotonic() + _CAUSES_PAUSE_S
            self._explain(job)

    def _end(self, job: JobReport) -> None:
        self.is_over = True
        if self._attempt is None:
            self.is_whole = False
        if job.state == "completed":
            how = format_end(job.outcome, job.exit_status, job.signal)
            never = f", and has no attempt {self._number}" if self._is_one_meant() else ", without having run"
            self._log(how if self._attempt is not None else how + never)
        else:
            self._log("removed: its file was taken away")
            self.is_whole = False

    def _explain(self, job: JobReport) -> None:
        """Say why it does not run, if that was not said last."""
        causes = "; ".join(describe_job(self._jar, job)["waits_because"] or [])
        is_running = job.state == "claimed"
        text = causes if is_running or self._seen else f"has not begun{': ' if causes else ''}{causes}"
        if text and text != self._causes:
            self._log(text)
        self._causes = text

    def _log_once(self, line: str) -> None:
        if line not in self._logged:
            self._logged.add(line)
            self._log(line)


def follow(jar: Jar, followed: Sequence[Followed]) -> Iterator[tuple[Followed, bytes]]:
    """What these jobs write, in pieces as they come, until all of them have ended. Raises LedgerError, OSError."""
    pause_s, look_at = _SHORTEST_PAUSE_S, 0.0
    longest_s = min(_LONGEST_PAUSE_S, jar.settings.poll_time_s)
    while True:
        under_way = [one for one in followed if not one.is_over]
        began = time.monotonic()
        is_time = began >= look_at
        if is_time:
            refresh_patiently(jar)
        came = False
        for one in under_way:
            for piece in one.take_look() if is_time else one.read():
                came = True
                yield one, piece
        if all(one.is_over for one in followed):
            return
        pause_s = _SHORTEST_PAUSE_S if came else min(2 * pause_s, longest_s)
        if is_time:
            took_s = time.monotonic() - began
            look_at = began + max(jar.settings.poll_time_s, 5 * took_s)
            soonest_at = began + took_s + max(_SHORTEST_PAUSE_S, took_s)
        time.sleep(pause_s)
        if any(one.has_moved() for one in under_way):
            look_at = min(look_at, soonest_at)


def _key(attempt: Attempt) -> tuple[int, str]:
    return attempt.number, attempt.worker_uid


def _describe_end(attempt: Attempt) -> str:
    return format_end(attempt.outcome, attempt.exit_status, attempt.signal)
