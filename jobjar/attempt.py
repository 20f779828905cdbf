"""What is known of a job that a worker holds, and of an attempt to run it: what the stages hand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from jobjar.jar import Jar
from jobjar.layout import WorkerPaths
from jobjar.ledger.queries import Candidate
from jobjar.limits import Token
from jobjar.tokens import Tokens
from jobjar.units import LONGEST_S

if TYPE_CHECKING:
    from jobjar.description import Description

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


def retry_pause_s(delay_s: float, failures_before: int) -> float:
    """How long a job waits before it is tried again: its delay, doubled for each failure before."""
    return min(delay_s * 2.0 ** min(failures_before, 64), LONGEST_S)


class Proposals:
    """The next jobs that a claimer may try, as its ledger had them a moment ago (propose.py)."""

    def __init__(self) -> None:
        self.candidates: list[Candidate] = []
        # How many of them were tried; places that the journal says were taken since; jobs that turned out to be missing.
        self.tried = 0
        self.taken: set[str] = set()
        self.missing: list[Candidate] = []
        # Jobs whose files, which alone tell of their batches, say that they have to wait, and until when (monotonic) they
        # are not looked at again.
        self.passed_over: dict[str, float] = {}
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
        # Places of jobs that this user may not move: warned of once, passed over.
        self.not_allowed: set[str] = set()
        # How many links from claimed/ wait in the worker's directory to be removed (stages/complete.py).
        self.spent_links = 0
        # How many claims succeeded, and how many found the job gone: another claimer was quicker.
        self.claims = self.lost_tries = 0
        self.proposals = Proposals()
        self.tokens = Tokens(jar, paths.name, worker_id)


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
    # What limits let it run, held until it has ended here (tokens.py).
    tokens: tuple[Token, ...] = ()
    # What a described job's file says that is to be done, as it is at the beginning of this attempt.
    description: Description | None = None


class AttemptEnd(NamedTuple):
    """How an attempt ended. At most one of `exit_status` and `signal` is not None; `pid` is None where
    no process was started. `retry_after_s`: an interrupted
    attempt's job is not to be claimed again earlier."""

    outcome: str
    exit_status: int | None
    signal: int | None
    wall_time_s: float
    user_cpu_s: float
    system_cpu_s: float
    max_rss_kib: int
    output_file: str | None
    message: str | None
    pid: int | None = None
    pid_started: float | None = None
    retry_after_s: float = 0.0


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

    def meanwhile(self) -> None:
        """Do what need not be done before the job is started; called once, when it was."""
        ...

    def descriptors(self) -> list[int]:
        """File descriptors that become readable when `reason` should be asked."""
        ...

    def reason(self, job: ClaimedJob) -> str | None:
        """INTERRUPTED, KILLED, LOST, or None; asked at least every `interval_s` seconds."""
        ...
