"""The way of a job through a worker that has several under way: what described/overlap.py asks of each.

described/lifecycle.py has that of plain and described jobs, worker/chunks.py that of chunks of arrays. Reads and writes nothing.
"""

from __future__ import annotations

from jobjar.attempts.attempt import ClaimedJob
from jobjar.described.steps import Attempt, Steps
from jobjar.journal.read import Entry
from jobjar.publishing.monitor import Monitor


class Way:
    """One job's way. The overlap sets `is_alone`: no process is left that a command of the job started."""

    # Whether it hears orders by itself while it runs; else the overlap ends it with `Cut`.
    hears_orders = False
    is_alone = True
    # It only stores what an earlier attempt published.
    is_storing = False
    # The process id and start time of the job's main process, once it was started.
    pid: int | None = None
    pid_started: float | None = None
    attempt: Attempt | None = None
    monitor: Monitor | None = None
    # When the job gets a signal before its time limit, in seconds of the monotonic clock.
    warn_at: float | None = None
    # Why the attempt is cut, where the cause alone does not say it.
    cut_message: str | None = None
    job: ClaimedJob

    @property
    def deadline(self) -> float | None:
        """When the current step reaches the job's time limit, in seconds of the monotonic clock; None without a limit."""
        return None

    @property
    def output(self) -> int:
        """The descriptor of the file that the job's commands write to."""
        raise NotImplementedError

    @property
    def has_entries(self) -> bool:
        """Whether entries about this attempt (phases, variables) are not journaled yet."""
        return False

    def steps(self) -> Steps[None]:
        """The steps from the claim to the commit. If they raise OSError, LedgerError or ImportError, call `end_refused`."""
        raise NotImplementedError

    def end_refused(self, why: str) -> bool:
        """End the attempt, whose steps raised an error. Returns False if nothing of it was begun: the job can be given back."""
        raise NotImplementedError

    def take_entries(self, is_running: bool) -> list[Entry]:
        """Take the entries to be journaled while the attempt goes on. `is_running`: its main process runs."""
        return []

    def note_variables(self) -> None:
        """Note the monitored variables that the job has set so far. Raises OSError."""
