"""Which jobs a worker with an end may still begin: those whose time fits into what it has left.

A job's time is its time limit, else its `job_runtime`; of a chunk, that of one of its tasks. A job that says neither is begun as
long as there is time. Reads files of jobs and arrays; writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from jobjar.errors import BadAttribute
from jobjar.job_file.attributes import HEADER_BYTES, read_description, read_header
from jobjar.layout import Layout
from jobjar.ledger.ask_claiming import Candidate
from jobjar.shared_disk.contents import BATCH, Unreadable, is_number, read_document
from jobjar.shared_disk.files import read_file
from jobjar.shared_disk.regular import UnfitFile

# As in attempt.py, which has a claimer's TimeLeft.
_DESCRIBED, _CHUNK = "described", "chunk"


class NeededTime:
    """How long jobs may take, in seconds; 0 if nothing says so. The times of arrays are read once."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._arrays: dict[str, float] = {}

    def by_ledger(self, candidate: Candidate) -> float:
        """By what the ledger knows, which for a described job or one put there by hand is not all."""
        if candidate.kind == _CHUNK and candidate.batch is not None:
            return self.of_array(candidate.batch)
        if candidate.time_limit_s or candidate.given is None:
            return candidate.time_limit_s or 0.0
        return _runtime(json.loads(candidate.given))

    def by_file(self, candidate: Candidate) -> float:
        """By its file. What is wrong with that is said when it is claimed."""
        try:
            data = read_file(self._layout.path(candidate.place), size=HEADER_BYTES)
            said = read_header(data, candidate.place)
            if said.get("kind") == _CHUNK:
                return self.by_ledger(candidate._replace(kind=_CHUNK, batch=said.get("batch")))
            needed = said.get("time_limit_s") or _runtime(said.get("given", {}))
            if not needed and said.get("kind") == _DESCRIBED:
                needed = read_description(data, candidate.place).job_runtime_s or 0.0
            return float(needed)
        except (OSError, BadAttribute):
            return 0.0

    def of_array(self, uid: str) -> float:
        """How long a task of an array may take."""
        if uid not in self._arrays:
            self._arrays[uid] = self._read_array(uid)
        return self._arrays[uid]

    def _read_array(self, uid: str) -> float:
        try:
            document: Any = read_document(self._layout.batch(uid).file, BATCH)
        except (OSError, UnfitFile, Unreadable):
            return 0.0
        said = document.get("array")
        if not isinstance(said, dict):
            return 0.0
        limit_s = said.get("time_limit_s")
        return float(limit_s) if limit_s and is_number(limit_s) else _runtime(said.get("given"))


def _runtime(given: Any) -> float:
    runtime_s = given.get("job_runtime_s") if isinstance(given, dict) else None
    return float(runtime_s) if runtime_s and is_number(runtime_s) else 0.0


class TimeLeft:
    """What a worker with an end asks of jobs. `left_s` returns the seconds that it has left."""

    def __init__(self, layout: Layout, left_s: Callable[[], float]) -> None:
        self.left_s = left_s
        self._needed = NeededTime(layout)

    def left_and_fits(self) -> tuple[float, Callable[[Candidate], bool]]:
        """The time that is left, and whether a job fits into it, as the ledger's question for candidates takes them."""
        return self.left_s(), self.has_room_for

    def has_room_for(self, candidate: Candidate) -> bool:
        """Whether a job fits, by the ledger alone."""
        return self._needed.by_ledger(candidate) <= self.left_s()

    def has_room_by_file(self, candidate: Candidate) -> bool:
        """Whether a job fits of which only its file says how long it may take."""
        return self._needed.by_file(candidate) <= self.left_s()


class TaskTime:
    """Whether a worker has time for another task of an array."""

    def __init__(self, layout: Layout, uid: str, time_left: TimeLeft | None) -> None:
        self._layout = layout
        self._uid = uid
        self._time_left = time_left

    @cached_property
    def needed_s(self) -> float:
        """How long a task may take; 0 if nothing says so."""
        return NeededTime(self._layout).of_array(self._uid)

    def is_left(self) -> bool:
        return self._time_left is None or self._time_left.left_s() >= self.needed_s
