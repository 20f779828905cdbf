"""Wait until tasks of arrays have ended. Brings the ledger up to date at each look and reads it; moves due dependents."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobjar.arrays.open_tasks import HELD, NOT_RUN, OpenTasks
from jobjar.attempts.attempt import SUCCEEDED
from jobjar.errors import TimedOut
from jobjar.jar import Jar
from jobjar.ledger.ask_arrays import outcomes_in
from jobjar.reports.wait import refresh_patiently, settle_due
from jobjar.selecting.arrays import Tasks, name_tasks

# A look takes at most this part of the time.
_PART = 3


class TaskTally(NamedTuple):
    """How many tasks there are, how they ended, and in which states the others are."""

    tasks: int
    outcomes: Counter[str]
    states: Counter[str]

    @property
    def is_success(self) -> bool:
        return self.outcomes[SUCCEEDED] == self.tasks

    @property
    def is_over(self) -> bool:
        """Whether none of the others will end by itself."""
        return not self.states.keys() - {NOT_RUN, HELD}


def wait_for_tasks(jar: Jar, tasks: Sequence[Tasks], timeout_s: float | None, fails_fast: bool = False) -> TaskTally:
    """Wait until these tasks have ended, are held or will not run; with `fails_fast`, until one has not succeeded. Raises
    TimedOut."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        settle_due(jar)
        tally = count_tasks(jar, tasks)
        if tally.is_over or (fails_fast and tally.outcomes.total() > tally.outcomes[SUCCEEDED]):
            return tally
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            raise TimedOut(what=f"the end of {tally.states.total():,} of {tally.tasks:,} tasks", timeout_s=timeout_s)
        pause_s = max(jar.settings.poll_time_s, _PART * (now - began))
        time.sleep(pause_s if deadline is None else min(pause_s, deadline - now))
        refresh_patiently(jar)


def count_tasks(jar: Jar, tasks: Iterable[Tasks]) -> TaskTally:
    """How tasks ended, and where the others are."""
    outcomes, states = Counter[str](), Counter[str]()
    for some in tasks:
        ranges = some.ranges or ()
        now = OpenTasks(jar.ledger.connection, some.array)
        states.update(now.states_of(list(now.not_ended(ranges))).values())
        outcomes.update(outcomes_in(jar.ledger.connection, some.array.id, ranges).values())
    return TaskTally(outcomes.total() + states.total(), outcomes, states)


def format_task_tally(tasks: Sequence[Tasks], tally: TaskTally) -> str:
    """`q5n4dt2sq77v[1-10]: 8 succeeded, 2 failed`."""
    names = ", ".join(name_tasks(some.array, some.ranges or ()) for some in tasks)
    counts = [*tally.outcomes.most_common(), *tally.states.most_common()]
    return f"{names}: {', '.join(f'{count:,} {word.replace(chr(95), chr(32))}' for word, count in counts)}"
