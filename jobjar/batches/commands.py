"""Submit, edit and abort batches of described jobs.

Each is one change of the batch (change.py): made wholly or not at all, also after a kill.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, Any, NamedTuple

from jobjar.batches.change import (
    Change,
    commit,
    is_aborted,
    is_taken,
    making,
    new_change,
    prepare,
    take_batch,
    take_name,
)
from jobjar.batches.plan import (
    FAIL_FAST,
    BatchText,
    PlannedJob,
    check_batch_name,
    count_jobs,
    identify,
    plan_jobs,
    plan_seeds,
)
from jobjar.batches.state import BatchState, disk_now, first_keys, read_batch, wait_until_past
from jobjar.batches.submit_file import check_value, parse_submit_files
from jobjar.batches.waiting_jobs import CHUNK, cancel_batch
from jobjar.errors import BadChange, BadIdentifier, BadSubmitFile, BatchExists, NotRestarted, UnknownBatch
from jobjar.grouped import name_some
from jobjar.jar import Jar
from jobjar.job_file.attributes import HEADER_BYTES, read_description
from jobjar.job_file.seeds import parse_seeds
from jobjar.ledger.ask_batch_jobs import (
    count_open_jobs,
    has_jobs_without_end,
    running_jobs,
    unsuccessful_jobs,
    waiting_jobs,
)
from jobjar.ledger.fold import OUTCOME_COMES_WITHIN_S, fold_journals
from jobjar.ledger.reconcile_jar import reconcile_in_pieces
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.files import make_directory, read_file
from jobjar.shared_disk.regular import read_given
from jobjar.stages.submit import Submission, stage_chunk

# The keys that batch_edit may change.
EDITABLE = ("seeds", "priority", "notes")
# abort_batch waits this much longer than JJ_GRACE_TIME for running jobs to end.
_END_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.1


class SubmittedBatch(NamedTuple):
    """A batch, and the number of the jobs that were submitted."""

    name: str
    jobs: int


class AbortedBatch(NamedTuple):
    """The result of an abortion: how many waiting jobs were cancelled, how many running jobs were asked to end (`killed`), which
    of these still ran at the end of the wait (`running`), how many jobs were submitted again (`restarted`), and how many were
    left alone because they wait, run, or are to be stored."""

    name: str
    cancelled: int
    killed: int
    running: list[str]
    restarted: int
    left_alone: int = 0


def read_submit_files(
    jar: Jar, paths: Iterable[str], parameters: Mapping[str, str], standard_input: IO[bytes] | None = None
) -> list[BatchText]:
    """The batches that the files at `paths` describe (`-`: standard input), with the parameters put in. Their names are free in
    this jar. Raises BadSubmitFile with all problems."""
    texts, problems = [], []
    for path in paths:
        where = "standard input" if path == "-" else path
        try:
            data = standard_input.read() if path == "-" and standard_input else read_given(path)
            texts.append((data.decode("utf-8-sig"), where))  # an editor's byte order mark means nothing
        except OSError as error:
            problems.append(f"{where or 'an empty name'}: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            problems.append(f"{where}, line {line}: it is not UTF-8")
    if problems:
        raise BadSubmitFile(problems="\n".join(problems))
    return parse_submit_files(texts, parameters, lambda name: is_taken(jar, name))


def submit_batches(jar: Jar, texts: Sequence[BatchText], meter: Meter = SILENT) -> list[SubmittedBatch]:
    """Submit all batches, or none of them. `meter` gets the progress.

    Raises BatchExists, BatchBusy, SubmitFailed (nothing was submitted), BatchUnfinished (all are submitted, and recovery does
    the rest).
    """
    if not texts:
        return []
    change = new_change([text.name for text in texts])
    count = sum(map(count_jobs, texts))
    with making(jar, change, f"batch {texts[0].name}", meter):
        for name in change.batches:
            if is_taken(jar, name) or not take_name(jar, name, change):
                raise BatchExists(name=name)
        jobs = itertools.chain.from_iterable(map(plan_jobs, texts))
        meter.begin("writing the jobs", "jobs", count)
        _stage(jar, change, map(_as_submission, meter.counted(jobs)))
        now = disk_now(jar)
        states = [_first_state(text, change, now) for text in texts]
        for state in states[1:]:
            prepare(jar, state["batch"], state)
        commit(jar, change, states[0])
        meter.begin("submitting them", "jobs", count)
    return [SubmittedBatch(state["batch"], state["jobs"]) for state in states]


def edit_batch(jar: Jar, name: str, changes: Mapping[str, str]) -> SubmittedBatch:
    """Change a batch. Its `seeds` may become more, and the new ones are submitted. A new `priority` holds for its waiting jobs
    and for those submitted later. `notes` may be any text. Returns how many jobs were submitted.

    Raises BadChange, UnknownBatch, BatchBusy, SubmitFailed (nothing was changed), BatchUnfinished.
    """
    said = _check_changes(jar, name, changes)
    change = take_batch(jar, name)
    with making(jar, change, f"the change of batch {name}"):
        state = read_batch(jar, name)
        planned = _plan_widening(state, said)
        keys = [pair for pair in state.keys if pair[0] not in said]
        keys += [(key, value) for key, value in said.items() if key != "seeds"]
        count = _stage(jar, change, (_as_submission(job) for job in planned(tuple(keys))))
        seeds = str(parse_seeds(said["seeds"])) if "seeds" in said else state.seeds
        changed = {"keys": keys, "seeds": seeds, "jobs": state.data["jobs"] + count}
        changed["changed_at"] = disk_now(jar, state.changed_at)
        if "priority" in said:
            changed["priority_by"] = change.id
        commit(jar, change, {**state.data, **changed})
    return SubmittedBatch(name, count)


def abort_batch(jar: Jar, name: str, restart: bool = False, kill: bool = False) -> AbortedBatch:
    """Complete the waiting jobs of a batch as cancelled, and kill its running jobs. Jobs that wait to be stored are left alone.

    With `restart`, submit its jobs without success again, as new jobs with the same descriptions, and leave waiting and running
    jobs alone. With `kill` too, or where the batch is aborted already, waiting jobs are first cancelled and running jobs killed.
    Raises UnknownBatch, BatchBusy, NotRestarted (jobs of it still run), SubmitFailed, BatchUnfinished.
    """
    _check_known(jar, name)
    if restart and not kill and not read_batch(jar, name).is_aborted:
        return AbortedBatch(name, 0, 0, [], *_restart(jar, name, is_whole=False))
    change = take_batch(jar, name)
    with making(jar, change, f"the abortion of batch {name}"):
        state = read_batch(jar, name)
        commit(jar, change, {**state.data, "is_aborted": True, "changed_at": disk_now(jar, state.changed_at)})
        jar.journal.append([read_batch(jar, name).entry()], durable=True)
        cancelled, asked, running = _end_jobs(jar, name, change)
    if running and restart:
        raise NotRestarted(
            name=name, reason=f"{len(running)} of its jobs still run ({name_some(running)}); try again when they ended"
        )
    restarted = _restart(jar, name, is_whole=True) if restart else (0, 0)
    return AbortedBatch(name, cancelled, len(asked), running, *restarted)


def _end_jobs(jar: Jar, name: str, change: Change) -> tuple[int, set[str], list[str]]:
    """Cancel and kill until no job of a batch waits or runs. A job that fails meanwhile comes back, and is cancelled too.
    Returns how many were cancelled, which jobs were asked to end, and which still run after the wait."""
    deadline = time.monotonic() + jar.settings.grace_time_s + _END_WITHIN_S
    cancelled, asked = 0, set[str]()
    while True:
        count, running = cancel_batch(jar, name, change.id, change.by, partial(is_aborted, jar, name))
        cancelled += count
        asked.update(running)
        if not running or time.monotonic() > deadline:
            return cancelled, asked, running
        time.sleep(_LOOK_EVERY_S)


def _restart(jar: Jar, name: str, is_whole: bool) -> tuple[int, int]:
    """Submit the jobs again that ended without success up to now. Returns how many, and how many were left alone because they
    wait, run, or are to be stored. `is_whole`: no job may wait or run."""
    change = take_batch(jar, name)
    with making(jar, change, f"the restart of batch {name}"):
        state = read_batch(jar, name)
        if "array" in state.data:
            reason = f"it is an array, which is not restarted; `jobjar retry {name}` runs again what has not succeeded"
            raise BadChange(name=name, reason=reason)
        if state.is_aborted and not is_whole:
            raise NotRestarted(name=name, reason="it was aborted meanwhile; try again")
        until = disk_now(jar)
        # Every later end has a later time, also where times are whole seconds, so the next restart finds it.
        wait_until_past(jar, until)
        reconcile_in_pieces(jar.ledger, jar.layout, open_journal=jar.open_journal)
        _wait_for_outcomes(jar, state, until)
        with jar.ledger.writing() as connection:
            left_alone = count_open_jobs(connection, name)
            is_maker_dead = waiting_jobs(connection, name, 1) or running_jobs(connection, name)
        if is_maker_dead and is_whole:
            raise NotRestarted(name=name, reason="jobs of it came back meanwhile; try again")
        count = _stage(jar, change, _copies(jar, state, until))
        changed = {"is_aborted": False, "restarted_until": until, "changed_at": disk_now(jar, state.changed_at)}
        commit(jar, change, {**state.data, **changed})
    return count, left_alone


def _wait_for_outcomes(jar: Jar, state: BatchState, until: float) -> None:
    """Wait until the outcomes of all jobs that ended up to `until` are known, but not for ever.

    The file of an ended job shows at once. On a network disk its `ended` entry may come later, and a job that succeeded must not
    run again. After OUTCOME_COMES_WITHIN_S seconds no entry is expected any more.
    """
    deadline = time.monotonic() + OUTCOME_COMES_WITHIN_S
    while time.monotonic() < deadline:
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            if not has_jobs_without_end(connection, state.name, until - OUTCOME_COMES_WITHIN_S, until):
                return
        time.sleep(_LOOK_EVERY_S)


def _copies(jar: Jar, state: BatchState, until: float) -> Iterator[Submission]:
    """The jobs of a batch that ended without success since its last restart, read from their files."""
    after = ""
    while True:
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
            jobs = unsuccessful_jobs(connection, state.name, state.restarted_until, until, CHUNK, after)
        if not jobs:
            return
        after = jobs[-1].uid
        for job in jobs:
            script = read_file(jar.layout.path(job.place))
            said = read_description(script[:HEADER_BYTES], job.place)
            identifier = identify(state.name, said.name, said.seed)
            yield Submission(None, None, job.priority, job.category, identifier, {}, script)


def _stage(jar: Jar, change: Change, submissions: Iterable[Submission]) -> int:
    """Write the jobs of a change. Returns how many. Raises SubmitFailed, OSError."""
    directory = jar.layout.staged(change.id)
    iterator = iter(submissions)
    count = 0
    for number in itertools.count():
        chunk = list(itertools.islice(iterator, CHUNK))
        if not chunk:
            return count
        if not number:
            make_directory(directory, 0o777 & ~jar.umask)
        stage_chunk(jar, chunk, f"{directory}/{number:08d}")
        count += len(chunk)
    raise AssertionError("itertools.count() has no end")


def _as_submission(job: PlannedJob) -> Submission:
    return Submission(None, None, job.priority, job.category, job.identifier, {}, job.script)


def _first_state(text: BatchText, change: Change, now: float) -> dict[str, Any]:
    return {
        "batch": text.name,
        "change": change.id,
        "submitter": change.by,
        "submitted_at": now,
        "changed_at": now,
        "keys": first_keys(text.fails_fast, [pair for pair in text.pairs if pair[0] not in ("seeds", FAIL_FAST)]),
        "seeds": None if text.seeds is None else str(text.seeds),
        "has_blocks": bool(text.jobs),
        "jobs": count_jobs(text),
        "is_aborted": False,
        "restarted_until": 0.0,
    }


def _check_known(jar: Jar, name: str) -> None:
    try:
        check_batch_name(name)
    except BadIdentifier:
        raise UnknownBatch(name=name, home=jar.layout.home) from None


def _check_changes(jar: Jar, name: str, changes: Mapping[str, str]) -> dict[str, str]:
    _check_known(jar, name)
    if not changes:
        raise BadChange(name=name, reason=f"say what is to change: {', '.join(EDITABLE)}")
    said = {}
    for key, value in changes.items():
        if key not in EDITABLE:
            reason = f"{key} cannot be changed once it is submitted; what can be is {', '.join(EDITABLE)}"
            raise BadChange(name=name, reason=reason)
        try:
            said[key] = str(check_value(key, value).text)
        except ValueError as error:
            raise BadChange(name=name, reason=f"{key}: {error}") from error
    return said


def _plan_widening(state: BatchState, said: Mapping[str, str]) -> Any:
    """Return a function that plans the jobs of the new seeds, given the batch's keys. Raises BadChange."""
    if "seeds" not in said:
        return lambda keys: iter(())
    if state.seeds is None:
        what = "job blocks" if state.has_blocks else "one job"
        raise BadChange(name=state.name, reason=f"it has {what}, and no seeds")
    if state.is_aborted:
        raise BadChange(name=state.name, reason="it is aborted; abort_batch --restart takes that back")
    old, new = parse_seeds(state.seeds), parse_seeds(said["seeds"])
    lost = old.without(new)
    if lost.count:
        raise BadChange(name=state.name, reason=f"the seeds {lost} are submitted already; seeds can only become more")
    missing = new.without(old)
    return lambda keys: plan_seeds(keys, missing) if missing.count else iter(())
