"""Poll a described job that runs somewhere else: its polling_command, until `jug_polling.vars` says that it is finished.

Writes `underway/<uid>/<attempt>.<worker_uid>/state.json` before the first poll. From then on the job is not run again when
its worker dies: whoever claims it goes on polling, in the same working directory.
"""

from __future__ import annotations

import os
import time
from functools import partial

from jobjar.described.steps import POLL, Attempt, Pause, StageFailed, Steps, Work, describe_ended
from jobjar.publishing.outputs import State, write_state
from jobjar.publishing.variables import POLLED, read_polling

# A polling_command that fails says nothing of the job that it asks for: running that again would make it be there twice.
# So it is asked again, but not for ever.
MOST_FAILURES = 3


def has_polling(attempt: Attempt) -> bool:
    """Whether somebody has to be asked when the job is finished."""
    return attempt.text_of("polling_command") is not None


def save_polled(directory: str, state: State) -> Steps[None]:
    """Write down that the job was submitted elsewhere. Raises OSError."""
    yield Work(partial(write_state, directory, state), is_short=True)


def poll(attempt: Attempt, directory: str, state: State) -> Steps[None]:
    """Ask until the job is finished; the time since it began counts towards its limit. `state` was written to `directory` when
    it was submitted. Raises StageFailed where it ended with another exit status than 0, or cannot be asked for."""
    text = attempt.text_of("polling_command")
    assert text is not None
    description, settings = attempt.description, attempt.jar.settings
    interval_s = description.polling_time_s or settings.polling_time_s
    attempt.begin(POLL)
    started, ran_s = time.monotonic(), attempt.wall_time_s
    # Of whichever attempts: the limit is the job's, as the time that each of them took is its own.
    spent_s = (state.wall_time_s or 0.0) + max(0.0, attempt.now() - os.stat(f"{directory}/state.json").st_mtime)
    attempt.monitor.wait()
    failures = 0
    try:
        with attempt.limited(spent_s):
            while True:
                ended = yield from attempt.call(text, POLL)
                told = read_polling(f"{attempt.directory}/{POLLED}")
                attempt.warn(told.warnings)
                if told.finished:
                    break
                failures = failures + 1 if ended.exit_status != 0 else 0
                if failures:
                    attempt.warn([f"polling_command: {describe_ended(ended)}"])
                if failures >= MOST_FAILURES:
                    message = (
                        f"polling_command failed {failures} times one after the other, with {describe_ended(ended)}"
                    )
                    raise StageFailed(POLL, message, ended.exit_status, ended.signal)
                yield Pause(interval_s)
    finally:
        attempt.wall_time_s = ran_s + time.monotonic() - started
        attempt.monitor.next_look = None
    if told.exit_status:
        raise StageFailed(POLL, f"jug_polling.vars says exit status {told.exit_status}", told.exit_status)
    attempt.end(told.exit_status or 0)
