"""The values that the stages hand to each other: a worker as claimer, a job that it holds, and the end of an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from jobjar.access.refusals import Refusals
from jobjar.attempts.capacity import Offer, Room, Share
from jobjar.attempts.closed_batches import ClosedBatches
from jobjar.attempts.limits import Token
from jobjar.attempts.proposals import Proposals
from jobjar.attempts.put_off import PassedOver
from jobjar.attempts.spread import ClaimingWorkers
from jobjar.attempts.tokens import Tokens
from jobjar.attempts.waiting import Waiting
from jobjar.jar import Jar
from jobjar.journal.entries import About
from jobjar.journal.read import Entry
from jobjar.layout import WorkerPaths

if TYPE_CHECKING:
    from jobjar.attempts.time_left import TimeLeft
    from jobjar.job_file.description import Description
    from jobjar.job_file.given import Given

# A job's `kind` is empty; or this: its file describes what a worker has to do (Jug's cycle).
DESCRIBED = "described"
# Or this: it stands for a range of an array's tasks (arrays/).
CHUNK = "chunk"
# Outcomes. An attempt that did not decide its job ended stranded, interrupted or lost.
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
# Why an attempt was interrupted, if nothing more is known.
TOLD_TO_END = "its worker was told to end"
OUTCOMES = (SUCCEEDED, FAILED, TIMED_OUT, KILLED, CANCELLED, CRASHED)
# After these outcomes a job that has retries left runs again.
RETRIED_OUTCOMES = (FAILED, TIMED_OUT)


class Claimer:
    """A worker as it claims jobs: its id and paths, and the categories that it asks, in order ('' is uncategorized)."""

    def __init__(
        self, jar: Jar, worker_id: str, paths: WorkerPaths, categories: Sequence[str], offer: Offer | None = None
    ) -> None:
        self.jar = jar
        self.worker_id = worker_id
        self.paths = paths
        self.categories = tuple(categories)
        self.refusals = Refusals()
        # The disk's time at which it asked for its next job.
        self.asked_at = 0.0
        # Whether a job that it claims now could not run at once, because its worker runs another.
        self.is_ahead = False
        # Which jobs fit into the time that it has; None: it has no end of its own.
        self.time_left: TimeLeft | None = None
        # How many links from claimed/ wait in the worker's directory to be removed (claimed_links.py).
        self.discarded_links = 0
        # How many claims succeeded, and how many found the job gone because another claimer was quicker.
        self.claims = self.lost_tries = 0
        # The paths at which it has put job files in its directory, without those that it moved on.
        self.taken_paths: set[str] = set()
        # Whether the last claim stopped before it had tried all candidates, so that its worker can look at its orders.
        self.has_more = False
        self.proposals = Proposals()
        # What the worker has for its jobs, and the jobs that wait until there is enough.
        self.room = Room(offer or Offer())
        self.waiting = Waiting(jar.settings.pass_over_s)
        self.passed_over = PassedOver(jar.settings.poll_time_s)
        self.tokens = Tokens(jar, paths.name, worker_id)
        self.closed_batches = ClosedBatches(self.tokens)
        self.claiming_workers = ClaimingWorkers(paths.name)
        # Who cancelled jobs that run here, and why, by job id.
        self.cancelled: dict[str, str] = {}
        # Open descriptors of job files, by job id (missing_file.py).
        self.held_files: dict[str, int] = {}


class ClaimedJob(NamedTuple):
    """A job that a worker holds, and the attempt that it is about to make. Times are in seconds."""

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
    # The inode of its file; 0 if it is not known, as on a network disk.
    inode: int = 0
    # Whether its standard output and error go through a pipe (copied_output.py).
    pipes_output: bool = False
    # The tokens of its limits, held until its attempt has ended here (tokens.py).
    tokens: tuple[Token, ...] = ()
    # A described job's description, as its file had it when this attempt began.
    description: Description | None = None
    # What it was given beside its attributes above.
    given: Given | None = None
    # What it has of its worker; None if neither said anything of that.
    share: Share | None = None


def about_attempt(claimer: Claimer, job: ClaimedJob) -> About:
    """What an entry about this attempt begins with."""
    return About(job.uid, job.attempt, claimer.paths.name, claimer.worker_id)


class AttemptEnd(NamedTuple):
    """How an attempt ended. At most one of `exit_status` and `signal` is not None. `pid` is None if no process was started.
    The CPU times and `max_rss_kib` are None if no process was measured. `retry_after_s`: for so long the job of an interrupted
    attempt is not claimed again. `entries`: further entries to journal about the attempt."""

    outcome: str
    exit_status: int | None = None
    signal: int | None = None
    wall_time_s: float = 0.0
    user_cpu_s: float | None = 0.0
    system_cpu_s: float | None = 0.0
    max_rss_kib: int | None = 0
    output_file: str | None = None
    message: str | None = None
    pid: int | None = None
    pid_started: float | None = None
    retry_after_s: float = 0.0
    entries: tuple[Entry, ...] = ()


def describe_end(end: AttemptEnd) -> str:
    """How an attempt ended, for a line in the log."""
    how = f"signal {end.signal}, " if end.signal is not None else f"exit status {end.exit_status}, "
    if end.signal is None and end.exit_status is None:
        how = ""
    text = f"{end.outcome}, {how}{end.wall_time_s:.3f} s"
    return f"{text}, {end.message}" if end.message else text


class Watch(Protocol):
    """What may end an attempt early."""

    @property
    def interval_s(self) -> float:
        """How long to wait at most before `reason` is asked."""
        ...

    def after_start(self) -> None:
        """Do work that need not precede the job's start. Called once, just after the start."""
        ...

    def descriptors(self) -> list[int]:
        """File descriptors that become readable when `reason` should be asked."""
        ...

    def is_told_to_end(self) -> bool:
        """Whether the worker itself was told to end. The answer comes at once and costs nothing."""
        ...

    def reason(self, job: ClaimedJob) -> str | None:
        """Why to end the attempt: INTERRUPTED, KILLED, CANCELLED, LOST, or None to go on. Asked at least every `interval_s`
        seconds."""
        ...

    def take_killed_task(self) -> int | None:
        """The index of the task of a chunk that `reason` was asked to kill, since this was asked last."""
        ...
