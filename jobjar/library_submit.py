"""The Python library: `submit`, which submits a job as `jobjar submit` does. The guide's `submit_job` is in library.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from jobjar.errors import UsageError
from jobjar.job_file.names import id_in_name
from jobjar.library import current_jar, note_submitted
from jobjar.stages import submit as stage
from jobjar.typed_job import describe_copy, describe_script, describe_words


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
    if sum(what is not None for what in (command, file, script)) != 1:
        raise UsageError(reason="give one of command, file and script")
    if arguments and command is not None:
        raise UsageError(reason="arguments are for file and script; a command has its words")
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
    }
    about = priority, category, name, attributes
    if file is not None:
        submission = describe_copy(os.fspath(file), arguments, *about)
    elif script is not None:
        text = script.encode("utf-8", "surrogateescape") if isinstance(script, str) else script
        submission = describe_script(text, arguments, *about)
    else:
        words = [command] if isinstance(command, str) else list(command or ())
        submission = describe_words(words, *about)
    jar = current_jar()
    try:
        return str(id_in_name(stage.submit(jar, submission)))
    finally:
        note_submitted(jar)
