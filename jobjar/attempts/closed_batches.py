"""The batches of which no job is claimed now: throttled, aborted, stopping after a failure, or at their limit. Kept in memory
only."""

from __future__ import annotations

from collections.abc import Collection

from jobjar.attempts.tokens import Tokens
from jobjar.job_file.description import STORAGE_CATEGORY


class ClosedBatches:
    """The closed batches, as a claimer's ledger had them a moment ago. Jobs that wait to be stored have run, so none is held up
    in their categories. `now` is the disk's time."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        # Throttled batches, and until when their jobs are not claimed; that time may be over.
        self._throttles: dict[str, float] = {}
        self._aborted: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether any batch is, or was lately, throttled or aborted."""
        return bool(self._throttles or self._aborted)

    def renew(self, throttles: dict[str, float], aborted: frozenset[str]) -> None:
        """Take what the ledger has now. `aborted`: also those that stop at their first failure and have waiting jobs yet."""
        self._throttles, self._aborted = throttles, aborted

    def throttle(self, batch: str, until: float) -> None:
        """Throttle a batch; `until` is 0 if its throttle is over."""
        self._throttles.pop(batch, None)
        if until:
            self._throttles[batch] = until

    def is_throttled(self, batch: str) -> bool:
        """Whether a batch is, or was lately, throttled."""
        return batch in self._throttles

    def find(self, category: str, now: float) -> Collection[str]:
        """The batches whose jobs are not proposed in a category."""
        if category.startswith(STORAGE_CATEGORY):
            return ()
        throttled = (batch for batch, until in self._throttles.items() if until > now)
        return {*throttled, *self._aborted, *self._tokens.used_up_batches()}

    def has(self, category: str, batch: str | None, now: float) -> bool:
        """Whether a job's batch is throttled or aborted, so that it is not claimed."""
        if batch is None or not self or category.startswith(STORAGE_CATEGORY):
            return False
        return batch in self._aborted or self._throttles.get(batch, 0.0) > now
