"""Every cause for which a job may stand still, by name, and the line that says so. DESIGN.md has a table of them.

A module that decides a cause names it here, so that nothing stands still without a line. Reads and writes nothing.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Cause(enum.StrEnum):
    """Why a job does not run. The value is the name that `--format json` has."""

    # Of jobs in limbo.
    HELD = "held"
    FAULTY = "faulty"
    IN_LIMBO = "in_limbo"
    SUBMITTING = "submitting"
    DEPENDENT = "dependent"
    LOST_PREREQUISITE = "lost_prerequisite"
    # Of files in unclaimed/.
    NOT_A_JOB = "not_a_job"
    NOT_PERMITTED = "not_permitted"
    UNSEEN = "unseen"
    # Of jobs that wait.
    ABORTED = "aborted"
    THROTTLED = "throttled"
    FAILED_BATCH = "failed_batch"
    BEGINS_LATER = "begins_later"
    RETRIED_LATER = "retried_later"
    STORAGE = "storage"
    WENT_BACK = "went_back"
    LIMIT = "limit"
    NO_WORKER = "no_worker"
    NO_PILOT_FITS = "no_pilot_fits"
    PILOTS_PAUSED = "pilots_paused"
    PILOTS_WAIT = "pilots_wait"
    STOP_ALL = "stop_all"
    STOPPING = "stopping"
    NO_TIME_LEFT = "no_time_left"
    PAUSED = "paused"
    PAUSE_ALL = "pause_all"
    FAILURE_PAUSE = "failure_pause"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    NEXT = "next"
    # Of jobs that a worker holds.
    STRANDED = "stranded"
    LEFT_RUNNING = "left_running"
    SILENT = "silent"
    AHEAD = "ahead"
    STAGING_IN = "staging_in"
    # Of the jar.
    DISK = "disk"
    UNSAFE_JAR = "unsafe_jar"
    LEDGER = "ledger"


# With these a job does not stand still: what it waits for goes on by itself.
GOES_ON = frozenset({Cause.DEPENDENT, Cause.BUSY, Cause.NEXT, Cause.AHEAD, Cause.STAGING_IN})


class Standing(NamedTuple):
    """A cause, as it is with one job or with all of a kind. `why` says it and `do` what a person can do about it, both without a
    full stop; `do` may be empty."""

    cause: Cause
    why: str
    do: str = ""

    @property
    def line(self) -> str:
        return f"{self.why}; {self.do}" if self.do else self.why


def split_line(cause: Cause, line: str) -> Standing:
    """Make a Standing of a line such as errors and journaled messages are: `what is wrong; what to do`."""
    why, _, do = line.partition("; ")
    return Standing(cause, why, do)


class Counted(NamedTuple):
    """A cause, and how many jobs stand still for it (0: it is of the jar). `why` says which jobs these are."""

    cause: Cause
    jobs: int
    why: str
    do: str = ""

    @property
    def line(self) -> str:
        return f"{self.why}; {self.do}" if self.do else self.why


def count_standing(standing: Standing, jobs: int, which: str = "") -> Counted:
    """Say of several jobs (`3 jobs of category LINUX`) what a Standing says of one."""
    return Counted(standing.cause, jobs, f"{which}: {standing.why}" if which else standing.why, standing.do)
