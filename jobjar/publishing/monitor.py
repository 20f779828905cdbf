"""The monitored variables of an attempt as they change: what of them is new, and when they are looked at next.

Only values that changed are told, each with which of its variable's values it is. The more was told of an attempt, the
longer the pauses between two looks: what a job says a million times is read a few thousand times, and its journal stays
short. Reads jug_monitor.vars; writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jobjar.attempts.attempt import ClaimedJob, Claimer, attempt_entry
from jobjar.journal.read import Entry
from jobjar.publishing.variables import MONITORED, read_variables

# After so many values the pause between two looks is doubled, and again after each so many more. One counts for as many as
# it has times so many characters.
FULL_PACE = 2000
_LONG = 256
_MOST_DOUBLINGS = 20


class Monitor:
    """What was told so far of one attempt's variables."""

    def __init__(self, claimer: Claimer, job: ClaimedJob) -> None:
        self._about = job.uid, job.attempt, claimer.paths.name, claimer.worker_id
        self._progress_time_s = claimer.jar.settings.progress_time_s
        self._values: dict[str, str] = {}
        self._ordinals: dict[str, int] = {}
        self._told = 0
        # By the monotonic clock; None while nothing runs that could say something.
        self.next_look: float | None = None
        # What is not journaled yet.
        self.entries: list[Entry] = []

    @property
    def pause_s(self) -> float:
        """How long to wait between two looks, in seconds."""
        return float(self._progress_time_s * 2 ** min(self._told // FULL_PACE, _MOST_DOUBLINGS))

    def wait(self) -> None:
        """Look again when the pause is over."""
        self.next_look = time.monotonic() + self.pause_s

    def is_due(self) -> bool:
        return self.next_look is not None and time.monotonic() >= self.next_look

    def look(self, directory: str, told_at: float) -> None:
        """Note what is new of what a job says so far in its working directory. The next look is a pause later. Raises OSError."""
        self.wait()
        self.note(read_variables(f"{directory}/{MONITORED}", is_final=False).values, told_at)

    def take_entries(self) -> list[Entry]:
        """What is to be journaled now."""
        entries, self.entries = self.entries, []
        return entries

    def note(self, values: Mapping[str, str], told_at: float) -> None:
        """Have it journaled what is new among these values. `told_at`: the disk's time."""
        changed = {name: value for name, value in values.items() if self._values.get(name) != value}
        if not changed:
            return
        self._values.update(changed)
        self._told += sum(1 + len(value) // _LONG for value in changed.values())
        for name in changed:
            self._ordinals[name] = self._ordinals.get(name, 0) + 1
        said: dict[str, Any] = {"variables": changed, "told_at": round(told_at, 6)}
        # Most variables have one value, and an entry is shorter without that.
        ordinals = {name: self._ordinals[name] for name in changed if self._ordinals[name] > 1}
        if ordinals:
            said["ordinals"] = ordinals
        self.entries.append(attempt_entry("variables", *self._about, **said))
