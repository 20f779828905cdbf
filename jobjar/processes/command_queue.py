"""Run a person's command for each end that they want to hear of: one at a time, with what is to be told in its environment.

The command is lines of /bin/sh. It runs in a session of its own, in /, with an empty standard input. What it writes goes to this
process's standard error, which of a worker in the background is its log. It is told nothing twice. A kill of this process loses
what was not told yet, and lets the command that is under way run on.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from jobjar.host import node_name
from jobjar.layout import Layout
from jobjar.processes.children import give_up, reap
from jobjar.processes.ending import signal_session
from jobjar.processes.exit_status import shell_status
from jobjar.processes.starting import CannotStart, StillBusy, start_shell
from jobjar.units import format_seconds

# A command that runs longer is killed, with its session: the next end is to be told too.
LIMIT_S = 60.0
# While so many ends are to be told, a worker claims no further job.
MOST_WAITING = 100
_PAUSE_S = 0.02
# What says of a process that it is a job's own. Recovery ends such processes after their worker's death.
_OF_JOBS = ("JJ_WORKER_ID", "JJ_JOB_FILE", "JJ_SCRATCH_DIR", "JJ_PHASE")


class _Told(NamedTuple):
    about: str
    facts: Mapping[str, str]


class EndCommand:
    """A command of a person. `log` gets a line for each time that it fails. All calls have to come from one thread."""

    def __init__(self, command: str, layout: Layout, log: Callable[[str], None], limit_s: float = LIMIT_S) -> None:
        self._command = command
        self._layout = layout
        self._log = log
        self._limit_s = limit_s
        self._waiting: deque[_Told] = deque()
        self._pid = 0
        self._about = ""
        self._deadline = 0.0
        self._is_killed = False

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING

    def tell(self, about: str, facts: Mapping[str, str]) -> None:
        """Have the command run with these variables. `about` names the end in messages."""
        self._waiting.append(_Told(about, facts))

    def turn(self) -> bool:
        """Go on, without waiting: end a command that takes too long, and start the next. Returns whether all is told."""
        if self._pid and not self._look():
            return False
        while self._waiting and not self._pid:
            self._start(self._waiting.popleft())
        return not self._pid

    def finish(self, within_s: float) -> None:
        """Wait until all is told, for at most so many seconds; what is not told then never is."""
        deadline = time.monotonic() + within_s
        while not self.turn():
            if time.monotonic() > deadline:
                self._log(f"the command for ends did not end in time: {len(self._waiting) + 1} are not told")
                self._waiting.clear()
                signal_session(self._pid, signal.SIGKILL)
                give_up(self._pid)
                self._pid = 0
                return
            time.sleep(_PAUSE_S)

    def _start(self, told: _Told) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _OF_JOBS}
        environment["PATH"] = f"{self._layout.bin}:{environment.get('PATH', os.defpath)}"
        environment |= {"JJ_HOME": self._layout.home, "JJ_NODE": node_name(), **told.facts}
        encoded = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        try:
            self._pid = start_shell(f"cd /; {self._command}", (), 2, encoded)
        except (CannotStart, StillBusy, OSError) as error:
            self._log(f"{told.about}: the command for ends could not be run: {error}")
            return
        self._about, self._deadline, self._is_killed = told.about, time.monotonic() + self._limit_s, False

    def _look(self) -> bool:
        """See whether the command has ended, and end it if it takes too long. Returns whether it has."""
        try:
            ended = reap(self._pid)
        except ChildProcessError:  # somebody else has reaped it
            give_up(self._pid)
            self._pid = 0
            return True
        if ended is None:
            if time.monotonic() > self._deadline:
                self._is_killed = True
                signal_session(self._pid, signal.SIGKILL)
            return False
        self._pid = 0
        status = shell_status(ended.exit_status, ended.signal)
        if self._is_killed:
            self._log(
                f"{self._about}: the command for ends took longer than {format_seconds(self._limit_s)}, and was killed"
            )
        elif status:
            self._log(f"{self._about}: the command for ends failed with exit status {status}")
        return True
