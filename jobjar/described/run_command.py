"""Run a described job: its run_command, in its working directory.

Writes nothing itself. Killed midway, a session without a worker may go on, which recovery ends first; the job is stranded.
"""

from __future__ import annotations

import time

from jobjar.described.steps import RUN, Attempt, StageFailed, Steps, describe_ended


def run_command(attempt: Attempt) -> Steps[None]:
    """Run it to its end. Raises StageFailed where that is not status 0."""
    text = attempt.text_of("run_command")
    assert text is not None
    attempt.begin(RUN)
    started = time.monotonic()
    attempt.monitor.wait()
    try:
        # Where somebody is asked when the job is finished, what is left running here may be the job.
        with attempt.limited():
            ended = yield from attempt.call(text, RUN, may_leave=attempt.text_of("polling_command") is not None)
    finally:
        attempt.wall_time_s = time.monotonic() - started
        attempt.monitor.next_look = None
    if ended.exit_status != 0:
        raise StageFailed(RUN, describe_ended(ended), ended.exit_status, ended.signal)
    attempt.end(ended.exit_status)
