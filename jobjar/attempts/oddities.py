"""Oddities of a job's file, found at its claim: lines that look like attributes but do not count (job_file/header.py).

Programs refuse to submit a file with such lines. A hand-made job runs, and its attempt gets warnings. Reads and
writes nothing.
"""

from __future__ import annotations

from jobjar.job_file.header import find_misplaced

# The odd lines of one file that get warnings of their own.
_MOST = 10


def find_oddities(data: bytes) -> list[str]:
    """The oddities of a job's file, as warnings for people. `data` is the file's beginning."""
    found = [f"line {line.number} of its file: {line.reason}" for line in find_misplaced(data)]
    return found if len(found) <= _MOST else [*found[:_MOST], f"{len(found) - _MOST} more such lines of its file"]
