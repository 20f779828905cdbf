"""How long a job waits before it is tried again: twice as long each time, up to a day. Reads and writes nothing."""

from __future__ import annotations

from jobjar.units import LONGEST_S

LONGEST_RETRY_DELAY_S = 86400.0


def retry_time(first_delay_s: float, failures_before: int, now: float) -> float:
    """When a job that has just failed (`now`, the disk's time), after so many earlier failures, may be claimed again; 0: at
    once. It waits twice as long each time, up to a day. The first delay may be any number, as it can come from a journal."""
    longest_s = min(max(first_delay_s, LONGEST_RETRY_DELAY_S), LONGEST_S)
    delay_s = min(first_delay_s * 2.0 ** min(failures_before, 60), longest_s)
    return now + delay_s if delay_s else 0
