"""Order equal candidates so that workers on a network disk do not all try the same one first.

A claim on another node is known here up to JJ_POLL_TIME later. One on this node is known some milliseconds later, because a
rename over a network takes that long. Until then each job counts as one worker's own: a hash of its name chooses among the
workers that were seen to claim. A worker tries its own jobs first, oldest first. Then it tries the others', beginning with those
that their workers come to last. The hash changes every few seconds, so that no job waits long for a slow worker. Only the order
among jobs of one category and one priority changes. Reads the ledger; writes nothing.
"""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterable, Sequence

from jobjar.layout import worker_of_place
from jobjar.ledger.ask_claiming import Candidate, recent_claims, recent_starts
from jobjar.ledger.driver import Connection

# A worker whose newest claim is older than the first value claims too rarely to be in the way. A worker that was not seen with a
# job for the second has left, or is idle.
_RECENT_CLAIM_S = 60.0
_SEEN_FOR_S = 5.0
# How long a job counts as the same worker's own.
EPOCH_S = 4.0


class ClaimingWorkers:
    """The workers that claim jobs at present, `worker` among them."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        # When each was last seen to claim, by the monotonic clock.
        self._seen: dict[str, float] = {}

    def find(self, connection: Connection, now: float) -> list[str]:
        """Their names by this ledger, sorted. `now` is the disk's time."""
        moment, seen = time.monotonic(), self._seen
        for place in recent_claims(connection, now - _RECENT_CLAIM_S):
            seen[worker_of_place(place) or ""] = moment
        # A worker that has just started will claim in a moment.
        seen.update(dict.fromkeys(recent_starts(connection, now - _RECENT_CLAIM_S), moment))
        seen[self._worker] = moment
        for worker in [worker for worker, at in seen.items() if moment - at > _SEEN_FOR_S]:
            del seen[worker]
        return sorted(seen)


def spread(candidates: Iterable[Candidate], workers: Sequence[str], worker: str, now: float) -> list[Candidate]:
    """The candidates in the order in which `worker`, one of `workers`, tries them. `now` is the disk's time."""
    if len(workers) < 2:
        return list(candidates)
    epoch = int(now // EPOCH_S)
    own_number = workers.index(worker)
    ordered: list[Candidate] = []
    for _, equals in itertools.groupby(candidates, key=lambda candidate: (candidate.category, candidate.priority)):
        own: list[Candidate] = []
        others: list[Candidate] = []
        for candidate in equals:
            number = zlib.crc32(f"{epoch} {candidate.name}".encode("utf-8", "surrogateescape")) % len(workers)
            (own if number == own_number else others).append(candidate)
        others.reverse()
        # Each worker begins at another point.
        start = len(others) * own_number // (2 * len(workers))
        ordered += own + others[start:] + others[:start]
    return ordered
