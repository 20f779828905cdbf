"""Explain an array, or tasks of one: what waits, runs and has ended, each cause once and not for each of a thousand chunks.

Reads what explain.py reads; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobjar.arrays.open_tasks import NOT_RUN, RUNNING, OpenChunk, OpenTasks
from jobjar.attempts.attempt import CANCELLED, SUCCEEDED
from jobjar.causes import Standing
from jobjar.layout import worker_of_place
from jobjar.ledger.ask_arrays import ArrayRow, TaskEnd, ends_of_tasks
from jobjar.ledger.ask_selected import NO_FILTERS, jobs_of_rows
from jobjar.reports.arrays import describe_array, format_array
from jobjar.reports.explain import Explanation, explain_job
from jobjar.reports.sentences import End, format_whole_end
from jobjar.reports.standing import Look
from jobjar.selecting.arrays import Tasks, name_tasks

# So many kinds of waiting chunks, of failures and of running tasks are told of an array.
_MOST = 5
# Which chunks stand still for the same cause: those of one state, category, reason to be held, and delay.
_Kind = tuple[str, str, str | None]


def explain_tasks(look_at: Look, tasks: Tasks) -> list[Explanation]:
    """Explain an array in one answer; or tasks of one: each kind of end, and each cause for which some wait, in one."""
    if tasks.ranges is None:
        return [_explain_array(look_at, tasks.array)]
    return list(_explain_some(look_at, tasks.array, tasks.ranges))


def _explain_array(look_at: Look, array: ArrayRow) -> Explanation:
    jar = look_at.jar
    described = describe_array(jar, array)
    now = OpenTasks(jar.ledger.connection, array)
    parts, causes, what_to_do = [format_array(described)], list[Standing](), list[str]()
    running = [one for one in now.chunks if one.chunk.state == "claimed"]
    if running:
        shown = [_tell_running(array, now, one) for one in running[:_MOST]]
        more = f" and {len(running) - _MOST:,} more run" if len(running) > _MOST else ""
        parts.append(f"{', '.join(shown)}{more}")
    for kind in _kinds(now.chunks)[:_MOST]:
        standing = explain_job(look_at, jobs_of_rows(jar.ledger.connection, [kind[0].chunk.row], NO_FILTERS)[0])
        causes += standing.causes
        what_to_do += standing.what_to_do
        why = "; ".join(cause.why for cause in standing.causes) or "nothing keeps them from running"
        parts.append(f"{_chunks(len(kind))} of tasks wait{'s' if len(kind) == 1 else ''}: {why}")
    for failure in [one for one in described["failures"] if one["outcome"] != CANCELLED][:_MOST]:
        how = "" if failure["status"] is None else f" ({_name_status(failure['status'])})"
        first = f"{array.uid}[{failure['first']}]"
        parts.append(f"{failure['tasks']:,} {failure['outcome'].replace('_', ' ')}{how}, {first} for one")
    what_to_do += _after_failures(array.uid, described["failed"], described["failed"] + described["cancelled"])
    if described["not_run"] and not described["failed"]:
        what_to_do.append(f"`jobjar retry {array.uid}` runs what was not run")
    return _make(array.uid, described["state"], None, "; ".join(parts), causes, what_to_do)


def _explain_some(look_at: Look, array: ArrayRow, ranges: Sequence[tuple[int, int]]) -> Iterator[Explanation]:
    jar, now = look_at.jar, OpenTasks(look_at.jar.ledger.connection, array)
    ends: dict[tuple[str, int | None], list[TaskEnd]] = {}
    for first, last in ranges:
        for end in ends_of_tasks(jar.ledger.connection, array.id, first, last):
            ends.setdefault((end.outcome, end.status if end.outcome != CANCELLED else None), []).append(end)
    for alike in ends.values():
        yield _explain_ends(look_at, array, alike)
    left = list(now.not_ended(ranges))
    states, chunks = now.states_of(left), now.chunks_of(left)
    gone = [number for number in left if states[number] == NOT_RUN]
    if gone:
        title = _title(array, gone)
        why = f"{title} will not run: {'its chunk has' if len(gone) == 1 else 'their chunks have'} ended before"
        yield _make(title, NOT_RUN, None, why, [], [f"`jobjar retry {title}` runs {_it(gone)}"])
    held = {one: [number for number in left if chunks.get(number) is one] for one in dict.fromkeys(chunks.values())}
    for one, numbers in held.items():
        if one.chunk.state == "claimed":
            yield from _explain_held(array, now, one, numbers, states)
    for kind in _kinds([one for one in held if one.chunk.state != "claimed"]):
        numbers = sorted(number for one in kind for number in held[one])
        explained = explain_job(look_at, jobs_of_rows(jar.ledger.connection, [kind[0].chunk.row], NO_FILTERS)[0])
        title = _title(array, numbers)
        why = "; ".join(cause.why for cause in explained.causes) or "nothing keeps them from running"
        waits = f"{title} wait{'s' if len(numbers) == 1 else ''} in {_chunks(len(kind))}: {why}"
        yield _make(title, states[numbers[0]], None, waits, explained.causes, explained.what_to_do)


def _explain_ends(look_at: Look, array: ArrayRow, ends: Sequence[TaskEnd]) -> Explanation:
    last = ends[-1]
    numbers = [end.number for end in ends]
    title = _title(array, numbers)
    status = last.status
    told = format_whole_end(
        End(
            last.outcome,
            status if status is not None and status >= 0 else None,
            -status if status is not None and status < 0 else None,
            last.ended_ms / 1000,
            last.wall_us / 1e6 if len(ends) == 1 else None,
            last.attempt,
            last.worker,
            last.message,
        ),
        look_at.now,
    )
    sentence = f"{title} {told}" if len(ends) == 1 else f"{title}: {len(ends):,} tasks, of which the last {told}"
    failed = len(ends) if last.outcome not in (SUCCEEDED, CANCELLED) else 0
    what = _after_failures(title, failed, 0 if last.outcome == SUCCEEDED else len(ends))
    return _make(title, "ended", last.outcome, sentence, [], what)


def _explain_held(
    array: ArrayRow, now: OpenTasks, one: OpenChunk, numbers: list[int], states: dict[int, str]
) -> Iterator[Explanation]:
    worker = worker_of_place(one.chunk.place)
    running = [number for number in numbers if states[number] == RUNNING]
    waiting = [number for number in numbers if states[number] != RUNNING]
    if running:
        title = _title(array, running)
        what = [f"`jobjar kill {title}` ends it, and the rest of its chunk goes on"]
        yield _make(title, RUNNING, None, f"{title} runs: worker {worker} runs its chunk", [], what)
    if waiting:
        title, at = _title(array, waiting), now.at_work(one)
        turn = f", and runs {array.uid}[{at}] now" if at is not None else ""
        waits = (
            f"{title} wait{'s' if len(waiting) == 1 else ''} in the chunk that worker {worker} runs task by task{turn}"
        )
        yield _make(title, states[waiting[0]], None, waits, [], [])


def _kinds(chunks: Sequence[OpenChunk]) -> list[list[OpenChunk]]:
    """The chunks that nobody runs, by what they have in common; the most first."""
    kinds: dict[_Kind, list[OpenChunk]] = {}
    for one in chunks:
        if one.chunk.state != "claimed":
            # Chunks that wait for ranges of one array differ in the range alone.
            reason = (
                (one.chunk.held_reason or "").partition("[")[0] if one.chunk.is_dependent else one.chunk.held_reason
            )
            kinds.setdefault((one.chunk.state, one.chunk.category, reason), []).append(one)
    return sorted(kinds.values(), key=len, reverse=True)


def _tell_running(array: ArrayRow, now: OpenTasks, one: OpenChunk) -> str:
    at = now.at_work(one)
    what = f"{array.uid}[{one.part}]" if at is None else f"{array.uid}[{at}]"
    return f"worker {worker_of_place(one.chunk.place)} runs {what}"


def _after_failures(title: str, failed: int, unsuccessful: int) -> list[str]:
    what = [f"`jobjar output --failed {title}` shows what the failed ones wrote"] if failed else []
    return what + ([f"`jobjar retry {title}` runs what did not succeed again"] if unsuccessful else [])


def _make(
    title: str, state: str, outcome: str | None, sentence: str, causes: list[Standing], what_to_do: Sequence[str]
) -> Explanation:
    place = f"batches/{title.partition('[')[0]}"
    return Explanation(title, title, place, state, outcome, sentence, causes, list(dict.fromkeys(what_to_do)))


def _title(array: ArrayRow, numbers: Sequence[int]) -> str:
    return name_tasks(array, [(number, number) for number in numbers])


def _chunks(count: int) -> str:
    return "1 chunk" if count == 1 else f"{count:,} chunks"


def _it(numbers: Sequence[int]) -> str:
    return "it" if len(numbers) == 1 else "them"


def _name_status(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status}"
