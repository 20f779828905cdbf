"""Monitor the changing variables of an attempt: which values are new, and when to look again.

Only changed values are journaled, each with its number among the values of its variable. The more values an attempt has had, the
longer the pauses between two looks. So a variable that is set a million times is read a few thousand times, and the journal stays
short. Reads jug_monitor.vars; writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from jobjar.attempts.attempt import ClaimedJob, Claimer, about_attempt
from jobjar.journal.entries import variables_entry
from jobjar.journal.read import Entry
from jobjar.publishing.variables import MONITORED, read_variables

# The pause between two looks doubles after each so many values. A long value counts as one more for each _LONG characters.
FULL_PACE = 2000
_LONG = 256
_MOST_DOUBLINGS = 20


class Monitor:
    """The variables of one attempt that were noted so far."""

    def __init__(self, claimer: Claimer, job: ClaimedJob) -> None:
        self._about = about_attempt(claimer, job)
        self._progress_time_s = claimer.jar.settings.progress_time_s
        self._values: dict[str, str] = {}
        self._ordinals: dict[str, int] = {}
        self._values_noted = 0
        # By the monotonic clock; None while no process runs that could set variables.
        self.next_look: float | None = None
        # Entries not journaled yet.
        self.entries: list[Entry] = []

    @property
    def pause_s(self) -> float:
        """The pause between two looks, in seconds."""
        return float(self._progress_time_s * 2 ** min(self._values_noted // FULL_PACE, _MOST_DOUBLINGS))

    def schedule_look(self) -> None:
        """Look again when the pause is over."""
        self.next_look = time.monotonic() + self.pause_s

    def is_due(self) -> bool:
        return self.next_look is not None and time.monotonic() >= self.next_look

    def look(self, directory: str, told_at: float) -> None:
        """Note the new values in a job's working directory. The next look is a pause later. Raises OSError."""
        self.schedule_look()
        self.note(read_variables(f"{directory}/{MONITORED}", is_final=False).values, told_at)

    def take_entries(self) -> list[Entry]:
        """Take the entries to be journaled now."""
        entries, self.entries = self.entries, []
        return entries

    def note(self, values: Mapping[str, str], told_at: float) -> None:
        """Make an entry of the changed values among these, to be journaled. `told_at`: the disk's time."""
        changed = {name: value for name, value in values.items() if self._values.get(name) != value}
        if not changed:
            return
        self._values.update(changed)
        self._values_noted += sum(1 + len(value) // _LONG for value in changed.values())
        for name in changed:
            self._ordinals[name] = self._ordinals.get(name, 0) + 1
        # Most variables have only one value, and their entries are shorter without its number.
        ordinals = {name: self._ordinals[name] for name in changed if self._ordinals[name] > 1}
        self.entries.append(variables_entry(self._about, changed, told_at, ordinals))
