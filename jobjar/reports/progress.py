"""How far a wait for jobs is: how many ended, failed and run, at what rate, and how long the rest will take.

Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jobjar.units import format_rate, format_seconds


class Progress(NamedTuple):
    """How many jobs are waited for, how many of them have ended, how many of these did not succeed, and how many run."""

    jobs: int
    ended: int
    unsuccessful: int
    running: int


OnProgress = Callable[[Progress], None]


def format_progress(progress: Progress, since: Progress, elapsed_s: float) -> str:
    """Progress as a line: `12 of 100 ended, 1 of them unsuccessfully; 4 run; 2.1/s; 42 s left`. The rate is that of the
    `elapsed_s` seconds since it was `since`; without one there is no estimate."""
    ended = f"{progress.ended:,} of {progress.jobs:,} ended"
    parts = [f"{ended}, {progress.unsuccessful:,} of them unsuccessfully" if progress.unsuccessful else ended]
    parts.append(f"{progress.running:,} {'runs' if progress.running == 1 else 'run'}")
    done = progress.ended - since.ended
    if done > 0 and elapsed_s > 0:
        rate = done / elapsed_s
        parts += [format_rate(rate), f"about {format_seconds((progress.jobs - progress.ended) / rate)} left"]
    return "; ".join(parts)
