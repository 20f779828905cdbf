"""The verbs about jobs that wait or are held: hold, release, priority, move.

moving.py makes the moves, and its words on crashes hold here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from jobjar.batches.state import read_batch
from jobjar.errors import JarError, UnknownBatch
from jobjar.jar import Jar
from jobjar.job_file.description import STORAGE_CATEGORY
from jobjar.job_file.names import with_priority
from jobjar.journal.entries import MoreOfMove
from jobjar.journal.submitted import HELD_BY, is_held_by_person
from jobjar.ledger.ask_selected import DEPENDENT, HELD
from jobjar.ledger.ask_steered import SteeredJob
from jobjar.ledger.judge_dependents import reason_after_hold
from jobjar.steering.moving import Left, Move, move_all
from jobjar.steering.verb import Verb, explain_state


class Hold(Verb):
    """Waiting jobs go to limbo, where no worker claims them. They keep their category, their priority and their age. Dependents
    are there already: they only get another reason."""

    done = "held"
    states = ("waiting", DEPENDENT)

    def refuse(self, jar: Jar, known: SteeredJob) -> str | None:
        return explain_state(known, self.states) or refuse_storing(known)

    def change(self, jar: Jar, jobs: Sequence[SteeredJob]) -> Left:
        def plan(known: SteeredJob) -> Move:
            more: MoreOfMove = {"held_reason": f"{HELD_BY}{self.by}", "category": known.job.category}
            is_there = known.state == "limbo"
            name = known.job.name if is_there else known.own_name
            return Move("limbo", name, more | _not_before(known), is_rename=not is_there)

        return move_all(jar, jobs, "held", self.by, plan)


class Release(Verb):
    """Held jobs go back to their categories, or wait for their prerequisites first. Dependents that are named, or asked for by
    their state, go on without waiting for these."""

    done = "released"
    states = (HELD, DEPENDENT)

    def __init__(self, by: str) -> None:
        super().__init__(by)
        self._aborted = AbortedBatches()

    @property
    def usual(self) -> tuple[str, ...]:
        return (HELD,)

    def refuse(self, jar: Jar, known: SteeredJob) -> str | None:
        return explain_state(known, self.states) or self._aborted.explain(jar, known)

    def change(self, jar: Jar, jobs: Sequence[SteeredJob]) -> Left:
        reasons = {known.job.row: _reason_to_wait(jar, known) for known in jobs}

        def plan(known: SteeredJob) -> Move:
            more: MoreOfMove = {"held_reason": str(reasons[known.job.row]), "category": known.job.category}
            return Move("limbo", known.job.name, more | _not_before(known), is_rename=False)

        waiting = [known for known in jobs if reasons[known.job.row] is not None]
        first = move_all(jar, waiting, "held", self.by, plan)
        then = move_to_categories(jar, [known for known in jobs if reasons[known.job.row] is None], "released", self.by)
        return Left(first.missed + then.missed, first.refused + then.refused)


def _reason_to_wait(jar: Jar, known: SteeredJob) -> str | None:
    """For what a held job waits yet once it is released; None if for nothing."""
    if known.word == DEPENDENT or known.job.uid is None or not is_held_by_person(known.held_reason):
        return None
    return reason_after_hold(jar.ledger.connection, known.job.uid)


class Prioritize(Verb):
    """Waiting and held jobs, and dependents, get another priority, which is part of their names."""

    states = ("waiting", HELD, DEPENDENT)

    def __init__(self, by: str, priority: int) -> None:
        super().__init__(by)
        self._priority = priority
        self.done = f"given priority {priority}"

    def refuse(self, jar: Jar, known: SteeredJob) -> str | None:
        return explain_state(known, self.states) or refuse_storing(known)

    def change(self, jar: Jar, jobs: Sequence[SteeredJob]) -> Left:
        def plan(known: SteeredJob) -> Move | None:
            name = with_priority(known.own_name, self._priority)
            if known.job.priority == self._priority and known.own_name == known.job.name:
                return None
            return Move(os.path.dirname(known.job.place), name, _as_it_is(known))

        return move_all(jar, jobs, "reprioritized", self.by, plan)


class Recategorize(Verb):
    """Waiting and held jobs, and dependents, get another category ('': none)."""

    states = ("waiting", HELD, DEPENDENT)

    def __init__(self, by: str, category: str) -> None:
        super().__init__(by)
        self._category = category
        self.done = f"moved to category {category}" if category else "moved out of its category"

    def refuse(self, jar: Jar, known: SteeredJob) -> str | None:
        return explain_state(known, self.states) or refuse_storing(known)

    def prepare(self, jar: Jar) -> None:
        jar.make_category(self._category)

    def change(self, jar: Jar, jobs: Sequence[SteeredJob]) -> Left:
        directory = f"unclaimed/{self._category}" if self._category else "unclaimed"

        def plan(known: SteeredJob) -> Move | None:
            if known.job.category == self._category:
                return None
            if known.state == "limbo":
                more = _as_it_is(known)
                more["category"] = self._category
                return Move("limbo", known.job.name, more, is_rename=False)
            return Move(directory, known.own_name, _not_before(known))

        return move_all(jar, jobs, "recategorized", self.by, plan)


def move_to_categories(jar: Jar, jobs: Sequence[SteeredJob], reason: str, by: str, begins_life: bool = False) -> Left:
    """Move jobs from elsewhere to their categories, which are made if they are not there. Raises CannotUseJar."""
    refused, may = list[tuple[SteeredJob, str]](), list[SteeredJob]()
    for category in {known.job.category for known in jobs}:
        of_category = [known for known in jobs if known.job.category == category]
        try:
            jar.make_category(category)
        except JarError as error:
            refused += [(known, str(error)) for known in of_category]
        else:
            may += of_category

    def plan(known: SteeredJob) -> Move:
        more: MoreOfMove = {} if begins_life else _not_before(known)
        return Move(_waiting_directory(known), known.own_name, more, begins_life=begins_life)

    done = move_all(jar, may, reason, by, plan)
    return Left(done.missed, refused + done.refused)


def _waiting_directory(known: SteeredJob) -> str:
    return f"unclaimed/{known.job.category}" if known.job.category else "unclaimed"


def _not_before(known: SteeredJob) -> MoreOfMove:
    """A delay that a job has goes with it."""
    return {"not_before": known.not_before} if known.not_before else {}


def _as_it_is(known: SteeredJob) -> MoreOfMove:
    more = _not_before(known)
    if known.state == "limbo":
        more["category"] = known.job.category
        if known.held_reason is not None:
            more["held_reason"] = known.held_reason
    return more


def refuse_storing(known: SteeredJob) -> str | None:
    """Why a job is left alone whose run is over and whose files wait to be stored."""
    if known.job.category.startswith(STORAGE_CATEGORY):
        return "its run is over, and its files wait to be stored"
    return None


class AbortedBatches:
    """Which batches are aborted: each is looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    def explain(self, jar: Jar, known: SteeredJob) -> str | None:
        """Why a job of an aborted batch cannot wait again; None for other jobs."""
        name = known.job.batch
        if name is None:
            return None
        if name not in self._known:
            try:
                self._known[name] = read_batch(jar, name).is_aborted
            except UnknownBatch:
                self._known[name] = False
        return f"its batch {name} is aborted; abort_batch --restart takes that back" if self._known[name] else None
