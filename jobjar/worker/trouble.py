"""What went wrong for a worker, and what it has to do about it: wait, give a stray job back, or leave.

Moves stray jobs back as stages/complete.py says.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from jobjar.access.refusals import Refusals
from jobjar.attempts.attempt import Claimer
from jobjar.errors import CannotUseJar, LedgerError, UnsafeJar
from jobjar.stages.complete import return_strays

# The errors by which the disk, or the jar's state, refuses a turn. The worker waits and tries again.
REFUSALS = (CannotUseJar, UnsafeJar, LedgerError, OSError)


class Trouble:
    """The trouble of one worker. `has_strays`: files may lie in its jobs/ that no claim knows of."""

    def __init__(self, claimer: Claimer, log: Callable[[str], None], has_strays: bool) -> None:
        # Whether the worker has to leave, because its software cannot be imported any more.
        self.is_unfit = False
        self._claimer = claimer
        self._log = log
        self._has_strays = has_strays
        self._refusals = Refusals()

    def log_refusal(self, error: Exception) -> None:
        """Log the refusal of a claim, or of a job's end; once until `end`."""
        # A failed claim may have left a file in jobs/. It is given back before the next claim, which judges its rename by the
        # files there.
        self._has_strays = True
        self.log_once(error)

    def log_once(self, error: Exception) -> None:
        self._refusals.log_error_once(error, self._log)

    def end(self) -> None:
        """Log that the worker goes on, if a refusal was logged."""
        self._refusals.end_all(self._log)

    def return_strays(self, held: Container[str] = ()) -> None:
        """Give stray jobs back, if there may be any. `held` are the paths of the jobs that the worker knows. Raises OSError."""
        if self._has_strays:
            return_strays(self._claimer, self._log, held)
            self._has_strays = False

    def note_unfit(self, error: ImportError) -> str:
        """Make the worker leave, because its software cannot be imported any more. Returns the reason to give for its jobs."""
        self.is_unfit = True
        message = f"its worker's software was moved or changed while it ran ({error})"
        self._log(f"{message}; the worker leaves: start another one")
        return message
