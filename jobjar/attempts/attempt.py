"""What is known of a job that a worker holds, and of an attempt to run it: what the stages hand to each other."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jobjar.access.refusals import Refusals
from jobjar.attempts.limits import Token
from jobjar.attempts.put_off import PutOff, ReadBatches
from jobjar.attempts.tokens import Tokens
from jobjar.jar import Jar
from jobjar.journal.read import Entry
from jobjar.layout import WorkerPaths
from jobjar.ledger.ask_claiming import Candidate

if TYPE_CHECKING:
    from jobjar.job_file.description import Description

# What `kind` says of a job: nothing, or that its file describes what a worker is to do (Jug's cycle).
DESCRIBED = "described"
# Outcomes of a job; an attempt that did not decide its job ended stranded, interrupted or lost.
SUCCEEDED = "succeeded"
FAILED = "failed"
TIMED_OUT = "timed_out"
KILLED = "killed"
CANCELLED = "cancelled"
CRASHED = "crashed"
STRANDED = "stranded"
INTERRUPTED = "interrupted"
LOST = "lost"
# The run of a described job is over; its outputs wait for a storage worker.
PUBLISHED = "published"
OUTCOMES = (SUCCEEDED, FAILED, TIMED_OUT, KILLED, CANCELLED, CRASHED)
# Outcomes after which a job that has retries left is run again.
RETRIED_OUTCOMES = (FAILED, TIMED_OUT)

# An attempt's warnings are numbered from 1 where they are told together; those that come alone have numbers of their own.
_FIRST_LATE_WARNING = 1_000_000


class Proposals:
    """The next jobs that a claimer may try, as its ledger had them a moment ago (candidates.py)."""

    def __init__(self, poll_time_s: float) -> None:
        self.candidates: list[Candidate] = []
        # How many of them were tried; places that the journal says were taken since; jobs that turned out to be missing.
        self.tried = 0
        self.taken: set[str] = set()
        self.missing: list[Candidate] = []
        # Places of jobs that cannot be had now: this user may not, or their files, which alone tell of their batches, name one
        # that has to wait. And those categories whose directories this user may not use.
        self.passed_over: PutOff[str] = PutOff(poll_time_s)
        self.closed_categories: PutOff[str] = PutOff(poll_time_s)
        self.read_batches = ReadBatches()
        # Whether the last claim came to an end before all was tried, so that its worker can look at its orders.
        self.has_more = False
        # When to ask the ledger again, by the monotonic clock.
        self.stale_at = 0.0
        # The disk's time when the other nodes' journals were last folded by this process.
        self.others_folded_at = 0.0
        # Workers that were seen to claim jobs, and when last, by the monotonic clock (spread.py).
        self.claiming_workers: dict[str, float] = {}
        # Batches whose jobs fail fast, and until when (the disk's time) they are not claimed; that may be over (throttle.py).
        self.throttles: dict[str, float] = {}
        # Batches that are aborted: none of their jobs is claimed.
        self.aborted: frozenset[str] = frozenset()


class Claimer:
    """Who claims: a worker's name, id and paths, and the categories that it asks, in order ('' is uncategorized)."""

    def __init__(self, jar: Jar, worker_id: str, paths: WorkerPaths, categories: Sequence[str]) -> None:
        self.jar = jar
        self.worker_id = worker_id
        self.paths = paths
        self.categories = tuple(categories)
        self.refusals = Refusals()
        # Whether what it claims now could not be run at once, because its worker runs another.
        self.is_ahead = False
        # How many links from claimed/ wait in the worker's directory to be removed (stages/complete.py).
        self.spent_links = 0
        # How many claims succeeded, and how many found the job gone: another claimer was quicker.
        self.claims = self.lost_tries = 0
        # Where in its directory it has put the files of jobs; without those that it moved on.
        self.taken_paths: set[str] = set()
        self.proposals = Proposals(jar.settings.poll_time_s)
        self.tokens = Tokens(jar, paths.name, worker_id)
        # Descriptors of the files of jobs, by their ids (own_file.py).
        self.held_files: dict[str, int] = {}


class ClaimedJob(NamedTuple):
    """A job that a worker holds, and the attempt that it is about to make. Times in seconds."""

    uid: str
    name: str
    path: str
    place: str
    category: str
    priority: int
    submitter: str
    attempt: int
    move_number: int
    retries: int
    retry_delay_s: float
    time_limit_s: float
    link: str
    claimed_at: float
    kind: str = ""
    batch: str | None = None
    seed: int | None = None
    # Of its file, where the disk keeps these.
    inode: int = 0
    # Its standard output and error go through a pipe (copied_output.py).
    copies_output: bool = False
    # What limits let it run, held until it has ended here (tokens.py).
    tokens: tuple[Token, ...] = ()
    # What a described job's file says that is to be done, as it is at the beginning of this attempt.
    description: Description | None = None


def attempt_entry(kind: str, uid: str, attempt: int, worker: str, worker_uid: str, **fields: Any) -> Entry:
    """An entry about an attempt."""
    return {"entry": kind, "job": uid, "attempt": attempt, "worker": worker, "worker_uid": worker_uid, **fields}


def late_warning(uid: str, attempt: int, worker: str, worker_uid: str, text: str) -> Entry:
    """The entry of a warning that comes beside the others of its attempt, by whomever: told twice it is one."""
    number = _FIRST_LATE_WARNING + zlib.crc32(text.encode("utf-8", "replace"))
    return attempt_entry("warned", uid, attempt, worker, worker_uid, warnings=[text], first=number)


class AttemptEnd(NamedTuple):
    """How an attempt ended. At most one of `exit_status` and `signal` is not None; `pid` is None where no process was started.
    The CPU times and `max_rss_kib` are None where nothing was started that was measured. `retry_after_s`: an interrupted
    attempt's job is not to be claimed again earlier. `told`: what else is to be journaled of the attempt."""

    outcome: str
    exit_status: int | None
    signal: int | None
    wall_time_s: float
    user_cpu_s: float | None
    system_cpu_s: float | None
    max_rss_kib: int | None
    output_file: str | None
    message: str | None
    pid: int | None = None
    pid_started: float | None = None
    retry_after_s: float = 0.0
    told: tuple[Entry, ...] = ()


def describe_end(end: AttemptEnd) -> str:
    """How an attempt ended, as a line of a log says it."""
    how = f"signal {end.signal}, " if end.signal is not None else f"exit status {end.exit_status}, "
    if end.signal is None and end.exit_status is None:
        how = ""
    text = f"{end.outcome}, {how}{end.wall_time_s:.3f} s"
    return f"{text}, {end.message}" if end.message else text


class Watch(Protocol):
    """What may end an attempt early."""

    interval_s: float

    def between_pieces(self) -> None:
        """Do what need not be done before the job is started; called once, when it was."""
        ...

    def descriptors(self) -> list[int]:
        """File descriptors that become readable when `reason` should be asked."""
        ...

    def is_told_to_end(self) -> bool:
        """Whether the worker itself was told to end: known at once, and for nothing."""
        ...

    def reason(self, job: ClaimedJob) -> str | None:
        """INTERRUPTED, KILLED, LOST, or None; asked at least every `interval_s` seconds."""
        ...
