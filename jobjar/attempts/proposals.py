"""The next jobs that a claimer may try, as the ledger listed them a moment ago (candidates.py). Kept in memory only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from jobjar.ledger.ask_claiming import Candidate


class Proposals:
    """The proposals of one claimer."""

    def __init__(self) -> None:
        # How many candidates were tried since the last renewal.
        self.tried = 0
        # Jobs that were found missing, to be noted in the ledger.
        self.missing: list[Candidate] = []
        # When to ask the ledger again, by the monotonic clock. 0: before the next claim.
        self.stale_at = 0.0
        # The disk's time when the other nodes' journals were last folded by this process.
        self.others_folded_at = 0.0
        self._candidates: list[Candidate] = []
        # Places from which others claimed since, by the journal.
        self._taken: set[str] = set()

    def renew(self, candidates: list[Candidate], max_age_s: float) -> None:
        """Propose these from now on, in this order."""
        self._candidates = candidates
        self.tried = 0
        self._taken.clear()
        self.stale_at = time.monotonic() + max_age_s

    def leave_out(self, places: Iterable[str]) -> None:
        """Do not propose the jobs at these places."""
        self._taken.update(places)

    def next(self, may_be_tried: Callable[[Candidate], bool]) -> Candidate | None:
        """The next candidate that may be tried, or None if there is none."""
        while self.tried < len(self._candidates):
            candidate = self._candidates[self.tried]
            self.tried += 1
            if candidate.place not in self._taken and may_be_tried(candidate):
                return candidate
        return None

    def put_back(self) -> None:
        """Propose the last candidate again."""
        self.tried -= 1
