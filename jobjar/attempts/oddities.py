"""What is odd in a job's file, told when it is claimed: lines that look like attributes and do not count (job_file/header.py).

Whoever submits by program is refused for such lines. A job that was put there by hand is run, and its attempt has warnings.
Makes entries; writes nothing.
"""

from __future__ import annotations

from jobjar.attempts.attempt import Claimer
from jobjar.job_file.header import find_misplaced
from jobjar.journal.read import Entry

# What is told at an attempt's beginning is numbered apart from what is told at its end, so that two entries can tell of one.
_FIRST_NUMBER = -1000
# So many odd lines of one file are told.
_MOST = 10


def find_oddities(data: bytes) -> list[str]:
    """What is odd in a job's file, of which `data` is the beginning, as warnings for people."""
    found = [f"line {line.number} of its file: {line.reason}" for line in find_misplaced(data)]
    return found if len(found) <= _MOST else [*found[:_MOST], f"{len(found) - _MOST} more such lines of its file"]


def oddities_entry(claimer: Claimer, uid: str, attempt: int, oddities: list[str]) -> Entry:
    """The `warned` entry of them, for an attempt that begins."""
    return {
        "entry": "warned",
        "job": uid,
        "attempt": attempt,
        "worker": claimer.paths.name,
        "worker_uid": claimer.worker_id,
        "first": _FIRST_NUMBER,
        "warnings": oddities,
    }
