"""When the allocation of a batch system ends in which a worker runs, so that it can end before that.

Slurm says it in SLURM_JOB_END_TIME, in releases that have it, else in `squeue`; PBS in PBS_WALLTIME or `qstat`. Each command is
asked once, when the worker starts, and for ten seconds at most. Writes nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jobjar.liveness import process_start
from jobjar.pilots import systems
from jobjar.units import LONGEST_S

_PATIENCE_S = 10.0
# A batch system looks at its limits now and then, and its clock may be another. So much earlier the worker's time is over.
_MARGIN_S = 5.0
_UNITS_S = (86_400, 3600, 60, 1)
Asks = Callable[[Sequence[str]], str | None]


class Allocation(NamedTuple):
    """An allocation. `ends_at` in UTC epoch seconds; None: it has no end, or (not `is_known`) nothing says which."""

    name: str
    ends_at: float | None
    is_known: bool = True


def find_allocation(environment: Mapping[str, str], ask: Asks | None = None) -> Allocation | None:
    """The allocation that this process runs in; None outside of any. `ask` runs a command; it returns its output, or None."""
    ask = ask or _ask
    slurm, pbs = environment.get("SLURM_JOB_ID"), environment.get("PBS_JOBID")
    # The shell that salloc leaves on a login node has the first of these, and is in no allocation.
    if slurm and environment.get("SLURMD_NODENAME"):
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        name = f"{array}_{task}" if array and task else slurm  # squeue lists all tasks by the id of the last
        at = _seconds(environment.get("SLURM_JOB_END_TIME"))
        return Allocation(f"Slurm job {name}", at) if at else _ask_slurm(name, ask)
    if pbs and environment.get("PBS_ENVIRONMENT"):
        at = _end_by_walltime(environment.get("PBS_WALLTIME")) or _ask_pbs(pbs, ask)
        return Allocation(f"PBS job {pbs}", at, is_known=at is not None)
    return None


def end_in_allocation(allocation: Allocation, grace_time_s: float) -> float | None:
    """When a worker has to tell its job to end, so that both are gone when the allocation ends."""
    return None if allocation.ends_at is None else allocation.ends_at - grace_time_s - _MARGIN_S


def _ask_slurm(job: str, ask: Asks) -> Allocation:
    """squeue prints a local time (2026-11-30T18:00:00), or a word for a job without an end: NONE, N/A, Unknown."""
    said = (ask(["squeue", "-h", "-j", job, "-o", "%e"]) or "").split()
    try:
        return Allocation(f"Slurm job {job}", time.mktime(time.strptime(said[0], "%Y-%m-%dT%H:%M:%S")))
    except (ValueError, IndexError, OverflowError):
        return Allocation(f"Slurm job {job}", None, is_known=bool(said))


def _ask_pbs(job: str, ask: Asks) -> float | None:
    """The start of the job, or what it has had of its time, and the time that it asked for, as `qstat -f` prints them."""
    said = ask(["qstat", "-f", job]) or ""
    limit_s = _clock(_field(said, "Resource_List.walltime"))
    started = _field(said, "stime")
    if limit_s is None or started is None:
        return None
    try:
        return time.mktime(time.strptime(started, "%a %b %d %H:%M:%S %Y")) + limit_s
    except (ValueError, OverflowError):
        return None


def _end_by_walltime(walltime: str | None) -> float | None:
    """TORQUE sets PBS_WALLTIME, in seconds. The job began when the first process of its session did."""
    limit_s = _seconds(walltime) or _clock(walltime)
    return None if limit_s is None else time.time() - _age_of_session_s() + limit_s


def _age_of_session_s() -> float:
    started = process_start(os.getsid(0))
    if started is None or not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))


def _field(said: str, name: str) -> str | None:
    found = re.search(rf"^\s*{re.escape(name)}\s*=\s*(.+?)\s*$", said, re.MULTILINE)
    return None if found is None else found.group(1)


def _clock(text: str | None) -> float | None:
    """Seconds of h:m:s, or of d:h:m:s."""
    parts = (text or "").split(":")
    if not 2 <= len(parts) <= 4 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        return None
    return float(sum(int(part) * unit_s for part, unit_s in zip(parts, _UNITS_S[-len(parts) :], strict=True)))


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 < seconds < time.time() + LONGEST_S else None


def _ask(words: Sequence[str]) -> str | None:
    variables = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"}
    try:
        answer = systems.ask(words, variables=variables, longest_s=_PATIENCE_S)
    except systems.NoAnswer:
        return None
    return answer.output if answer.status == 0 else None
