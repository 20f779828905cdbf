"""Estimate when work will end: from the number of waiting jobs, the run times so far of running jobs, and the recent rate.

Pure arithmetic. Without enough data there is no estimate.
"""

from __future__ import annotations

from collections.abc import Sequence


def estimate_time_left_s(
    waiting: int, running_for_s: Sequence[float], takes_s: float | None, rate_per_s: float | None
) -> float | None:
    """Seconds until all jobs have ended, or None.

    `waiting` jobs have not begun; the others have run for `running_for_s`. A job takes `takes_s`, and `rate_per_s` jobs end
    per second; each may be None (unknown). A job that has run longer than `takes_s` could end at any time, so if only such
    jobs are left, there is no estimate.
    """
    if not waiting and not running_for_s:
        return None
    if takes_s is None:
        return None if rate_per_s is None else (waiting + len(running_for_s)) / rate_per_s
    rests_s = [max(0.0, takes_s - used_s) for used_s in running_for_s]
    last_s = max(rests_s, default=0.0)
    if not waiting:
        # The running jobs run side by side, so the longest remainder counts.
        return last_s or None
    begun = sum(rests_s) / takes_s if takes_s else 0.0
    if rate_per_s is not None:
        return max((waiting + begun) / rate_per_s, last_s)
    return max((waiting + begun) * takes_s / max(1, len(running_for_s)), last_s)
