"""The Python library: `submit` and `submit_array`, which submit as `jobjar submit` does. `submit_job` is in library.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from jobjar.errors import UsageError
from jobjar.job_file.names import id_in_name
from jobjar.job_file.prerequisites import KINDS
from jobjar.library import current_jar, note_submitted
from jobjar.stages import submit as stage
from jobjar.typed_job import describe_copy, describe_script, describe_words

if TYPE_CHECKING:
    from jobjar.arrays.submit import Plan
    from jobjar.stages.submit import Submission


def submit(
    command: str | Sequence[str] | None = None,
    *,
    file: str | os.PathLike[str] | None = None,
    script: str | bytes | None = None,
    arguments: Sequence[str] = (),
    name: str | None = None,
    priority: int | None = None,
    category: str | None = None,
    tag: str | Sequence[str] | None = None,
    dir: str | os.PathLike[str] | None = None,
    scratch: bool = False,
    output: str | os.PathLike[str] | None = None,
    error: str | os.PathLike[str] | None = None,
    env: Mapping[str, str | None] | None = None,
    env_all: bool = False,
    hold: bool = False,
    after: str | Sequence[str] | None = None,
    after_any: str | Sequence[str] | None = None,
    after_failed: str | Sequence[str] | None = None,
    begin: str | float | datetime | None = None,
    time_limit: str | float | None = None,
    warn: str | None = None,
    retries: int | str | None = None,
    retry_delay: str | float | None = None,
    retry_on: str | int | Iterable[int] | None = None,
    no_retry_on: str | int | Iterable[int] | None = None,
    job_runtime: str | float | None = None,
    cores: int | None = None,
    memory: int | str | None = None,
    gpus: int | None = None,
    resource: Mapping[str, int] | Sequence[str] | str | None = None,
) -> str:
    """Submit a job that runs in the directory of this process; returns its id. It outlives a crash of this node once the function
    has returned.

    `command` is a line for /bin/sh, or a list of a program and its words, which no shell changes. Instead of it, `file` is an
    executable file to copy, or `script` the text of one; `arguments` are their words. `dir` is another directory, `scratch` a
    fresh one. In the paths `output` and `error`, %j is the id, %n the name, %c the category, %t the attempt. A value None in
    `env` is the one that the variable has here. The job waits until the jobs and batches `after` have succeeded, those
    `after_any` have ended, and those `after_failed` have ended without success; it is cancelled if that cannot be. `begin` is UTC
    epoch seconds, a datetime, or text such as '+2h'. Other times are seconds, or text such as '5m'. `jobjar submit --help`
    explains the others.
    Raises BadCommand, BadPriority, BadCategory, BadIdentifier, BadAttribute, NotExecutable, SubmitFailed, UsageError, and
    UnknownJob or AmbiguousJob for a prerequisite; nothing is submitted then.
    """
    attributes = {
        "tag": [tag] if isinstance(tag, str) else tag,
        "dir": dir,
        "scratch": scratch or None,
        "output": output,
        "error": error,
        "env": env,
        "env_all": env_all or None,
        "hold": hold or None,
        "after": [after] if isinstance(after, str) else after,
        "after_any": [after_any] if isinstance(after_any, str) else after_any,
        "after_failed": [after_failed] if isinstance(after_failed, str) else after_failed,
        "begin": begin,
        "time_limit": time_limit,
        "warn": warn,
        "retries": retries,
        "retry_delay": retry_delay,
        "retry_on": retry_on,
        "no_retry_on": no_retry_on,
        "job_runtime": job_runtime,
        "cores": cores,
        "memory": memory,
        "gpus": gpus,
        "resource": resource,
    }
    submission = _describe(command, file, script, arguments, (priority, category, name, attributes))
    jar = current_jar()
    try:
        return str(id_in_name(stage.submit(jar, submission)))
    finally:
        note_submitted(jar)


class TaskAttributes(TypedDict, total=False):
    """What the tasks of an array may be given, as by `jobjar.submit`."""

    name: str | None
    priority: int | None
    category: str | None
    tag: str | Sequence[str] | None
    dir: str | os.PathLike[str] | None
    scratch: bool
    output: str | os.PathLike[str] | None
    error: str | os.PathLike[str] | None
    env: Mapping[str, str | None] | None
    env_all: bool
    hold: bool
    after: str | Sequence[str] | None
    after_any: str | Sequence[str] | None
    after_failed: str | Sequence[str] | None
    after_each: str | Sequence[str] | None
    begin: str | float | datetime | None
    time_limit: str | float | None
    warn: str | None
    retries: int | str | None
    retry_delay: str | float | None
    retry_on: str | int | Iterable[int] | None
    no_retry_on: str | int | Iterable[int] | None
    job_runtime: str | float | None
    cores: int | None
    memory: int | str | None
    gpus: int | None
    resource: Mapping[str, int] | Sequence[str] | str | None


def submit_array(
    command: str | Sequence[str] | None = None,
    *,
    indexes: str | int | range | None = None,
    entries: Iterable[Any] | None = None,
    chunk: int | None = None,
    limit: int | None = None,
    file: str | os.PathLike[str] | None = None,
    script: str | bytes | None = None,
    arguments: Sequence[str] = (),
    **attributes: Unpack[TaskAttributes],
) -> str:
    """Submit an array: a script that runs once for each index, or for each entry. Returns its id. It outlives a crash of this
    node once the function has returned.

    `indexes` are text such as '1-1000', '0-99:3' or '1-1000%50', a range that ascends, or a count N, which has the indexes 0 to
    N-1. `entries` are the texts of the tasks (str, or bytes), as they are; if any is another value, all are given as JSON.
    A task finds its index or its entry as $1, and in JJ_ARRAY_INDEX and JJ_ENTRY; entries have indexes from 1 on. `limit` tasks
    run at once at most, over all workers. A worker claims `chunk` tasks together; without it the array has a thousand chunks at
    most. In the paths `output` and `error`, %a is the index and %A the array's id. Times, retries and signals are those of a
    task; `hold`, `after`, `begin`, `priority` and `category` those of the array. `after_each` are ids of other arrays: each task
    runs once their tasks with its index have succeeded, and is cancelled if one has not. All else is as for `jobjar.submit`.
    Raises the errors of `jobjar.submit`, UsageError for indexes and entries that cannot be, and BadScript for tasks without
    partners; nothing is submitted then.
    """
    from jobjar.arrays.submit import submit_array as submit_plan

    given: dict[str, Any] = {name: value for name, value in attributes.items() if value is not False}
    unknown = sorted(given.keys() - TaskAttributes.__annotations__.keys())
    if unknown:
        raise UsageError(reason=f"the tasks of an array cannot be given {', '.join(unknown)}")
    for several in ("tag", *KINDS):
        if isinstance(given.get(several), str):
            given[several] = [given[several]]
    about = given.pop("priority", None), given.pop("category", None), given.pop("name", None), given
    submission = _describe(command, file, script, arguments, about)
    plan = _plan(submission, indexes, entries)
    for what, count in (("chunk", chunk), ("limit", limit)):
        if count is not None and (type(count) is not int or not 0 < count < 10**9):
            raise UsageError(reason=f"{what}: {count!r} is not a number of tasks")
    if limit is not None and plan.at_once is not None:
        raise UsageError(reason="give the limit once: as `limit`, or behind a %")
    jar = current_jar()
    try:
        return submit_plan(jar, plan._replace(chunk=chunk, at_once=limit or plan.at_once))
    finally:
        note_submitted(jar)


def _plan(submission: Submission, indexes: str | int | range | None, entries: Iterable[Any] | None) -> Plan:
    from jobjar.arrays.definition import JSON, LINES
    from jobjar.arrays.entries import encode_json, encode_texts
    from jobjar.arrays.indexes import Indexes, parse_array
    from jobjar.arrays.submit import Plan

    if (indexes is None) == (entries is None):
        raise UsageError(reason="give either indexes or entries")
    if entries is not None:
        if isinstance(entries, (str, bytes, Mapping)):
            raise UsageError(reason="entries are the values of the tasks: a list, or another iterable of them")
        values = list(entries)
        are_texts = all(isinstance(value, (str, bytes)) for value in values)
        encoded = encode_texts(values, "entries") if are_texts else encode_json(values, "entries")
        if not encoded:
            raise UsageError(reason="there are no entries; nothing was submitted")
        return Plan(submission, Indexes(1, len(encoded)), LINES if are_texts else JSON, encoded)
    text = indexes
    if isinstance(indexes, int) and not isinstance(indexes, bool):
        indexes = range(indexes)
    if isinstance(indexes, range):
        if not indexes or indexes.step < 0 or indexes[0] < 0:
            raise UsageError(
                reason=f"indexes: {text!r} has no indexes that ascend from 0 or more; nothing was submitted"
            )
        text = f"{indexes[0]}-{indexes[-1]}:{indexes.step}"
    try:
        found, at_once = parse_array(str(text))
    except ValueError as error:
        raise UsageError(reason=f"indexes: {error}; nothing was submitted") from error
    return Plan(submission, found, at_once=at_once)


def _describe(
    command: str | Sequence[str] | None,
    file: str | os.PathLike[str] | None,
    script: str | bytes | None,
    arguments: Sequence[str],
    about: tuple[int | None, str | None, str | None, Mapping[str, Any]],
) -> Submission:
    """A submission of one of three. `about`: priority, category, name, attributes."""
    if sum(what is not None for what in (command, file, script)) != 1:
        raise UsageError(reason="give one of command, file and script")
    if arguments and command is not None:
        raise UsageError(reason="arguments are for file and script; a command has its words")
    if file is not None:
        return describe_copy(os.fspath(file), arguments, *about)
    if script is not None:
        text = script.encode("utf-8", "surrogateescape") if isinstance(script, str) else script
        return describe_script(text, arguments, *about)
    return describe_words([command] if isinstance(command, str) else list(command or ()), *about)
