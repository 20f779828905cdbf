"""Whether a file at its origin is settled: any later change of it is certain to show, in its times or its ETag.

Times of files are whole seconds on some disks, in http, and in the output of stat(1). So a change may not show that follows
another one closely. Writes only when an origin was first looked at, into the cache (cache.py).
"""

from __future__ import annotations

import os
import time
from typing import Protocol

from jobjar.fetching.cache import Cache

# A file that was last changed longer ago than this shows its next change.
SETTLED_S = 2.0
# When this process first saw each key of an origin, by the monotonic clock.
_looks: dict[str, float] = {}
_MOST_LOOKS = 1000


class _Origin(Protocol):
    """What is asked of an origin here (origins.Origin)."""

    def is_settled(self, made: os.stat_result | None) -> bool: ...


def has_settled(origin: _Origin, key: str, cache: Cache | None, made: os.stat_result | None = None) -> bool:
    """Whether any change from now on is certain to alter an origin's key: by the clock that gives the file its times, or because
    the origin showed the same for longer than SETTLED_S. Call it before the content is read."""
    if origin.is_settled(made):
        return True
    now = time.monotonic()
    first = _looks.get(key)
    if first is None:
        first = cache.note_first_look(key, now) if cache is not None else now
        if len(_looks) >= _MOST_LOOKS:
            _looks.clear()
        _looks[key] = first
    return now - first > SETTLED_S
