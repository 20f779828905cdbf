"""How long jobs have waited until a worker that is large enough for them has enough left. Kept in memory only."""

from __future__ import annotations

import time

# Jobs that were not seen waiting for so long are forgotten.
_FORGOTTEN_S = 60.0


class Waiting:
    """The jobs that a worker is large enough for and passed over, by their rows: since when, and when it last did."""

    def __init__(self, pass_over_s: float) -> None:
        self._pass_over_s = pass_over_s
        self._since: dict[int, tuple[float, float]] = {}

    def note(self, row: int) -> bool:
        """Note that a job is passed over. Returns whether it has been for long enough."""
        now = time.monotonic()
        since = self._since.get(row, (now, now))[0]
        self._since[row] = since, now
        return now - since >= self._pass_over_s

    def forget_old(self) -> None:
        if self._since:
            now = time.monotonic()
            self._since = {row: seen for row, seen in self._since.items() if now - seen[1] < _FORGOTTEN_S}
