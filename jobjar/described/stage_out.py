"""Stage out a described job: run its stage_out_command, then publish what it left below `output/`.

Publishing moves `output/` to `underway/<uid>/<attempt>.<worker_uid>/`, with a state.json (publishing/outputs.py). A kill before
that leaves the job stranded. After it, the next worker that claims the job stores these files (store.py), and runs nothing
again.
"""

from __future__ import annotations

import os
from functools import partial
from typing import NamedTuple

from jobjar.attempts.attempt import FAILED, SUCCEEDED, TIMED_OUT, AttemptEnd
from jobjar.described.steps import STAGE_OUT, Attempt, StageFailed, Steps, Work
from jobjar.errors import BadOutput
from jobjar.journal.entries import stored_entry
from jobjar.processes.waits import Pause
from jobjar.publishing.outputs import publish
from jobjar.publishing.results import read_results
from jobjar.publishing.underway import OUTPUT, State

# Pause before the next try where the disk refuses the published files.
_REFUSED_PUBLISHING_PAUSE_S = 1.0


class Destination(NamedTuple):
    """The storage class whose workers store the published files (None: this worker does), and the path below the storage
    path."""

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
    """The destination of the files below `output/` after an attempt with this end; None where they are not stored."""
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
    """Whether there is anything below `output/`: publishing then takes a thread."""
    if attempt.workplace is None:
        return False
    path = f"{attempt.directory}/{OUTPUT}"
    try:
        return bool(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return os.path.lexists(path)
    except OSError:
        return True  # publishing meets the same error, and reports it


def publish_outputs(attempt: Attempt, end: AttemptEnd, to: Destination, directory: str) -> Steps[State]:
    """Publish `output/` in `directory`, the attempt's own below underway/. Returns the state. Tries again while the disk
    refuses. Raises StageFailed where an output cannot be published: it is no file, say."""
    state = make_state(attempt, "store", end)._replace(storage_class=to.storage_class, output_path=to.output_path)
    is_logged = False
    while True:
        try:
            # Short work is always waited for: a half-done move must not be tidied away meanwhile.
            published: State = yield Work(
                partial(publish, directory, attempt.directory, state, attempt.check), is_short=True
            )
            return published
        except BadOutput as error:
            raise StageFailed(STAGE_OUT, str(error)) from error
        except OSError as error:
            if not is_logged:
                attempt.log(f"the outputs of {attempt.job.name} cannot be published: {error}; waiting")
            is_logged = True
        yield Pause(_REFUSED_PUBLISHING_PAUSE_S)


def make_state(attempt: Attempt, phase: str, end: AttemptEnd) -> State:
    """The state that an attempt with this end has reached in `phase`."""
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
    """Read the job's variables, and its records of the files that it stored itself."""
    if attempt.workplace is None:
        return
    results = read_results(attempt.workplace.inside())
    attempt.monitor.note(results.variables, attempt.now())
    attempt.warn(results.warnings)
    attempt.entries += [stored_entry(attempt.about, record) for record in results.stored]


def has_stored(attempt: Attempt) -> bool:
    """Whether the job recorded that it stored a file itself. Call `note_results` first."""
    return any(entry["entry"] == "stored" for entry in attempt.entries)


def warn_of_nothing(attempt: Attempt) -> None:
    """Warn that no file was stored, where the description has a destination: the job may have written its files elsewhere."""
    description = attempt.description
    said = {"output_path": description.output_path, "storage_class": description.storage_class}
    keys = " and ".join(f"{key} = {value}" for key, value in said.items() if value)
    if keys:
        attempt.warn([f"nothing was stored: the description says {keys}, and the job left no file below output/"])
