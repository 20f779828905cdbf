"""Poll a described job that runs elsewhere: call its polling_command until `jug_polling.vars` says that it is finished.

Writes `underway/<uid>/<attempt>.<worker_uid>/state.json` before the first poll. From then on the job is not run again when
its worker dies: the next worker that claims it goes on polling, in the same working directory.
"""

from __future__ import annotations

import os
import time
from functools import partial

from jobjar.described.steps import POLL, Attempt, StageFailed, Steps, Work, describe_ended
from jobjar.processes.waits import Pause
from jobjar.publishing.underway import State, write_state
from jobjar.publishing.variables import POLLED, read_polling

# The attempt fails after so many failed polls in a row. A failed poll says nothing about the job, and to submit it again would
# run it twice. So a single failure only leads to the next poll, and a new attempt goes on polling.
MOST_FAILURES = 3


def has_polling(attempt: Attempt) -> bool:
    """Whether the job has a polling_command, which is asked whether the job is finished."""
    return attempt.text_of("polling_command") is not None


def save_polled(directory: str, state: State) -> Steps[None]:
    """Record in `directory` that the job was submitted elsewhere. Raises OSError."""
    yield Work(partial(write_state, directory, state), is_short=True)


def poll(attempt: Attempt, directory: str, state: State) -> Steps[None]:
    """Poll until the job is finished. `state` was written to `directory` when the job was submitted; the time since then counts
    towards its limit. Raises StageFailed where the job's exit status is not 0, or polling fails too often."""
    text = attempt.text_of("polling_command")
    assert text is not None
    description, settings = attempt.description, attempt.jar.settings
    interval_s = description.polling_time_s or settings.polling_time_s
    attempt.begin(POLL)
    started, ran_s = time.monotonic(), attempt.wall_time_s
    # The limit is the job's, so the time of earlier attempts counts. The wall time is each attempt's own.
    used_s = (state.wall_time_s or 0.0) + max(0.0, attempt.now() - os.stat(f"{directory}/state.json").st_mtime)
    attempt.monitor.schedule_look()
    failures = 0
    try:
        with attempt.limited(used_s):
            while True:
                ended = yield from attempt.call(text, POLL)
                polled = read_polling(f"{attempt.directory}/{POLLED}")
                attempt.warn(polled.warnings)
                if polled.finished:
                    break
                failures = failures + 1 if ended.exit_status != 0 else 0
                if failures:
                    attempt.warn([f"polling_command: {describe_ended(ended)}"])
                if failures >= MOST_FAILURES:
                    message = (
                        f"polling_command failed {failures} times one after the other, with {describe_ended(ended)}"
                    )
                    raise StageFailed(POLL, message, ended.exit_status, ended.signal, goes_on=True)
                yield Pause(interval_s)
    finally:
        attempt.wall_time_s = ran_s + time.monotonic() - started
        attempt.monitor.next_look = None
    if polled.exit_status:
        raise StageFailed(POLL, f"jug_polling.vars says exit status {polled.exit_status}", polled.exit_status)
    attempt.end(polled.exit_status or 0)
