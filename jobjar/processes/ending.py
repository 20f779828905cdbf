"""End jobs' processes: SIGTERM to the whole session, SIGKILL after JJ_GRACE_TIME; and whether an end was asked for.

A crash here leaves processes that recovery on this node ends (recovery/orphans.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from jobjar.liveness import process_start, session_processes
from jobjar.processes.children import Ended, Waiter, reap_ended, reap_strays
from jobjar.processes.waits import Pause, Steps, block

# The signals that ask a process to end now.
END_NOW = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# How long a worker waits for such a signal to itself after one has ended its job's process. systemd, scancel and a shutdown
# signal both, one after the other.
DOUBT_S = 1.0


def seems_ended_on_request(ended: Ended) -> bool:
    """Whether a process seems to have ended on request: by a signal of END_NOW, or with a shell's exit status for one."""
    number = ended.signal if ended.signal is not None else (ended.exit_status or 0) - 128
    return number in END_NOW


def doubt(between_pieces: Callable[[], object]) -> None:
    """Give the worker DOUBT_S to receive the signal that seems to have ended this thread's process. `between_pieces` is called
    meanwhile; the errors that it raises are passed on."""
    deadline = time.monotonic() + DOUBT_S
    while time.monotonic() < deadline:
        between_pieces()
        time.sleep(0.01)


def signal_session(session: int, number: int) -> bool:
    """Send a signal to every process of a session. Returns whether it reached one."""
    any_there = False
    for pid in session_processes(session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            any_there = True
    return any_there


def end_rest(session: int, leader_start: float | None) -> None:
    """Send SIGTERM to the rest of a session whose leader has ended. `leader_start` is when that started: if its process id is
    in use again, nothing is done."""
    if process_start(session) in (None, leader_start):
        signal_session(session, signal.SIGTERM)


def wait_for_child(pid: int, check: Callable[[], object], check_every_s: float, grace_time_s: float) -> Ended:
    """Wait in any thread for the end of a child that it started. `check` is called all the while; an exception from it ends the
    child's session, with this grace time, and is raised."""
    waiter = Waiter(pid)
    try:
        while (ended := waiter.wait(check_every_s, [])) is None:
            check()
        return ended
    except BaseException:
        end_session(pid, grace_time_s, lambda: None)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        raise
    finally:
        waiter.close()


def end_session(
    session: int, grace_time_s: float, reaped: Callable[[], object] = reap_strays, leader_start: float | None = None
) -> bool:
    """End a session: SIGTERM, then SIGKILL after the grace time. Returns whether a process was there to end.

    With `leader_start`, nothing is done if the session's id is in use by another process, which started at another time.
    `reaped` is called to reap children before each look.
    """
    return block(steps_to_end_session(session, grace_time_s, reaped, leader_start))


def steps_to_end_session(
    session: int, grace_time_s: float, reaped: Callable[[], object] = reap_strays, leader_start: float | None = None
) -> Steps[bool]:
    """`end_session` in steps, for who has something else to do meanwhile."""
    if leader_start is not None and process_start(session) not in (None, leader_start):
        return False
    if not signal_session(session, signal.SIGTERM):
        return False
    signal_session(session, signal.SIGCONT)
    deadline = time.monotonic() + grace_time_s
    pause_s = 0.002
    while True:
        reaped()
        if not session_processes(session):
            return True
        if time.monotonic() > deadline:
            signal_session(session, signal.SIGKILL)
        yield Pause(pause_s)
        pause_s = min(pause_s * 2, 0.1)


def end_waited(waiter: Waiter, grace_time_s: float) -> Ended:
    """End the job's whole session with its main process. Returns how the main process ended."""
    return block(steps_to_end_waited(waiter, grace_time_s))


def steps_to_end_waited(waiter: Waiter, grace_time_s: float) -> Steps[Ended]:
    """`end_waited` in steps, for who has something else to do meanwhile."""
    found: list[Ended] = []

    def reap_main() -> None:
        if not found:
            ended = waiter.wait(0, [])
            if ended is not None:
                found.append(ended)
        reap_ended()  # the job's clean-up may wait for a process that is not its child

    yield from steps_to_end_session(waiter.pid, grace_time_s, reap_main)
    while not found:
        reap_main()
    return found[0]
