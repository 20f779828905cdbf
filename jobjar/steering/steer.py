"""Do what a verb says to the jobs that a selection means, some hundred at a time, and say what was done.

Reads the ledger, which the caller brings up to date (reports/refresh.py). The verbs move files and append to the journal. A kill
leaves some of the jobs done and the others as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jobjar.attempts.attempt import CHUNK as JOB_IS_CHUNK
from jobjar.errors import JarError, NothingSelected, NotSteered, UsageError
from jobjar.jar import Jar
from jobjar.ledger.ask_selected import DEPENDENT, HELD, STATES, Filters
from jobjar.ledger.ask_steered import SteeredJob, steered_jobs
from jobjar.ledger.fold import fold_journals
from jobjar.meter import SILENT, Meter
from jobjar.selecting.arrays import Tasks, find_tasks
from jobjar.selecting.named import is_pattern
from jobjar.selecting.select import Selected, select_jobs_to_change
from jobjar.selecting.selection import Selection
from jobjar.steering.dependents import fold_and_settle
from jobjar.steering.verb import SteeredTasks, Verb

CHUNK = 500
# How often a job is looked for again whose file was elsewhere.
_ROUNDS = 3
_ELSEWHERE = "its file is not where the ledger has it; recover_jobs looks where it is"


class SteeredTo(NamedTuple):
    """A job that a verb was done to: its id (None: a hand-made job that no worker has claimed yet), its name, and the state that
    it was in before: waiting, held, dependent, running or ended. `array`: that whose chunk it is."""

    id: str | None
    name: str
    was: str
    array: str | None = None


class Steered(NamedTuple):
    """What a verb did: the jobs that it was done to, chunks of arrays among them; an error for each that it could not be done to;
    the single `tasks` of arrays that it was done to; and how many chunks of each array run and go on, as they are."""

    jobs: list[SteeredTo]
    errors: list[JarError]
    tasks: list[SteeredTasks]
    going_on: dict[str, int]

    def describe_jobs(self) -> str:
        """How many jobs there are of each state, as people say it: `312 waiting and 2 running jobs`, `1 array (11 waiting
        chunks; 1 that runs goes on to its end)`."""
        plain = [job.was for job in self.jobs if job.array is None]
        chunks = [job.was for job in self.jobs if job.array is not None]
        parts = [f"{_count_states(plain)} job{'' if len(plain) == 1 else 's'}"] if plain else []
        if chunks:
            arrays = {job.array for job in self.jobs if job.array is not None}
            goes_on = sum(self.going_on.get(array, 0) for array in arrays)
            more = f"; {goes_on:,} that {'runs goes on to its end' if goes_on == 1 else 'run go on to their ends'}"
            parts.append(
                f"{len(arrays):,} array{'' if len(arrays) == 1 else 's'} ({_count_states(chunks)} "
                f"chunk{'' if len(chunks) == 1 else 's'}{more if goes_on else ''})"
            )
        for tasks in self.tasks:
            states = ["waiting"] * tasks.waiting + ["running"] * tasks.running
            count = _count_states(states) if states else f"{tasks.ended:,}"
            parts.append(f"{count} task{'' if len(states) + tasks.ended == 1 else 's'} of {tasks.array}")
        return ", ".join(parts) if parts else "no job"


def _count_states(states: Sequence[str]) -> str:
    counts = Counter(states)
    parts = [f"{counts[word]:,} {word}" for word in ("waiting", HELD, DEPENDENT, "running", "ended") if counts[word]]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)


def steer(jar: Jar, selection: Selection, verb: Verb, is_dry_run: bool = False, meter: Meter = SILENT) -> Steered:
    """Do what a verb says to the jobs of a selection that are in a state for it. With `is_dry_run`, only say to which.

    A job that is named and is in another state is an error; of those that filters or patterns select, only the jobs in a state
    for the verb are meant. Raises UsageError, NothingSelected, UnknownBatch; what `verb.prepare` and `verb.change` raise.
    """
    steered = Steered([], [], [], {})
    words = _steer_tasks(jar, selection, verb, is_dry_run, steered)
    if selection.words and not words:
        followed = verb.follow_tasks(jar, [tasks.array for tasks in steered.tasks])
        if followed:
            return steer_rows(jar, followed, verb, is_dry_run, meter, steered)
        if not is_dry_run and steered.tasks:
            fold_and_settle(jar)
        return steered
    selection = selection._replace(words=words)
    if not selection.words and not selection.is_empty:
        selection = _steer_filtered(jar, selection, verb, is_dry_run, steered)
    try:
        selected = _select(jar, selection, verb)
    except NothingSelected:
        if not steered.tasks:
            raise
        selected = Selected([], [])
    steered.errors.extend(selected.errors)
    rows = [job.id for job in selected.jobs]
    rows += verb.follow_tasks(jar, [tasks.array for tasks in steered.tasks])
    return steer_rows(jar, rows, verb, is_dry_run, meter, steered)


def _steer_tasks(jar: Jar, selection: Selection, verb: Verb, is_dry_run: bool, steered: Steered) -> tuple[str, ...]:
    """Do it to the tasks that words name, if the verb takes tasks. Returns the other words."""
    others = []
    for word in selection.words:
        try:
            tasks = find_tasks(jar, word)
            if tasks is None or (tasks.ranges is None and not verb.takes_tasks(tasks)):
                others.append(word)
            elif not verb.takes_tasks(tasks):
                reason = f"an array's tasks are steered together; name the array, {tasks.array.uid}"
                raise NotSteered(job=word, done=verb.done, reason=reason)
            else:
                _change_tasks(jar, tasks, selection, verb, is_dry_run, steered)
        except JarError as error:
            steered.errors.append(error)
    return tuple(others)


def _steer_filtered(jar: Jar, selection: Selection, verb: Verb, is_dry_run: bool, steered: Steered) -> Selection:
    """Do it to the tasks of arrays that filters mean, if the verb is done to tasks. Returns what is left of the selection."""
    found = verb.tasks_of_filters(jar, selection.filters)
    if found is None:
        return selection
    for tasks in found:
        try:
            _change_tasks(jar, tasks, selection, verb, is_dry_run, steered)
        except JarError as error:
            steered.errors.append(error)
    return selection._replace(filters=selection.filters._replace(without_chunks=True))


def _change_tasks(jar: Jar, tasks: Tasks, selection: Selection, verb: Verb, is_dry_run: bool, steered: Steered) -> None:
    done, errors = verb.change_tasks(jar, tasks, selection.filters.submitters, is_dry_run)
    steered.errors.extend(errors)
    steered.tasks.extend(one for one in done if one.waiting or one.running or one.ended)


def steer_rows(
    jar: Jar,
    rows: list[int],
    verb: Verb,
    is_dry_run: bool = False,
    meter: Meter = SILENT,
    steered: Steered | None = None,
) -> Steered:
    """`steer` for the jobs of these rows of the ledger. What was done is added to `steered`."""
    steered = steered or Steered([], [], [], {})
    if not is_dry_run:
        verb.prepare(jar)
    if len(rows) > CHUNK:
        meter.begin(verb.done, "jobs", len(rows))
    seen = set(rows)
    while rows:
        done = _steer_rows(jar, rows, verb, is_dry_run, steered, meter)
        rows = [row for row in verb.follow(jar, done) if row not in seen]
        seen.update(rows)
    meter.end()
    if not is_dry_run:
        _take_back(verb, verb.finish(jar).refused, steered)
    _group_chunks(verb, steered)
    if not is_dry_run:
        fold_and_settle(jar)  # the dependents of what was cancelled, or waits for prerequisites again
    return steered


def _steer_rows(
    jar: Jar, rows: list[int], verb: Verb, is_dry_run: bool, steered: Steered, meter: Meter
) -> list[SteeredJob]:
    """Do it to the jobs of these rows; returns those that it was done to."""
    all_done: list[SteeredJob] = []
    for round_number in range(_ROUNDS):
        missed: list[SteeredJob] = []
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            done, elsewhere = _steer_chunk(jar, some, verb, is_dry_run, steered)
            all_done += done
            missed += elsewhere
            if round_number == 0:
                meter.add(len(some))
        if not missed:
            break
        if round_number == _ROUNDS - 1:
            steered.errors.extend(NotSteered(job=known.title, done=verb.done, reason=_ELSEWHERE) for known in missed)
        rows = [known.job.row for known in missed]
    return all_done


def _steer_chunk(
    jar: Jar, rows: list[int], verb: Verb, is_dry_run: bool, steered: Steered
) -> tuple[list[SteeredJob], list[SteeredJob]]:
    """Do it to some jobs. Returns those that it was done to, and those whose files were elsewhere."""
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)
        jobs = list(steered_jobs(connection, rows))
    fit = []
    for known in jobs:
        reason = verb.refuse(jar, known)
        if reason is None:
            fit.append(known)
        elif known.job.kind == JOB_IS_CHUNK:
            steered.errors.append(_ChunkNotSteered(known, verb.done, reason))
        else:
            steered.errors.append(NotSteered(job=known.title, done=verb.done, reason=reason))
    if is_dry_run:
        steered.jobs.extend(map(_as_steered, fit))
        return fit, []
    left = verb.change(jar, fit)
    undone = {known.job.row for known in left.missed} | {known.job.row for known, _ in left.refused}
    done = [known for known in fit if known.job.row not in undone]
    steered.jobs.extend(map(_as_steered, done))
    steered.errors.extend(NotSteered(job=known.title, done=verb.done, reason=reason) for known, reason in left.refused)
    return done, left.missed


def _take_back(verb: Verb, refused: list[tuple[SteeredJob, str]], steered: Steered) -> None:
    """Note the jobs that it could not be done to after all."""
    if not refused:
        return
    undone = Counter(_as_steered(known) for known, _ in refused)
    kept = []
    for job in steered.jobs:
        if undone[job]:
            undone[job] -= 1
        else:
            kept.append(job)
    steered.jobs[:] = kept
    steered.errors.extend(NotSteered(job=known.title, done=verb.done, reason=reason) for known, reason in refused)


def _as_steered(known: SteeredJob) -> SteeredTo:
    array = known.job.batch if known.job.kind == JOB_IS_CHUNK else None
    return SteeredTo(known.job.uid, known.job.name, known.word, array)


class _ChunkNotSteered(NotSteered):
    """Of a chunk that is in no state for the verb; `_group_chunks` says it of the array."""

    def __init__(self, known: SteeredJob, done: str, reason: str) -> None:
        super().__init__(job=known.title, done=done, reason=reason)
        self.array, self.word = str(known.job.batch), known.word


def _group_chunks(verb: Verb, steered: Steered) -> None:
    """Say of each array once why it was not done to some of its chunks: those that run go on, if it was done to others."""
    refused: dict[str, Counter[str]] = {}
    for error in steered.errors:
        if isinstance(error, _ChunkNotSteered):
            refused.setdefault(error.array, Counter())[error.word] += 1
    steered.errors[:] = [error for error in steered.errors if not isinstance(error, _ChunkNotSteered)]
    done = {job.array for job in steered.jobs}
    for array, counts in refused.items():
        if array in done:
            steered.going_on[array] = counts.pop("running", 0)
        if not counts:
            continue
        if set(counts) == {"ended"}:
            reason = "it has ended"
        elif "ended" in verb.states:
            reason = f"it has not ended ({_count_states([*counts.elements()])} chunks); cancel it first"
        else:
            reason = f"it has {_count_states([*counts.elements()])} chunk{'' if counts.total() == 1 else 's'}"
        steered.errors.append(NotSteered(job=array, done=verb.done, reason=reason))


def _select(jar: Jar, selection: Selection, verb: Verb) -> Selected:
    """The jobs that are meant. Only those in a state for the verb are, if they are not named."""
    if selection.is_empty:
        select_jobs_to_change(jar, selection)  # says what is missing
    named = tuple(word for word in selection.words if not is_pattern(word))
    if named == selection.words and named:
        return select_jobs_to_change(jar, selection)
    narrowed = selection._replace(filters=_narrow(selection.filters, verb))
    if not named:
        return select_jobs_to_change(jar, narrowed)
    patterns = tuple(word for word in selection.words if word not in named)
    found = []
    for part in (selection._replace(words=named), narrowed._replace(words=patterns)):
        try:
            found.append(select_jobs_to_change(jar, part))
        except NothingSelected as error:
            found.append(Selected([], [error]))
    unique = {job.id: job for part in found for job in part.jobs}
    return Selected(list(unique.values()), [error for part in found for error in part.errors])


def _narrow(filters: Filters, verb: Verb) -> Filters:
    asked, states = filters.states or verb.usual, verb.states
    of_ledger = {STATES[state] for state in states}
    kept = tuple(word for word in asked if word in states or (word == STATES[word] and word in of_ledger))
    if not kept:
        raise UsageError(reason=f"--state {' '.join(asked)}: this is for jobs that are {' or '.join(states)}")
    return filters._replace(states=kept)
