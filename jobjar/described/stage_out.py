"""Stage out a described job: its stage_out_command, then what it left below `output/` is published.

Publishing moves `output/` to `underway/<uid>/<attempt>.<worker_uid>/`, with a state.json (publishing/outputs.py). Killed before
that, the attempt is stranded; after it, whoever claims the job next goes on with storing these files (store.py), and runs
nothing again.
"""

from __future__ import annotations

import os
from functools import partial
from typing import NamedTuple

from jobjar.attempts.attempt import FAILED, SUCCEEDED, TIMED_OUT, AttemptEnd
from jobjar.described.steps import STAGE_OUT, Attempt, Pause, StageFailed, Steps, Work
from jobjar.errors import BadOutput
from jobjar.publishing.outputs import OUTPUT, State, publish
from jobjar.publishing.results import read_results

# How soon a disk that refuses to take what is published is asked again.
_REFUSED_PAUSE_S = 1.0


class Destination(NamedTuple):
    """Who stores published files (None: the worker itself), and where below the storage path."""

    storage_class: str | None
    output_path: str


def run_stage_out(attempt: Attempt) -> Steps[None]:
    """Run the stage_out_command, if there is one. Raises StageFailed."""
    text = attempt.text_of("stage_out_command")
    if text is not None:
        attempt.begin(STAGE_OUT)
        with attempt.limited():
            yield from attempt.call_or_fail(text, STAGE_OUT)
        attempt.end(0)


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


def has_output(attempt: Attempt) -> bool:
    """Whether there is something below `output/`, so that publishing is worth a thread."""
    if attempt.place is None:
        return False
    path = f"{attempt.directory}/{OUTPUT}"
    try:
        return bool(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return os.path.lexists(path)
    except OSError:
        return True  # what is wrong with it is told when it is published


def publish_outputs(attempt: Attempt, end: AttemptEnd, to: Destination, directory: str) -> Steps[State]:
    """Publish `output/` in `directory`, the attempt's own below underway/; returns the state. While the disk refuses, it is
    tried again. Raises StageFailed where something in it is no file."""
    state = make_state(attempt, "store", end)._replace(storage_class=to.storage_class, output_path=to.output_path)
    is_told = False
    while True:
        try:
            # Waited for in any case: what is half moved must not be tidied away under its hands.
            published: State = yield Work(
                partial(publish, directory, attempt.directory, state, attempt.check), is_short=True
            )
            return published
        except BadOutput as error:
            raise StageFailed(STAGE_OUT, str(error)) from error
        except OSError as error:
            if not is_told:
                attempt.log(f"the outputs of {attempt.job.name} cannot be published: {error}; waiting")
            is_told = True
        yield Pause(_REFUSED_PAUSE_S)


def make_state(attempt: Attempt, phase: str, end: AttemptEnd) -> State:
    """What an attempt that would end so has reached."""
    job = attempt.job
    return State(
        phase=phase,
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
    )


def note_results(attempt: Attempt) -> None:
    """Read what the job said of itself, and of the files that it stored on its own."""
    if attempt.place is None:
        return
    results = read_results(attempt.place.inside())
    attempt.monitor.note(results.variables, attempt.now())
    attempt.warn(results.warnings)
    attempt.entries += [attempt.entry("stored", **record) for record in results.stored]


def has_stored(attempt: Attempt) -> bool:
    """Whether the job has said since (`note_results`) that it stored a file itself."""
    return any(entry["entry"] == "stored" for entry in attempt.entries)


def warn_of_nothing(attempt: Attempt) -> None:
    """Where the description says where files are to go, tell that there were none: the job may have written them elsewhere."""
    description = attempt.description
    said = {"output_path": description.output_path, "storage_class": description.storage_class}
    keys = " and ".join(f"{key} = {value}" for key, value in said.items() if value)
    if keys:
        attempt.warn([f"nothing was stored: the description says {keys}, and the job left no file below output/"])
