"""Store the published files of a described job, by the stock handler or a software package of the user's own.

Reads `underway/<uid>/<attempt>.<worker_uid>/output/`; writes JJ_STORAGE_PATH. Killed anywhere, the job goes back with its
state.json, and whoever claims it stores the files again: one that is stored already is found to be that (jug/storage.py).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jobjar.attempt import AttemptEnd
from jobjar.errors import JarError
from jobjar.jug.outputs import State
from jobjar.jug.steps import STORE, Attempt, StageFailed, Steps, Work
from jobjar.jug.storage import StorageTaken, run_storage_software, store_file

# What a disk refuses is tried again after this long, doubled each time.
FIRST_DELAY_S, LONGEST_DELAY_S = 5.0, 300.0


class Refused(Exception):
    """The storage cannot be used now: the job waits."""


def store_outputs(attempt: Attempt, state: State, directory: str) -> Steps[None]:
    """Store every published file, in `directory`/output. Raises Refused, StageFailed where a name is taken by other content."""
    settings = attempt.jar.settings
    storage_path = settings.storage_path or attempt.jar.layout.storage
    attempt.begin(STORE)
    try:
        if settings.storage_software:
            records: list[dict[str, Any]] = yield Work(
                partial(run_storage_software, attempt.jar, settings.storage_software, directory, state)
            )
            attempt.entries += [attempt.entry("stored", **record) for record in records]
        else:
            for file in state.files:
                path = f"{directory}/output/{file.name}"
                record = yield Work(partial(store_file, path, file, storage_path, state.output_path))
                attempt.entries.append(attempt.entry("stored", **record))
    except StorageTaken as error:
        raise StageFailed(STORE, str(error)) from error
    except (JarError, OSError) as error:
        raise Refused(f"store: {error}") from error
    attempt.end()


def end_of(state: State, output_file: str | None) -> AttemptEnd:
    """How the attempt ended that published these files: that is how the job ends."""
    return AttemptEnd(
        outcome=state.outcome,
        exit_status=state.exit_status,
        signal=state.signal,
        wall_time_s=state.wall_time_s,
        user_cpu_s=state.user_cpu_s,
        system_cpu_s=state.system_cpu_s,
        max_rss_kib=state.max_rss_kib,
        output_file=output_file,
        message=state.message,
    )


def delay_after(refusals: int) -> float:
    """How long a job waits that was refused so often before."""
    return min(FIRST_DELAY_S * 2.0**refusals, LONGEST_DELAY_S)
