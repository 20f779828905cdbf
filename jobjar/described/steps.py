"""An attempt of a described job: the kinds of steps that it waits for, and its pending journal entries.

A stage (stage_in.py, run_command.py, poll.py, stage_out.py, store.py) is a generator. It yields what it waits for: the end of a
`Command` or `Program`, the result of a `Work` in another thread, its `Turn`, a `Pause`, or `Listen`. overlap.py waits for several
at once, and sends each its answer. It raises `Cut` in an attempt that is to end early. Writes nothing itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from jobjar.attempts.attempt import INTERRUPTED, AttemptEnd, ClaimedJob, Claimer, about_attempt
from jobjar.attempts.workplace import Workplace
from jobjar.described.command import find_command_lines
from jobjar.job_file.description import Description
from jobjar.journal.entries import ended_phase_entry, phase_entry, warned_entry
from jobjar.journal.read import Entry
from jobjar.packages.install import Package
from jobjar.processes.children import Ended
from jobjar.processes.exit_status import NOT_FOUND_STATUS, NOT_RUNNABLE_STATUS
from jobjar.processes.waits import Listen, Pause
from jobjar.publishing.monitor import Monitor

# Phases of an attempt; STAGE_IN, RUN and STAGE_OUT have slots.
STAGE_IN = "stage_in"
RUN = "run"
POLL = "poll"
STAGE_OUT = "stage_out"
STORE = "store"
# A shell's own exit statuses, in words.
_SHELL_SAYS = {NOT_RUNNABLE_STATUS: " (a command cannot be executed)", NOT_FOUND_STATUS: " (a command was not found)"}
T = TypeVar("T")


class Command(NamedTuple):
    """Run lines of sh in a session of their own, with `words` as $1, $2 …; the answer is an `Ended`. Processes that they leave
    running are ended, unless `may_leave`. `error` is a descriptor for their standard error, if that is not their output's."""

    text: str
    words: tuple[str, ...]
    environment: Mapping[bytes, bytes]
    may_leave: bool = False
    error: int = -1


class Program(NamedTuple):
    """Run what `start` starts in a session of its own; it returns the process id. The answer is an `Ended`."""

    start: Callable[[], int]


class Work(NamedTuple):
    """Call `action` in a thread of its own; the answer is what it returns or raises. It may touch files, but no journal and no
    ledger. When the attempt is to end, work that `is_short` is waited for, other work for JJ_GRACE_TIME only; its calls of
    `Attempt.check` then raise Cut."""

    action: Callable[[], Any]
    is_short: bool = False


class Turn(NamedTuple):
    """Wait for a slot of a stage. The attempt first gives up the slot that it has."""

    slot: str


Wait = Command | Program | Work | Turn | Pause | Listen
Steps = Generator[Wait, Any, T]


class Cut(Exception):
    """The attempt is to end now: `cause` is INTERRUPTED, KILLED, CANCELLED, LOST or TIMED_OUT. No command of it runs any more.
    `ended`: the end of the command that it waited for. `message` says why, where the cause alone does not."""

    def __init__(self, cause: str, ended: Ended | None = None, message: str | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.ended = ended
        self.message = message


class StageFailed(Exception):
    """A stage of an attempt failed. The message may have several lines. `exit_status`, `signal`: the end of the command that
    failed, if one did. `goes_on`: nobody knows whether the job, which runs elsewhere, is finished."""

    def __init__(
        self,
        phase: str,
        message: str,
        exit_status: int | None = None,
        signal: int | None = None,
        goes_on: bool = False,
    ) -> None:
        super().__init__(f"{phase}: {message}")
        self.exit_status = exit_status
        self.signal = signal
        self.goes_on = goes_on


class Attempt:
    """An attempt of a described job: what its stages share. `now` gives the disk's time."""

    def __init__(
        self,
        claimer: Claimer,
        job: ClaimedJob,
        make_environment: Callable[[ClaimedJob, str], dict[bytes, bytes]],
        now: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        assert job.description is not None
        self.jar = claimer.jar
        self.claimer = claimer
        self.job = job
        self.about = about_attempt(claimer, job)
        self.description: Description = job.description
        self.now = now
        self.log = log
        self._make_environment = make_environment
        self.environment: dict[bytes, bytes] = {}
        self.packages: list[Package] = []
        self.workplace: Workplace | None = None
        # Entries not journaled yet, in order. They are journaled with the next entry about the attempt at the latest.
        self.entries: list[Entry] = []
        self._phase: Entry | None = None
        self._warnings: list[str] = []
        # The attempt is to end: its threads stop at their next `check`.
        self.is_cut = False
        # The usage of all its commands: CPU times add up, memory is the largest.
        self.user_cpu_s = self.system_cpu_s = 0.0
        self.max_rss_kib = 0
        # The time of the run, polling included. In an attempt that only stores: the time of storing.
        self.wall_time_s = 0.0
        # When the time limit ends the current step, by the monotonic clock; None without a limit.
        self.deadline: float | None = None
        self.monitor = Monitor(claimer, job)

    def settle(self, workplace: Workplace) -> None:
        """Use this workplace from now on, and make the commands' environment for it."""
        self.workplace = workplace
        given = self._make_environment(self.job, workplace.directory)
        said = {name.encode(): value.encode() for name, value in self.description.environment}
        # The description cannot change the worker's own JJ_ variables.
        fixed = {name: value for name, value in given.items() if name.startswith(b"JJ_")}
        self.environment = {**given, **said, **fixed, **_own_variables(self.job, self.description)}

    @property
    def directory(self) -> str:
        assert self.workplace is not None
        return self.workplace.directory

    def begin(self, phase: str) -> None:
        self._phase = phase_entry(self.about, phase, self.now())
        self.entries.append(self._phase)

    def end(self, exit_status: int | None = None, message: str | None = None) -> None:
        """End the phase that is under way, if one is."""
        if self._phase is None:
            return
        ended = ended_phase_entry(self._phase, self.now(), exit_status, message)
        # A beginning that is not journaled yet is dropped, because the end's entry holds it too.
        self.entries = [entry for entry in self.entries if entry is not self._phase]
        self.entries.append(ended)
        self._phase = None

    @contextlib.contextmanager
    def limited(self, used_s: float = 0.0) -> Iterator[None]:
        """Apply the job's time limit, less `used_s`, to the steps within: then the attempt is cut."""
        if self.job.time_limit_s:
            self.deadline = time.monotonic() + self.job.time_limit_s - used_s
        try:
            yield
        finally:
            self.deadline = None

    def check(self) -> None:
        """Raise Cut where the attempt is to end. For threads that work for it."""
        if self.is_cut:
            raise Cut(INTERRUPTED)

    @property
    def phase(self) -> str | None:
        """The phase that is under way."""
        return None if self._phase is None else self._phase["phase"]

    def warn(self, warnings: list[str]) -> None:
        """Add warnings to the one `warned` entry that the attempt gets at its end."""
        self._warnings += [text for text in warnings if text not in self._warnings]

    def log_warning(self, text: str) -> None:
        """Log a warning, and `warn` of it."""
        self.log(text)
        self.warn([text])

    def last_entries(self) -> list[Entry]:
        """Take the entries to be journaled with the attempt's end."""
        entries, self.entries = self.entries + self.monitor.take_entries(), []
        if self._warnings:
            entries.append(warned_entry(self.about, self._warnings))
        return entries

    def text_of(self, kind: str) -> str | None:
        """The lines of sh for one of the job's commands (`run_command` …); None where it has none."""
        return find_command_lines(kind, self.description, self.packages, self.environment)

    def call(self, text: str, phase: str, may_leave: bool = False) -> Steps[Ended]:
        """Run one of the job's commands to its end, with any exit status."""
        environment = {**self.environment, b"JJ_PHASE": phase.encode()}
        try:
            ended: Ended = yield Command(text, (self.directory,), environment, may_leave)
        except Cut as cut:
            if cut.ended is not None:
                self.count(cut.ended)
            raise
        self.count(ended)
        return ended

    def count(self, ended: Ended) -> None:
        """Add what a command used to the attempt's usage."""
        self.user_cpu_s += ended.user_cpu_s
        self.system_cpu_s += ended.system_cpu_s
        self.max_rss_kib = max(self.max_rss_kib, ended.max_rss_kib)

    def make_end(
        self,
        outcome: str,
        exit_status: int | None = None,
        signal: int | None = None,
        message: str | None = None,
    ) -> AttemptEnd:
        """Make the attempt's end, with what its commands used; usage is None where it started none."""
        has_usage = self.max_rss_kib > 0
        return AttemptEnd(
            outcome=outcome,
            exit_status=exit_status,
            signal=signal,
            wall_time_s=round(self.wall_time_s, 6),
            user_cpu_s=round(self.user_cpu_s, 6) if has_usage else None,
            system_cpu_s=round(self.system_cpu_s, 6) if has_usage else None,
            max_rss_kib=self.max_rss_kib if has_usage else None,
            message=message,
        )

    def call_or_fail(self, text: str, phase: str) -> Steps[Ended]:
        """Run one of the job's commands. Raises StageFailed where its exit status is not 0."""
        ended = yield from self.call(text, phase)
        if ended.exit_status != 0:
            raise StageFailed(phase, describe_ended(ended), ended.exit_status, ended.signal)
        return ended


def describe_ended(ended: Ended) -> str:
    if ended.signal is not None:
        return f"signal {ended.signal}"
    return f"exit status {ended.exit_status}{_SHELL_SAYS.get(ended.exit_status or 0, '')}"


def _own_variables(job: ClaimedJob, description: Description) -> dict[bytes, bytes]:
    own = {"JJ_BATCH": description.batch or "", "JJ_SEED": "" if description.seed is None else str(description.seed)}
    if description.seed is not None:
        own["JUG_SEED"] = str(description.seed)
    return {name.encode(): value.encode() for name, value in own.items()}
