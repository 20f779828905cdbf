"""Run a described job's run_command in its working directory.

Writes nothing itself. A kill midway leaves the job stranded. Its session may go on without a worker; recovery ends it first.
"""

from __future__ import annotations

import time

from jobjar.described.steps import RUN, Attempt, StageFailed, Steps, describe_ended


def run_command(attempt: Attempt) -> Steps[None]:
    """Run the run_command to its end. Raises StageFailed where its exit status is not 0."""
    text = attempt.text_of("run_command")
    assert text is not None
    attempt.begin(RUN)
    started = time.monotonic()
    attempt.monitor.schedule_look()
    try:
        # With a polling_command, the processes that are left running may be the job itself.
        with attempt.limited():
            ended = yield from attempt.call(text, RUN, may_leave=attempt.text_of("polling_command") is not None)
    finally:
        attempt.wall_time_s = time.monotonic() - started
        attempt.monitor.next_look = None
    if ended.exit_status != 0:
        raise StageFailed(RUN, describe_ended(ended), ended.exit_status, ended.signal)
    attempt.end(ended.exit_status)
