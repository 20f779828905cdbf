"""How many jobs waited, ended and failed in each minute of the last week, counted from the ledger in small pieces.

The newest ends are counted first, so the last hour is there at once and a week of a large jar after some looks. Kept in memory;
writes nothing. A job that was tried again counts as waiting from its submission on.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from jobjar.attempts.attempt import CANCELLED, SUCCEEDED
from jobjar.ledger.ask_history import LAST_KEY, Ended, EndKey, ends_before, submissions_of_open
from jobjar.ledger.driver import Connection

WEEK_S = 7 * 86400.0
# Rows that are read at once: some hundredths of a second.
_PIECE = 4_000
# Ends of the last minutes are counted anew each time, since entries of other nodes may still come.
_OPEN_S = 30.0
# So often all is counted anew: an entry may have come late.
_ANEW_S = 3600.0
# The spans that people look at: how long, and how many bars.
SPANS = {"hour": (3600.0, 60), "day": (86400.0, 96), "week": (WEEK_S, 84)}
OUTCOMES = (SUCCEEDED, "failed", CANCELLED)


class Bar(NamedTuple):
    """What was in one part of a span. `waiting` is how many jobs waited at its end. `begins_at` is UTC epoch seconds."""

    begins_at: float
    succeeded: int
    failed: int
    cancelled: int
    waiting: int


class Span(NamedTuple):
    """A span, by bars of equal length in seconds. `is_whole`: all of it is counted."""

    name: str
    bar_s: float
    bars: list[Bar]
    is_whole: bool


class _Counts:
    """Minutes (of the epoch) of submissions, of claims or ends without one, and of ends by outcome."""

    def __init__(self) -> None:
        self.submitted: Counter[int] = Counter()
        self.left: Counter[int] = Counter()
        self.ended: dict[str, Counter[int]] = {outcome: Counter() for outcome in OUTCOMES}

    def count(self, rows: Iterable[Ended]) -> None:
        for ended_at, outcome, _, submitted_at, started_at in rows:
            kind = outcome if outcome in (SUCCEEDED, CANCELLED) else "failed"
            self.ended[kind][int(ended_at // 60)] += 1
            if submitted_at is not None:
                self.submitted[int(submitted_at // 60)] += 1
                began = ended_at if started_at is None else max(started_at, submitted_at)
                self.left[int(began // 60)] += 1


class Past:
    """What was counted so far. Everything in it belongs to one thread."""

    def __init__(self, length_s: float = WEEK_S) -> None:
        self._length_s = length_s
        self._begin(time.time())
        self._next: Past | None = None

    def _begin(self, now: float) -> None:
        self._made_at = now
        self._kept = _Counts()
        # Ends from here on are not in `_kept`; those before `_older` are not yet.
        self._closed_at = 60.0 * int((now - _OPEN_S) // 60)
        self._older: EndKey | None = (self._closed_at, "", "")

    @property
    def is_whole(self) -> bool:
        return self._older is None

    @property
    def is_to_count(self) -> bool:
        """Whether `advance` has something to do."""
        return not self.is_whole or time.time() > self._made_at + _ANEW_S

    def advance(self, connection: Connection, within_s: float = 0.0) -> None:
        """Count at least one more piece, and others for so long."""
        until = time.monotonic() + within_s
        now = time.time()
        if self.is_whole and now > self._made_at + _ANEW_S:
            self._next = self._next or Past(self._length_s)
            self._next.advance(connection, within_s)
            if self._next.is_whole:
                self.__dict__ = self._next.__dict__
                self._next = None
            return
        while self._older is not None:
            rows = ends_before(connection, self._older, now - self._length_s, _PIECE)
            self._kept.count(rows)
            last = rows[-1] if len(rows) == _PIECE else None
            self._older = None if last is None else (last.ended_at, last.outcome, last.uid)
            if time.monotonic() >= until:
                return

    def read(
        self, connection: Connection, waiting: int, spans: Mapping[str, tuple[float, int]] = SPANS
    ) -> dict[str, Span]:
        """The spans, by name, that end now. `waiting` is how many jobs wait now."""
        now = time.time()
        close_at = 60.0 * int((now - _OPEN_S) // 60)
        newest = _Counts()
        key: EndKey = LAST_KEY
        while rows := ends_before(connection, key, self._closed_at, _PIECE):
            kept = [row for row in rows if row.ended_at < close_at]
            self._kept.count(kept)
            newest.count([row for row in rows if row.ended_at >= close_at])
            key = rows[-1].ended_at, rows[-1].outcome, rows[-1].uid
        self._closed_at = max(self._closed_at, close_at)
        submitted, claimed = submissions_of_open(connection, now - self._length_s)
        changes: Counter[int] = Counter()
        for counts, sign in (
            *((each.submitted, 1) for each in (self._kept, newest)),
            *((each.left, -1) for each in (self._kept, newest)),
            *((Counter(submitted), 1), (Counter(claimed), -1)),
        ):
            for minute, jobs in counts.items():
                changes[minute] += sign * jobs
        ended = {outcome: self._kept.ended[outcome] + newest.ended[outcome] for outcome in OUTCOMES}
        since = None if self._older is None else self._older[0]
        return {name: _make_span(name, span, now, waiting, ended, changes, since) for name, span in spans.items()}


def _make_span(
    name: str,
    length: tuple[float, int],
    now: float,
    waiting: int,
    ended: Mapping[str, Mapping[int, int]],
    changes: Mapping[int, int],
    counted_since: float | None,
) -> Span:
    length_s, count = length
    minutes = max(1, math.ceil(length_s / 60 / count))
    last = int(now // 60)
    bars = []
    for number in range(count):
        newest = last - number * minutes
        span = range(newest - minutes + 1, newest + 1)
        succeeded, failed, cancelled = (sum(ended[outcome].get(minute, 0) for minute in span) for outcome in OUTCOMES)
        bars.append(Bar(60.0 * span[0], succeeded, failed, cancelled, max(0, waiting)))
        waiting -= sum(changes.get(minute, 0) for minute in span)
    begins_at = bars[-1].begins_at
    return Span(name, 60.0 * minutes, bars[::-1], counted_since is None or counted_since <= begins_at)
