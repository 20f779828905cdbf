"""Stage out a described job: its stage_out_command, then the files that it left below `output/` are listed and published.

Publishing moves `output/` to `underway/<uid>/<attempt>.<worker_uid>/` and writes state.json there, durably. Killed before
that, the attempt is stranded; after it, whoever claims the job next goes on with storing these files (stages/store.py), and
runs nothing again.
"""

from __future__ import annotations

import os
from functools import partial
from typing import NamedTuple

from jobjar.attempt import FAILED, SUCCEEDED, TIMED_OUT, AttemptEnd
from jobjar.disk import is_directory
from jobjar.errors import JarError
from jobjar.jug.outputs import BadOutput, OutputFile, State, list_outputs, publish
from jobjar.jug.steps import STAGE_OUT, Attempt, StageFailed, Steps, Work
from jobjar.jug.variables import read_stored, read_variables


class Destination(NamedTuple):
    """Who stores published files (None: the worker itself), and where below the storage path."""

    storage_class: str | None
    output_path: str


def stage_out(attempt: Attempt) -> Steps[list[OutputFile]]:
    """Run the stage_out_command, if there is one; returns the files to be published. Raises StageFailed."""
    text = attempt.text_of("stage_out_command")
    output = f"{attempt.directory}/output"
    if text is not None:
        attempt.begin(STAGE_OUT)
        yield from attempt.call_or_fail(text, STAGE_OUT)
    files: list[OutputFile] = []
    if is_directory(output):
        if text is None:
            attempt.begin(STAGE_OUT)
        try:
            files = yield Work(partial(list_outputs, output))
        except (BadOutput, OSError) as error:
            raise StageFailed(STAGE_OUT, str(error)) from error
    attempt.end(0 if text is not None else None)
    return files


def list_left(attempt: Attempt) -> Steps[list[OutputFile]]:
    """What an attempt that failed left below `output/`; nothing where that cannot be told, with a warning."""
    output = f"{attempt.directory}/output"
    if attempt.place is None or not is_directory(output):
        return []
    try:
        files: list[OutputFile] = yield Work(partial(list_outputs, output))
        return files
    except (JarError, OSError) as error:
        attempt.warn([f"output: {error}"])
        return []


def find_destination(attempt: Attempt, end: AttemptEnd, is_final: bool) -> Destination | None:
    """Where the files below `output/` go after an attempt that ended so; None where nobody wants them."""
    description = attempt.description
    if end.outcome == SUCCEEDED:
        return Destination(description.storage_class, description.output_path)
    if not is_final or end.outcome not in (FAILED, TIMED_OUT):
        return None
    if description.err_storage_class is None and description.err_output_path is None:
        return None
    path = description.output_path if description.err_output_path is None else description.err_output_path
    return Destination(description.err_storage_class or description.storage_class, path)


def publish_outputs(
    attempt: Attempt, end: AttemptEnd, files: list[OutputFile], to: Destination, directory: str
) -> Steps[State]:
    """Move `output/` to `directory`, below underway/, and write down what is to be done with it. Raises OSError: then it is
    where it was, or whoever claims the job goes on with it."""
    job = attempt.job
    state = State(
        phase="store",
        job=job.uid,
        name=job.name,
        attempt=job.attempt,
        worker=attempt.claimer.paths.name,
        worker_uid=attempt.claimer.worker_id,
        category=job.category,
        outcome=end.outcome,
        exit_status=end.exit_status,
        signal=end.signal,
        wall_time_s=end.wall_time_s,
        user_cpu_s=end.user_cpu_s,
        system_cpu_s=end.system_cpu_s,
        max_rss_kib=end.max_rss_kib,
        message=end.message,
        storage_class=to.storage_class,
        output_path=to.output_path,
        files=tuple(files),
    )
    yield Work(partial(publish, f"{attempt.directory}/output", directory, state), is_short=True)
    return state


def note_progress(attempt: Attempt) -> bool:
    """Read what the job says of itself so far; returns whether that is new."""
    if attempt.place is None:
        return False
    said = read_variables(f"{attempt.directory}/jug_monitor.vars")
    attempt.warn(said.warnings)
    return attempt.note_variables(said.values)


def note_results(attempt: Attempt) -> None:
    """Read what the job said of itself, and of the files that it stored on its own."""
    if attempt.place is None or not os.path.isdir(attempt.directory):
        return
    note_progress(attempt)
    stored = read_stored(f"{attempt.directory}/jug_stage_out.log")
    attempt.warn(stored.warnings)
    attempt.entries += [attempt.entry("stored", **record) for record in stored.records]
