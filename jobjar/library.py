"""The Python library: submit, control, look, wait. Batches, outputs and limits are in library_batches.py; `import jobjar` gives
all of it.

`set_home` names the jar; without it, the environment or a configuration file does; else it is the jar that this package lies
in. Every function may raise a `jobjar.JarError`. Its message says what is wrong and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jobjar import control, roster
from jobjar.errors import JarError
from jobjar.hearing import WorkerName, name_workers
from jobjar.jar import Jar, open_jar
from jobjar.job_file.names import make_name
from jobjar.settings.layers import Settings, Value, home_of_library, load_settings, parse_option
from jobjar.stages import submit

if TYPE_CHECKING:
    from jobjar.ledger.ask_selected import SelectedJob
    from jobjar.ledger.models import JobReport

_overrides: dict[str, Value] = {}
_jar: Jar | None = None
_jar_key: tuple[Any, ...] = ()


def current_jar() -> Jar:
    """The jar that the settings name now. It stays open as long as they name it."""
    global _jar, _jar_key
    relevant = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("JJ_")))
    key = (os.getpid(), tuple(sorted(_overrides.items())), relevant)
    if _jar is None or key != _jar_key:
        if _jar is not None:
            _jar.close()
        _jar = open_jar(_overrides, _package_place())
        _jar_key = key
    return _jar


def open_own_jar(home: str | os.PathLike[str] | None = None) -> Jar:
    """The jar that the settings name now, or the one at `home`, opened for the caller alone: another thread may use it."""
    named: dict[str, Value] = {} if home is None else {"JJ_HOME": parse_option("JJ_HOME", os.fspath(home), "jar=")}
    return open_jar({**_overrides, **named}, _package_place())


def _package_place() -> str:
    """The path of a program in the bin directory of the jar that holds this package, else this file's path (guide)."""
    home = home_of_library()
    return os.path.abspath(__file__) if home is None else f"{home}/bin/jobjar"


def _settings() -> Settings:
    return load_settings(_overrides, _package_place(), need_home=False)


# Configuration


def set_home(path: str) -> None:
    """Use the jar at `path` from now on, whatever files and the environment say. Raises ConfigError if `path` is not absolute."""
    _overrides["JJ_HOME"] = parse_option("JJ_HOME", os.fspath(path), "set_home()")


def get_home() -> str:
    """The jar's path; '' if nothing names one."""
    return _settings().home


def set_worker_home(path: str) -> None:
    """Use `path` as the parent of the workers' directories. Raises ConfigError if `path` is not absolute."""
    _overrides["JJ_WORKER_HOME"] = parse_option("JJ_WORKER_HOME", os.fspath(path), "set_worker_home()")


def get_worker_home() -> str:
    """The parent of the workers' directories."""
    return _settings().worker_home


def set_pause_time(seconds: float) -> None:
    """Set how long workers started from here sleep when they find no job, in seconds. Raises ConfigError."""
    _overrides["JJ_PAUSE_TIME"] = parse_option("JJ_PAUSE_TIME", f"{seconds}", "set_pause_time()")


def get_pause_time() -> float:
    """How long workers sleep when they find no job, in seconds."""
    return _settings().pause_time_s


def set_categories(categories: Iterable[str]) -> None:
    """Set the categories that workers started from here ask for, in this order. Raises ConfigError."""
    words = [categories] if isinstance(categories, str) else list(categories)
    _overrides["JJ_CATEGORIES"] = parse_option("JJ_CATEGORIES", " ".join(words), "set_categories()")


def get_categories() -> list[str]:
    """The categories that workers ask for, in order."""
    return list(_settings().categories)


# Submission


def submit_job(
    command: str | Sequence[str],
    priority: int | None = None,
    category: str | None = None,
    id: str | None = None,
    **attributes: Any,
) -> str:
    """Submit a command as a job; returns the job's name. The job outlives a crash of this node once the function has returned.

    `command` is a line for /bin/sh -f, or a list of words, which are joined by single spaces. Jobs with a higher `priority`
    are claimed first. A `category` that does not exist is made. `id` is a string that becomes part of the name.
    Attributes: retries (a count), retry_delay and time_limit (seconds, or text such as '5m'); dir (its directory, instead of a
    fresh one), env (variables), after (jobs, batches), and the others of `jobjar.submit`.
    Raises BadCommand, BadPriority, BadCategory, BadIdentifier, BadAttribute, SubmitFailed; nothing is submitted then.
    """
    return _submit(submit.describe_command(command, priority, category, id, attributes))


def submit_job_file(
    path: str, priority: int | None = None, category: str | None = None, id: str | None = None, **attributes: Any
) -> str:
    """Submit a copy of the executable file at `path`; returns the job's name. The rest is as in `submit_job`.

    Raises NotExecutable, and what `submit_job` raises.
    """
    return _submit(submit.describe_file(os.fspath(path), priority, category, id, attributes))


def submit_jobs(jobs: Iterable[str | Sequence[str] | dict[str, Any]]) -> list[str]:
    """Submit many jobs, faster than one at a time; returns their names in order.

    Each job is a command as in `submit_job`, or a dict of arguments: those of `submit_job` (with `command`) or those of
    `submit_job_file` (with `path`). Raises what these two raise. Jobs before the one that failed may have been submitted;
    the error's `fields['submitted']` has their names.
    """
    jar = current_jar()
    try:
        return submit.submit_all(jar, map(_describe, jobs))
    finally:
        note_submitted(jar, at_once=True)


def _submit(submission: submit.Submission) -> str:
    jar = current_jar()
    try:
        return submit.submit(jar, submission)
    finally:
        note_submitted(jar)


def note_submitted(jar: Jar, at_once: bool = False) -> None:
    """Keep the ledger close to what was submitted, and settle dependents whose prerequisites have ended already."""
    if jar.has_new_dependents:
        from jobjar.steering.dependents import fold_and_settle

        fold_and_settle(jar)
    elif at_once:
        jar.mirror()
    else:
        jar.mirror_in_passing()


def _describe(job: str | Sequence[str] | dict[str, Any]) -> submit.Submission:
    if not isinstance(job, dict):
        return submit.describe_command(job)
    rest = dict(job)
    what = {name: rest.pop(name) for name in ("command", "path") if name in rest}
    arguments = (rest.pop("priority", None), rest.pop("category", None), rest.pop("id", None), rest)
    if set(what) == {"command"}:
        return submit.describe_command(what["command"], *arguments)
    if set(what) == {"path"}:
        return submit.describe_file(os.fspath(what["path"]), *arguments)
    raise JarError(reason=f"a job has to have either a command or a path: {job!r}")


def unique_job_name(priority: int = 0, id: str | None = None) -> str:
    """A new job name, as an absolute path in limbo. It is for programs that write and move their job files themselves."""
    return f"{current_jar().layout.limbo}/{make_name(priority, id)}"


# Control


def stop_all() -> list[str]:
    """Have each running worker leave after its current job; returns their names."""
    return _one(control.stop(current_jar().layout, [control.ALL]))


def stop_node(node: str) -> list[str]:
    """Stop all workers of a node; returns their names. Raises UnknownWorker."""
    return _one(control.stop(current_jar().layout, [node]))


def stop_worker(worker: str) -> list[str]:
    """Stop one worker, `node.pid`; returns its name in a list. Raises UnknownWorker."""
    return _one(control.stop(current_jar().layout, [worker]))


def pause_all() -> list[str]:
    """Have all running workers claim nothing until unpaused; returns their names."""
    return _one(control.pause(current_jar().layout, [control.ALL]))


def pause_node(node: str) -> list[str]:
    """Pause all workers of a node; returns their names. Raises UnknownWorker."""
    return _one(control.pause(current_jar().layout, [node]))


def pause_worker(worker: str) -> list[str]:
    """Pause one worker, `node.pid`; returns its name in a list. Raises UnknownWorker."""
    return _one(control.pause(current_jar().layout, [worker]))


def unpause_all() -> list[str]:
    """Let all paused workers go on; returns the names of all running workers. Raises StillPaused while PAUSE_ALL is there."""
    return _one(control.unpause(current_jar().layout, [control.ALL]))


def unpause_node(node: str) -> list[str]:
    """Let the workers of a node go on; returns their names. Raises UnknownWorker, StillPaused."""
    return _one(control.unpause(current_jar().layout, [node]))


def unpause_worker(worker: str) -> list[str]:
    """Let one worker, `node.pid`, go on; returns its name in a list. Raises UnknownWorker, StillPaused."""
    return _one(control.unpause(current_jar().layout, [worker]))


def _one(result: tuple[list[str], list[JarError]]) -> list[str]:
    """The names; each says how long its worker has been silent, as in `running_workers`. Raises the first error."""
    names, errors = result
    if errors:
        raise errors[0]
    return [*name_workers(current_jar().layout, names)]


# Looking


class Job(NamedTuple):
    """A job as it was when it was looked up. Times are UTC epoch seconds. `attempts` and `moves` are lists of dicts with the
    names that `jobjar show --format json` uses; functions that return many jobs leave them empty.

    The fields after them are those of `list_jobs`: `worker` runs the job or ended it, since `started_at`."""

    name: str
    id: str | None
    state: str
    outcome: str | None
    exit_status: int | None
    category: str | None
    priority: int
    submitter: str | None
    submitted_at: float | None
    attempts: list[dict[str, Any]]
    moves: list[dict[str, Any]]
    place: str = ""
    batch: str | None = None
    held_reason: str | None = None
    worker: str | None = None
    started_at: float | None = None
    ended_at: float | None = None


def running_workers() -> list[WorkerName]:
    """The names of the running workers, as far as this node can tell. A worker that has been silent may be dead with its node:
    its name then has a text `silence` and a number of seconds `silent_s`. For others both are None."""
    layout = current_jar().layout
    return name_workers(layout, [worker.name for worker in roster.running_workers(layout)])


def unclaimed_jobs(category: str | None = None) -> list[Job]:
    """The waiting jobs, in the order in which they will be claimed: of one category ('': no category), or all."""
    return _list("unclaimed", category)


def claimed_jobs() -> list[Job]:
    """The jobs that workers hold."""
    return _list("claimed")


def completed_jobs() -> list[Job]:
    """The jobs that have ended, oldest first."""
    return _list("completed")


def job(name: str) -> Job:
    """All that is known of one job. `name` is its name, its id, the beginning of its id, or its path; or the id of an array, or a
    task (`ARRAY[7]`), whose attempts are its ends.

    Raises UnknownJob, AmbiguousJob, UsageError (there is no such task).
    """
    from jobjar.reports.array_outcomes import fields_of_tasks
    from jobjar.reports.jobs import describe_job
    from jobjar.reports.refresh import refresh_ledger
    from jobjar.selecting.arrays import find_tasks
    from jobjar.selecting.named import find_job

    jar = current_jar()
    refresh_ledger(jar)
    tasks = find_tasks(jar, name)
    if tasks is not None:
        found: dict[str, Any] = {**dict.fromkeys(Job._fields), **fields_of_tasks(jar, tasks)}
        return Job(**found)
    described = describe_job(jar, find_job(jar, name))
    is_run = described["state"] in ("claimed", "completed")
    last = described["attempts"][-1] if described["attempts"] and is_run else {}
    values: dict[str, Any] = {field: last.get(field) for field in ("worker", "started_at", "ended_at")}
    values |= {field: value for field, value in described.items() if field in Job._fields and value is not None}
    fields: dict[str, Any] = {field: values.get(field) for field in Job._fields}
    return Job(**fields)


def _list(state: str, category: str | None = None) -> list[Job]:
    from jobjar.ledger.ask_jobs import list_jobs

    return [job_of_row(row) for row in list_jobs(refreshed_jar().ledger, state, category)]


def refreshed_jar() -> Jar:
    """The library's jar, with its ledger up to date."""
    from jobjar.reports.refresh import refresh_ledger

    jar = current_jar()
    refresh_ledger(jar)
    return jar


def job_of_row(row: JobReport | SelectedJob, **more: Any) -> Job:
    """A job as the library lists it, without its attempts and moves; `more` are further fields."""
    return Job(
        name=row.name,
        id=row.uid,
        state=row.state,
        outcome=row.outcome,
        exit_status=row.exit_status,
        category=row.category or None,
        priority=row.priority,
        submitter=row.submitter,
        submitted_at=row.submitted_at,
        attempts=[],
        moves=[],
        **more,
    )
