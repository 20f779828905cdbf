"""What a verb of steering is: what it does to jobs that are in a state for it, and why it leaves others alone. Moves nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from jobjar.errors import JarError
from jobjar.jar import Jar
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_selected import DEPENDENT, HELD, Filters
from jobjar.ledger.ask_steered import SteeredJob
from jobjar.selecting.arrays import Tasks
from jobjar.steering.moving import Left


class SteeredTasks(NamedTuple):
    """Tasks of an array that a verb was done to: how many waited, ran, or had ended before."""

    array: str
    waiting: int = 0
    running: int = 0
    ended: int = 0


class Verb(ABC):
    """A verb. `done` is its participle, for messages. `states` are the words for the states of the jobs that it takes; `usual`
    those that filters without a state mean. `by` is the user."""

    done: str
    states: tuple[str, ...]

    @property
    def usual(self) -> tuple[str, ...]:
        return self.states

    def __init__(self, by: str) -> None:
        self.by = by

    @abstractmethod
    def refuse(self, jar: Jar, known: SteeredJob) -> str | None:
        """Why a job is left alone; None if it is not."""

    def prepare(self, jar: Jar) -> None:  # noqa: B027
        """Do what comes before all jobs. Raises JarError: nothing is done then."""

    @abstractmethod
    def change(self, jar: Jar, jobs: Sequence[SteeredJob]) -> Left:
        """Do it to jobs that are not refused. Raises JarError."""

    def takes_tasks(self, tasks: Tasks) -> bool:
        """Whether this is done to tasks that a word names, by `change_tasks`. If not, an array is the chunks that it has, and
        single tasks are refused."""
        return False

    def change_tasks(
        self, jar: Jar, tasks: Tasks, submitters: Sequence[str], is_dry_run: bool
    ) -> tuple[list[SteeredTasks], list[JarError]]:
        """Do it to tasks, and to tasks of other arrays that depend on them, if that is meant; with `is_dry_run`, only say to how
        many. They are this user's, or of `submitters` if there are any. Returns what was done, and what was not. Raises JarError:
        nothing was done then."""
        raise NotImplementedError

    def tasks_of_filters(self, jar: Jar, filters: Filters) -> list[Tasks] | None:
        """The tasks of arrays that filters mean, for a verb that is done to tasks; None: their chunks are meant, as jobs."""
        return None

    def follow_tasks(self, jar: Jar, arrays: Sequence[str]) -> list[int]:
        """The jobs (by row) that it is to be done to as well, after it was done to tasks of arrays."""
        return []

    def follow(self, jar: Jar, jobs: Sequence[SteeredJob]) -> list[int]:
        """The jobs (by row) that it is to be done to as well, after it was done to `jobs`."""
        return []

    def finish(self, jar: Jar) -> Left:
        """Wait for what `change` only asked for."""
        return Left([], [])


def explain_state(known: SteeredJob, states: Sequence[str]) -> str | None:
    """Why a job is in no state for a verb that takes those of `states`; None if it is."""
    if known.word in states:
        is_unknown = known.state == "limbo" and known.held_reason is None and known.job.move_number == 0
        return "nobody has submitted it: it lies in limbo, where files are written" if is_unknown else None
    if known.state == "claimed":
        return f"worker {worker_of_place(known.job.place)} runs it"
    if known.state == "completed":
        return f"it has ended ({known.outcome})" if known.outcome else "it has ended"
    if known.state == "removed":
        return "its file was removed"
    waits = {HELD: "it is held", DEPENDENT: "it waits for its prerequisites", "waiting": "it waits, and is not held"}
    return waits[known.word]
