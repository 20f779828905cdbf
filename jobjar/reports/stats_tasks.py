"""What the tasks of arrays take, and how they end. Reads the ledger, and the outputs of a task of each kind of failure.

How many ended is counted in the ledger. Times and memory are those of some thousand tasks, each so many indexes from the next:
nobody reads a million rows for a median.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence

from jobjar.arrays.open_tasks import DEPENDENT, HELD, RUNNING, WAITING, OpenTasks, whole
from jobjar.errors import JarError, UsageError
from jobjar.jar import Jar
from jobjar.ledger.ask_arrays import ArrayRow, measures_of, outcomes_in, status_counts, task_outcomes
from jobjar.ledger.ask_selected import NO_FILTERS
from jobjar.reports.arrays import describe_array, read_output_of_tasks
from jobjar.reports.stats import Failure, Group, Stats, gather_stats, spread
from jobjar.selecting.arrays import Tasks, find_tasks
from jobjar.selecting.selection import Selection

_READ_BYTES = 1 << 16


def gather_selected(jar: Jar, selection: Selection, by: str, limit: int | None) -> Stats:
    """`gather_stats` of jobs; where words name arrays or tasks, statistics of these. Raises what `gather_stats` raises."""
    found = {word: find_tasks(jar, word) for word in selection.words}
    tasks = [some for some in found.values() if some is not None]
    if not tasks:
        return gather_stats(jar, selection, by, limit)
    others = [word for word, some in found.items() if some is None]
    if others or selection.filters != NO_FILTERS:
        raise UsageError(
            reason=f"statistics are of arrays or of jobs; leave out {others[0] if others else 'the filters'}"
        )
    return gather_task_stats(jar, tasks, limit)


def gather_task_stats(jar: Jar, tasks: Sequence[Tasks], limit: int | None) -> Stats:
    """Statistics of tasks, an array a group; times and memory are those of at most `limit` tasks of each (None: all). The caller
    brings the ledger up to date."""
    groups, failures, since = list[Group](), list[Failure](), list[float]()
    for some in tasks:
        groups.append(_make_group(jar, some, limit))
        failures += _failures(jar, some)
        since += [some.array.first_ended_ms / 1000] if some.array.first_ended_ms is not None else []
    ended = sum(group.ended for group in groups)
    everything = groups[0] if len(groups) == 1 else _add(groups)
    return Stats("array", ended, ended, min(since, default=None), groups, everything, failures)


def _make_group(jar: Jar, tasks: Tasks, limit: int | None) -> Group:
    array, connection = tasks.array, jar.ledger.connection
    if tasks.ranges is None:
        described = describe_array(jar, array)
        outcomes = task_outcomes(connection, array.id)
        states = Counter({RUNNING: described["running"]})
        states[described["state"] if described["state"] != RUNNING else WAITING] += described["left"] - states[RUNNING]
    else:
        now = OpenTasks(connection, array)
        states = Counter(now.states_of(list(now.not_ended(tasks.ranges))).values())
        outcomes = dict(Counter(outcomes_in(connection, array.id, tasks.ranges).values()))
    walls, cpus, memories = list[float](), list[float](), list[float]()
    for wall_us, cpu_us, memory_kib in measures_of(connection, array, tasks.ranges or whole(array), limit):
        walls.append(wall_us / 1e6)
        cpus.append(cpu_us / 1e6)
        memories.append(memory_kib)
    waiting, running, held, dependent = (states[state] for state in (WAITING, RUNNING, HELD, DEPENDENT))
    ended, spreads = sum(outcomes.values()), [spread(values) for values in (walls, cpus, memories)]
    return Group(array.uid, waiting, running, held, dependent, 0, ended, outcomes, None, *spreads)


def _add(groups: Sequence[Group]) -> Group:
    """The counts of all; what they take is told of each."""
    outcomes: Counter[str] = Counter()
    for group in groups:
        outcomes.update(group.outcomes)
    states = ("waiting", "running", "held", "dependent")
    waiting, running, held, dependent = (sum(getattr(group, name) for group in groups) for name in states)
    ended = outcomes.total()
    return Group(None, waiting, running, held, dependent, 0, ended, dict(outcomes), None, None, None, None)


def _failures(jar: Jar, tasks: Tasks) -> list[Failure]:
    found = []
    for how in status_counts(jar.ledger.connection, tasks.array.id, tasks.ranges or whole(tasks.array)):
        outcome, status, count, number, message = how
        exit_status = status if status is not None and status >= 0 else None
        signal = -status if status is not None and status < 0 else None
        said = message or _last_line(jar, tasks.array, number)
        found.append(Failure(count, outcome, exit_status, signal, said, f"{tasks.array.uid}[{number}]"))
    return found


def _last_line(jar: Jar, array: ArrayRow, number: int) -> str | None:
    """The last line that a task wrote; None if it wrote none, or its output is not there any more."""
    data = b""
    with contextlib.suppress(JarError, OSError):
        pieces = read_output_of_tasks(jar, Tasks(array, ((number, number),)))
        data = b"".join(piece for _, piece in pieces)[-_READ_BYTES:]
    lines = data.decode("utf-8", "replace").splitlines()
    return lines[-1] if lines else None
