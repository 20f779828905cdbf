"""Oddities of a job's file, found at its claim: lines that look like attributes but do not count (job_file/header.py).

Programs refuse to submit a file with such lines. A hand-made job runs, and its attempt gets warnings. Makes entries; writes
nothing.
"""

from __future__ import annotations

from jobjar.attempts.attempt import Claimer
from jobjar.job_file.header import find_misplaced
from jobjar.journal.read import Entry

# Warnings from an attempt's beginning are numbered apart from those of its end, so that one attempt can have both entries.
_FIRST_NUMBER = -1000
# The odd lines of one file that get warnings of their own.
_MOST = 10


def find_oddities(data: bytes) -> list[str]:
    """The oddities of a job's file, as warnings for people. `data` is the file's beginning."""
    found = [f"line {line.number} of its file: {line.reason}" for line in find_misplaced(data)]
    return found if len(found) <= _MOST else [*found[:_MOST], f"{len(found) - _MOST} more such lines of its file"]


def oddities_entry(claimer: Claimer, uid: str, attempt: int, oddities: list[str]) -> Entry:
    """The `warned` entry of these oddities, for an attempt that begins."""
    return {
        "entry": "warned",
        "job": uid,
        "attempt": attempt,
        "worker": claimer.paths.name,
        "worker_uid": claimer.worker_id,
        "first": _FIRST_NUMBER,
        "warnings": oddities,
    }
